//! `/proc`, `/sys` and `/dev` as the command sees them.
//!
//! **Order.** All three are attached by descriptor, at the place that their path resolves to in the root. Masked paths
//! are opened through the descriptor of the new mount, so that no symlink in the image and no race can redirect them
//! (S-13).

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::base::rooted::Root;

use super::failure::Stage;
use super::fallback::{Fallback, Feature};
use super::mountfs::{self, INERT, NODEV};
use super::problem::{Context, Problem, StepResult};
use super::spec::{Device, Security, Spec};
use super::stubs::{self, Kind};

/// Hidden paths: kernel memory, keys, and information about other tenants (S-71).
const MASKED_PROC: &[&str] = &[
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];
const MASKED_SYS: &[&str] = &["firmware", "devices/virtual/powercap"];
/// Visible but read-only paths.
const READ_ONLY_PROC: &[&str] = &["bus", "fs", "irq", "sys", "sysrq-trigger"];
/// The devices of every sandbox.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Mounts all three; `fresh` is the result of [`fresh_proc`]. What cannot be mounted and protects nothing is added to
/// `fallbacks` (N-51).
pub(super) fn mount(
    root: &Root,
    spec: &Spec,
    fresh: Option<OwnedFd>,
    terminal: bool,
    fallbacks: &mut Vec<Fallback>,
) -> StepResult<()> {
    let masks = spec.security == Security::Sandbox;
    let null = if masks { Some(Masks::new()?) } else { None };
    let proc = proc(root, fresh)?;
    let sys = sys(root, spec, fallbacks)?;
    if let Some(sys) = &sys {
        cgroups(sys, spec.security)?;
    }
    if let Some(masks) = &null {
        masks.hide(&proc, "/proc", MASKED_PROC)?;
        if let Some(sys) = &sys {
            masks.hide(sys, "/sys", MASKED_SYS)?;
        }
        for path in READ_ONLY_PROC {
            freeze(&proc, "/proc", path)?;
        }
    }
    dev(root, spec, terminal, fallbacks)
}

fn target(root: &Root, path: &str) -> StepResult<OwnedFd> {
    root.locate(OsStr::new(path)).context(|| format!("look up mount target {path}"))
}

/// A detached `/proc` of this pid namespace; `None` if the container around kiln forbids it.
pub(super) fn fresh_proc() -> StepResult<Option<OwnedFd>> {
    match mountfs::new("proc", &[], INERT, "/proc") {
        Ok(fd) => Ok(Some(fd)),
        Err(problem) if problem.errno() == Some(libc::EPERM) => Ok(None),
        Err(problem) => Err(problem),
    }
}

/// The fallback without a new `/proc`. `nested`: the command has a user namespace of its own.
pub(super) fn no_proc(nested: bool) -> Fallback {
    let visible = match nested {
        true => "only names and command lines of that container's processes are visible",
        false => "processes of that container are visible",
    };
    let cause = "the container around kiln hides parts of its /proc, so the kernel allows no new one";
    Fallback::new(Feature::Proc, format!("{cause}; {visible}"))
}

fn left_out(path: &str, problem: Problem) -> Fallback {
    Fallback::new(Feature::Mount(path.to_owned()), problem.at(Stage::SystemMounts))
}

/// `/proc`: that of this pid namespace, otherwise that of the container around kiln.
fn proc(root: &Root, fresh: Option<OwnedFd>) -> StepResult<OwnedFd> {
    let target = target(root, "/proc")?;
    let fd = match fresh {
        Some(fd) => fd,
        None => {
            let outer = open(rustix::fs::CWD, "/proc").context(|| "open /proc".to_owned())?;
            mountfs::view(outer.as_fd(), "/proc")?
        }
    };
    mountfs::attach(fd.as_fd(), target.as_fd(), "/proc")?;
    Ok(fd)
}

/// `/sys`, read-only: that of this network namespace, otherwise the host's, otherwise none.
fn sys(root: &Root, spec: &Spec, fallbacks: &mut Vec<Fallback>) -> StepResult<Option<OwnedFd>> {
    let target = target(root, "/sys")?;
    let attributes = match spec.security {
        Security::Sandbox => INERT | MountAttrFlags::MOUNT_ATTR_RDONLY,
        Security::Insecure => INERT,
    };
    let fd = match mountfs::new("sysfs", &[], attributes, "/sys") {
        Ok(fd) => fd,
        // A user namespace that shares the host's network may not mount one.
        Err(_) => {
            let outer = open(rustix::fs::CWD, "/sys").context(|| "open /sys".to_owned());
            match outer.and_then(|outer| mountfs::view(outer.as_fd(), "/sys")) {
                Ok(fd) => {
                    mountfs::read_only(&fd, "/sys")?;
                    fd
                }
                Err(problem) => {
                    fallbacks.push(left_out("/sys", problem));
                    return Ok(None);
                }
            }
        }
    };
    mountfs::attach(fd.as_fd(), target.as_fd(), "/sys")?;
    Ok(Some(fd))
}

