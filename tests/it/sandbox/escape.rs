//! Test known container escapes. Each test fails if its protection is removed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kiln::sandbox::{Error, Exit, Mount, Network, Rootfs, Security, Source};
use rustix::fs::{CWD, RenameFlags};

use super::{TestRoot, probe, root_only};

/// Keeps swapping two names while `work` runs; returns the number of swaps.
pub(crate) fn swapping(one: &Path, two: &Path, work: impl FnOnce()) -> usize {
    let (done, swaps) = (AtomicBool::new(false), AtomicUsize::new(0));
    /// Stops the other thread also when `work` panics; the scope waits for it.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    std::thread::scope(|scope| {
        let _stop = Stop(&done);
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, one, CWD, two, RenameFlags::EXCHANGE).expect("swap");
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        });
        work();
    });
    swaps.into_inner()
}

#[test]
fn mount_source_swapped_for_symlink_does_not_escape() {
    // S-2, S-23: another process swaps the source thousands of times while it is mounted.
    root_only!();
    let root = TestRoot::new();
    let host = root.path("host");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("f"), "host\n").unwrap();
    // Inside the root of the source, the same path holds a harmless file.
    let cache = root.path("cache");
    let inside = cache.join(host.strip_prefix("/").unwrap());
    fs::create_dir_all(&inside).unwrap();
    fs::write(inside.join("f"), "inside\n").unwrap();
    fs::create_dir(cache.join("sub")).unwrap();
    fs::write(cache.join("sub/f"), "inside\n").unwrap();
    symlink(&host, cache.join("link")).unwrap();
    let source = |no_symlinks| Source::Inside { root: cache.clone(), subpath: "sub".into(), no_symlinks };
    let mut spec = root.sh("cat /m*/f | sort | uniq -c | tr -d ' '");
    spec.mounts =
        (0..100).map(|n| Mount { source: source(false), target: format!("/m{n}").into(), readonly: true }).collect();
    let swaps = swapping(&cache.join("sub"), &cache.join("link"), || {
        for _ in 0..25 {
            assert_eq!(root.succeeds(&spec), "100inside\n");
        }
        // If symlinks are refused, the run fails or shows the real directory.
        spec.mounts = vec![Mount { source: source(true), target: "/m0".into(), readonly: true }];
        for _ in 0..400 {
            match root.run(&spec) {
                Ok(ran) => assert_eq!(ran.output, "1inside\n"),
                Err(e) => assert!(e.to_string().contains("source sub"), "{e}"),
            }
        }
    });
    assert!(swaps > 2000, "only {swaps} swaps");
}

#[test]
fn cleanup_does_not_follow_swapped_target_parent() {
    // S-3
    root_only!();
    let root = TestRoot::new();
    let host = root.path("host");
    fs::create_dir_all(host.join("b/c")).unwrap();
    fs::create_dir_all(root.lower("proc")).unwrap();
    let up = format!("../../../../../../../..{}", host.display());
    let mut spec = root.sh(&format!("mv /a /moved && ln -s {up} /a && ls -d /moved/b/c"));
    spec.rootfs = Rootfs::Dir(root.path("lower"));
    let source = Source::Tmpfs { size: None, mode: 0o755 };
    spec.mounts = vec![Mount { source, target: "/a/b/c".into(), readonly: false }];
    assert_eq!(root.succeeds(&spec), "/moved/b/c\n");
    assert!(host.join("b/c").is_dir(), "the cleanup left the root");
    assert!(root.lower("proc").is_dir() && !root.lower("sys").exists(), "only what was made is taken away");
}

