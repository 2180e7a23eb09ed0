//! RUN --mount: from the plan's words to the sandbox's mounts.
//!
//! **On disk.** A cache mount with id I lives in `mounts/<hash of I>/<n>/{id,lock,data}`. Everybody uses instance 0,
//! `shared` with a shared lock, `locked` with an exclusive one; `private` takes the first instance that nobody holds
//! (M-7). Locks are flocks: they end with their process, however it ends.
//! **Order.** Locks are taken in the order of the mounts' directories, so two RUNs that want the same two caches do not
//! wait for each other; they are held until the command has ended.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::digest::Sha256;
use crate::base::fs::{self, FsError};
use crate::base::{publish, unique};
use crate::plan::{ContextName, CopyFrom, Mount, Run, Sharing, Step};
use crate::sandbox::{self, AgentProxy, Source, Spec};
use crate::snapshot::{Method, Stack};

use super::builder::Message;
use super::chain::State;
use super::event::Event;
use super::worker::Worker;
use super::{Error, StepError};
use crate::copy;

/// Mode of a heredoc script (P-17).
const SCRIPT_MODE: u32 = 0o755;
/// Mode of the root of a tmpfs mount.
const TMPFS_MODE: u32 = 0o1777;
/// How often somebody who waits for a cache looks whether the build was cancelled.
const PATIENCE: Duration = Duration::from_millis(20);
/// Who waits longer for a cache is told what for.
const NOTICEABLE: Duration = Duration::from_secs(1);

/// Keeps cache mounts locked and agents within reach.
pub(super) struct Held {
    _locks: Vec<File>,
    _proxies: Vec<AgentProxy>,
}

