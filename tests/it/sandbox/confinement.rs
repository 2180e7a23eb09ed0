//! Test what a command can see and do.

use super::{TestRoot, root_only};

#[test]
fn command_inherits_no_descriptors_environment_or_signals() {
    // S-1, S-15, S-73
    root_only!();
    let root = TestRoot::new();
    // Descriptors that could leak into the command.
    let _leak = std::fs::File::open("/").unwrap();
    let plain = rustix::fs::open("/", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    assert_eq!(root.says("ls /proc/self/fd | grep -vE '^[0-3]$' | wc -l; readlink /proc/self/fd/0"), "0\n/dev/null\n");
    drop(plain);
    assert_eq!(root.says("env | sort"), "HOME=/root\nPATH=/bin:/usr/bin\nPWD=/\nSHLVL=1\n");
    assert_eq!(root.says("cat /proc/1/environ 2>/dev/null; true"), "", "that of kiln's init");
    let signals = root.says("grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status | tr -d '\\t'");
    assert_eq!(signals, "SigBlk:0000000000000000\nSigIgn:0000000000000000\nSigCgt:0000000000000000\n");
    assert_eq!(root.says("hostname"), "buildkitsandbox\n");
}

#[test]
fn host_processes_are_not_visible() {
    // S-77
    root_only!();
    let root = TestRoot::new();
    // Listed by the shell itself, so that no other process exists at that time.
    assert_eq!(root.says("echo $$; echo /proc/[0-9]*"), "2\n/proc/1 /proc/2\n");
}

#[test]
fn capabilities_match_docker_default() {
    // S-17, S-81
    root_only!();
    let root = TestRoot::new();
    let caps = |user: &str| {
        let mut spec = root.sh("grep ^Cap /proc/self/status | tr -d '\\t'");
        spec.user = user.to_owned();
        root.succeeds(&spec)
    };
    let default = "00000000a80425fb";
    let none = "0000000000000000";
    assert_eq!(
        caps(""),
        format!("CapInh:{none}\nCapPrm:{default}\nCapEff:{default}\nCapBnd:{default}\nCapAmb:{none}\n")
    );
    assert_eq!(caps("app"), format!("CapInh:{none}\nCapPrm:{none}\nCapEff:{none}\nCapBnd:{default}\nCapAmb:{none}\n"));
}

#[test]
fn kernel_files_are_masked_or_read_only() {
    // S-71
    root_only!();
    let root = TestRoot::new();
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"] {
        assert_eq!(root.says(&format!("[ ! -e {path} ] || wc -c < {path}")).trim().trim_matches('0'), "", "{path}");
    }
    assert_eq!(root.says("ls /sys/firmware /proc/acpi /proc/scsi 2>/dev/null | grep -v ':$' | grep . | wc -l"), "0\n");
    for path in
        ["/proc/sysrq-trigger", "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches", "/sys/kernel/mm/ksm/run"]
    {
        let said = root.says(&format!("(echo 1 > {path}) 2>&1 || true"));
        assert!(said.contains("Read-only") || said.contains("nonexistent"), "{path}: {said}");
    }
}

#[test]
fn host_devices_cannot_be_opened() {
    // S-70: nodes can be created, because they belong to the layer, but only Docker's default devices open (N-53).
    root_only!();
    let root = TestRoot::new();
    let names = root.says("cd /dev; for d in null zero full random urandom tty; do [ -c $d ] && echo $d; done; ls");
    assert_eq!(
        names.split_whitespace().collect::<Vec<_>>().join(" "),
        "null zero full random urandom tty fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    );
    let said = root.says(
        "for at in /dev/x /x /tmp/x /dev/shm/x; do mknod $at c 1 11 && head -c1 $at | wc -c; rm -f $at; done 2>&1; true",
    );
    assert!(!said.contains("\n1\n") && !said.starts_with("1\n"), "a device was read: {said}");
    assert_eq!(root.says("echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c"), "4\n4\n");
}

#[test]
fn dangerous_commands_are_refused() {
    // S-70
    root_only!();
    let root = TestRoot::new();
    for (script, said) in [
        ("mount -t tmpfs x /tmp", "permission denied"),
        ("umount /proc", "Operation not permitted"),
        ("unshare -U true", "Operation not permitted"),
        ("unshare -m true", "Operation not permitted"),
        ("hostname other", "Operation not permitted"),
        ("dmesg", "Operation not permitted"),
        ("pivot_root / /tmp", "Operation not permitted"),
        ("swapoff -a; swapoff /x", ""),
        ("nsenter -t 1 -m true", "ermi"),
    ] {
        let ran = root.run(&root.sh(&format!("{script} 2>&1"))).unwrap();
        assert!(!ran.outcome.exit.success(), "{script} succeeded: {}", ran.output);
        assert!(ran.output.contains(said), "{script}: {}", ran.output);
    }
    assert_eq!(
        root.says("grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status | tr -d '\\t'"),
        "NoNewPrivs:0\nSeccomp:2\n"
    );
}

#[test]
fn host_file_system_is_detached() {
    // S-72, S-78
    root_only!();
    let root = TestRoot::new();
    let info = root.says("cat /proc/self/mountinfo");
    let outside = root.path("upper");
    let outside = outside.parent().unwrap().display().to_string();
    assert!(!info.contains(&outside), "a path of the host shows: {info}");
    assert!(info.lines().all(|line| !line.contains("shared:") && !line.contains("master:")), "{info}");
    assert_eq!(info.lines().filter(|line| line.split(' ').nth(4) == Some("/")).count(), 1);
}

#[test]
fn concurrent_runs_are_not_visible() {
    // S-77
    root_only!();
    let (one, two) = (TestRoot::new(), TestRoot::new());
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            one.says("echo secret > /dev/shm/x; echo secret > /tmp/x; sleep 1; set -- /proc/[0-9]*; echo $#")
        });
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(two.says("ls -A /dev/shm /tmp; set -- /proc/[0-9]*; echo $#"), "/dev/shm:\n\n/tmp:\n2\n");
        assert_eq!(first.join().unwrap(), "2\n");
    });
}
