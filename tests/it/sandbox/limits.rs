//! Test resource limits of a command.

use std::process::Command;

use kiln::sandbox::{Exit, Fallback, Hint, Resources, Rlimit, Spec};

use super::groups::{CPU, Limit, MEMORY, PIDS, SWAP, can_limit};
use super::{TestRoot, root_only};
use crate::support::TestEnv;
use crate::support::env::binary;

/// Runs `spec` with `limits`. Returns `None` if this host has no control groups for one of them, which must be
/// reported.
fn limited(root: &TestRoot, spec: &Spec, limits: &[Limit]) -> Option<super::Ran> {
    let ran = root.run(spec).unwrap();
    let told = &ran.outcome.fallbacks;
    if limits.iter().all(|limit| can_limit(*limit)) {
        assert_eq!(*told, [], "control groups can be made here, and were not");
        return Some(ran);
    }
    assert!(!told.is_empty(), "no control groups can be made here, and nothing was said");
    for Fallback { feature, cause } in told {
        assert!(cause.contains("cgroup") || cause.contains("control groups"), "{feature}: {cause}");
    }
    None
}

#[test]
fn command_over_memory_limit_is_killed() {
    // S-79, R-11, R-16
    root_only!();
    let root = TestRoot::new();
    let mut spec = root.sh("head -c 200000000 /dev/zero | tail -c 199999999 | wc -c; echo status $?");
    spec.resources = Resources { memory: Some(32 << 20), memory_swap: Some(32 << 20), ..Resources::default() };
    let Some(ran) = limited(&root, &spec, &[MEMORY, SWAP]) else { return };
    assert!(!ran.output.contains("199999999"), "{}", ran.output);
    // A command within the limit succeeds.
    let mut spec = root.sh("head -c 2000000 /dev/zero | tail -c 1999999 | wc -c");
    spec.resources = Resources { memory: Some(64 << 20), ..Resources::default() };
    assert_eq!(root.succeeds(&spec), "1999999\n");
}

#[test]
fn fork_bomb_stops_at_process_limit() {
    // S-79
    root_only!();
    let root = TestRoot::new();
    let mut spec = root.sh("i=0; while [ $i -lt 100 ]; do sleep 2 & i=$((i+1)); done; echo all");
    spec.resources = Resources { pids: Some(20), ..Resources::default() };
    let Some(ran) = limited(&root, &spec, &[PIDS]) else { return };
    assert_ne!(ran.outcome.exit, Exit::Code(0));
    assert!(ran.output.contains("fork"), "{}", ran.output);
}

#[test]
fn control_groups_are_removed_after_command() {
    root_only!();
    let root = TestRoot::new();
    let mut spec = root.sh("cat /proc/self/cgroup");
    spec.resources = Resources { pids: Some(50), cpu_quota: Some(50_000), ..Resources::default() };
    // In its control group namespace, the command sees its group as the root.
    let Some(ran) = limited(&root, &spec, &[PIDS, CPU]) else { return };
    let pids = ran.output.lines().find(|line| line.contains(":pids:")).map(|line| line.rsplit(':').next().unwrap());
    assert!(pids.is_none_or(|path| path == "/"), "{}", ran.output);
    let left = std::process::Command::new("find").args(["/sys/fs/cgroup", "-name", "kiln-*"]).output().unwrap();
    let left = String::from_utf8_lossy(&left.stdout).into_owned();
    // Other tests have groups too; none may belong to a process that has ended.
    for dir in left.lines() {
        let pid = dir.rsplit('-').next().unwrap();
        assert!(std::path::Path::new("/proc").join(pid).exists() || !std::path::Path::new(dir).exists(), "{dir}");
    }
}

#[test]
fn rlimits_are_set_and_invalid_ones_explained() {
    // O-24, S-73
    root_only!();
    let root = TestRoot::new();
    let mut spec = root.sh("ulimit -n; ulimit -Hn; ulimit -f");
    let limit = |name: &str, soft, hard| Rlimit { name: name.to_owned(), soft: Some(soft), hard: Some(hard) };
    spec.rlimits = vec![limit("nofile", 100, 200), limit("fsize", 1 << 20, 1 << 20)];
    assert_eq!(root.succeeds(&spec), "100\n200\n2048\n");
    // Also a limit that would keep kiln itself from opening files.
    spec.rlimits = vec![limit("nofile", 1, 2)];
    spec.user = "app".to_owned();
    assert_eq!(root.succeeds(&spec), "1\n2\nunlimited\n");
    spec.rlimits = vec![limit("nofile", 300, 200)];
    let error = root.run(&spec).err().unwrap();
    assert!(error.hint() == Some(&Hint::SoftAboveHard) && !error.is_host(), "{error}");
    spec.rlimits = vec![limit("nosuch", 1, 1)];
    let error = root.run(&spec).err().unwrap();
    assert!(
        matches!(error.hint(), Some(Hint::KnownLimits(names)) if names.iter().any(|name| name == "nofile")),
        "{error}"
    );
}

#[test]
fn large_output_is_not_buffered() {
    // R-12, S-79: output is not buffered; a slow reader slows the command down.
    root_only!();
    let root = TestRoot::new();
    let output = root.says("yes | head -c 30000000");
    assert_eq!(output.len(), 30_000_000);
}

#[test]
fn command_sees_its_control_group_read_only() {
    // R-16, S-71: on a host with version 2 only; read-only, and without access to parent groups.
    requires!(root, overlay);
    let env = TestEnv::with_busybox();
    let found = "grep ' /sys/fs/cgroup ' /proc/mounts; cat /sys/fs/cgroup/cgroup.controllers; cat /proc/self/cgroup;
        echo 1 > /sys/fs/cgroup/cgroup.procs";
    let script = "mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"";
    let out = Command::new("unshare")
        .args(["--mount", "--cgroup", "sh", "-c", script, "sh"])
        .arg(binary())
        .args(["run", "busybox", "sh", "-c", found])
        .env("KILN_ROOT", env.store())
        .output()
        .expect("run unshare");
    let said = [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    for part in ["cgroup2 /sys/fs/cgroup cgroup2 ro,nosuid,nodev,noexec", "0::/\n", "Read-only file system"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}