impl Worker<'_> {
    /// Adds the mounts of `run` to `spec`. The result must live until the command has ended.
    pub(super) fn mount(
        &self,
        step: &Step,
        run: &Run,
        inputs: &[Arc<State>],
        spec: &mut Spec,
        tell: &dyn Fn(Message),
    ) -> Result<Held, StepError> {
        run.mounts.iter().try_for_each(|mount| self.given(mount))?;
        let caches = self.lock_caches(step, run, inputs, tell)?;
        let mut proxies = Vec::new();
        for (number, mount) in run.mounts.iter().enumerate() {
            let (source, readonly) = match mount {
                Mount::Bind { from, source, writable, .. } => {
                    (self.bind(step, number, from, source, *writable, inputs)?, !writable)
                }
                Mount::Cache { source, read_only, .. } => {
                    let data = caches.iter().find(|c| c.number == number).map(|c| c.data.clone());
                    let data = data.expect("every cache mount was locked");
                    let subpath = PathBuf::from(source.trim_start_matches('/'));
                    (Source::Inside { root: data, subpath, no_symlinks: true }, *read_only)
                }
                Mount::Tmpfs { size, read_only, .. } => (Source::Tmpfs { size: *size, mode: TMPFS_MODE }, *read_only),
                Mount::Secret { id, env, mode, uid, gid, .. } => {
                    let bytes = self.builder.settings.secrets.get(id);
                    // One that may be missing and is leaves an empty variable, not that of the image (N-32).
                    if let Some(name) = env {
                        use std::os::unix::ffi::OsStrExt as _;
                        let value = std::ffi::OsStr::from_bytes(bytes.map_or(&[], Vec::as_slice)).to_owned();
                        spec.env.retain(|(n, _)| n.as_os_str() != name.as_str());
                        spec.env.push((name.into(), value));
                    }
                    let Some(bytes) = bytes else {
                        continue;
                    };
                    (Source::Data { bytes: bytes.clone(), mode: *mode, uid: *uid, gid: *gid }, true)
                }
                Mount::Ssh { id, mode, uid, gid, .. } => {
                    let Some(path) = self.builder.settings.ssh.get(id) else {
                        continue;
                    };
                    let dir = self.scratch_dir(step, &format!("mount-{number}-ssh"))?;
                    let started = AgentProxy::start(path, &dir);
                    let proxy = started.map_err(|e| FsError::new("connect to the agent at", path, e))?;
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
        Ok(Held { _locks: caches.into_iter().map(|c| c.lock).collect(), _proxies: proxies })
    }

    /// What each mount of `run` shows, where that is somebody's files: part of the key.
    pub(super) fn mount_digests(
        &self,
        run: &Run,
        step: &Step,
        inputs: &[Arc<State>],
    ) -> Result<Vec<Option<Sha256>>, StepError> {
        run.mounts
            .iter()
            .map(|mount| match mount {
                Mount::Bind { from: CopyFrom::Context(name), source, .. } => {
                    self.context_digest(name, source).map(Some)
                }
                // The whole of the other filesystem stands for what is mounted of it: never too little.
                Mount::Bind { from: CopyFrom::Step(id), .. } => {
                    Ok(Some(super::keys::base(&input(step, inputs, *id).diff_ids()?).0))
                }
                _ => Ok(None),
            })
            .collect()
    }

    fn bind(
        &self,
        step: &Step,
        number: usize,
        from: &CopyFrom,
        source: &str,
        writable: bool,
        inputs: &[Arc<State>],
    ) -> Result<Source, StepError> {
        let subpath = PathBuf::from(source.trim_start_matches('/'));
        let inside = |root: PathBuf| Source::Inside { root, subpath: subpath.clone(), no_symlinks: false };
        // Of layers that are not to be stacked, and of files that a command could not write to in a stack.
        let copied = || {
            let copied = self.scratch_dir(step, &format!("mount-{number}-copy"))?;
            self.seed(from, &copied, step, number, inputs)?;
            Ok(inside(copied))
        };
        let stacks = self.layers.method() != Method::Copy;
        let lowers = match from {
            CopyFrom::Context(name) => {
                let context = self.context(name)?;
                let strange = || copy::has_strangers(&context.dir, source);
                if writable && (!stacks || self.builder.settings.user_namespace && strange()?) {
                    return copied();
                }
                let hidden = self.scratch_dir(step, &format!("mount-{number}-hidden"))?;
                match copy::hide_ignored(&context.tree, &context.dir, source, &hidden)? || writable {
                    false => return Ok(inside(context.dir.clone())),
                    true if !stacks => return copied(),
                    true => Stack::new(&[context.dir.clone(), hidden])?,
                }
            }
            CopyFrom::Step(_) if !stacks => return copied(),
            CopyFrom::Step(id) => input(step, inputs, *id).lowers(&self.layers)?,
        };
        let scratch = if writable {
            let upper = self.scratch_dir(step, &format!("mount-{number}-upper"))?;
            let work = self.scratch_dir(step, &format!("mount-{number}-work"))?;
            Some(sandbox::Scratch { upper, work })
        } else {
            None
        };
        Ok(Source::Layers {
            lowers: lowers.into_lowers(),
            scratch,
            userxattr: self.builder.settings.user_namespace,
            subpath,
        })
    }

    /// Locks the caches that `run` mounts.
    fn lock_caches(
        &self,
        step: &Step,
        run: &Run,
        inputs: &[Arc<State>],
        tell: &dyn Fn(Message),
    ) -> Result<Vec<Cache>, StepError> {
        let mut wanted: Vec<(PathBuf, usize, &Mount, String, Sharing)> = Vec::new();
        for (number, mount) in run.mounts.iter().enumerate() {
            if let Mount::Cache { sharing, .. } = mount {
                let id = cache_id(mount, step, inputs)?;
                wanted.push((self.builder.store.mount_dir(&id), number, mount, id, *sharing));
            }
        }
        wanted.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        let mut locked: Vec<Cache> = Vec::new();
        for (dir, number, mount, id, sharing) in wanted {
            // One RUN may mount one cache twice; waiting for itself would be for ever.
            let instance = locked.iter().find(|c| c.dir == dir).map(|c| c.data.clone());
            match instance {
                Some(data) => {
                    let lock = fs::open(&dir)?;
                    locked.push(Cache { number, dir, data, lock });
                }
                None => {
                    let fill = |data: &Path| match mount.from() {
                        Some(from) => self.seed(from, data, step, number, inputs),
                        None => Ok(()),
                    };
                    locked.push(self.lock_cache(dir, number, (mount, &id, sharing), &fill, tell)?);
                }
            }
        }
        Ok(locked)
    }

    fn lock_cache(
        &self,
        dir: PathBuf,
        number: usize,
        (mount, id, sharing): (&Mount, &str, Sharing),
        fill: &dyn Fn(&Path) -> Result<(), StepError>,
        tell: &dyn Fn(Message),
    ) -> Result<Cache, StepError> {
        let (began, mut told) = (Instant::now(), false);
        for instance in 0.. {
            // Somebody may only be looking whether it is in use, which takes no time.
            let mut certain = false;
            let place = dir.join(instance.to_string());
            fs::ensure_dir(&place)?;
            let path = place.join("lock");
            let lock = fs::open_lock(&path)?;
            loop {
                let tried = match sharing {
                    Sharing::Shared => lock.try_lock_shared(),
                    Sharing::Locked | Sharing::Private => lock.try_lock(),
                };
                match tried {
                    Ok(()) => {
                        let data = create_cache(&place, mount, id, fill)?;
                        fs::touch(&path);
                        return Ok(Cache { number, dir, data, lock });
                    }
                    Err(std::fs::TryLockError::WouldBlock) if sharing == Sharing::Private && certain => break,
                    Err(std::fs::TryLockError::WouldBlock) if self.stop.is_cancelled() => {
                        return Err(Error::Cancelled.into());
                    }
                    Err(std::fs::TryLockError::WouldBlock) => {
                        if !told && began.elapsed() >= NOTICEABLE {
                            told = true;
                            let what = format!("waiting for the cache mount {id}");
                            let why = "another command has it, and it is locked".to_owned();
                            tell(Message::Event(Event::Fallback { what, why }));
                        }
                        std::thread::sleep(PATIENCE);
                        certain = true;
                    }
                    Err(std::fs::TryLockError::Error(e)) => return Err(FsError::new("lock", &path, e).into()),
                }
            }
        }
        unreachable!("there is always another instance")
    }
}

/// What tells one cache from another (N-21): its id and what it is made of, which is an owner, a mode and a first content.
/// Two mounts with one id that differ in those are two caches, as in BuildKit.
fn cache_id(mount: &Mount, step: &Step, inputs: &[Arc<State>]) -> Result<String, StepError> {
    let Mount::Cache { id, from, .. } = mount else { return Ok(String::new()) };
    let mut made_of = Vec::new();
    let root = cache_root(mount);
    if root != PLAIN_CACHE {
        let (mode, uid, gid) = root;
        made_of.push(format!("uid={uid}, gid={gid}, mode={mode:04o}"));
    }
    match from {
        Some(CopyFrom::Step(from)) => {
            let digest = super::keys::base(&input(step, inputs, *from).diff_ids()?).0;
            made_of.push(format!("from={}", &digest.hex()[..SHOWN_DIGEST]));
        }
        Some(CopyFrom::Context(ContextName::Main)) => made_of.push("from=context".to_owned()),
        Some(CopyFrom::Context(ContextName::Named(name))) => made_of.push(format!("from={name}")),
        None => {}
    }
    Ok(match made_of.is_empty() {
        true => id.clone(),
        false => format!("{id} ({})", made_of.join(", ")),
    })
}

/// Mode and owner of a cache that says neither.
const PLAIN_CACHE: (u32, u32, u32) = (0o755, 0, 0);

/// So much of a digest stands for it in an id.
const SHOWN_DIGEST: usize = 16;

/// Mode and owner of a cache's root. A mount of a part of a cache says nothing about the root.
fn cache_root(mount: &Mount) -> (u32, u32, u32) {
    match mount {
        Mount::Cache { source, mode, uid, gid, .. } if source == "/" => (*mode, *uid, *gid),
        _ => PLAIN_CACHE,
    }
}

/// One locked cache.
struct Cache {
    number: usize,
    dir: PathBuf,
    data: PathBuf,
    lock: File,
}

/// Makes the cache with its mode, owner and first content, once (M-8, M-9).
fn create_cache(
    place: &Path,
    mount: &Mount,
    id: &str,
    fill: &dyn Fn(&Path) -> Result<(), StepError>,
) -> Result<PathBuf, StepError> {
    let data = place.join("data");
    if data.exists() {
        return Ok(data);
    }
    let (mode, uid, gid) = cache_root(mount);
    publish::atomic(&place.join("id"), id.as_bytes(), 0o600)?;
    // Two shared holders may both find it missing: whoever renames first makes it.
    let draft = place.join(unique::name("data-"));
    fs::create_dir(&draft, 0o700)?;
    fill(&draft)?;
    let owned = std::os::unix::fs::chown(&draft, Some(uid), Some(gid))
        .and_then(|()| std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(mode)));
    owned.map_err(|e| FsError::new("set mode and owner of", &draft, e))?;
    if !fs::rename_new(&draft, &data)? {
        fs::remove_tree(&draft)?;
    }
    Ok(data)
}

/// The state of input `id` of `step`.
pub(super) fn input<'s>(step: &Step, inputs: &'s [Arc<State>], id: crate::plan::StepId) -> &'s Arc<State> {
    let at = step.inputs.iter().position(|&i| i == id).expect("the plan lists every step that is read as an input");
    &inputs[at]
}
