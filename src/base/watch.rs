//! Work that can be cancelled or time out.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::cancel::Cancel;

/// Why work must end early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The build was cancelled.
    Cancelled,
    /// It took too long.
    TimedOut,
}

/// Does `work`. If `stop` is set or `limit` passes before it is done, calls `end` once, in another thread, to make it end.
pub(crate) fn beside<R>(
    stop: &Cancel,
    limit: Option<Duration>,
    end: impl FnOnce(Ended) + Send,
    work: impl FnOnce() -> R,
) -> io::Result<R> {
    let over = Cancel::new()?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut fds = [PollFd::new(stop, PollFlags::IN), PollFd::new(&over, PollFlags::IN)];
            let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
            let ready = loop {
                match poll(&mut fds, limit.as_ref()) {
                    Err(rustix::io::Errno::INTR) => {}
                    other => break other,
                }
            };
            match ready {
                Ok(0) => end(Ended::TimedOut),
                Ok(_) if fds[1].revents().is_empty() => end(Ended::Cancelled),
                _ => {}
            }
        });
        let _over = Over(&over);
        Ok(work())
    })
}

/// Stops the watching thread when the work is done or panics.
struct Over<'a>(&'a Cancel);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn end_is_called_once_and_only_during_work() {
        let stop = Cancel::new().unwrap();
        let ended = |stop: &Cancel, limit: Option<u64>, work: &dyn Fn(&mpsc::Receiver<Ended>) -> Option<Ended>| {
            let (sender, receiver) = mpsc::channel();
            beside(stop, limit.map(Duration::from_millis), |why| sender.send(why).unwrap(), || work(&receiver)).unwrap()
        };
        assert_eq!(ended(&stop, None, &|_| None), None);
        let late = ended(&stop, Some(1), &|receiver| receiver.recv().ok());
        assert_eq!(late, Some(Ended::TimedOut));
        let told = ended(&stop, Some(60_000), &|receiver| {
            stop.cancel();
            receiver.recv().ok()
        });
        assert_eq!(told, Some(Ended::Cancelled));
        assert_eq!(ended(&stop, None, &|receiver| receiver.recv().ok()), Some(Ended::Cancelled));
    }
}
