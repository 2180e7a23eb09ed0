//! The mounts of a spec.
//!
//! **Order.** Sources are opened before the root exists and become detached mounts at once, so that no path can be
//! swapped afterwards (S-2, S-23). They are attached in the order of the spec.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::mount::UnmountFlags;

use crate::base::rooted::Root;

use super::hint::Hint;
use super::mountfs::{self, INERT, NODEV, NOEXEC};
use super::problem::{Context, Problem, StepResult};
use super::rootfs::{self, Target};
use super::spec::{DataFile, Mount, Security, Source, Spec};
use super::stubs::{self, Kind};

/// A mount that is not attached yet.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Where it is mounted.
    pub(super) target: Target,
    what: String,
    source: Ready,
    readonly: bool,
}

#[derive(Debug)]
enum Ready {
    /// A detached mount.
    Mount(OwnedFd),
    /// Files that are still to be written to a private tmpfs.
    Data(Vec<File>),
}

#[derive(Debug)]
struct File {
    name: OsString,
    bytes: Vec<u8>,
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Prepared {
    /// A read-only file that exists only in memory.
    pub(super) fn file(path: &Path, bytes: Vec<u8>) -> Self {
        Self {
            target: Target { path: path.to_owned(), kind: Kind::File },
            what: path.display().to_string(),
            source: Ready::Data(vec![File { name: "file".into(), bytes, mode: 0o644, uid: 0, gid: 0 }]),
            readonly: true,
        }
    }
}

/// Opens every mount source of `spec`; `resolv.conf` and `hosts` come first.
pub(super) fn prepare(spec: &Spec) -> StepResult<Vec<Prepared>> {
    let mut out = Vec::new();
    // Of several mounts on one target only the last is visible, so only that is mounted (N-27).
    let same = |a: &Path, b: &Path| stubs::components(a) == stubs::components(b);
    let last = |path: &Path| spec.mounts.iter().rposition(|mount| same(&mount.target, path));
    for (path, bytes) in [("/etc/resolv.conf", &spec.resolv_conf), ("/etc/hosts", &spec.hosts)] {
        if let Some(bytes) = bytes.as_ref().filter(|_| last(Path::new(path)).is_none()) {
            out.push(Prepared::file(Path::new(path), bytes.clone()));
        }
    }
    for (at, mount) in spec.mounts.iter().enumerate() {
        if last(&mount.target) == Some(at) {
            out.push(one(mount, spec.security)?);
        }
    }
    Ok(out)
}

fn file(name: impl Into<OsString>, bytes: &[u8], mode: u32, uid: u32, gid: u32) -> File {
    File { name: name.into(), bytes: bytes.to_vec(), mode, uid, gid }
}

fn one(mount: &Mount, security: Security) -> StepResult<Prepared> {
    let what = mount.target.display().to_string();
    if stubs::components(&mount.target).is_empty() || !mount.target.is_absolute() {
        return Err(Problem::request(format!("mount target {what} is not a path below /")));
    }
    let devices = security == Security::Insecure;
    let (source, kind) = match &mount.source {
        Source::Path(path) => bound(of_host(path, &what)?, &what, devices)?,
        Source::Driver { path, nosuid, noexec } => {
            let fd = of_host(path, &what)?;
            let kind = kind_of(&fd, &what)?;
            let view = mountfs::view(fd.as_fd(), &what)?;
            mountfs::restrict(&view, !devices, *nosuid, *noexec, &what)?;
            (Ready::Mount(view), kind)
        }
        Source::Inside { root, subpath, no_symlinks } => {
            bound(inside(root, subpath, *no_symlinks, &what)?, &what, devices)?
        }
        Source::Layers { lowers, scratch, userxattr, subpath } => {
            let attributes = if devices { rustix::mount::MountAttrFlags::empty() } else { NODEV };
            layers(lowers, scratch.as_ref(), *userxattr, subpath, attributes, &what)?
        }
        Source::Tmpfs { size, mode } => {
            let mode = format!("{mode:o}");
            let size = size.map(|size| size.to_string());
            let mut options = vec![("mode", mode.as_str())];
            options.extend(size.as_deref().map(|size| ("size", size)));
            let attributes = NODEV | rustix::mount::MountAttrFlags::MOUNT_ATTR_NOSUID;
            (Ready::Mount(mountfs::new("tmpfs", &options, attributes, &what)?), Kind::Dir)
        }
        Source::Data { bytes, mode, uid, gid } => {
            (Ready::Data(vec![file("file", bytes, *mode, *uid, *gid)]), Kind::File)
        }
        Source::Files(files) => {
            let files = files.iter().map(|DataFile { name, bytes, mode }| file(name, bytes, *mode, 0, 0));
            (Ready::Data(files.collect()), Kind::Dir)
        }
        Source::Socket { path, mode, uid, gid } => {
            let fd = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
                .context(|| format!("open socket {} for mount {what}", path.display()))?;
            // The socket was made for this run, so its own mode and owner may change.
            let own = format!("/proc/self/fd/{}", fd.as_raw_fd());
            rustix::fs::chown(own.as_str(), Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)))
                .context(|| format!("set the owner {uid}:{gid} of socket {what}"))
                .map_err(Problem::about_ids)?;
            rustix::fs::chmod(own.as_str(), Mode::from_raw_mode(*mode))
                .context(|| format!("set the mode of socket {what}"))?;
            bound(fd, &what, false)?
        }
    };
    let target = Target { path: mount.target.clone(), kind };
    Ok(Prepared { target, what, source, readonly: mount.readonly })
}

