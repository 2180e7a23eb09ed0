//! When to send a request again, and after how long (S-61).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::base::time::Timestamp;

use super::pace::Pace;

/// Attempts and time-outs.
#[derive(Clone, Debug)]
pub(crate) struct Timing {
    /// The most attempts per request, and the most breaks of a download without progress.
    pub attempts: u32,
    /// The pause after the first failure; it doubles after each further one.
    pub pause: Duration,
    /// The longest pause; a server that asks for a longer one (`Retry-After`) is not asked again.
    pub longest_pause: Duration,
    /// The time to connect.
    pub connect: Duration,
    /// The time without a single byte.
    pub stall: Duration,
    /// The time from the last byte of an upload to the response.
    pub commit: Duration,
    /// The slowest transfer.
    pub pace: Pace,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            attempts: 5,
            pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(60),
            connect: Duration::from_secs(15),
            stall: Duration::from_secs(30),
            commit: Duration::from_secs(300),
            pace: Pace::default(),
        }
    }
}

impl Timing {
    /// The pause before attempt number `next` (the second is 2); `None` = no more attempts.
    pub(crate) fn pause_before(&self, next: u32, retry_after: Option<Duration>) -> Option<Duration> {
        if next > self.attempts {
            return None;
        }
        if let Some(asked) = retry_after {
            return (asked <= self.longest_pause).then_some(asked);
        }
        let doubled = self.pause.saturating_mul(1 << (next - 2).min(16));
        // Up to a quarter more, so that parallel downloads do not retry at the same moment.
        let jitter = doubled.mul_f64(f64::from(Timestamp::now().nanos % 1000) / 4000.0);
        Some((doubled + jitter).min(self.longest_pause))
    }
}

/// Whether a later attempt may get another status.
pub(crate) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// Reads `Retry-After`: seconds, or a date.
pub(crate) fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp().as_second();
    Some(Duration::from_secs(u64::try_from(until - Timestamp::now().secs).unwrap_or(0)))
}

/// Sleeps. `false` = cancelled meanwhile.
pub(super) fn sleep(mut pause: Duration, cancelled: &AtomicBool) -> bool {
    let step = Duration::from_millis(50);
    while !pause.is_zero() && !cancelled.load(Ordering::Relaxed) {
        let now = pause.min(step);
        std::thread::sleep(now);
        pause -= now;
    }
    !cancelled.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_respect_retry_after_s61() {
        let timing = Timing::default();
        let ms = |next, after| timing.pause_before(next, after).map(|d: Duration| d.as_millis());
        assert!(ms(2, None).is_some_and(|p| (250..=313).contains(&p)));
        assert!(ms(4, None).is_some_and(|p| (1000..=1250).contains(&p)));
        assert_eq!(ms(6, None), None);
        assert_eq!(ms(2, Some(Duration::from_secs(7))), Some(7000));
        assert_eq!(ms(2, Some(Duration::from_secs(3600))), None);
        assert_eq!(retry_after(" 3"), Some(Duration::from_secs(3)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
    }
}
