//! The warden's event loop while the command runs: signals from kiln, reported calls, the end of pid 1.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, WaitIdOptions};

use super::message::{Message, Order};
use super::seccomp::Notice;
use super::spec::{Device, Exit};
use super::supervise::{Answerer, Bundles, DeviceNodes, Notices, answer_next};
use super::wire::{Inbox, Wire};
use crate::base::fs;

/// A running command.
pub(super) struct RunningCommand<'a> {
    wire: &'a Wire,
    /// Pid 1 sends the filter's listener here, and the signal that ended the command.
    status: Option<Wire>,
    pid: Pid,
    pidfd: OwnedFd,
    /// The command is pid 1.
    pid_one: bool,
    listener: Option<OwnedFd>,
    device_nodes: DeviceNodes,
    /// `None`: nothing is mounted over the image's bundles of authorities.
    bundles: Option<Bundles>,
    /// `None`: the kernel cannot report calls.
    notices: Option<Notices>,
    inbox: Inbox,
    requests: EndRequests,
    /// kiln's end of the socket is closed.
    closed: bool,
    killed_by: Option<i32>,
    ended_by: Option<i32>,
}

/// How it ended.
pub(super) struct Ended {
    /// Its exit code or signal.
    pub(super) exit: Exit,
    /// Its calls that cannot work on this host; `None` if the kernel cannot report calls.
    pub(super) noticed: Option<Vec<Notice>>,
}

impl<'a> RunningCommand<'a> {
    /// `pid` is pid 1 of the command's namespace; `devices` may be opened besides the usual ones.
    pub(super) fn new(wire: &'a Wire, status: Wire, pid: Pid, pid_one: bool, devices: Vec<Device>) -> io::Result<Self> {
        Ok(Self {
            bundles: None,
            wire,
            status: Some(status),
            pid,
            pidfd: rustix::process::pidfd_open(pid, PidfdFlags::empty())?,
            pid_one,
            listener: None,
            device_nodes: DeviceNodes::new(pid, devices),
            notices: None,
            inbox: Inbox::default(),
            requests: EndRequests::default(),
            closed: false,
            killed_by: None,
            ended_by: None,
        })
    }

    /// The same for a command with mounts over its bundles of authorities.
    pub(super) fn with_bundles(self) -> io::Result<Self> {
        Ok(Self { bundles: Some(Bundles::new(self.pidfd.try_clone()?)), ..self })
    }

