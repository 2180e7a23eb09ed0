//! Finds out, without kiln, whether resource limits work on this host: creates a control group and moves a process into
//! it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const MOUNTED: &str = "/sys/fs/cgroup";

/// A controller, and a file that a group with it has under version 1 and version 2.
pub(crate) type Limit = (&'static str, &'static str, &'static str);

pub(crate) const MEMORY: Limit = ("memory", "memory.limit_in_bytes", "memory.max");
pub(crate) const SWAP: Limit = ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
pub(crate) const CPU: Limit = ("cpu", "cpu.cfs_quota_us", "cpu.max");
pub(crate) const PIDS: Limit = ("pids", "pids.max", "pids.max");

/// Whether the user of the tests can create a control group with this limit.
pub(crate) fn can_limit((controller, v1, v2): Limit) -> bool {
    let own = fs::read_to_string("/proc/self/cgroup").expect("read");
    let lines = own.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        Some((controllers, path.trim_start_matches('/')))
    });
    let mut unified = None;
    for (controllers, path) in lines {
        if controllers.split(',').any(|one| one == controller) {
            let top = Path::new(MOUNTED).join(controllers);
            // In a container that shows its own group as the root, the path does not exist.
            let own = Some(top.join(path)).filter(|own| own.exists()).unwrap_or(top);
            return takes_processes(&own, v1, None);
        }
        if controllers.is_empty() {
            unified = Some(PathBuf::from(MOUNTED).join(path));
        }
    }
    let own = unified.unwrap_or_default();
    let mut parents = own.ancestors().take_while(|parent| parent.starts_with(MOUNTED));
    parents.any(|parent| parent.join("cgroup.controllers").exists() && takes_processes(parent, v2, Some(controller)))
}

/// Whether a new group in `parent` has `file` and accepts a process. A controller enabled for this stays enabled.
fn takes_processes(parent: &Path, file: &str, enable: Option<&str>) -> bool {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("it-probe-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let dir = parent.join(name);
    if fs::create_dir(&dir).is_err() {
        return false;
    }
    if let Some(controller) = enable {
        fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}")).ok();
    }
    let enter = "[ -w \"$1/$2\" ] && echo $$ > \"$1/cgroup.procs\"";
    let entered = Command::new("sh").args(["-c", enter, "sh"]).args([dir.as_os_str(), file.as_ref()]).status();
    // A process that has just ended may still be counted for a moment.
    for _ in 0..50 {
        if fs::remove_dir(&dir).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    entered.expect("sh").success()
}
