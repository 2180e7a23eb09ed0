//! Keeps the store within its limit.
//!
//! **Holds.** Blobs of named images stay, and so does what this and other running builds use. What this build found in the
//! cache counts as used, also before its lease began.
//! **Order.** Before steps run, so that there is room for what they write, and after the image has its names: one that lost a
//! name to it need not stay.

use crate::base::cancel::Cancel;
use crate::base::fs;
use crate::base::lock::Patience;
use crate::base::time::Timestamp;
use crate::cache::Local;
use crate::store::{Policy, Step, Store, Survey, plan};

use super::error::Error;
use super::event::{Event, Observer};

/// Everything in the store.
pub(crate) fn survey(store: &Store) -> Result<Survey, Error> {
    let (mut steps, mut unreadable) = (Vec::new(), Vec::new());
    for (path, used, record) in Local::new(&store.root().join("cache")).all()? {
        match record {
            Some(record) => steps.push(Step {
                record: path,
                layer: record.diff_id,
                blobs: record.blobs.values().map(|blob| blob.digest).collect(),
                used,
            }),
            None => unreadable.push(path),
        }
    }
    Ok(store.survey(steps, unreadable)?)
}

/// The limit of a store's size, for one build.
#[derive(Clone, Copy)]
pub(crate) struct StorageLimit<'a> {
    /// The store.
    pub store: &'a Store,
    /// How many bytes it may take.
    pub bytes: u64,
    /// When the build began: what was used since then stays.
    pub began: Timestamp,
    /// Ends the wait for other processes.
    pub cancel: &'a Cancel,
}

impl StorageLimit<'_> {
    /// Removes the least recently used data if the store takes more. Ok(true): it is within the limit. Ok(false): it cannot
    /// be, and the observer knows why.
    pub(crate) fn enforce(&self, observer: &mut dyn Observer) -> Result<bool, Error> {
        let (store, limit) = (self.store, self.bytes);
        // Its time is when the survey began, on the clock of the store's file system.
        let trash = store.scratch()?;
        let began = fs::modified(trash.path())?;
        let mut survey = survey(store)?;
        if survey.total() <= limit {
            return Ok(true);
        }
        let mut waiting = |who: &str| {
            let (what, why) = (format!("waiting for {who}"), "it uses the store".to_owned());
            observer.event(&Event::Fallback { what, why });
        };
        let alone = store.exclude(&mut Patience::new(&mut waiting).until(self.cancel))?;
        store.refresh(&mut survey, began, &alone)?;
        // The clock of files may be some milliseconds behind.
        let unused_since = Some(Timestamp::from_secs(self.began.secs - 1));
        let policy = Policy { unnamed: true, named_cache: true, mounts: true, keep: Some(limit), unused_since };
        let sweep = plan(&survey, &policy);
        store.sweep(&sweep, &trash, &alone)?;
        drop(alone);
        trash.remove()?;
        let left = survey.total().saturating_sub(sweep.freed);
        if sweep.freed > 0 {
            observer.event(&Event::StorageFreed { freed: sweep.freed, left, limit });
        }
        if left > limit {
            observer.event(&Event::StorageFull { left, limit, named: survey.named() });
        }
        Ok(left <= limit)
    }
}