/// Mounts this cgroup namespace at `/sys/fs/cgroup` if the host has version 2 there: programs such as Java and Go
/// read their limits from it. Without it, and with version 1, they assume the resources of the whole machine.
fn cgroups(sys: &OwnedFd, security: Security) -> StepResult<()> {
    let host = rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|fs| fs.f_type == CGROUP2);
    let Some((at, FileType::Directory)) = find(sys, "/sys", "fs/cgroup")?.filter(|_| host) else { return Ok(()) };
    let attributes = match security {
        Security::Sandbox => INERT | MountAttrFlags::MOUNT_ATTR_RDONLY,
        Security::Insecure => INERT,
    };
    match mountfs::new("cgroup2", &[], attributes, "/sys/fs/cgroup") {
        Ok(fd) => mountfs::attach(fd.as_fd(), at.as_fd(), "/sys/fs/cgroup"),
        Err(_) => Ok(()),
    }
}

/// `CGROUP2_SUPER_MAGIC`
const CGROUP2: rustix::fs::FsWord = 0x6367_7270;

/// Mounts that hide masked paths.
struct Masks {
    file: OwnedFd,
}

impl Masks {
    fn new() -> StepResult<Self> {
        Ok(Self { file: device("/dev/null")? })
    }

    /// Covers those of `paths` that exist.
    fn hide(&self, fs: &OwnedFd, of: &str, paths: &[&str]) -> StepResult<()> {
        for path in paths {
            let Some((at, kind)) = find(fs, of, path)? else { continue };
            let what = format!("a mask over {of}/{path}");
            let mount = match kind {
                FileType::Directory => mountfs::new("tmpfs", &[("mode", "555")], INERT, &what)?,
                _ => mountfs::view(self.file.as_fd(), &what)?,
            };
            mountfs::read_only(&mount, &what)?;
            mountfs::attach(mount.as_fd(), at.as_fd(), &what)?;
        }
        Ok(())
    }
}

/// Makes one path of `fs` read-only.
fn freeze(fs: &OwnedFd, of: &str, path: &str) -> StepResult<()> {
    let Some((at, _)) = find(fs, of, path)? else { return Ok(()) };
    let what = format!("{of}/{path}");
    let mount = mountfs::view(at.as_fd(), &what)?;
    mountfs::read_only(&mount, &what)?;
    mountfs::attach(mount.as_fd(), at.as_fd(), &what)
}

/// A path in `fs` and its type; `None` if this kernel does not have it.
fn find(fs: &OwnedFd, of: &str, path: &str) -> StepResult<Option<(OwnedFd, FileType)>> {
    match rustix::fs::openat(fs, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => {
            let stat = rustix::fs::fstat(&fd).context(|| format!("stat {of}/{path}"))?;
            Ok(Some((fd, FileType::from_raw_mode(stat.st_mode))))
        }
        Err(Errno::NOENT | Errno::ACCESS) => Ok(None),
        Err(e) => Err(Problem::host(format!("stat {of}/{path}"), &e.into())),
    }
}

