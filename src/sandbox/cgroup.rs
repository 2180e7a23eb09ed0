//! Limits of memory, CPU and processes.
//!
//! **Holds.** One control group per run and hierarchy (version 1 or 2). The warden enters it, forks init, which stays
//! in it, and leaves it. The group is removed when the command has ended; the next run removes groups that a killed
//! kiln left behind. A limit that cannot be set is a fallback, not an error.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use super::fallback::{Fallback, Feature, Limit};
use super::spec::Resources;
use crate::base::fs;

/// The remedy if version 2 control groups cannot be created.
const DELEGATE: &str = "run kiln as root, or in a delegated control group with systemd-run --user --scope -p \
                        Delegate=yes kiln …";
/// The remedy for version 1.
const DELEGATE_V1: &str =
    "run kiln as root, or in a control group that you own (systemd does not delegate version 1 groups)";

/// One value of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    controller: &'static str,
    /// The limit it belongs to.
    limit: Limit,
    /// File and value under version 1.
    v1: Vec<(&'static str, String)>,
    /// File and value under version 2.
    v2: Vec<(&'static str, String)>,
}

/// The settings for `resources`, for both versions.
fn settings(resources: &Resources) -> Vec<Setting> {
    let mut out = Vec::new();
    let mut add = |controller, limit, v1: Vec<_>, v2: Vec<_>| out.push(Setting { controller, limit, v1, v2 });
    if let Some(memory) = resources.memory {
        add(
            "memory",
            Limit::Memory,
            vec![("memory.limit_in_bytes", memory.to_string())],
            vec![("memory.max", memory.to_string()), ("memory.oom.group", "1".to_owned())],
        );
        // As much swap as memory, unless the request says otherwise.
        let both = resources.memory_swap.unwrap_or_else(|| i64::try_from(memory.saturating_mul(2)).unwrap_or(i64::MAX));
        let swap = match u64::try_from(both) {
            Ok(both) => both.saturating_sub(memory).to_string(),
            Err(_) => "max".to_owned(),
        };
        add(
            "memory",
            Limit::Swap,
            vec![("memory.memsw.limit_in_bytes", both.to_string())],
            vec![("memory.swap.max", swap)],
        );
    }
    if resources.cpu_quota.is_some() || resources.cpu_period.is_some() {
        let period = resources.cpu_period.unwrap_or(100_000).to_string();
        let quota = resources.cpu_quota.map(|quota| quota.to_string());
        let max = format!("{} {period}", quota.as_deref().unwrap_or("max"));
        let mut v1 = vec![("cpu.cfs_period_us", period)];
        v1.extend(quota.map(|quota| ("cpu.cfs_quota_us", quota)));
        add("cpu", Limit::CpuTime, v1, vec![("cpu.max", max)]);
    }
    if let Some(shares) = resources.cpu_shares {
        // Maps 2…262144 to 1…10000.
        let weight = 1 + shares.clamp(2, 262_144).saturating_sub(2) * 9_999 / 262_142;
        let v1 = vec![("cpu.shares", shares.to_string())];
        add("cpu", Limit::CpuWeight, v1, vec![("cpu.weight", weight.to_string())]);
    }
    for (file, value) in [("cpuset.cpus", &resources.cpuset_cpus), ("cpuset.mems", &resources.cpuset_mems)] {
        if let Some(value) = value {
            let one = vec![(file, value.clone())];
            add("cpuset", Limit::Cpuset, one.clone(), one);
        }
    }
    if let Some(pids) = resources.pids {
        // One more for init, which is not part of the command.
        let one = vec![("pids.max", pids.saturating_add(1).to_string())];
        add("pids", Limit::Processes, one.clone(), one);
    }
    out
}

fn text(path: PathBuf) -> String {
    fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The hierarchy of this process that has `controller`.
pub(super) fn own_hierarchy(controller: &str) -> Option<Hierarchy> {
    hierarchy(controller, &text("/proc/self/cgroup".into()), &text("/proc/self/mountinfo".into()))
}

/// A mounted hierarchy and the group of this process in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    mount: PathBuf,
    own: PathBuf,
    pub(super) unified: bool,
}

/// The hierarchy that has `controller`, from `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn hierarchy(controller: &str, cgroup: &str, mountinfo: &str) -> Option<Hierarchy> {
    let line = |wanted: &dyn Fn(&str) -> bool| {
        cgroup.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            wanted(controllers).then_some(path)
        })
    };
    let (own, unified) = match line(&|controllers| controllers.split(',').any(|one| one == controller)) {
        Some(own) => (own, false),
        None => (line(&str::is_empty)?, true),
    };
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let (root, point) = (*left.get(3)?, *left.get(4)?);
        let fits = match (unified, *right.first()?) {
            (true, "cgroup2") => true,
            (false, "cgroup") => right.get(2)?.split(',').any(|option| option == controller),
            _ => false,
        };
        let below = Path::new(own).strip_prefix(root).ok()?;
        // Joined by component: an empty rest adds no slash.
        fits.then(|| Hierarchy {
            mount: point.into(),
            own: Path::new(point).components().chain(below.components()).collect(),
            unified,
        })
    })
}

