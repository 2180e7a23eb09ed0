//! Mounts the file system that the command sees at `/`.
//!
//! **Order.** Unusual mount targets are created in a stub layer, the lowest of the overlay; the usual ones are in a
//! layer that the caller shares among all runs ([`super::usual_targets`]). If a target is still missing (a dangling
//! symlink in an image), it is added to the stub layer and the overlay is mounted again: created through the overlay,
//! it would be in the upper directory. Where an image hides lower layers (an opaque directory, a whiteout), a stub
//! does not help: that target is created in the upper directory and removed afterwards.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use crate::base::rooted::Root;

use super::hint::Hint;
use super::mountfs::{self, with_log};
use super::problem::{Context, Problem, StepResult};
use super::spec::Rootfs;
use super::stubs::{self, Created, Kind};

/// A mount target, in the order it is mounted.
#[derive(Debug)]
pub(super) struct Target {
    /// As in the spec.
    pub(super) path: PathBuf,
    /// What is mounted on it.
    pub(super) kind: Kind,
}

/// One overlay, opened but not mounted.
struct Layers {
    lowers: Vec<OwnedFd>,
    writable: Option<(OwnedFd, OwnedFd)>,
    userxattr: bool,
    volatile: bool,
}

/// The mounted root, attached in this mount namespace.
pub(super) struct Mounted {
    /// Its root directory.
    pub(super) root: Root,
    /// The mount targets that were created in place.
    pub(super) created: Vec<Created>,
}

/// Mounts the root so that every target that is not inside an earlier mount exists.
pub(super) fn mount(rootfs: &Rootfs, targets: &[Target], attributes: MountAttrFlags) -> StepResult<Mounted> {
    match rootfs {
        Rootfs::Overlay { lowers, upper, work, stub, userxattr, volatile } => {
            let upper = directory(upper)?;
            let at = upper.try_clone().context(|| "duplicate a descriptor".to_owned())?;
            let layers = Layers {
                lowers: lowers.iter().map(|path| directory(path)).collect::<StepResult<_>>()?,
                writable: Some((upper, directory(work)?)),
                userxattr: *userxattr,
                volatile: *volatile,
            };
            let (fd, created) = overlay_with_targets(layers, stub, targets, attributes)?;
            // Over a directory that is not opened by name again in this process.
            mountfs::attach(fd.as_fd(), at.as_fd(), "the root overlay")?;
            Ok(Mounted { root: Root::from_fd(fd), created })
        }
        Rootfs::Dir(path) => {
            let dir = directory(path)?;
            let fd = mountfs::view(dir.as_fd(), &format!("the root {}", path.display()))?;
            if attributes.contains(mountfs::NODEV) {
                mountfs::no_devices(&fd, "the root")?;
            }
            mountfs::attach(fd.as_fd(), dir.as_fd(), "the root")?;
            let root = Root::from_fd(fd);
            let mut created = Vec::new();
            for target in outermost(targets) {
                if let Some(names) = stubs::missing(&root, &target.path)? {
                    let new = stubs::create_in_place(&root, &names, target.kind);
                    created.extend(new.context(|| format!("create mount target {}", stubs::shown(&names)))?);
                }
            }
            Ok(Mounted { root, created })
        }
    }
}

/// A detached overlay of layers; writable if `scratch` has directories for the changes.
pub(super) fn stack(
    lowers: &[PathBuf],
    scratch: Option<(&Path, &Path)>,
    userxattr: bool,
    attributes: MountAttrFlags,
) -> StepResult<OwnedFd> {
    let writable = match scratch {
        Some((upper, work)) => Some((directory(upper)?, directory(work)?)),
        None => None,
    };
    let lowers = lowers.iter().map(|path| directory(path)).collect::<StepResult<Vec<_>>>()?;
    overlay(&Layers { lowers, writable, userxattr, volatile: true }, attributes)
}

fn directory(path: &Path) -> StepResult<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).context(|| format!("open {}", path.display()))
}