#[test]
fn file_denied_to_a_group_stays_denied() {
    // S-7
    root_only!();
    requires!(cc);
    let root = TestRoot::new();
    fs::write(root.lower("denied"), "secret\n").unwrap();
    fs::set_permissions(root.lower("denied"), fs::Permissions::from_mode(0o604)).unwrap();
    std::os::unix::fs::chown(root.lower("denied"), Some(0), Some(1001)).unwrap();
    // A setgid program replaces the primary group. If that group were not a supplementary one too, the user would
    // count as "other".
    let probe = probe(&root);
    std::os::unix::fs::chown(&probe, Some(0), Some(77)).unwrap();
    fs::set_permissions(&probe, fs::Permissions::from_mode(0o2755)).unwrap();
    let mut spec = root.sh("grep ^Groups: /proc/self/status; cat /denied 2>&1; probe setuid /denied");
    for (user, groups) in [
        ("app", "10 1001 "),
        ("app:app", "1001 "),
        ("1000:1001", "1001 "),
        ("4321:1001", "1001 "),
        ("app:1001", "1001 "),
    ] {
        spec.user = user.to_owned();
        let said = root.run(&spec).unwrap().output;
        assert!(said.starts_with(&format!("Groups:\t{groups}\n")), "{user}: {said}");
        assert!(
            said.contains("Permission denied") && said.contains("EACCES") && !said.contains("secret"),
            "{user}: {said}"
        );
    }
    // The groups of the caller are dropped too; users outside the group are not denied.
    spec.user = "4321:88".to_owned();
    let said = root.run(&spec).unwrap().output;
    assert!(said.starts_with("Groups:\t88 \n") && said.contains("secret\n") && said.contains("\nok\n"), "{said}");
    spec.user = String::new();
    assert!(root.run(&spec).unwrap().output.starts_with("Groups:\t0 10 \n"));
}

#[test]
fn system_mounts_over_symlinks_stay_inside_root() {
    // S-13
    root_only!();
    let checks = "[ -c /dev/null ] && [ -c /dev/zero ] && [ -d /proc/self ] && wc -c < /proc/keys && \
                  (echo 0 > /proc/sys/kernel/panic) 2>&1 | grep -cE 'Read-only|denied'";
    for links in [
        &[("dev", "/host")][..],
        &[("proc", "/host")],
        &[("sys", "../../../../../../../../tmp")],
        &[("dev/null", "/host/canary"), ("dev/console", "/host/canary"), ("dev/pts", "/host"), ("dev/shm", "/host")],
        &[("proc/sys", "/host"), ("proc/uptime", "/host/canary"), ("proc/keys", "/host/canary")],
    ] {
        let root = TestRoot::new();
        fs::create_dir(root.path("host")).unwrap();
        fs::write(root.path("host/canary"), "untouched").unwrap();
        for (name, to) in links {
            let to =
                if to.starts_with("/host") { format!("{}{to}", root.path("").display()) } else { (*to).to_owned() };
            fs::create_dir_all(root.lower(name).parent().unwrap()).unwrap();
            symlink(to.replace("//", "/"), root.lower(name)).unwrap();
        }
        match root.run(&root.sh(checks)) {
            Ok(ran) => assert_eq!((ran.outcome.exit, ran.output.as_str()), (Exit::Code(0), "0\n1\n"), "{links:?}"),
            Err(e) => assert!(matches!(e, Error::Setup(_)), "{links:?}: {e}"),
        }
        assert_eq!(fs::read_to_string(root.path("host/canary")).unwrap(), "untouched");
        assert_eq!(fs::read_dir(root.path("host")).unwrap().count(), 1);
    }
}

#[test]
fn command_cannot_modify_kiln_through_proc_self_exe() {
    // S-28: an image whose command is `/proc/self/exe` runs kiln with libraries of the image.
    root_only!();
    requires!(cc, ldd);
    let root = TestRoot::new();
    let kiln = crate::support::env::binary();
    let libraries = Command::new("ldd").arg(&kiln).output().expect("ldd");
    for word in String::from_utf8_lossy(&libraries.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
        let at = root.lower(word.trim_start_matches('/'));
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::copy(word, at).unwrap();
    }
    fs::write(
        root.path("evil.c"),
        "#include <stdio.h>\n#include <string.h>\n#include <errno.h>\n#include <sys/stat.h>\n#include <unistd.h>\n\
         __attribute__((constructor)) static void evil(void)\n\
         { puts(chmod(\"/proc/self/exe\", 0700) ? strerror(errno) : \"changed\"); fflush(stdout); _exit(0); }\n",
    )
    .unwrap();
    let (library, source) = (root.lower("evil.so"), root.path("evil.c"));
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(library).arg(source).status();
    assert!(cc.expect("run cc").success(), "cc");
    let mode = fs::metadata(&kiln).unwrap().permissions().mode();
    let mut spec = root.spec(&["/proc/self/exe"]);
    spec.env.push(("LD_PRELOAD".into(), "/evil.so".into()));
    assert_eq!(root.succeeds(&spec), "Read-only file system\n");
    assert_eq!(fs::metadata(&kiln).unwrap().permissions().mode(), mode);
}