/// The groups of one run.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Each with the group that this process came from.
    made: Vec<(PathBuf, PathBuf)>,
}

impl Groups {
    /// Creates the groups that `resources` needs and moves this process there. The fallbacks are the limits that cannot
    /// be set.
    pub(super) fn enter(resources: &Resources) -> (Self, Vec<Fallback>) {
        let (mut groups, mut fallbacks) = (Self::default(), Vec::new());
        let (cgroup, mountinfo) = (text("/proc/self/cgroup".into()), text("/proc/self/mountinfo".into()));
        let mut unlimited = Vec::new();
        for setting in settings(resources) {
            let limit = setting.limit;
            match groups.set(setting, &cgroup, &mountinfo) {
                // The swap limit is implied: only the memory limit that was requested is reported.
                Err(_) if limit == Limit::Swap && resources.memory_swap.is_none() && unlimited == [Limit::Memory] => {}
                Err(cause) => {
                    fallbacks.push(Fallback::new(Feature::Limit(limit), cause));
                    unlimited.push(limit);
                }
                Ok(()) => {}
            }
        }
        for (dir, _) in &groups.made {
            // "0" is the process that writes it.
            if let Err(e) = write(&dir.join("cgroup.procs"), "0") {
                let cause = format!("cannot enter control group {}: {e}", dir.display());
                fallbacks.push(Fallback::new(Feature::ControlGroup, cause));
            }
        }
        (groups, fallbacks)
    }

    /// Sets one limit in this run's group.
    fn set(&mut self, setting: Setting, cgroup: &str, mountinfo: &str) -> Result<(), String> {
        let Setting { controller, v1, v2, .. } = setting;
        let found = hierarchy(controller, cgroup, mountinfo).ok_or_else(|| {
            format!("no control group hierarchy with the {controller} controller is mounted (/sys/fs/cgroup)")
        })?;
        let dir = self.group(&found, controller)?;
        let values = if found.unified { v2 } else { v1 };
        values.iter().try_for_each(|(file, value)| {
            write(&dir.join(file), value).map_err(|e| {
                let cause = format!("cannot write {}: {e}", dir.join(file).display());
                match dir.parent().filter(|_| controller == "cpuset").map(|parent| text(parent.join(file))) {
                    Some(all) => format!("{cause}; the host has {}, not {value}", all.trim()),
                    None => cause,
                }
            })
        })
    }

    /// Moves this process back; its children stay.
    pub(super) fn leave(&self) {
        for (_, before) in &self.made {
            let _ = write(&before.join("cgroup.procs"), "0");
        }
    }

    /// This run's group in a hierarchy, created on first use.
    pub(super) fn group(&mut self, found: &Hierarchy, controller: &str) -> Result<PathBuf, String> {
        if let Some((dir, _)) = self.made.iter().find(|(_, before)| *before == found.own) {
            if found.unified {
                let parent = dir.parent().unwrap_or(dir);
                enable(parent, controller)?;
            }
            return Ok(dir.clone());
        }
        let name = format!("kiln-{}", std::process::id());
        // Version 2 gives a group controllers only where its parent holds no process; the topmost one is exempt.
        let ancestors = found.own.ancestors().take_while(|dir| dir.starts_with(&found.mount));
        let parents: Vec<&Path> = if found.unified { ancestors.collect() } else { vec![&found.own] };
        let mut why = String::new();
        for parent in parents {
            sweep(parent);
            let dir = parent.join(&name);
            let made = match rustix::fs::mkdir(&dir, Mode::from_raw_mode(0o755)) {
                Ok(()) => Ok(()),
                Err(e) => {
                    let help = if found.unified { DELEGATE } else { DELEGATE_V1 };
                    let error = io::Error::from(e);
                    Err(format!("cannot create a control group in {}: {error}; {help}", parent.display()))
                }
            };
            let usable = made.and_then(|()| match found.unified {
                true => enable(parent, controller),
                false => inherit_cpuset(parent, &dir, controller),
            });
            match usable {
                Ok(()) => {
                    self.made.push((dir.clone(), found.own.clone()));
                    return Ok(dir);
                }
                Err(reason) => {
                    let _ = rustix::fs::rmdir(&dir);
                    if why.is_empty() {
                        why = reason;
                    }
                }
            }
        }
        Err(why)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for (dir, _) in &self.made {
            // Processes that just died may still be counted for a moment.
            for _ in 0..20 {
                match rustix::fs::rmdir(dir) {
                    Err(rustix::io::Errno::BUSY) => std::thread::sleep(Duration::from_millis(2)),
                    _ => break,
                }
            }
        }
    }
}

