//! The slowest transfer that is accepted: a server that sends a byte now and then must not hold a build for ever.

use std::io::{self, Read};
use std::time::{Duration, Instant};

/// The slowest transfer that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Fewer bytes within `window` are too slow.
    pub bytes: u64,
    /// Time spent waiting for the server.
    pub window: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { bytes: 4 << 10, window: Duration::from_secs(60) }
    }
}

/// Reads a body, and fails if it is slower than its pace: [`is_slow`] recognises the error.
pub(super) struct Paced<R> {
    body: R,
    pace: Pace,
    /// Time spent waiting in this window; what passes between two reads is the caller's.
    waited: Duration,
    /// Bytes received in this window.
    read: u64,
}

impl<R: Read> Paced<R> {
    pub(super) fn new(body: R, pace: Pace) -> Self {
        Self { body, pace, waited: Duration::ZERO, read: 0 }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let asked = Instant::now();
        let length = self.body.read(buf)?;
        self.waited += asked.elapsed();
        self.read += length as u64;
        if self.read >= self.pace.bytes || length == 0 {
            (self.waited, self.read) = (Duration::ZERO, 0);
        } else if self.waited >= self.pace.window {
            return Err(io::Error::new(io::ErrorKind::TimedOut, Slow { bytes: self.read, pace: self.pace }));
        }
        Ok(length)
    }
}

/// A body that is too slow.
#[derive(Debug, thiserror::Error)]
#[error("too slow: {bytes} bytes in {:?}", pace.window)]
struct Slow {
    bytes: u64,
    pace: Pace,
}

/// Whether a read failed because the body was too slow.
pub(crate) fn is_slow(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Slow>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One byte after each pause, so many times.
    struct Drip(Duration, u32);

    impl Read for Drip {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            std::thread::sleep(self.0);
            self.1 = self.1.saturating_sub(1);
            buf[0] = b'x';
            Ok(usize::from(self.1 > 0).min(buf.len()))
        }
    }

    #[test]
    fn slow_body_fails_and_fast_body_does_not() {
        let pace = Pace { bytes: 10, window: Duration::from_millis(40) };
        let mut sink = Vec::new();
        let error = Paced::new(Drip(Duration::from_millis(15), 100), pace).read_to_end(&mut sink).expect_err("slow");
        // On a busy machine the pauses are longer.
        let few = (1..=3).any(|n| error.to_string() == format!("too slow: {n} bytes in 40ms"));
        assert!(is_slow(&error) && few, "{error}");
        for fine in [Drip(Duration::from_micros(100), 60), Drip(Duration::from_millis(5), 4)] {
            sink.clear();
            Paced::new(fine, pace).read_to_end(&mut sink).expect("fast enough, or short");
        }
    }
}