#[test]
fn dangerous_system_calls_are_refused() {
    // S-70
    root_only!();
    requires!(cc);
    let root = TestRoot::new();
    probe(&root);
    // Without the filter, the kernel answers invalid arguments with EINVAL, EFAULT or EBADF, or some with EPERM if the
    // test does not run as host root.
    let refused = [
        ("mount", libc::SYS_mount),
        ("umount2", libc::SYS_umount2),
        ("pivot_root", libc::SYS_pivot_root),
        ("move_mount", libc::SYS_move_mount),
        ("open_tree", libc::SYS_open_tree),
        ("fsopen", libc::SYS_fsopen),
        ("fsconfig", libc::SYS_fsconfig),
        ("fsmount", libc::SYS_fsmount),
        ("mount_setattr", libc::SYS_mount_setattr),
        ("setns", libc::SYS_setns),
        ("unshare", libc::SYS_unshare),
        ("keyctl", libc::SYS_keyctl),
        ("add_key", libc::SYS_add_key),
        ("request_key", libc::SYS_request_key),
        ("bpf", libc::SYS_bpf),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("kexec_load", libc::SYS_kexec_load),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("io_uring_enter", libc::SYS_io_uring_enter),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("fanotify_init", libc::SYS_fanotify_init),
        ("init_module", libc::SYS_init_module),
        ("syslog", libc::SYS_syslog),
        ("quotactl", libc::SYS_quotactl),
        ("pidfd_getfd", libc::SYS_pidfd_getfd),
        ("settimeofday", libc::SYS_settimeofday),
        ("swapon", libc::SYS_swapon),
        ("acct", libc::SYS_acct),
    ];
    let mut argv = vec!["/bin/probe".to_owned(), "syscalls".to_owned()];
    argv.extend(refused.iter().map(|(_, number)| number.to_string()));
    argv.extend([libc::SYS_clone3.to_string(), "9999".to_owned()]);
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let said = root.succeeds(&root.spec(&argv));
    let answers: std::collections::BTreeMap<&str, &str> = said.lines().filter_map(|l| l.split_once(' ')).collect();
    for (name, number) in refused {
        assert_eq!(answers.get(number.to_string().as_str()), Some(&"EPERM"), "{name}");
    }
    // ENOSYS makes programs fall back to the older call; EPERM would make them fail.
    assert_eq!(answers[libc::SYS_clone3.to_string().as_str()], "ENOSYS");
    assert_eq!(answers["9999"], "ENOSYS");
    for flag in ["0x10000000", "0x20000", "0x40000000", "0x20000000", "0x4000000", "0x8000000", "0x2000000"] {
        assert_eq!(root.succeeds(&root.spec(&["/bin/probe", "clone", flag])), "EPERM\n", "clone {flag}");
    }
    // An insecure command has no filter.
    let mut spec = root.spec(&["/bin/probe", "syscalls", &libc::SYS_mount_setattr.to_string()]);
    spec.security = Security::Insecure;
    assert!(!root.succeeds(&spec).contains("EPERM"));
}

