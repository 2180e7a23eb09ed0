//! Dispatches a reported call to the answerer that replies.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sandbox::sys::{self, Notification};

/// The reply to a reported call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum Reply {
    /// The kernel executes it.
    Continue,
    /// It fails with this error number.
    Fail(i32),
}

/// A source of reported calls.
pub(in crate::sandbox) trait Listener {
    /// Takes the next call. Err: the thread that made it was killed first.
    fn receive(&self) -> io::Result<Notification>;

    /// Whether the thread still waits. If so, everything read from it before belongs to it, and not to another thread
    /// with the same id.
    fn is_waiting(&self, id: u64) -> bool;

    /// Ends the wait of the thread.
    fn reply(&self, id: u64, reply: Reply) -> io::Result<()>;

    /// Replaces descriptor `number` of the calling process with `fd`.
    fn replace_descriptor(&self, id: u64, fd: BorrowedFd<'_>, number: i32, close_on_exec: bool) -> io::Result<()>;
}

impl Listener for OwnedFd {
    fn receive(&self) -> io::Result<Notification> {
        sys::next_stopped(self.as_fd())
    }

    fn is_waiting(&self, id: u64) -> bool {
        sys::still_stopped(self.as_fd(), id)
    }

    fn reply(&self, id: u64, reply: Reply) -> io::Result<()> {
        let errno = match reply {
            Reply::Continue => None,
            Reply::Fail(errno) => Some(errno),
        };
        sys::answer_stopped(self.as_fd(), id, errno)
    }

    fn replace_descriptor(&self, id: u64, fd: BorrowedFd<'_>, number: i32, close_on_exec: bool) -> io::Result<()> {
        sys::replace_fd(self.as_fd(), id, fd, number, close_on_exec)
    }
}

/// A handler that may reply to a call.
pub(in crate::sandbox) trait Answerer {
    /// The reply to `call`; `None` leaves it to the next answerer.
    fn answer(&mut self, call: &Notification, listener: &dyn Listener) -> Option<Reply>;
}

/// Takes one call and replies to it; the first of `answerers` with a reply decides. Err: there was no call.
pub(in crate::sandbox) fn answer_next(listener: &dyn Listener, answerers: &mut [&mut dyn Answerer]) -> io::Result<()> {
    let call = listener.receive()?;
    let reply = answerers.iter_mut().find_map(|answerer| answerer.answer(&call, listener));
    // A thread that was killed meanwhile needs no reply.
    let _ = listener.reply(call.id, reply.unwrap_or(Reply::Continue));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Reports calls from a list and keeps the replies.
    #[derive(Default)]
    struct Scripted {
        calls: RefCell<Vec<Notification>>,
        replies: RefCell<Vec<(u64, Reply)>>,
    }

    impl Listener for Scripted {
        fn receive(&self) -> io::Result<Notification> {
            self.calls.borrow_mut().pop().ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        fn is_waiting(&self, _: u64) -> bool {
            true
        }

        fn reply(&self, id: u64, reply: Reply) -> io::Result<()> {
            self.replies.borrow_mut().push((id, reply));
            Ok(())
        }

        fn replace_descriptor(&self, _: u64, _: BorrowedFd<'_>, _: i32, _: bool) -> io::Result<()> {
            Ok(())
        }
    }

    /// Lets calls with this number fail with `errno`, and counts what it is asked.
    struct Refuse {
        number: u32,
        errno: i32,
        asked: u32,
    }

    impl Answerer for Refuse {
        fn answer(&mut self, call: &Notification, _: &dyn Listener) -> Option<Reply> {
            self.asked += 1;
            (call.number == self.number).then_some(Reply::Fail(self.errno))
        }
    }

    #[test]
    fn dispatch_takes_the_first_reply_and_continues_without_one() {
        let listener = Scripted::default();
        for (id, number) in [(3, 9), (2, 8), (1, 7)] {
            let mut call = Notification::default();
            (call.id, call.number) = (id, number);
            listener.calls.borrow_mut().push(call);
        }
        let mut first = Refuse { number: 7, errno: libc::EXDEV, asked: 0 };
        let mut second = Refuse { number: 8, errno: libc::EIO, asked: 0 };
        for _ in 0..3 {
            answer_next(&listener, &mut [&mut first, &mut second]).unwrap();
        }
        assert!(answer_next(&listener, &mut [&mut first]).is_err(), "no call is left");
        let replies = listener.replies.into_inner();
        assert_eq!(replies, [(1, Reply::Fail(libc::EXDEV)), (2, Reply::Fail(libc::EIO)), (3, Reply::Continue)]);
        assert_eq!((first.asked, second.asked), (3, 2));
    }
}
