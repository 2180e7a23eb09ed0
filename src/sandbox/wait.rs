//! The warden's ear: signals from kiln, reports of the filter, the end of pid 1.
//!
//! **Holds.** A call that the filter reports always goes on. What it means is remembered, and the first device node opens
//! the usual devices to the command ([`devices`]).

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, WaitIdOptions};

use super::cgroup::Groups;
use super::message::{Message, Order};
use super::seccomp::{self, Notice};
use super::spec::{Device, Exit};
use super::wire::{Inbox, Wire};
use super::{devices, sys};
use crate::base::fs;

/// A command that runs.
pub(super) struct Waiting<'a> {
    wire: &'a Wire,
    /// Pid 1 hands the filter's listener over here, and says which signal ended the command.
    status: Option<Wire>,
    pid: Pid,
    pidfd: OwnedFd,
    /// The command is pid 1.
    pid_one: bool,
    devices: Vec<Device>,
    listener: Option<OwnedFd>,
    noticed: Option<BTreeSet<Notice>>,
    /// Device nodes can be opened.
    opened: Option<Groups>,
    /// They cannot, and that was said.
    unopened: bool,
    inbox: Inbox,
    asked: Asked,
    closed: bool,
    killed_by: Option<i32>,
    ended_by: Option<i32>,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(wire: &'a Wire, status: Wire, pid: Pid, pid_one: bool, devices: Vec<Device>) -> io::Result<Self> {
        Ok(Self {
            wire,
            status: Some(status),
            pid,
            pidfd: rustix::process::pidfd_open(pid, PidfdFlags::empty())?,
            pid_one,
            devices,
            listener: None,
            noticed: None,
            opened: None,
            unopened: false,
            inbox: Inbox::default(),
            asked: Asked::default(),
            closed: false,
            killed_by: None,
            ended_by: None,
        })
    }

    /// Waits for pid 1; gives it the signals kiln passes on; kills it when kiln's end of the socket closes, or when it
    /// was asked to end a second time and did not within a second.
    pub(super) fn wait(mut self) -> io::Result<(Exit, Option<Vec<Notice>>)> {
        loop {
            match self.next()? {
                Who::Nobody => self.kill_for_signal(),
                Who::Ended => break,
                Who::Init => self.hear_init(),
                Who::Filter => self.take_note(),
                Who::Kiln => self.hear_kiln()?,
            }
        }
        // Nobody is left to write; of a short command nothing may have been heard yet.
        while self.status.is_some() {
            self.hear_init();
        }
        let status =
            rustix::process::waitid(rustix::process::WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED)?;
        let status = status.ok_or(io::ErrorKind::UnexpectedEof)?;
        let exit = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => self.ended_by.map_or(Exit::Code(code), Exit::Signal),
            (None, Some(libc::SIGKILL)) => Exit::Signal(self.killed_by.unwrap_or(libc::SIGKILL)),
            (None, signal) => Exit::Signal(signal.unwrap_or(0)),
        };
        Ok((exit, self.noticed.map(|noticed| noticed.into_iter().collect())))
    }

    /// Who has something. The end comes first, then those the command waits for.
    fn next(&self) -> io::Result<Who> {
        let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
        let mut who = vec![Who::Ended];
        if let Some(status) = &self.status {
            fds.push(PollFd::new(status, PollFlags::IN));
            who.push(Who::Init);
        }
        if let Some(listener) = &self.listener {
            fds.push(PollFd::new(listener, PollFlags::IN));
            who.push(Who::Filter);
        }
        if !self.closed {
            fds.push(PollFd::new(self.wire, PollFlags::IN | PollFlags::RDHUP));
            who.push(Who::Kiln);
        }
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        loop {
            match rustix::event::poll(&mut fds, self.asked.is_last_warning().then_some(&second)) {
                Err(rustix::io::Errno::INTR) => {}
                other => {
                    other?;
                    let ready = fds.iter().zip(who).find(|(fd, _)| !fd.revents().is_empty());
                    return Ok(ready.map_or(Who::Nobody, |(_, who)| who));
                }
            }
        }
    }

    fn hear_init(&mut self) {
        let Some(status) = &self.status else { return };
        let mut byte = [0];
        match status.read(&mut byte) {
            Ok((1.., Some(listener))) => {
                self.listener = Some(listener);
                self.noticed = Some(BTreeSet::new());
            }
            Ok((1.., None)) => self.ended_by = Some(i32::from(byte[0])),
            _ => self.status = None,
        }
    }

    fn take_note(&mut self) {
        let Some(listener) = &self.listener else { return };
        // Otherwise it was killed before we looked; and without callers there is nothing to wait for.
        let Ok(call) = sys::next_stopped(listener.as_fd()) else {
            if !still_used(listener) {
                self.listener = None;
            }
            return;
        };
        let notice = seccomp::notice(&call);
        let mut known = self.opened.is_some() && notice == Notice::Device;
        if notice == Notice::Device && self.opened.is_none() && !self.unopened {
            match devices::open(self.pid, &self.devices) {
                Ok(groups) => {
                    self.opened = Some(groups);
                    known = true;
                }
                Err(why) => {
                    let what = "opening the device nodes that a command makes".to_owned();
                    // Where nobody may make any there is nothing to do without.
                    if let Some(why) = &why {
                        let _ = self.wire.send(&Message::Fallback(what, why.clone()));
                    }
                    self.unopened = true;
                }
            }
        }
        if let (false, Some(noticed)) = (known, &mut self.noticed) {
            noticed.insert(notice);
        }
        // Killed in the meantime is as good.
        let _ = sys::answer_stopped(listener.as_fd(), call.id, None);
    }

    fn hear_kiln(&mut self) -> io::Result<()> {
        let mut buffer = [0; 256];
        match self.wire.read(&mut buffer) {
            Ok((n, _)) if n > 0 => {
                self.inbox.push(&buffer[..n]);
                while let Some(Order::Signal(signal)) = self.inbox.next()? {
                    self.pass_on(signal);
                }
            }
            _ => {
                self.closed = true;
                self.kill();
            }
        }
        Ok(())
    }

    fn pass_on(&mut self, number: i32) {
        if self.asked.again(number) {
            self.kill_for_signal();
        } else if self.pid_one {
            self.killed_by = give(&self.pidfd, self.pid, number).or(self.killed_by);
        } else if let Some(signal) = Signal::from_named_raw(number) {
            // Gone already is as good.
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, signal);
        }
    }

    fn kill_for_signal(&mut self) {
        self.killed_by = Some(self.asked.kill());
        self.kill();
    }

    fn kill(&self) {
        // Gone already is as good.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

/// Whom one answer of `poll` is about.
#[derive(Clone, Copy)]
enum Who {
    Ended,
    Init,
    Filter,
    Kiln,
    Nobody,
}

/// Somebody could still make a call that is reported.
fn still_used(listener: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(listener, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&now)).is_ok() && !fds[0].revents().contains(PollFlags::HUP)
}

