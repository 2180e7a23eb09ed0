//! Locks and fills the cache mounts of a RUN.
//!
//! **Order.** They are locked in the order of their directories, as `store` requires, until the command has ended.

use std::path::{Path, PathBuf};

use crate::base::lock::Patience;
use crate::cache::step_key;
use crate::plan::{ContextName, CopyFrom, Mount, Run, Sharing};
use crate::store::{MountLock, MountRoot, MountSharing};

use super::builder::Builder;
use super::error::StepError;
use super::message::Reporter;
use super::shared::Shared;
use super::shared_mounts;
use super::task::Task;
use super::used_mounts::SharedMount;

/// Fills the cache of mount `number` from its `from` option.
type Fill<'f> = dyn Fn(usize, &CopyFrom, &Path) -> Result<(), StepError> + 'f;

/// A cache mount that is not locked yet.
struct Unlocked<'m> {
    dir: PathBuf,
    number: usize,
    mount: &'m Mount,
    id: String,
    sharing: Sharing,
}

/// Locks the caches that `run` mounts; `fill` makes the initial content of new ones.
pub(super) fn lock(
    shared: &Shared<'_>,
    run: &Run,
    task: Task<'_>,
    fill: &Fill<'_>,
    reporter: &Reporter,
) -> Result<Vec<CacheMount>, StepError> {
    let mut unlocked: Vec<Unlocked<'_>> = Vec::new();
    for (number, mount) in run.mounts.iter().enumerate() {
        if let Mount::Cache { sharing, .. } = mount {
            let id = cache_id(mount, task)?;
            let dir = shared.builder.store.mount_dir(&id);
            unlocked.push(Unlocked { dir, number, mount, id, sharing: *sharing });
        }
    }
    unlocked.sort_by(|a, b| (&a.dir, a.number).cmp(&(&b.dir, b.number)));
    let mut locked: Vec<CacheMount> = Vec::new();
    for next in unlocked {
        // One RUN may mount one cache twice; it must not wait for itself.
        let data = locked.iter().find(|c| c.dir == next.dir).map(|c| c.data.clone());
        locked.push(match data {
            Some(data) => CacheMount { number: next.number, dir: next.dir, data, lock: None },
            None => lock_one(shared, run, next, fill, reporter)?,
        });
    }
    Ok(locked)
}

fn lock_one(
    shared: &Shared<'_>,
    run: &Run,
    unlocked: Unlocked<'_>,
    fill: &Fill<'_>,
    reporter: &Reporter,
) -> Result<CacheMount, StepError> {
    let Unlocked { dir, number, mount, id, sharing } = unlocked;
    let sharing = match sharing {
        Sharing::Shared => MountSharing::Shared,
        Sharing::Locked => MountSharing::Locked,
        Sharing::Private => MountSharing::Private,
    };
    let Builder { store, remotes, sender, .. } = *shared.builder;
    let shares = SharedMount::new(plain_id(mount), &id, &run.platform);
    if sender.wants_mount(&shares.id) {
        shared.used_mounts.note(shares.clone());
    }
    let restores = remotes.have_mount(&shares.id);
    if restores && let Some(lock) = store.try_lock_shared_mount(&id)? {
        lock.remove_empty();
    }
    let mut report =
        |who: &str| reporter.fallback(format!("waiting for the cache mount {id}"), format!("{who} has it locked"));
    let mut patience = Patience::new(&mut report).until(shared.stop).naming_own("another command");
    let lock = store.lock_mount(&id, sharing, &mut patience)?;
    let fill = |data: &Path| match restores && shared_mounts::restore(shared, &shares, data)? {
        true => Ok(()),
        false => mount.from().map_or(Ok(()), |from| fill(number, from, data)),
    };
    let data = lock.data_for_use(&id, cache_root(mount), fill)?;
    Ok(CacheMount { number, dir, data, lock: Some(lock) })
}

/// The id of a cache as the Dockerfile has it.
fn plain_id(mount: &Mount) -> &str {
    if let Mount::Cache { id, .. } = mount { id } else { "" }
}

/// The identity of a cache (N-21): its id, owner, mode and initial content. Mounts with one id that differ in the rest
/// are separate caches, as in BuildKit.
fn cache_id(mount: &Mount, task: Task<'_>) -> Result<String, StepError> {
    let (id, from) = (plain_id(mount), mount.from());
    let mut made_of = Vec::new();
    let root = cache_root(mount);
    if root != PLAIN_CACHE {
        let MountRoot { mode, uid, gid } = root;
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
        true => id.to_owned(),
        false => format!("{id} ({})", made_of.join(", ")),
    })
}

/// The default mode and owner of a cache.
const PLAIN_CACHE: MountRoot = MountRoot { mode: 0o755, uid: 0, gid: 0 };

/// How many digits of a digest an id shows.
const SHOWN_DIGEST: usize = 16;

/// Mode and owner of a cache's root. Options of a mount of only a part of the cache do not apply to the root.
fn cache_root(mount: &Mount) -> MountRoot {
    match mount {
        Mount::Cache { source, mode, uid, gid, .. } if source == "/" => MountRoot { mode: *mode, uid: *uid, gid: *gid },
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
    /// Held until the command has ended. `None`: another mount of the command holds it.
    pub(super) lock: Option<MountLock>,
}
