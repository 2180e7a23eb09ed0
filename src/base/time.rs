//! Points in time, and the only clock.
//!
//! **Holds.** Nothing that is hashed or written into an image depends on the clock: [`Timestamp::now`] is for the ages of locks and
//! results, durations that are shown, and pruning. Image times come from `SOURCE_DATE_EPOCH` or are the epoch.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Seconds and nanoseconds since 1970-01-01T00:00:00Z; `nanos` always counts forward, also before the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds, negative before the epoch.
    pub secs: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Timestamp = Timestamp { secs: 0, nanos: 0 };

    /// Whole seconds since the epoch.
    pub const fn from_secs(secs: i64) -> Self {
        Self { secs, nanos: 0 }
    }

    /// The time as layers hold it: whole seconds, at most those of `latest`.
    pub fn capped(self, latest: Option<Timestamp>) -> Self {
        Self::from_secs(latest.map_or(self.secs, |latest| self.secs.min(latest.secs)))
    }

    /// The current time. Never part of a key or an image.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn now() -> Self {
        match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => Self { secs: since.as_secs() as i64, nanos: since.subsec_nanos() },
            Err(before) => Self::from_secs(-(before.duration().as_secs() as i64)),
        }
    }

    /// When this machine started, at most a second early.
    pub fn boot() -> Self {
        Self::from_secs(Self::now().secs - rustix::system::sysinfo().uptime)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC; times outside the years 0 to 9999 are clamped (S-43).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.secs.clamp(-62_167_219_200, 253_402_207_200);
        let time = jiff::Timestamp::new(secs, self.nanos as i32).map_err(|_| fmt::Error)?;
        write!(f, "{time}")
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time: jiff::Timestamp = text.parse()?;
        let (mut secs, mut nanos) = (time.as_second(), time.subsec_nanosecond());
        if nanos < 0 {
            secs -= 1;
            nanos += 1_000_000_000;
        }
        Ok(Self { secs, nanos: nanos as u32 })
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_and_parse_back() {
        for (time, text) in [
            (Timestamp::EPOCH, "1970-01-01T00:00:00Z"),
            (Timestamp { secs: 1_700_000_000, nanos: 5_000_000 }, "2023-11-14T22:13:20.005Z"),
            (Timestamp { secs: -1, nanos: 500_000_000 }, "1969-12-31T23:59:59.5Z"),
        ] {
            assert_eq!(time.to_string(), text);
            assert_eq!(text.parse::<Timestamp>().ok(), Some(time));
        }
        assert!(Timestamp::from_secs(i64::MAX).to_string().starts_with("9999-"));
    }
}