/// How often the command was asked to end: the first time it may take as long as it likes.
#[derive(Debug, Default)]
struct Asked {
    times: u32,
    last: i32,
    killed: bool,
}

impl Asked {
    /// Counts `signal`. True: it was asked often enough.
    fn again(&mut self, signal: i32) -> bool {
        if matches!(signal, libc::SIGINT | libc::SIGTERM) {
            (self.times, self.last) = (self.times + 1, signal);
        }
        self.times > 2
    }

    /// It has a second left.
    fn is_last_warning(&self) -> bool {
        self.times == 2 && !self.killed
    }

    /// It is killed now; the signal it is killed for.
    fn kill(&mut self) -> i32 {
        self.killed = true;
        self.last
    }
}

/// Gives a command that is pid 1 a signal. The kernel lets none through to a pid 1 that does not handle it; what it would have done to
/// any other process is done here. Some: it was killed for this signal.
fn give(pidfd: &OwnedFd, pid: Pid, number: i32) -> Option<i32> {
    let signal = Signal::from_named_raw(number)?;
    let status = fs::read(Path::new(&format!("/proc/{}/status", pid.as_raw_nonzero()))).unwrap_or_default();
    let kills = !handles(&String::from_utf8_lossy(&status), number);
    let sent = if kills { Signal::KILL } else { signal };
    // Gone already is as good.
    let _ = rustix::process::pidfd_send_signal(pidfd, sent);
    kills.then_some(number)
}

/// The process of this `/proc/<pid>/status` catches or ignores the signal. Without a word about it, it is taken to.
fn handles(status: &str, signal: i32) -> bool {
    let sets: Vec<u64> = status
        .lines()
        .filter_map(|line| line.strip_prefix("SigIgn:").or_else(|| line.strip_prefix("SigCgt:")))
        .filter_map(|set| u64::from_str_radix(set.trim(), 16).ok())
        .collect();
    sets.is_empty() || sets.iter().any(|set| set >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_handled_if_it_is_caught_or_ignored() {
        let status = "Name:\tsh\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000000004\nSigCgt:\t0000000000004000\n";
        let handled: Vec<i32> = (1..=31).filter(|n| handles(status, *n)).collect();
        assert_eq!(handled, [libc::SIGQUIT, libc::SIGTERM]);
        assert!(handles("", libc::SIGTERM));
    }
}
