//! Cache mounts of a RUN.
//!
//! **On disk.** `mounts/<hash of the id>/<n>/{id,lock,data}`. All commands use instance 0, `shared` with a shared lock,
//! `locked` with an exclusive one; `private` takes the first instance that nobody holds (M-7). Locks are flocks: they end
//! with their process, however it ends.
//! **Order.** Locks are taken in the order of the directories, so that two RUNs that want the same two caches do not
//! deadlock, and held until the command has ended.

use std::fs::{File, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::base::fs::{self, FsError};
use crate::base::{publish, unique};
use crate::cache::step_key;
use crate::plan::{ContextName, CopyFrom, Mount, Run, Sharing};

use super::error::{Error, StepError};
use super::message::Reporter;
use super::shared::Shared;
use super::task::Task;

/// The pause between two attempts to lock a cache.
const PAUSE: Duration = Duration::from_millis(20);
/// Longer waits for a cache are reported.
const NOTICEABLE: Duration = Duration::from_secs(1);

/// Fills the cache of mount `number` from its `from`.
type Fill<'f> = dyn Fn(usize, &CopyFrom, &Path) -> Result<(), StepError> + 'f;

/// A cache that a RUN mounts.
struct Wanted<'m> {
    dir: PathBuf,
    number: usize,
    mount: &'m Mount,
    id: String,
    sharing: Sharing,
}

/// Locks the caches that `run` mounts; `fill` makes the first content of new ones.
pub(super) fn lock(
    shared: &Shared<'_>,
    run: &Run,
    task: Task<'_>,
    fill: &Fill<'_>,
    reporter: &Reporter,
) -> Result<Vec<CacheMount>, StepError> {
    let mut wanted: Vec<Wanted<'_>> = Vec::new();
    for (number, mount) in run.mounts.iter().enumerate() {
        if let Mount::Cache { sharing, .. } = mount {
            let id = cache_id(mount, task)?;
            let dir = shared.builder.store.mount_dir(&id);
            wanted.push(Wanted { dir, number, mount, id, sharing: *sharing });
        }
    }
    wanted.sort_by(|a, b| (&a.dir, a.number).cmp(&(&b.dir, b.number)));
    let mut locked: Vec<CacheMount> = Vec::new();
    for wanted in wanted {
        // One RUN may mount one cache twice; it must not wait for itself.
        let data = locked.iter().find(|c| c.dir == wanted.dir).map(|c| c.data.clone());
        locked.push(match data {
            Some(data) => {
                let lock = fs::open(&wanted.dir)?;
                CacheMount { number: wanted.number, dir: wanted.dir, data, lock }
            }
            None => lock_one(shared, wanted, fill, reporter)?,
        });
    }
    Ok(locked)
}

fn lock_one(
    shared: &Shared<'_>,
    wanted: Wanted<'_>,
    fill: &Fill<'_>,
    reporter: &Reporter,
) -> Result<CacheMount, StepError> {
    let Wanted { dir, number, mount, id, sharing } = wanted;
    let (began, mut told) = (Instant::now(), false);
    for instance in 0.. {
        // Another process may hold it only to see whether it is in use, which takes no time.
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
                    let fill = |data: &Path| mount.from().map_or(Ok(()), |from| fill(number, from, data));
                    let data = create_cache(&place, mount, &id, &fill)?;
                    fs::touch(&path);
                    return Ok(CacheMount { number, dir, data, lock });
                }
                Err(TryLockError::WouldBlock) if sharing == Sharing::Private && certain => break,
                Err(TryLockError::WouldBlock) if shared.stop.is_cancelled() => return Err(Error::Cancelled.into()),
                Err(TryLockError::WouldBlock) => {
                    if !told && began.elapsed() >= NOTICEABLE {
                        told = true;
                        let what = format!("waiting for the cache mount {id}");
                        reporter.fallback(what, "another command has it, and it is locked");
                    }
                    std::thread::sleep(PAUSE);
                    certain = true;
                }
                Err(TryLockError::Error(e)) => return Err(FsError::new("lock", &path, e).into()),
            }
        }
    }
    unreachable!("there is always another instance")
}

/// The identity of a cache (N-21): its id, owner, mode and first content. Two mounts with one id that differ in the rest
/// are two caches, as in BuildKit.
fn cache_id(mount: &Mount, task: Task<'_>) -> Result<String, StepError> {
    let Mount::Cache { id, from, .. } = mount else { return Ok(String::new()) };
    let mut made_of = Vec::new();
    let root = cache_root(mount);
    if root != PLAIN_CACHE {
        let (mode, uid, gid) = root;
        made_of.push(format!("uid={uid}, gid={gid}, mode={mode:04o}"));
    }
    match from {
        Some(CopyFrom::Step(from)) => {
            let digest = step_key::layers(&task.input(*from).diff_ids()?).0;
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

/// The default mode and owner of a cache.
const PLAIN_CACHE: (u32, u32, u32) = (0o755, 0, 0);

/// How many digits of a digest an id shows.
const SHOWN_DIGEST: usize = 16;

/// Mode and owner of a cache's root. The options of a mount of a part of a cache do not apply to the root.
fn cache_root(mount: &Mount) -> (u32, u32, u32) {
    match mount {
        Mount::Cache { source, mode, uid, gid, .. } if source == "/" => (*mode, *uid, *gid),
        _ => PLAIN_CACHE,
    }
}

/// One locked cache.
pub(super) struct CacheMount {
    /// The number of the mount among those of the RUN.
    pub(super) number: usize,
    dir: PathBuf,
    /// Its files.
    pub(super) data: PathBuf,
    /// Held until the command has ended.
    pub(super) lock: File,
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
    // Two shared holders may both find it missing: the first rename wins.
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
