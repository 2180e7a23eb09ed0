//! The process between kiln and pid 1.
//!
//! **Holds.** It is a fresh, single-threaded copy of kiln that owns one pid namespace: it forks init into it, waits, and
//! reports the end. If kiln cancels or dies, its end of the socket closes; the warden then kills pid 1, and the kernel
//! everything else in the namespace. If the warden dies, pid 1's parent-death signal does the same.
//! **Order.** Every descriptor is marked close-on-exec before anything else: the command gets 0, 1 and 2 (S-1).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitIdOptions};
use rustix::thread::UnshareFlags;

use super::init::Ahead;
use super::message::{Message, Order, Orders, Stage};
use super::problem::{Doing, Problem, Step};
use super::publish::Ports;
use super::spec::{Exit, Spec};
use super::sys::{self, Fork};
use super::wire::{Inbox, Wire};
use super::{apart, cgroup, init, launch, network};
use crate::base::fs;

/// Runs one command as [`Spec`] says; the exit code matters to nobody.
pub(super) fn main() -> u8 {
    let Ok(wire) = own_wire() else { return 125 };
    let mut stage = Stage::Start;
    match supervise(&wire, &mut stage) {
        Ok(()) => 0,
        Err(problem) => {
            let _ = wire.send(&Message::Failed(problem.at(stage)));
            125
        }
    }
}

/// The socket kiln gave us as standard input, moved out of the way.
fn own_wire() -> io::Result<Wire> {
    sys::close_range_on_exec(3)?;
    let wire = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    Ok(Wire::new(wire))
}

fn supervise(wire: &Wire, stage: &mut Stage) -> Step<()> {
    launch::name_process("kiln:warden".as_ref());
    // They are kiln's to pass on; one from a terminal goes to every process of the group.
    sys::block_signals();
    let mut orders: Orders<Spec> = wire.receive().doing(|| "read the command from kiln".to_owned())?;
    let stdin = if orders.stdin {
        wire.receive_fd().doing(|| "take standard input from kiln".to_owned())?
    } else {
        null().doing(|| "open /dev/null".to_owned())?
    };
    nix::unistd::dup2_stdin(&stdin).doing(|| "set standard input".to_owned())?;
    drop(stdin);
    let ports = Ports::receive(wire, &orders.ports).doing(|| "take the ports from kiln".to_owned())?;
    let mut ahead = Ahead::default();
    // Before the pid namespace: the next process forked after that is the command's first.
    let _helpers = if network::is_made_by_warden(&orders.spec, &ports) {
        *stage = Stage::Network;
        ahead = Ahead { apart: apart::ahead()?, network: true };
        Some(network::enter(&mut orders.spec, ports)?)
    } else {
        None
    };
    let mut fallbacks = Vec::new();
    let groups = cgroup::Groups::enter(&orders.spec.resources, &mut fallbacks);
    for (what, why) in fallbacks {
        wire.send(&Message::Fallback(what, why)).doing(|| "speak to kiln".to_owned())?;
    }
    sys::unshare(UnshareFlags::NEWPID).doing(|| "make a pid namespace".to_owned())?;
    let pid = match sys::fork().doing(|| "fork".to_owned()).map_err(|e| crowded(e, orders.spec.resources.pids))? {
        Fork::Child => init::run(&orders, ahead, wire),
        Fork::Parent(pid) => pid,
    };
    groups.leave();
    drop(orders);
    // Only the command and its children may hold the output open.
    let null = null().doing(|| "open /dev/null".to_owned())?;
    nix::unistd::dup2_stdin(&null)
        .and_then(|()| nix::unistd::dup2_stdout(&null))
        .and_then(|()| nix::unistd::dup2_stderr(&null))
        .doing(|| "let go of the output".to_owned())?;
    let exit = wait(wire, pid).doing(|| "wait for the command".to_owned())?;
    let _ = wire.send(&Message::Ended(exit));
    Ok(())
}

fn null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

/// Waits for pid 1; gives it the signals kiln passes on; kills it when kiln's end of the socket closes.
fn wait(wire: &Wire, pid: Pid) -> io::Result<Exit> {
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let (mut inbox, mut buffer) = (Inbox::default(), [0; 256]);
    let (mut killed, mut killed_by) = (false, None);
    loop {
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
        if !killed {
            fds.push(PollFd::new(wire, PollFlags::IN | PollFlags::RDHUP));
        }
        match rustix::event::poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        if !fds[0].revents().is_empty() {
            break;
        }
        let Some(heard) = fds.get(1).map(PollFd::revents).filter(|heard| !heard.is_empty()) else { continue };
        match wire.read(&mut buffer) {
            Ok((n, _)) if n > 0 && !heard.contains(PollFlags::RDHUP) => {
                inbox.push(&buffer[..n]);
                while let Some(Order::Signal(signal)) = inbox.next()? {
                    killed_by = give(&pidfd, pid, signal).or(killed_by);
                }
            }
            _ => {
                killed = true;
                // Gone already is as good.
                let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
            }
        }
    }
    let status = rustix::process::waitid(rustix::process::WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
    let status = status.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(libc::SIGKILL)) => Exit::Signal(killed_by.unwrap_or(libc::SIGKILL)),
        (None, signal) => Exit::Signal(signal.unwrap_or(0)),
    })
}

/// The limit of processes is there already, and counts this one too.
fn crowded(problem: Problem, limit: Option<u64>) -> Problem {
    match limit {
        Some(limit) if problem.errno() == Some(libc::EAGAIN) => problem
            .requested()
            .hint(format!("a limit of {limit} processes leaves no room to start the command: allow more")),
        _ => problem,
    }
}

/// Gives pid 1 a signal. The kernel lets none through to a pid 1 that does not handle it; what it would have done to
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