#[test]
fn keyring_of_caller_is_unreachable() {
    // S-74: even if the calls are allowed, the session keyring is new.
    root_only!();
    requires!(cc);
    let root = TestRoot::new();
    let outside = Command::new(probe(&root)).arg("keyring").output().expect("probe").stdout;
    let mut spec = root.spec(&["/bin/probe", "keyring"]);
    spec.security = Security::Insecure;
    let inside = root.succeeds(&spec);
    assert!(inside.trim().parse::<i64>().unwrap() > 0, "{inside}");
    assert_ne!(inside.as_bytes(), outside);
}

#[test]
fn command_has_its_own_session_umask_and_limits() {
    // S-73
    root_only!();
    requires!(cc);
    let root = TestRoot::new();
    probe(&root);
    // The caller allows core files, but those of a command would end up in the layer.
    let mut core = rustix::process::getrlimit(rustix::process::Resource::Core);
    core.current = core.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Core, core).unwrap();
    // Field 6 is the session; a session outside this PID namespace would be 0.
    assert_eq!(root.says("cut -d' ' -f6 /proc/1/stat; umask; ulimit -c"), "1\n0022\n0\n");
    assert_eq!(root.succeeds(&root.spec(&["/bin/probe", "tiocsti"])), "ENOTTY\n");
}

#[test]
fn network_none_has_loopback_only() {
    // R-8, S-76
    root_only!();
    requires!(cc);
    let root = TestRoot::new();
    probe(&root);
    let name = format!("kiln-canary-{}", std::process::id());
    let abstract_name =
        <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(&name);
    let _socket = UnixListener::bind_addr(&abstract_name.unwrap()).unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port().to_string();
    let tried = |network: Network, what: &str, arg: &str| {
        let mut spec = root.spec(&["/bin/probe", what, arg]);
        spec.network = network;
        root.succeeds(&spec)
    };
    assert_eq!(tried(Network::None, "abstract", &name), "ECONNREFUSED\n");
    assert_eq!(tried(Network::None, "connect", &port), "ECONNREFUSED\n");
    assert_eq!(tried(Network::None, "loopback", ""), "ok\n");
    let mut spec = root.sh("ls /sys/class/net; cat /sys/class/net/lo/operstate | grep -c down; tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '");
    spec.network = Network::None;
    assert!(root.succeeds(&spec).ends_with("lo\n"));
    // The host network reaches both.
    assert_eq!(tried(Network::Host, "abstract", &name), "ok\n");
    assert_eq!(tried(Network::Host, "connect", &port), "ok\n");
}

#[test]
fn host_files_cannot_be_found() {
    // S-26, S-78: neither files next to the layers nor kiln itself can be found under any name.
    root_only!();
    let root = TestRoot::new();
    fs::write(root.path("kiln-canary-file"), "canary").unwrap();
    let said = root.says("find / -xdev -name 'kiln*' 2>/dev/null; find /dev /proc/1/root/ /sys/kernel -name 'kiln-canary*' 2>/dev/null; true");
    assert_eq!(said, "");
    // `/..` is the root itself; it would show a tree that is mounted over.
    let above = "[ \"$(ls -a /)\" = \"$(cd /.. && ls -a)\" ] || { echo another root; ls -a /..; }";
    assert_eq!(root.says(above), "");
    let said =
        root.says("cat /proc/mounts /proc/self/mountinfo /proc/*/cmdline /proc/*/maps 2>/dev/null | tr '\\0' ' '");
    let outside = root.path("upper").parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    assert!(!said.contains(&outside), "{said}");
}

#[test]
fn mount_made_by_command_does_not_reach_host() {
    // S-72: even if the command may mount, its mounts do not reach the host.
    root_only!();
    let root = TestRoot::new();
    let shared = root.path("shared");
    fs::create_dir(&shared).unwrap();
    let mut spec = root.sh("mount -t tmpfs none /m && echo x > /m/made && ls /m");
    spec.security = Security::Insecure;
    spec.mounts = vec![Mount { source: Source::Path(shared.clone()), target: "/m".into(), readonly: false }];
    assert_eq!(root.succeeds(&spec), "made\n");
    assert_eq!(fs::read_dir(&shared).unwrap().count(), 0);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*shared.to_string_lossy()), "{mounts}");
}