/// Opens a path of the host that the user chose.
fn of_host(path: &Path, what: &str) -> StepResult<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .context(|| format!("open {} for mount {what}", path.display()))
        .map_err(Problem::requested)
}

/// A bind mount of what `fd` refers to; `nodev` unless `devices`.
fn bound(fd: OwnedFd, what: &str, devices: bool) -> StepResult<(Ready, Kind)> {
    let kind = kind_of(&fd, what)?;
    let view = mountfs::view(fd.as_fd(), what)?;
    if !devices {
        mountfs::no_devices(&view, what)?;
    }
    Ok((Ready::Mount(view), kind))
}

fn kind_of(fd: &OwnedFd, what: &str) -> StepResult<Kind> {
    let stat = rustix::fs::fstat(fd).context(|| format!("stat the source of mount {what}"))?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Dir,
        _ => Kind::File,
    })
}

/// Opens `subpath` in the directory `root`; the kernel resolves it in one call.
fn inside(root: &Path, subpath: &Path, no_symlinks: bool, what: &str) -> StepResult<OwnedFd> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context(|| format!("open {} for mount {what}", root.display()))?;
    resolve(root, subpath, no_symlinks, what)
}

fn resolve(root: OwnedFd, subpath: &Path, no_symlinks: bool, what: &str) -> StepResult<OwnedFd> {
    let action = || format!("open source {} of mount {what}", subpath.display());
    if !no_symlinks {
        return Root::from_fd(root).locate(subpath.as_os_str()).context(action).map_err(Problem::requested);
    }
    let names = stubs::components(subpath);
    let path = if names.is_empty() { OsString::from(".") } else { names.join(OsStr::new("/")) };
    let flags = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(&root, &path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), flags).map_err(|e| {
        let problem = Problem::host(action(), &e.into()).requested();
        match e {
            rustix::io::Errno::LOOP => problem.hint(Hint::SymlinkInSource),
            rustix::io::Errno::NOENT => problem.hint(Hint::EmptyCache),
            _ => problem,
        }
    })
}

