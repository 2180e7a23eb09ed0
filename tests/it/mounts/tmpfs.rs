//! Test `RUN --mount=type=tmpfs`, and keys without effect on other mounts.

use super::{built, context, last_layer};
use crate::support::TestEnv;
use crate::support::env::each_user;

#[test]
fn mount_keys_take_effect_or_are_reported() {
    // N-8: keys that BuildKit accepts without effect give a warning.
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    built(
        &env,
        &[],
        "RUN --mount=type=tmpfs,target=/t,ro ! touch /t/x\n\
         RUN --mount=type=tmpfs,target=/t,readonly=true ! touch /t/x\n\
         RUN --mount=type=tmpfs,dst=/t,rw touch /t/x\n\
         RUN --mount=type=tmpfs,destination=/t,readwrite touch /t/x\n\
         RUN --mount=type=cache,dst=/c,readwrite touch /c/x\n\
         RUN --mount=type=cache,destination=/c test -e /c/x",
    )
    .never_says("has no effect");
    for (kind, key, more) in [
        ("tmpfs", "from", "=scratch,target=/t"),
        ("tmpfs", "source", "=x,target=/t"),
        ("tmpfs", "source", "=x,target=/t"),
        ("tmpfs", "id", "=x,target=/t"),
        ("bind", "id", "=x,target=/t"),
        ("secret", "readwrite", ",id=s"),
        ("ssh", "from", "=scratch"),
        ("ssh", "readonly", ""),
        ("ssh", "readwrite", ""),
    ] {
        let line = format!("RUN --mount=type={kind},{key}{more} true");
        let done = env.build(&[], &context(&env, &line, "")).ok();
        done.says(&format!("`{key}` has no effect on a mount of type {kind}")).says("Dockerfile:2");
    }
    let line = "RUN --mount=type=secret,id=s,ro --mount=type=ssh,dst=/a --mount=type=ssh,destination=/b true";
    env.build(&[], &context(&env, line, "")).ok().never_says("has no effect");
}

#[test]
fn tmpfs_mount_hides_target_and_enforces_size() {
    // M-11
    requires!(userns, overlay);
    for env in each_user() {
        built(
            &env,
            &[],
            "RUN mkdir /full && echo kept > /full/file\n\
             RUN --mount=type=tmpfs,target=/full test -z \"$(ls -A /full)\" && echo x > /full/new && \
             grep -q ' /full tmpfs ' /proc/mounts\n\
             RUN test \"$(ls /full)\" = file\n\
             RUN --mount=type=tmpfs,target=/t,size=64k ! dd if=/dev/zero of=/t/x bs=1024 count=65 2>/said; \
             grep 'No space' /said && rm /said\n\
             RUN --mount=type=tmpfs,target=/t,size=2m test \"$(df -k /t | tail -1 | awk '{print $2}')\" = 2048\n\
             RUN --mount=type=tmpfs,target=/t,size=1g --mount=type=tmpfs,target=/u test \
             \"$(df -k /t | tail -1 | awk '{print $2}')\" = 1048576 && dd if=/dev/zero of=/u/x bs=1024 count=3000 && \
             test \"$(stat -c %a /u)\" = 1777",
        );
        assert_eq!(last_layer(&env), [""; 0]);
        let image = env.image("app");
        assert_eq!(image.content("full/file"), b"kept\n");
        assert!(!image.tree().has("full/new") && !image.tree().has("t"));
    }
}

#[test]
fn mounts_on_same_target_make_one_mount() {
    // N-27
    requires!(userns, overlay);
    for env in each_user() {
        let mount = |target: &str, size: &str| format!("--mount=type=tmpfs,target={target}{size}");
        let once = |at: &str, size: &str| {
            let (mount, test) = (mount(at, size), format!("test \"$(grep -c ' {at} ' /proc/mounts)\" = 1"));
            format!("RUN {mount} {test} && grep -q '^tmpfs {at} tmpfs ' /proc/mounts\n")
        };
        let mut lines: String = ["/dev/shm", "/dev/mqueue", "/t", "/w/t"].iter().map(|at| once(at, "")).collect();
        lines += &once("/dev/shm", ",size=2m");
        lines += &format!(
            "RUN {} {} test \"$(grep -c ' /t ' /proc/mounts)\" = 1 && test \"$(df -k /t | tail -1 | awk '{{print $2}}')\" = 2048\n",
            mount("/t", ",size=1m"),
            mount("/t", ",size=2m")
        );
        lines += "RUN test \"$(grep -c ' /dev/shm ' /proc/mounts)\" = 1 && touch /dev/shm/x && grep -q '^tmpfs /dev/shm tmpfs ' /proc/mounts";
        built(&env, &[], &lines);
    }
}
