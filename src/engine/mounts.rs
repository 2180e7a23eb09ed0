//! Turns the mounts of a RUN from the plan into mounts of the sandbox.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::base::fs::FsError;
use crate::base::sparse::{SparseFile, SparseWriter};
use crate::copy;
use crate::layer::{self, Compression, Form, LayerWriter, WriteOptions};
use crate::plan::{CopyFrom, Mount, Run};
use crate::sandbox::{self, AgentProxy, Source, Spec};
use crate::snapshot::{Method, Stack};
use crate::store::MountLock;

use super::base;
use super::cache_mounts;
use super::error::StepError;
use super::message::Reporter;
use super::required;
use super::shared::Shared;
use super::task::Task;

/// Mode of a heredoc script (P-17).
const SCRIPT_MODE: u32 = 0o755;
/// Mode of the root of a tmpfs mount.
const TMPFS_MODE: u32 = 0o1777;

/// Keeps cache mounts locked and agents reachable.
pub(super) struct MountGuard {
    _locks: Vec<MountLock>,
    _proxies: Vec<AgentProxy>,
}

/// Adds the mounts of `run` to `spec`. The guard must live until the command has ended.
pub(super) fn mount(
    shared: &Shared<'_>,
    run: &Run,
    task: Task<'_>,
    spec: &mut Spec,
    reporter: &Reporter,
) -> Result<MountGuard, StepError> {
    let settings = shared.builder.settings;
    run.mounts.iter().try_for_each(|mount| required::check(settings, mount))?;
    let fill = |number: usize, from: &CopyFrom, data: &Path| seed(shared, from, data, task, number);
    let caches = cache_mounts::lock(shared, run, task, &fill, reporter)?;
    let mut proxies = Vec::new();
    for (number, mount) in run.mounts.iter().enumerate() {
        let (source, readonly) = match mount {
            Mount::Bind { from, source, writable, .. } => {
                (bind(shared, task, number, (from, source), *writable)?, !writable)
            }
            Mount::Cache { source, read_only, .. } => {
                let data = caches.iter().find(|c| c.number == number).map(|c| c.data.clone());
                let data = data.expect("every cache mount was locked");
                (Source::Inside { root: data, subpath: below_root(source), no_symlinks: true }, *read_only)
            }
            Mount::Tmpfs { size, read_only, .. } => (Source::Tmpfs { size: *size, mode: TMPFS_MODE }, *read_only),
            Mount::Secret { id, env, mode, uid, gid, .. } => {
                let bytes = settings.secrets.get(id);
                // An optional secret that was not passed sets the variable to empty and hides the image's (N-32).
                if let Some(name) = env {
                    let value = OsStr::from_bytes(bytes.map_or(&[], Vec::as_slice)).to_owned();
                    spec.env.retain(|(n, _)| n.as_os_str() != name.as_str());
                    spec.env.push((name.into(), value));
                }
                let Some(bytes) = bytes else { continue };
                (Source::Data { bytes: bytes.clone(), mode: *mode, uid: *uid, gid: *gid }, true)
            }
            Mount::Ssh { id, mode, uid, gid, .. } => {
                let Some(path) = settings.ssh.get(id) else { continue };
                let dir = shared.scratch_dir(task.step, &format!("mount-{number}-ssh"))?;
                let started = AgentProxy::start(path, &dir);
                let proxy = started.map_err(|e| FsError::new("connect to the ssh agent at", path, e))?;
                let source = Source::Socket { path: proxy.path().to_owned(), mode: *mode, uid: *uid, gid: *gid };
                proxies.push(proxy);
                (source, false)
            }
        };
        if let Some(target) = mount.target() {
            spec.mounts.push(sandbox::Mount { source, target: target.into(), readonly });
        }
    }
    for file in &run.files {
        let bytes = file.content.clone().into_bytes();
        let source = Source::Data { bytes, mode: SCRIPT_MODE, uid: 0, gid: 0 };
        spec.mounts.push(sandbox::Mount { source, target: (&file.path).into(), readonly: true });
    }
    Ok(MountGuard { _locks: caches.into_iter().filter_map(|c| c.lock).collect(), _proxies: proxies })
}

/// The source of a bind mount.
fn bind(
    shared: &Shared<'_>,
    task: Task<'_>,
    number: usize,
    (from, source): (&CopyFrom, &str),
    writable: bool,
) -> Result<Source, StepError> {
    let dir = |purpose: &str| shared.scratch_dir(task.step, &format!("mount-{number}-{purpose}"));
    let inside = |root: PathBuf| Source::Inside { root, subpath: below_root(source), no_symlinks: false };
    // For hosts that cannot stack layers, and for files that a command could not write in a stack.
    let copied = || {
        let copied = dir("copy")?;
        seed(shared, from, &copied, task, number)?;
        Ok(inside(copied))
    };
    let user_namespace = shared.builder.settings.user_namespace;
    let stacks = shared.snapshots()?.method() != Method::Copy;
    let lowers = match from {
        CopyFrom::Context(name) => {
            let context = shared.context(name);
            let unmapped = || copy::has_unmapped_owners(&context.dir, source);
            if writable && (!stacks || user_namespace && unmapped()?) {
                return copied();
            }
            let hidden = dir("hidden")?;
            match copy::hide_ignored(&context.tree, &context.dir, source, &hidden)? || writable {
                false => return Ok(inside(context.dir.clone())),
                true if !stacks => return copied(),
                true => Stack::new(&[context.dir.clone(), hidden])?,
            }
        }
        CopyFrom::Step(_) if !stacks => return copied(),
        CopyFrom::Step(id) => task.input(*id).lowers(shared.snapshots()?)?,
    };
    let scratch = match writable {
        true => Some(sandbox::Scratch { upper: dir("upper")?, work: dir("work")? }),
        false => None,
    };
    let lowers = lowers.into_lowers();
    Ok(Source::Layers { lowers, scratch, userxattr: user_namespace, subpath: below_root(source) })
}

/// Fills the directory `data` with the initial content of mount `number` (M-8).
fn seed(shared: &Shared<'_>, from: &CopyFrom, data: &Path, task: Task<'_>, number: usize) -> Result<(), StepError> {
    match from {
        CopyFrom::Step(id) => {
            let state = task.input(*id);
            let (tree, dirs) = (state.merged(&shared.layers)?, state.directories(shared.snapshots()?)?);
            Ok(layer::copy_tree(&tree, &dirs, data)?)
        }
        CopyFrom::Context(name) => {
            let scratch = shared.scratch_dir(task.step, &format!("mount-{number}-seed"))?;
            let path = scratch.join("layer");
            let file = File::create_new(&path).map_err(|e| FsError::new("create", &path, e))?;
            let options = WriteOptions { compression: Compression::Uncompressed, ..WriteOptions::default() };
            let mut writer = LayerWriter::new(SparseWriter::new(file), &options);
            base::write_context(shared, name, &scratch, &mut writer)?;
            let (file, written) = writer.finish()?;
            file.finish().map_err(|e| FsError::new("write", &path, e))?;
            let file = File::open(&path).map_err(|e| FsError::new("open", &path, e))?;
            layer::unpack(SparseFile::new(file, written.size), data, written.diff_id, Form::Plain)?;
            Ok(())
        }
    }
}

fn below_root(path: &str) -> PathBuf {
    PathBuf::from(path.trim_start_matches('/'))
}