/// Mounts the overlay, and mounts it again with stubs for missing targets until all exist.
fn overlay_with_targets(
    mut layers: Layers,
    stub: &Path,
    targets: &[Target],
    attributes: MountAttrFlags,
) -> StepResult<(OwnedFd, Vec<Created>)> {
    let mut stub = Stub { path: stub, made: false };
    let mut stubbed = BTreeSet::new();
    let mut created = Vec::new();
    for target in targets.iter().filter(|target| !stubs::is_usual(&target.path)) {
        stub.make(&mut layers, &stubs::components(&target.path), target.kind)?;
    }
    for _ in 0..8 {
        let root = Root::from_fd(overlay(&layers, attributes)?);
        let mut complete = true;
        for target in outermost(targets) {
            let Some(names) = stubs::missing(&root, &target.path)? else { continue };
            if stubbed.insert(names.clone()) {
                complete = false;
                stub.make(&mut layers, &names, target.kind)?;
            } else {
                let new = stubs::create_in_place(&root, &names, target.kind);
                created.extend(new.context(|| format!("create mount target {}", stubs::shown(&names)))?);
            }
        }
        let fd = root.as_fd().try_clone_to_owned().context(|| "duplicate a descriptor".to_owned())?;
        if complete {
            return Ok((fd, created));
        }
        drop((root, fd));
        if let Some((_, work)) = &layers.writable {
            forget_volatile(work);
        }
    }
    Err(Problem::request("cannot create mount targets: symlinks on their paths change during the mount"))
}

/// The stub layer, which becomes the lowest layer when it is first needed.
struct Stub<'a> {
    path: &'a Path,
    made: bool,
}

impl Stub<'_> {
    fn make(&mut self, layers: &mut Layers, names: &[OsString], kind: Kind) -> StepResult<()> {
        let action = || format!("create mount target {} in the stub layer", stubs::shown(names));
        if !self.made {
            rustix::fs::mkdir(self.path, Mode::from_raw_mode(0o755)).context(action)?;
            layers.lowers.push(directory(self.path)?);
            self.made = true;
        }
        layers.lowers.last().map_or(Ok(()), |stub| stubs::make(stub.as_fd(), names, kind)).context(action)
    }
}

/// Targets outside all earlier ones: these can be looked up before anything is mounted.
fn outermost(targets: &[Target]) -> impl Iterator<Item = &Target> {
    let names: Vec<Vec<OsString>> = targets.iter().map(|target| stubs::components(&target.path)).collect();
    targets.iter().enumerate().filter_map(move |(i, target)| {
        let inside = names[..i].iter().any(|earlier| stubs::is_below(&names[i], earlier));
        (!inside).then_some(target)
    })
}

/// Removes the mark of a volatile overlay, which forbids mounting its work directory again. Nothing was written through
/// this overlay.
fn forget_volatile(work: &OwnedFd) {
    let _ = rustix::fs::unlinkat(work, "work/incompat/volatile/dirty", AtFlags::empty());
    for path in ["work/incompat/volatile", "work/incompat", "work"] {
        let _ = rustix::fs::unlinkat(work, path, AtFlags::REMOVEDIR);
    }
}

/// How the lower layers are passed to the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LowerOption {
    /// One option each: any number.
    Separate,
    /// All in one option of at most 255 bytes, for kernels before 6.5.
    Joined,
}

fn overlay(layers: &Layers, attributes: MountAttrFlags) -> StepResult<OwnedFd> {
    match overlay_as(layers, attributes, LowerOption::Separate) {
        // Some older kernels report an unknown option only when the mount is created.
        Err(problem) if problem.errno() == Some(libc::EINVAL) => {
            let joined = overlay_as(layers, attributes, LowerOption::Joined);
            // If both ways fail, the error of the newer one is clearer.
            joined.map_err(|other| if other.errno().is_none() { other } else { problem })
        }
        other => other,
    }
}

