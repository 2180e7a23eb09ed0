//! Test several mounts of one command, the order of keys, and invalid mounts.

use super::{built, context, last_layer, refused};
use crate::support::TestEnv;
use crate::support::env::each_user;

#[test]
fn nested_mounts_apply_in_order_and_last_wins() {
    // M-21
    requires!(userns, overlay);
    for env in each_user() {
        let files = "-- a/name --\na\n-- a/sub/ --\n-- b/name --\nb\n";
        let lines = "
RUN --mount=target=/m,source=a --mount=type=cache,target=/m/sub cat /m/name && echo x > /m/sub/kept
RUN --mount=type=cache,id=/m/sub,target=/c test -e /c/kept
RUN --mount=target=/m,source=a --mount=target=/m,source=b test \"$(cat /m/name)\" = b
RUN --mount=target=/m,source=b --mount=target=/m,source=a test \"$(cat /m/name)\" = a
RUN --mount=type=tmpfs,target=/t --mount=target=/t/deep/er,source=b test \"$(cat /t/deep/er/name)\" = b && touch /t/x
RUN --mount=target=/t/deep,source=b --mount=type=tmpfs,target=/t test -z \"$(ls -A /t)\"
RUN --mount=type=secret,id=s,target=/m/name --mount=target=/m,source=a test \"$(cat /m/name)\" = a
RUN --mount=target=/m,source=a --mount=type=secret,id=s,target=/m/name test \"$(cat /m/name)\" = hush";
        env.build(&["-t", "app", "--secret", "id=s,env=S"], &context(&env, lines, files)).env("S", "hush").ok();
        assert_eq!(last_layer(&env), [""; 0]);
        let inside = "RUN --mount=target=/m,source=a --mount=type=tmpfs,target=/m/missing true";
        env.build(&[], &context(&env, inside, files)).fails(1).says("/m/missing");
    }
}

#[test]
fn last_mount_key_wins_in_any_key_order() {
    // M-20
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    built(
        &env,
        &[],
        "RUN --mount=size=1m,target=/no,type=tmpfs,target=/t df /t && test ! -e /no\n\
         RUN --mount=required=false,id=none,type=secret test ! -e /run/secrets/none\n\
         RUN --mount='TYPE=cache,\"Id=a,b\",TARGET=/c' touch /c/x",
    );
}

#[test]
fn invalid_mounts_are_refused_before_anything_runs() {
    // M-1, M-20
    let env = TestEnv::new();
    for (mount, said) in [
        ("type=cach,target=/m", "did you mean `cache`?"),
        ("type=bind,target=/m,sharing=locked", "sharing"),
        ("type=bind,target=/m,size=1m", "size"),
        ("type=cache,target=/m,size=1m", "size"),
        ("type=bind,target=/m,required", "required"),
        ("type=tmpfs,target=/m,mode=0700", "mode"),
        ("type=tmpfs,target=/m,uid=1", "uid"),
        ("type=bind,target=/m,gid=1", "gid"),
        ("type=secret,id=a,from=x", "from"),
        ("type=secret,id=a,sharing=shared", "sharing"),
        ("type=ssh,source=x", "source"),
        ("type=secret", "id"),
        ("type=secret,id=a,source=b", "source"),
        ("type=cache,target", "target"),
        ("target=/m,nonsense=1", "nonsense"),
        ("type=cache,target=/m,sharing=often", "often"),
        ("type=cache,target=/m,mode=9", "mode"),
        ("type=tmpfs,target=/m,size=lots", "lots"),
    ] {
        let done = refused(&env, 1, &format!("RUN --mount={mount} true"));
        done.says(said).says("Dockerfile:2");
        assert!(done.stderr.starts_with("error:"), "{done}");
    }
}