fn open(dir: BorrowedFd<'_>, path: impl rustix::path::Arg) -> std::io::Result<OwnedFd> {
    Ok(rustix::fs::openat(dir, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// A mount of one device of the host. The descriptor that is mounted is checked to be a character device (S-13).
fn host_device(path: &str) -> StepResult<OwnedFd> {
    mountfs::view(device(path)?.as_fd(), path)
}

fn device(path: &str) -> StepResult<OwnedFd> {
    let fd = open(rustix::fs::CWD, path).context(|| format!("open {path}"))?;
    let stat = rustix::fs::fstat(&fd).context(|| format!("stat {path}"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice {
        return Err(Problem::lacking(format!("{path} of the host is not a character device")));
    }
    Ok(fd)
}

/// Mounts a minimal `/dev`. The file system itself is `nodev`, so that a node created in it cannot be opened; the
/// devices are bind mounts of the host's.
fn dev(root: &Root, spec: &Spec, terminal: bool, fallbacks: &mut Vec<Fallback>) -> StepResult<()> {
    let at = target(root, "/dev")?;
    let dev = mountfs::new(
        "tmpfs",
        &[("mode", "755"), ("size", "65536k")],
        NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID,
        "/dev",
    )?;
    mountfs::attach(dev.as_fd(), at.as_fd(), "/dev")?;
    if spec.security == Security::Insecure {
        host_devices(&dev)?;
    } else {
        for name in DEVICES {
            let view = host_device(&format!("/dev/{name}"))?;
            place(&dev, Path::new(name), &view)?;
        }
    }
    for device in &spec.devices {
        extra_device(&dev, device)?;
    }
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    for (name, to) in links {
        rustix::fs::symlinkat(to, &dev, name).context(|| format!("create /dev/{name}"))?;
    }
    let shm_size = spec.shm_size.to_string();
    let shm = mountfs::new("tmpfs", &[("mode", "1777"), ("size", &shm_size)], INERT, "/dev/shm");
    let mqueue = mountfs::new("mqueue", &[], INERT, "/dev/mqueue");
    // Required: pts if the command gets a terminal, and shm.
    for (name, mount, needed) in [("pts", pts(), terminal), ("shm", shm, true), ("mqueue", mqueue, false)] {
        let mount = match mount {
            Err(problem) if !needed => {
                fallbacks.push(left_out(&format!("/dev/{name}"), problem));
                continue;
            }
            other => other?,
        };
        rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755)).context(|| format!("create /dev/{name}"))?;
        // A mount of the spec at this path replaces this one (N-27).
        let place = Path::new("/dev").join(name);
        if spec.mounts.iter().any(|mount| stubs::components(&mount.target) == stubs::components(&place)) {
            continue;
        }
        let at = open(dev.as_fd(), name).context(|| format!("open /dev/{name}"))?;
        mountfs::attach(mount.as_fd(), at.as_fd(), &format!("/dev/{name}"))?;
    }
    Ok(())
}

/// A separate devpts instance; the host's terminals are not reachable (S-73).
fn pts() -> StepResult<OwnedFd> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let options = [("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    match mountfs::new("devpts", &options, attributes, "/dev/pts") {
        // Group 5 (tty) is not mapped where there is a single id.
        Err(problem) if problem.errno() == Some(libc::EINVAL) => {
            mountfs::new("devpts", &options[..2], attributes, "/dev/pts")
        }
        other => other,
    }
}

/// Attaches a mount at a path in `/dev`, where it creates a file.
fn place(dev: &OwnedFd, name: &Path, view: &OwnedFd) -> StepResult<()> {
    let what = format!("/dev/{}", name.display());
    let names = stubs::components(name);
    stubs::make(dev.as_fd(), &names, Kind::File).context(|| format!("create {what}"))?;
    let at = rustix::fs::openat(dev, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .context(|| format!("open {what}"))?;
    mountfs::attach(view.as_fd(), at.as_fd(), &what)
}

fn extra_device(dev: &OwnedFd, device: &Device) -> StepResult<()> {
    let shown = device.host.display();
    let fd = match open(rustix::fs::CWD, device.host.as_path()) {
        Ok(fd) => fd,
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) && !device.required => return Ok(()),
        Err(e) => return Err(Problem::host(format!("open device {shown}"), &e)),
    };
    let stat = rustix::fs::fstat(&fd).context(|| format!("stat device {shown}"))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if !matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
        return Err(Problem::request(format!("{shown} is not a device")));
    }
    place(dev, &device.name, &mountfs::view(fd.as_fd(), &shown.to_string())?)
}

/// Every device of the host, for `--security=insecure`.
fn host_devices(dev: &OwnedFd) -> StepResult<()> {
    let action = || "list /dev".to_owned();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let host = rustix::fs::open("/dev", flags, Mode::empty()).context(action)?;
    for entry in rustix::fs::Dir::read_from(&host).context(action)? {
        let entry = entry.context(action)?;
        let name = Path::new(OsStr::from_bytes(entry.file_name().to_bytes()));
        let ours = ["pts", "shm", "mqueue", "ptmx", "fd", "stdin", "stdout", "stderr", "console"];
        if ours.iter().any(|our| name == Path::new(our)) {
            continue;
        }
        let Some((fd, kind)) = find(&host, "/dev", &name.to_string_lossy())? else { continue };
        if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
            place(dev, name, &mountfs::view(fd.as_fd(), &name.to_string_lossy())?)?;
        }
    }
    Ok(())
}

use std::os::unix::ffi::OsStrExt as _;
