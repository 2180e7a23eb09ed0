//! Test restricted hosts: no user namespaces, no new /proc, no CAP_SYS_ADMIN, kiln inside a container; and builds that
//! are stopped by signals.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kiln::sandbox::Cancel;

use crate::support::TestEnv;
use crate::support::env::binary;
use crate::support::requires::is_root;

/// Builds as a user who cannot create user namespaces: uid 1000 in a namespace whose limit is 0.
fn without_namespaces(env: &TestEnv, context: &std::path::Path) -> (bool, String) {
    let script = "mkdir $1/bare && chown 1000:1000 $1/bare && echo 0 > /proc/sys/user/max_user_namespaces &&
        exec setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=-all sh -c '
            cd $1/bare && export HOME=$PWD KILN_ROOT=$PWD/store && cat ../base.tar | $2 import - base && $2 build $3' \
            sh $1 $2 $3";
    let out = Command::new("unshare")
        .args(["--user", "--map-root-user", "--map-auto", "sh", "-c", script, "sh"])
        .args([env.dir().as_os_str(), binary().as_os_str(), context.as_os_str()])
        .stdin(Stdio::null())
        .output()
        .expect("run unshare");
    (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
}

#[test]
fn build_without_run_works_without_user_namespaces() {
    requires!(plain_user, userns);
    let env = TestEnv::new();
    fs::copy(crate::support::env::fixture("busybox").join("rootfs.tar"), env.dir().join("base.tar")).unwrap();
    let context = env.context(
        "
-- Dockerfile --
FROM base AS first
COPY --chown=5:6 file /etc/file
FROM base
COPY --from=first /etc /copied
ADD a.tar /unpacked/
WORKDIR /made/here
ENV a=b
CMD [\"true\"]
-- file --
content
",
    );
    let tar = Command::new("tar").args(["-cf", "a.tar", "file"]).current_dir(&context).status();
    assert!(tar.unwrap().success());
    let (done, said) = without_namespaces(&env, &context);
    assert!(done, "{said}");
    fs::remove_dir_all(env.dir().join("bare")).ok();
}

#[test]
fn run_without_user_namespaces_names_the_obstacle() {
    requires!(plain_user, userns);
    let env = TestEnv::new();
    fs::copy(crate::support::env::fixture("busybox").join("rootfs.tar"), env.dir().join("base.tar")).unwrap();
    let context = env.context("\n-- Dockerfile --\nFROM base\nRUN true\n");
    let (done, said) = without_namespaces(&env, &context);
    assert!(!done, "{said}");
    for part in ["Dockerfile:2", "RUN true", "sysctl -w user.max_user_namespaces=", "COPY, ADD"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

#[test]
fn outer_proc_is_shown_with_note_if_proc_cannot_be_mounted() {
    // R-7, S-71: in a container that hides parts of /proc, the kernel refuses new /proc mounts.
    requires!(userns, overlay);
    const BELOW: &str = "KILN_TEST_BELOW_A_CONTAINER";
    if std::env::var_os(BELOW).is_none() {
        let script = "mount --bind /dev/null /proc/version && exec unshare --user --map-root-user --mount \"$@\"";
        let container =
            ["--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", script, "sh"];
        let out = Command::new("unshare")
            .args(container)
            .arg(std::env::current_exe().expect("this program"))
            .args(["--exact", "sandbox::rungs::outer_proc_is_shown_with_note_if_proc_cannot_be_mounted"])
            .env(BELOW, "1")
            .output()
            .expect("run unshare");
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&out.stderr));
        return;
    }
    let root = super::TestRoot::new();
    // Other processes are visible, but nothing can be read from them or done through them (S-15).
    let script = "test -d /proc/self && wc -c < /proc/version; (echo x > /proc/sys/kernel/hostname) 2>&1; \
                  cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -c KILN_TEST; \
                  ls /proc/1/root/ /proc/1/cwd/ 2>&1 | grep -c denied";
    let ran = root.run(&root.sh(script)).expect("it runs");
    let told: Vec<_> =
        ran.outcome.fallbacks.iter().map(|fallback| format!("{}: {}", fallback.feature, fallback.cause)).collect();
    assert!(told.len() == 1 && told[0].starts_with("a /proc of its own: the container around kiln hides"), "{told:?}");
    assert!(ran.output.starts_with("0\n") && ran.output.contains("Read-only"), "{}", ran.output);
    assert!(ran.output.ends_with("\n0\n2\n"), "{}", ran.output);
    // The same holds for another command of kiln that runs at the same time.
    let other = super::TestRoot::new();
    let mut spec = other.spec(&["/bin/sleep", "97.25"]);
    spec.env.push(("TOKEN".into(), "of-the-other".into()));
    let cancel = Cancel::new().expect("a flag");
    let look = "while :; do for p in /proc/[0-9]*; do \
                case \"$(tr '\\0' ' ' < $p/cmdline 2>/dev/null)\" in *'sleep 97.25 ') break 2;; esac; done; sleep 0.1; done; \
                cat $p/environ; ls $p/root/ $p/cwd/ $p/fd/; (echo x > $p/mem); cat $p/comm; \
                kill -0 ${p#/proc/} && echo killed; true";
    let ran = std::thread::scope(|scope| {
        let waits = scope.spawn(|| other.run_until(&spec, &cancel).err());
        let ran = root.run(&root.sh(look)).expect("it runs");
        cancel.cancel();
        assert!(waits.join().expect("no panic").is_some(), "it ended before");
        ran
    });
    let denied = ran.output.matches("Permission denied").count() + ran.output.matches("can't open").count();
    assert!(denied >= 5 && ran.output.contains("sleep\n"), "{}", ran.output);
    assert!(!ran.output.contains("of-the-other") && !ran.output.contains("killed"), "{}", ran.output);
}

/// The output of kiln as root of a pod whose /proc is partly hidden, as container runtimes do.
fn in_a_pod(env: &TestEnv, args: &[&str]) -> String {
    let capabilities = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+sys_chroot,+mknod,\
                        +setfcap";
    let script = "mount --bind /dev/null /proc/version && exec setpriv --bounding-set $0 --inh-caps=-all \"$@\"";
    let users: &[&str] = if is_root() { &[] } else { &["--user", "--map-root-user", "--map-auto"] };
    let out = Command::new("unshare")
        .args(users)
        .args(["--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", script, capabilities])
        .arg(binary())
        .args(args)
        .env("KILN_ROOT", env.store())
        .output()
        .expect("run unshare");
    let said = [&out.stdout[..], &out.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    assert!(out.status.success(), "{said}");
    said
}

#[test]
fn network_none_isolates_in_a_restricted_pod() {
    requires!(userns, overlay, setpriv);
    let env = TestEnv::with_busybox();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = "nc -l -p 80 < /dev/null & sleep 0.5; kill -0 $! && echo heard on 80; kill $!";
    let publish = format!("127.0.0.1:{port}:80");
    let said = in_a_pod(&env, &["run", "--network", "none", "-p", &publish, "busybox", "sh", "-c", listen]);
    assert!(said.contains("a /proc of its own") && said.contains("heard on 80"), "{said}");
}

#[test]
fn commands_sharing_proc_cannot_read_each_other() {
    // S-15, M-14
    requires!(userns, overlay, setpriv);
    let env = TestEnv::with_busybox();
    let canary = crate::support::canary::text();
    let secret = env.dir().join("secret");
    fs::write(&secret, &canary).expect("write");
    let context = env.context(
        "
-- Dockerfile --
FROM busybox AS knows
RUN --mount=type=secret,id=s,env=TOKEN --mount=type=cache,target=/c \
    touch /c/ready; until [ -e /c/done ]; do sleep 0.1; done; echo known $TOKEN | wc -c > /known
FROM busybox
RUN --mount=type=cache,target=/c until [ -e /c/ready ]; do sleep 0.1; done; \
    ps | grep -c 'c/rea[d]y' > /seen; \
    cat /proc/*/environ /proc/*/root/run/secrets/* /proc/*/cwd/run/secrets/* 2>/dev/null | tr '\\0' '\\n' > /looked; \
    touch /c/done; grep -c ^PATH= /looked >> /seen
RUN echo one > /file && chown 12:34 /file && chmod 4755 /file
COPY --from=knows /known /known
",
    );
    let secret = format!("id=s,src={}", secret.display());
    let said = in_a_pod(&env, &["build", "-t", "app", "--secret", &secret, context.to_str().unwrap()]);
    assert!(said.contains("a /proc of its own"), "{said}");
    let image = env.image("app");
    let seen = String::from_utf8(image.content("seen")).expect("UTF-8");
    let (others, own) = seen.trim().split_once('\n').expect("two lines");
    assert!(others != "0" && own != "0", "it sees the other, and itself: {seen}");
    let looked = image.content("looked");
    assert!(!String::from_utf8_lossy(&looked).contains(&canary), "another's secret was read");
    assert_eq!(image.content("known"), format!("{}\n", canary.len() + 7).as_bytes());
    let tree = image.tree();
    assert_eq!((tree["file"].mode, tree["file"].uid, tree["file"].gid), (0o4755, 12, 34));
}

#[test]
fn doctor_names_what_forbids_user_namespaces() {
    requires!(plain_user, userns);
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --reuid 1000 --regid 1000 --clear-groups \
        --inh-caps=-all env HOME=/nonexistent KILN_ROOT=/nonexistent $1 doctor";
    let out = Command::new("unshare")
        .args(["--user", "--map-root-user", "--map-auto", "sh", "-c", script, "sh"])
        .arg(binary())
        .output()
        .expect("run unshare");
    let said = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(3), "{said}");
    for part in ["used     files and metadata only", "sysctl -w user.max_user_namespaces=", "RUN does not work here."] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

/// A Dockerfile that needs the whole range of ids: owners, users, and the mounts of the sandbox.
const WITH_OWNERS: &str = "
-- Dockerfile --
FROM busybox
RUN echo one > /file && chown 12:34 /file && chmod 4755 /file && mount | grep -c ' /proc '
COPY --chown=56:78 Dockerfile /copied
USER 100:101
RUN id -u && touch /tmp/mine && ! touch /etc/passwd 2>/dev/null
";

#[test]
fn root_without_sys_admin_builds_in_user_namespace() {
    // As in a pod: root with the default capabilities, without CAP_SYS_ADMIN.
    requires!(root, userns, overlay, setpriv);
    let env = TestEnv::with_busybox();
    let context = env.context(WITH_OWNERS);
    let kiln = |capabilities: &str, args: &[&str]| {
        let out = Command::new("setpriv")
            .args(["--bounding-set", capabilities, "--inh-caps=-all"])
            .arg(binary())
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", env.dir())
            .env("KILN_ROOT", env.store())
            .output()
            .expect("run setpriv");
        (out.status.code(), [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat())
    };
    let usual = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+sys_chroot,\
                 +mknod,+audit_write,+setfcap";
    let usual: String = usual.split_whitespace().collect();
    let (code, said) = kiln(&usual, &["build", "-t", "app", context.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    let tree = env.image("app").tree();
    assert_eq!((tree["file"].mode, tree["file"].uid, tree["file"].gid), (0o4755, 12, 34));
    assert_eq!((tree["copied"].uid, tree["tmp/mine"].uid), (56, 100));
    // The doctor says why.
    let (code, said) = kiln(&usual, &["doctor"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("root lacks CAP_SYS_ADMIN here"), "{said}");
    let (code, said) = kiln("-all,+chown,+setuid,+setgid", &["doctor"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("CAP_SETFCAP"), "{said}");
}

#[test]
fn existing_user_namespace_is_used() {
    requires!(plain_user, userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(WITH_OWNERS);
    // Its root is in the mount namespace of the host.
    let out = Command::new("unshare")
        .args(["--user", "--map-root-user", "--map-auto"])
        .arg(binary())
        .args(["build", "-t", "app", context.to_str().unwrap()])
        .env("KILN_ROOT", env.store())
        .output()
        .expect("run unshare");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && !said.contains("overlayfs"), "{said}");
    assert_eq!(env.image("app").tree()["copied"].uid, 56);
}

#[test]
fn kiln_runs_inside_kiln() {
    // A container around kiln: an insecure one, and one with the default restrictions.
    requires!(userns, overlay);
    let env = TestEnv::with("debian");
    let context = env.context(&format!(
        "{WITH_OWNERS}-- outer/Dockerfile --
FROM debian
RUN --security=insecure --mount=type=bind,from=tools,target=/tools --mount=type=tmpfs,target=/store \\
    export PATH=$PATH:/tools KILN_ROOT=/store HOME=/root && kiln import - busybox < /tools/base.tar && \\
    kiln build -t app -f /tools/Dockerfile /tools && kiln run app stat -c 'inside %u:%g %a' /file
RUN --mount=type=bind,from=tools,target=/tools /tools/kiln doctor; echo code $?
"
    ));
    fs::copy(binary(), context.join("kiln")).unwrap();
    fs::copy(crate::support::env::fixture("busybox").join("rootfs.tar"), context.join("base.tar")).unwrap();
    let tools = format!("tools={}", context.display());
    let args = ["--allow", "security.insecure", "--build-context", &tools];
    let done = env.build(&args, &context.join("outer")).ok();
    done.says("inside 12:34 4755").says("RUN does not work here").says("code 3").says("the container around kiln");
}

#[test]
fn stopped_build_leaves_no_process_or_mount() {
    // R-11, S-82: also through both processes of a plain user's build.
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let marker = format!("4{}", std::process::id());
    let context = env.context(&format!(
        "\n-- Dockerfile --\nFROM busybox\nRUN trap '' TERM INT HUP; setsid sleep {marker} & sleep {marker}\n"
    ));
    let running = || {
        let out = Command::new("pgrep").args(["-c", "-f", &format!("^sleep {marker}$")]).output().expect("pgrep");
        String::from_utf8_lossy(&out.stdout).trim().parse::<u32>().unwrap()
    };
    for (signal, code) in [("TERM", Some(130)), ("INT", Some(130)), ("HUP", Some(130)), ("KILL", None)] {
        let mut build = Command::new(binary())
            .args(["build", context.to_str().unwrap()])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", env.dir())
            .env("KILN_ROOT", env.store())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while running() != 2 {
            assert!(began.elapsed() < Duration::from_secs(20), "the command did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        let began = Instant::now();
        let told = Command::new("kill").args([&format!("-{signal}"), &build.id().to_string()]).status();
        assert!(told.unwrap().success());
        assert_eq!(build.wait().unwrap().code(), code, "{signal}");
        while running() != 0 {
            assert!(began.elapsed() < Duration::from_secs(1), "{signal}: it still runs after a second");
            std::thread::sleep(Duration::from_millis(10));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&*env.dir().to_string_lossy()), "{mounts}");
    }
    // The next start sweeps what the killed build left.
    let next = env.context("\n-- Dockerfile --\nFROM busybox\nRUN true\n");
    env.build(&[], &next).ok();
    let left = fs::read_dir(env.store().join("scratch")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "scratch of a killed build is still there");
}
