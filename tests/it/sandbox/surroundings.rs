//! Test kiln under a filter that refuses system calls, as in a container: optional calls are skipped with a note; calls
//! that isolate end the step with a reason (N-51).

use std::process::{Command, Output};

use nix::libc;

use crate::support::TestEnv;
use crate::support::env::{binary, fixture};
use crate::support::requires::is_root;

const SCRIPT: &str = include_str!("filtered.py");

/// Runs `kiln args` under a filter, as root or root of a user namespace.
fn filtered(env: &TestEnv, filter: &[&str], args: &[&str]) -> (Option<i32>, String) {
    let mut command = match is_root() {
        true => Command::new("python3"),
        false => {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "--map-auto", "python3"]);
            command
        }
    };
    command.args(["-c", SCRIPT]).args(filter).arg(binary()).args(args);
    said(command.env("KILN_ROOT", env.store()).env("HOME", env.dir()).output().expect("run python3"))
}

fn said(out: Output) -> (Option<i32>, String) {
    let said = [&out.stdout[..], &out.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    (out.status.code(), said)
}

#[test]
fn run_works_if_optional_system_calls_are_refused() {
    requires!(userns, overlay, python3);
    let env = TestEnv::with_busybox();
    let context = env.context("\n-- Dockerfile --\nFROM busybox\nRUN echo x > /file\nRUN cat /file && echo it ran\n");
    let context = context.to_str().expect("UTF-8");
    // Calls, and the note if they are refused.
    let cases = [
        (libc::SYS_sethostname, Some("without the host name \"buildkitsandbox\"")),
        (libc::SYS_setdomainname, None),
        (libc::SYS_keyctl, None),
        (libc::SYS_close_range, None),
        (libc::SYS_setns, None),
        (libc::SYS_process_vm_readv, None),
        (libc::SYS_syslog, None),
    ];
    for (call, note) in cases {
        for errno in [libc::EPERM, libc::ENOSYS] {
            let filter = ["deny", &errno.to_string(), &call.to_string()];
            let (code, said) = filtered(&env, &filter, &["build", "--no-cache", context]);
            assert!(code == Some(0) && said.contains("it ran"), "{call} {errno}: {said}");
            let notes = note.map_or(0, |note| said.matches(note).count());
            assert_eq!(notes, usize::from(note.is_some()), "once a build: {said}");
        }
    }
}

#[test]
fn run_explains_required_system_calls_that_are_refused() {
    requires!(userns, overlay, python3);
    let env = TestEnv::with_busybox();
    let context = env.context("\n-- Dockerfile --\nFROM busybox\nRUN true\n");
    let context = context.to_str().expect("UTF-8");
    for call in [
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_fsopen,
        libc::SYS_fsmount,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_mount_setattr,
        libc::SYS_unshare,
        libc::SYS_setresuid,
        libc::SYS_capset,
        libc::SYS_setsid,
    ] {
        for errno in [libc::EPERM, libc::ENOSYS] {
            let filter = ["deny", &errno.to_string(), &call.to_string()];
            let (code, said) = filtered(&env, &filter, &["build", "--no-cache", context]);
            assert_eq!(code, Some(3), "{call} {errno}: {said}");
            // Root of a user namespace needs a mount namespace before any step.
            let early = call == libc::SYS_unshare && !nix::unistd::geteuid().is_root();
            let place = if early { "cannot create a mount namespace" } else { "Dockerfile:2" };
            assert!(said.contains(place) && said.contains("the container around kiln"), "{call} {errno}: {said}");
            assert!(!said.contains("built without"), "{call} {errno}: {said}");
        }
    }
}

#[test]
fn build_names_what_refuses_user_namespaces() {
    requires!(userns, overlay, python3, setpriv);
    let users: &[&str] = if is_root() { &[] } else { &["--user", "--map-root-user", "--map-auto"] };
    // The restriction, then the message for a plain user.
    let deny = |errno: i32| format!("python3 -c \"$0\" deny {errno} {}", libc::SYS_unshare);
    let cases = [
        (deny(libc::EPERM), ["a system call filter is in force", "hint: run the container around kiln with seccomp"]),
        (deny(libc::ENOSYS), ["a system call filter is in force", "hint: run the container around kiln with seccomp"]),
        (
            "sh -c 'echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"' sh".to_owned(),
            ["user.max_user_namespaces is 0", "hint: as root, run sysctl -w user.max_user_namespaces"],
        ),
    ];
    // Host root must not change the limit of the machine.
    let ours = if is_root() { 2 } else { cases.len() };
    for (around, wanted) in cases.into_iter().take(ours) {
        let script = format!(
            "mount -t tmpfs -o mode=1777 none /mnt && mkdir /mnt/c && printf 'FROM scratch\nRUN [\"x\"]\n' > \
             /mnt/c/Dockerfile && exec {around} setpriv --reuid 1000 --regid 1000 --clear-groups \"$1\" build /mnt/c"
        );
        let out = Command::new("unshare")
            .args(users)
            .args(["--mount", "sh", "-c", &script, SCRIPT])
            .arg(binary())
            .envs([("KILN_ROOT", "/mnt/store"), ("HOME", "/mnt")])
            .output()
            .expect("run unshare");
        let (code, said) = said(out);
        assert_eq!(code, Some(3), "{around}: {said}");
        for words in ["cannot create a user namespace: "].iter().chain(&wanted) {
            assert!(said.contains(words), "{around}: {said}");
        }
    }
}

/// The capabilities of root in a container of podman.
const POD: &str = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+net_bind_service,+setfcap,+setgid,+setpcap,+setuid,\
                   +sys_chroot";

#[test]
fn build_works_under_podmans_default_profile() {
    requires!(userns, overlay, python3, setpriv);
    let env = TestEnv::new();
    let context = env.context(
        "\n-- Dockerfile --\nFROM busybox\nRUN echo one > /file && id -u > /dev/stderr\nRUN cat /file && echo it ran\n",
    );
    let profile = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/seccomp/podman-default.txt");
    let users: &[&str] = if is_root() { &[] } else { &["--user", "--map-root-user", "--map-auto"] };
    let tar = fixture("busybox").join("rootfs.tar");
    // Parts of /proc are hidden, capabilities are those of a container, and the store is on a tmpfs.
    let script = "mount --bind /dev/null /proc/version && mount -t tmpfs -o mode=1777 none /mnt && \
                  exec python3 -c \"$0\" profile \"$1\" setpriv --bounding-set \"$2\" --inh-caps=-all $3 sh -c \
                  '\"$1\" import \"$2\" busybox && exec \"$1\" build \"$3\"' sh \"$4\" \"$5\" \"$6\"";
    for user in ["", "--reuid 1000 --regid 1000 --clear-groups"] {
        let out = Command::new("unshare")
            .args(users)
            .args(["--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", script, SCRIPT, profile, POD, user])
            .args([binary().as_ref(), tar.as_path(), context.as_path()])
            .env("KILN_ROOT", "/mnt/store")
            .env("HOME", "/mnt")
            .output()
            .expect("run unshare");
        let (code, said) = said(out);
        assert!(code == Some(0) && said.contains("it ran"), "{user}: {said}");
        assert_eq!(said.matches("without the host name").count(), 1, "{user}: {said}");
    }
}