    /// Waits for pid 1 and sends it the signals that kiln forwards. Kills it when kiln's end of the socket closes, or
    /// one second after the second request to end.
    pub(super) fn wait(mut self) -> io::Result<Ended> {
        loop {
            match self.next()? {
                Ready::Nothing => self.kill_for_signal(),
                Ready::End => break,
                Ready::Init => self.read_status(),
                Ready::Filter => self.answer_call(),
                Ready::Kiln => self.take_orders()?,
            }
        }
        // The writer is dead; its last bytes may not have been read yet.
        while self.status.is_some() {
            self.read_status();
        }
        let status =
            rustix::process::waitid(rustix::process::WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED)?;
        let status = status.ok_or(io::ErrorKind::UnexpectedEof)?;
        let exit = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => self.ended_by.map_or(Exit::Code(code), Exit::Signal),
            (None, Some(libc::SIGKILL)) => Exit::Signal(self.killed_by.unwrap_or(libc::SIGKILL)),
            (None, signal) => Exit::Signal(signal.unwrap_or(0)),
        };
        Ok(Ended { exit, noticed: self.notices.map(Notices::into_vec) })
    }

    /// Waits for the next event. The end comes first, then calls that the command waits for.
    fn next(&self) -> io::Result<Ready> {
        let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
        let mut kinds = vec![Ready::End];
        if let Some(status) = &self.status {
            fds.push(PollFd::new(status, PollFlags::IN));
            kinds.push(Ready::Init);
        }
        if let Some(listener) = &self.listener {
            fds.push(PollFd::new(listener, PollFlags::IN));
            kinds.push(Ready::Filter);
        }
        if !self.closed {
            fds.push(PollFd::new(self.wire, PollFlags::IN | PollFlags::RDHUP));
            kinds.push(Ready::Kiln);
        }
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        loop {
            match rustix::event::poll(&mut fds, self.requests.is_last_warning().then_some(&second)) {
                Err(rustix::io::Errno::INTR) => {}
                other => {
                    other?;
                    let ready = fds.iter().zip(kinds).find(|(fd, _)| !fd.revents().is_empty());
                    return Ok(ready.map_or(Ready::Nothing, |(_, kind)| kind));
                }
            }
        }
    }

    fn read_status(&mut self) {
        let Some(status) = &self.status else { return };
        let mut byte = [0];
        match status.read(&mut byte) {
            Ok((1.., Some(listener))) => {
                self.listener = Some(listener);
                self.notices = Some(Notices::default());
            }
            Ok((1.., None)) => self.ended_by = Some(i32::from(byte[0])),
            _ => self.status = None,
        }
    }

    fn answer_call(&mut self) {
        let (Some(listener), Some(notices)) = (&self.listener, &mut self.notices) else { return };
        // Device nodes before notices: a node that can be opened needs none.
        let mut answerers: Vec<&mut dyn Answerer> = vec![&mut self.device_nodes, notices];
        if let Some(bundles) = &mut self.bundles {
            answerers.insert(0, bundles);
        }
        if answer_next(listener, &mut answerers).is_err() && !is_used(listener) {
            self.listener = None;
        }
        if let Some(fallback) = self.device_nodes.take_fallback() {
            let _ = self.wire.send(&Message::Fallback(fallback));
        }
    }

    fn take_orders(&mut self) -> io::Result<()> {
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
        if self.requests.add(number) {
            self.kill_for_signal();
        } else if self.pid_one {
            self.killed_by = signal_pid_one(&self.pidfd, self.pid, number).or(self.killed_by);
        } else if let Some(signal) = Signal::from_named_raw(number) {
            // It may have ended already.
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, signal);
        }
    }

    fn kill_for_signal(&mut self) {
        self.killed_by = Some(self.requests.kill());
        self.kill();
    }

    fn kill(&self) {
        // It may have ended already.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

/// What `poll` found ready.
#[derive(Clone, Copy)]
enum Ready {
    End,
    Init,
    Filter,
    Kiln,
    Nothing,
}

/// Whether a process is left that could make a reported call.
fn is_used(listener: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(listener, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&now)).is_ok() && !fds[0].revents().contains(PollFlags::HUP)
}

/// Requests to end the command. After the first it may take any time.
#[derive(Debug, Default)]
struct EndRequests {
    times: u32,
    last: i32,
    killed: bool,
}

impl EndRequests {
    /// Counts `signal`. `true`: the command must be killed.
    fn add(&mut self, signal: i32) -> bool {
        if matches!(signal, libc::SIGINT | libc::SIGTERM) {
            (self.times, self.last) = (self.times + 1, signal);
        }
        self.times > 2
    }

    /// The command has one second left.
    fn is_last_warning(&self) -> bool {
        self.times == 2 && !self.killed
    }

    /// Marks the command as killed; returns the signal that caused it.
    fn kill(&mut self) -> i32 {
        self.killed = true;
        self.last
    }
}

/// Sends a signal to a command that is pid 1. The kernel drops a signal that pid 1 does not handle, so its default
/// action, ending the process, is done here. `Some`: the command was killed for this signal.
fn signal_pid_one(pidfd: &OwnedFd, pid: Pid, number: i32) -> Option<i32> {
    let signal = Signal::from_named_raw(number)?;
    let status = fs::read(Path::new(&format!("/proc/{}/status", pid.as_raw_nonzero()))).unwrap_or_default();
    let kills = !handles(&String::from_utf8_lossy(&status), number);
    let sent = if kills { Signal::KILL } else { signal };
    // It may have ended already.
    let _ = rustix::process::pidfd_send_signal(pidfd, sent);
    kills.then_some(number)
}

/// Whether the process of this `/proc/<pid>/status` catches or ignores the signal; true if the text does not say.
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
    fn handled_signals_are_caught_or_ignored() {
        let status = "Name:\tsh\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000000004\nSigCgt:\t0000000000004000\n";
        let handled: Vec<i32> = (1..=31).filter(|n| handles(status, *n)).collect();
        assert_eq!(handled, [libc::SIGQUIT, libc::SIGTERM]);
        assert!(handles("", libc::SIGTERM));
    }
}
