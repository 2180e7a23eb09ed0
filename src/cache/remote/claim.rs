//! Which of several builds that make the same layer at the same time uploads it.
//!
//! **Holds.** A build claims a step in a shared cache before it uploads the layer. Another one that has made the same step waits
//! for the entry of the first. A claim ends by itself, and whoever waited then takes it, so that a build that was killed delays
//! others by seconds and loses nothing.
//! **Not here.** Safety: two builds that both have a claim both upload, which costs bytes and nothing else.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::digest::Sha256;
use crate::base::time::Timestamp;
use crate::base::unique;

use super::EntryName;

/// A longer claim is none.
pub(super) const MAX_CLAIM: usize = 1024;

/// How long a claim holds at least, in seconds.
const LEAST: i64 = 10;
/// The slowest upload that a claim allows for, in bytes per second.
const SLOWEST: u64 = 1 << 20;
/// A claim that ends later is not believed: whoever wrote it has another clock.
const LONGEST: i64 = 3600;

/// The right to upload what an entry leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UploadClaim {
    /// The entry, by the step's own key.
    pub(super) name: EntryName,
    /// The build that uploads.
    owner: String,
    /// When it ends, in seconds since the epoch.
    until: i64,
}

impl UploadClaim {
    /// A claim of the build called `owner` to upload `bytes` for `name`.
    pub(super) fn new(name: EntryName, owner: &str, bytes: u64) -> Self {
        let needed = i64::try_from(bytes / SLOWEST).unwrap_or(LONGEST);
        let until = Timestamp::now().secs + (LEAST + needed).min(LONGEST);
        Self { name, owner: owner.to_owned(), until }
    }

    /// Whether it has not ended.
    pub(super) fn holds(&self) -> bool {
        let left = self.until - Timestamp::now().secs;
        (1..=LONGEST).contains(&left)
    }

    /// Whether it keeps the other one's owner from uploading.
    pub(super) fn bars(&self, other: &Self) -> bool {
        self.name == other.name && self.owner != other.owner && self.holds()
    }

    /// How long its owner waits after the end of another claim, so that not all who waited begin at once.
    pub(super) fn turn(&self) -> Duration {
        let place = self.owner.bytes().fold(0, |place: u8, byte| place.wrapping_mul(31).wrapping_add(byte));
        Duration::from_millis(u64::from(place) * 12)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a claim has only string keys")
    }

    /// Reads what a cache has in place of a claim. Nonsense is no claim.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// A name for this build that no other build on any machine has.
pub(super) fn owner() -> String {
    let now = Timestamp::now();
    let host = rustix::system::uname();
    let text = format!("{:?} {} {} {}", host.nodename(), unique::name(""), now.secs, now.nanos);
    Sha256::of(text.as_bytes()).hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::StepKey;

    #[test]
    fn claim_bars_others_until_it_ends() {
        let name = |text: &str| EntryName::Step(StepKey(Sha256::of(text.as_bytes())));
        let own = UploadClaim::new(name("a"), "own", 0);
        let read = |claim: &UploadClaim| UploadClaim::parse(&claim.to_bytes()).expect("a claim");
        assert_eq!(read(&own), own);
        let claims = [("other", name("a"), true), ("own", name("a"), false), ("other", name("b"), false)];
        for (owner, name, bars) in claims {
            assert_eq!(read(&UploadClaim::new(name, owner, 1 << 30)).bars(&own), bars, "{owner} {name}");
        }
        for until in [Timestamp::now().secs, Timestamp::now().secs + 2 * LONGEST] {
            let other = UploadClaim { owner: "other".to_owned(), until, ..own.clone() };
            assert!(!read(&other).bars(&own), "{until}");
        }
        let large = UploadClaim::new(name("a"), "own", 100 << 20);
        assert!((99..=101).contains(&(large.until - own.until)));
        assert_eq!(UploadClaim::parse(b"<html>"), None);
        assert_ne!(owner(), owner());
    }
}