/// `subpath` in a stack of layers.
fn layers(
    lowers: &[PathBuf],
    scratch: Option<&super::spec::Scratch>,
    userxattr: bool,
    subpath: &Path,
    attributes: rustix::mount::MountAttrFlags,
    what: &str,
) -> StepResult<(Ready, Kind)> {
    match (lowers, scratch) {
        // An empty stage; what is written to it is discarded.
        ([], _) => {
            if !stubs::components(subpath).is_empty() {
                let nothing = format!("cannot open source {} of mount {what}: the stage is empty", subpath.display());
                return Err(Problem::request(nothing));
            }
            Ok((Ready::Mount(mountfs::new("tmpfs", &[("mode", "755")], attributes, what)?), Kind::Dir))
        }
        ([one], None) => bound(inside(one, subpath, false, what)?, what, false),
        (_, scratch) => {
            let dirs = scratch.map(|scratch| (scratch.upper.as_path(), scratch.work.as_path()));
            let merged = rootfs::stack(lowers, dirs, userxattr, attributes)?;
            // Only a part of an attached mount can be cloned. The overlay is attached over one of its own directories,
            // in a mount namespace that no other process sees.
            let at = scratch.map_or(&lowers[0], |scratch| &scratch.upper);
            let at = rustix::fs::open(at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .context(|| format!("open {} for mount {what}", at.display()))?;
            mountfs::attach(merged.as_fd(), at.as_fd(), what)?;
            let attached = format!("/proc/self/fd/{}", merged.as_raw_fd());
            let copy = merged.try_clone().context(|| format!("duplicate the descriptor of mount {what}"))?;
            let fd = resolve(copy, subpath, false, what)?;
            let kind = kind_of(&fd, what)?;
            let view = mountfs::view(fd.as_fd(), what)?;
            // Another mount may stack the same directory, which must not be covered then.
            rustix::mount::unmount(attached, UnmountFlags::DETACH)
                .context(|| format!("unmount the layers of mount {what}"))?;
            Ok((Ready::Mount(view), kind))
        }
    }
}

/// Attaches all, in order.
pub(super) fn attach(root: &Root, prepared: Vec<Prepared>) -> StepResult<()> {
    let mut memory = Memory::default();
    for Prepared { target, what, source, readonly } in prepared {
        let mount = match source {
            Ready::Mount(mount) => mount,
            Ready::Data(files) => memory.hold(files, target.kind, &what)?,
        };
        if readonly {
            mountfs::read_only(&mount, &what)?;
        }
        let at = place(root, &target, &what)?;
        mountfs::attach(mount.as_fd(), at.as_fd(), &what).map_err(|p| match p.errno() {
            Some(libc::ENOTDIR) => p.requested().hint(Hint::KindMismatch),
            _ => p,
        })?;
    }
    Ok(())
}

/// Opens the mount target. Targets in the root itself exist by now; one inside an earlier mount is created there.
fn place(root: &Root, target: &Target, what: &str) -> StepResult<OwnedFd> {
    if let Some(names) = stubs::missing(root, &target.path)? {
        stubs::create_in_place(root, &names, target.kind)
            .context(|| format!("create mount target {}", stubs::shown(&names)))
            .map_err(|p| p.requested().hint(Hint::NoTargetInMount))?;
    }
    let at = root.locate(target.path.as_os_str()).context(|| format!("look up mount target {what}"))?;
    match (target.kind, kind_of(&at, what)?) {
        (Kind::Dir, Kind::File) => Err(Problem::request(format!("cannot mount a directory over the file {what}"))),
        (Kind::File, Kind::Dir) => Err(Problem::request(format!("cannot mount a file over the directory {what}"))),
        _ => Ok(at),
    }
}

/// One tmpfs for all files that exist only in memory.
#[derive(Default)]
struct Memory {
    fs: Option<OwnedFd>,
    count: usize,
}

impl Memory {
    fn hold(&mut self, files: Vec<File>, kind: Kind, what: &str) -> StepResult<OwnedFd> {
        if self.fs.is_none() {
            let fs = mountfs::new("tmpfs", &[("mode", "755")], INERT.difference(NOEXEC), what)?;
            // Only a part of an attached mount can be cloned. It is attached over the host's /dev in this mount
            // namespace, which the pivot leaves behind.
            let at = rustix::fs::open("/dev", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .context(|| format!("open /dev for mount {what}"))?;
            mountfs::attach(fs.as_fd(), at.as_fd(), what)?;
            self.fs = Some(fs);
        }
        let Some(fs) = &self.fs else { return Err(Problem::request("no tmpfs")) };
        self.count += 1;
        let dir = self.count.to_string();
        let action = || format!("write the content of mount {what}");
        rustix::fs::mkdirat(fs, &dir, Mode::from_raw_mode(0o755)).context(action)?;
        let dir = rustix::fs::openat(fs, &dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context(action)?;
        let mut last = None;
        // Scripts are executed in place (P-17); nothing else is.
        let executable = files.iter().any(|file| file.mode & 0o111 != 0);
        for File { name, bytes, mode, uid, gid } in files {
            if name.is_empty() || name == "." || name == ".." || name.to_string_lossy().contains('/') {
                return Err(Problem::request(format!("cannot mount {what}: {name:?} is not a file name")));
            }
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(&dir, &name, flags, Mode::from_raw_mode(0o600)).context(action)?;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let n = rustix::io::write(&fd, rest).context(action)?;
                rest = &rest[n..];
            }
            // Owner before mode: changing the owner clears set-id bits.
            rustix::fs::fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .context(|| format!("set the owner {uid}:{gid} of mount {what}"))
                .map_err(Problem::about_ids)?;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).context(action)?;
            last = Some(fd);
        }
        let view = match (kind, last) {
            (Kind::File, Some(fd)) => mountfs::view(fd.as_fd(), what)?,
            _ => mountfs::view(dir.as_fd(), what)?,
        };
        if !executable {
            mountfs::no_programs(&view, what)?;
        }
        Ok(view)
    }
}