/// Enables a controller for the children of a version 2 group.
fn enable(parent: &Path, controller: &str) -> Result<(), String> {
    let words =
        |file: &str| fs::read(&parent.join(file)).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    let has = |text: &str| text.split_whitespace().any(|word| word == controller);
    if has(&words("cgroup.subtree_control")) {
        return Ok(());
    }
    if !has(&words("cgroup.controllers")) {
        return Err(format!("the {controller} controller is not delegated to {}; {DELEGATE}", parent.display()));
    }
    let file = parent.join("cgroup.subtree_control");
    write(&file, &format!("+{controller}")).map_err(|e| format!("cannot write {}: {e}; {DELEGATE}", file.display()))
}

/// Copies the parent's values to a new version 1 cpuset: it starts empty, and no process can enter an empty one.
fn inherit_cpuset(parent: &Path, dir: &Path, controller: &str) -> Result<(), String> {
    if controller != "cpuset" {
        return Ok(());
    }
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let value = fs::read(&parent.join(file)).map_err(|e| e.to_string())?;
        write(&dir.join(file), String::from_utf8_lossy(&value).trim())
            .map_err(|e| format!("cannot write {}: {e}", dir.join(file).display()))?;
    }
    Ok(())
}

/// Removes groups of dead wardens.
fn sweep(parent: &Path) {
    let Ok(names) = fs::list(parent) else { return };
    for name in names {
        let Some(pid) = name.to_str().and_then(|name| name.strip_prefix("kiln-")) else { continue };
        if pid.bytes().all(|b| b.is_ascii_digit()) && !Path::new("/proc").join(pid).exists() {
            let _ = rustix::fs::rmdir(parent.join(&name));
        }
    }
}

pub(super) fn write(path: &Path, value: &str) -> io::Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, value.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "4:memory:/a\n3:cpuset:/\n1:cpu,cpuacct:/\n0::/u\n";
    const MOUNTS: &str = "30 20 0:1 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        31 30 0:2 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        32 30 0:3 /a /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        33 30 0:4 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn hierarchy_is_the_one_with_the_controller() {
        let found = |controller| hierarchy(controller, V1, MOUNTS);
        let here = |mount: &str, own: &str, unified| Some(Hierarchy { mount: mount.into(), own: own.into(), unified });
        assert_eq!(found("cpu"), here("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/", false));
        // A container sees its own group as the top.
        assert_eq!(found("memory"), here("/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/", false));
        assert_eq!(found("pids"), here("/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified/u", true));
        assert_eq!(found("cpuset"), None, "not mounted");
    }

    #[test]
    fn settings_agree_between_both_versions() {
        let resources = Resources {
            memory: Some(1 << 20),
            cpu_quota: Some(50_000),
            cpu_shares: Some(1024),
            pids: Some(7),
            ..Resources::default()
        };
        let settings = settings(&resources);
        let values = |v2: bool| -> Vec<String> {
            let settings = settings.iter().flat_map(|one| if v2 { &one.v2 } else { &one.v1 });
            settings.map(|(file, value)| format!("{file}={value}")).collect()
        };
        assert_eq!(
            values(false),
            [
                "memory.limit_in_bytes=1048576",
                "memory.memsw.limit_in_bytes=2097152",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "cpu.shares=1024",
                "pids.max=8"
            ]
        );
        assert_eq!(
            values(true),
            [
                "memory.max=1048576",
                "memory.oom.group=1",
                "memory.swap.max=1048576",
                "cpu.max=50000 100000",
                "cpu.weight=39",
                "pids.max=8"
            ]
        );
        let unlimited = Resources { memory: Some(1), memory_swap: Some(-1), ..Resources::default() };
        assert_eq!(super::settings(&unlimited)[1].v2, [("memory.swap.max", "max".to_owned())]);
        assert!(super::settings(&Resources::default()).is_empty());
    }
}