/// All lower layers as one option: names relative to `/proc/self/fd`, which leaves room for about 70.
fn set_joined(fs: &OwnedFd, lowers: &[OwnedFd]) -> StepResult<()> {
    let action = || "set lowerdir of an overlay".to_owned();
    let names: Vec<String> = lowers.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    let names = names.join(":");
    if names.len() > 255 {
        let count = lowers.len();
        return Err(Problem::lacking(format!("cannot mount an overlay: {count} layers are too many for this kernel")));
    }
    fsconfig_set_string(fs, "lowerdir", &*names).context(action)
}

fn overlay_as(layers: &Layers, attributes: MountAttrFlags, option: LowerOption) -> StepResult<OwnedFd> {
    if option == LowerOption::Separate {
        return configure(layers, attributes, option);
    }
    let action = || "enter the directory of descriptors".to_owned();
    let here = directory(Path::new("."))?;
    rustix::process::chdir("/proc/self/fd").context(action)?;
    let mounted = configure(layers, attributes, option);
    rustix::process::fchdir(&here).context(|| "return to the working directory".to_owned())?;
    mounted
}

fn configure(layers: &Layers, attributes: MountAttrFlags, option: LowerOption) -> StepResult<OwnedFd> {
    let action = || "mount an overlay".to_owned();
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).context(action).map_err(|p| {
        let missing = p.errno() == Some(libc::ENODEV);
        if missing { p.hint(Hint::NoOverlayfs) } else { p }
    })?;
    let set =
        |key: &str, value: &str| fsconfig_set_string(&fs, key, value).context(|| format!("set {key} of an overlay"));
    // By descriptor: always short, and mountinfo in the sandbox shows no path of the host (S-72).
    let path = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    match option {
        LowerOption::Joined => set_joined(&fs, &layers.lowers)?,
        LowerOption::Separate => {
            for lower in &layers.lowers {
                set("lowerdir+", &path(lower)).map_err(|p| with_log(p, &fs))?;
            }
        }
    }
    if let Some((upper, work)) = &layers.writable {
        set("upperdir", &path(upper)).map_err(|p| with_log(p, &fs))?;
        set("workdir", &path(work)).map_err(|p| with_log(p, &fs))?;
        // The upper directory becomes a layer, which must not depend on module parameters of the host.
        if !layers.userxattr {
            set("redirect_dir", "off")?;
            set("metacopy", "off")?;
        }
        set("index", "off")?;
    }
    if layers.userxattr {
        fsconfig_set_flag(&fs, "userxattr").context(action)?;
    }
    if layers.volatile && layers.writable.is_some() {
        fsconfig_set_flag(&fs, "volatile").context(action)?;
    }
    fsconfig_create(&fs).context(action).map_err(|p| with_log(p, &fs))?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).context(action)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "what is on the disk is what these tests are about")]
mod tests {
    use super::*;

    fn layers(dir: &Path, count: usize) -> Layers {
        let lowers = (0..count).map(|i| {
            let lower = dir.join(i.to_string());
            std::fs::create_dir(&lower).unwrap();
            std::fs::write(lower.join("all"), i.to_string()).unwrap();
            std::fs::write(lower.join(format!("only-{i}")), "").unwrap();
            directory(&lower).unwrap()
        });
        Layers { lowers: lowers.collect(), writable: None, userxattr: false, volatile: false }
    }

    #[test]
    fn joined_lowers_give_same_root_or_too_many_layers() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        // Other tests keep their working directory.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let stacked = layers(dir.path(), 40);
        for option in [LowerOption::Separate, LowerOption::Joined] {
            let root = overlay_as(&stacked, MountAttrFlags::empty(), option).unwrap_or_else(|p| panic!("{p:?}"));
            let at = |name: &str| format!("/proc/self/fd/{}/{name}", root.as_raw_fd());
            assert_eq!(std::fs::read_to_string(at("all")).unwrap(), "0");
            assert!((0..40).all(|i| std::fs::exists(at(&format!("only-{i}"))).unwrap()));
        }
        let many = tempfile::tempdir().unwrap();
        let refused = overlay_as(&layers(many.path(), 130), MountAttrFlags::empty(), LowerOption::Joined).unwrap_err();
        assert!(format!("{refused:?}").contains("130 layers are too many for this kernel"), "{refused:?}");
    }
}
