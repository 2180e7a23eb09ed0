//! The process between kiln and pid 1.
//!
//! **Holds.** It is a fresh, single-threaded copy of kiln that owns one pid namespace: it forks init into it, waits, and
//! reports the end. If kiln cancels or dies, its end of the socket closes; the warden then kills pid 1, and the kernel
//! everything else in the namespace. If the warden dies, pid 1's parent-death signal does the same.
//! **Order.** Every descriptor is marked close-on-exec before anything else: the command gets 0, 1 and 2 (S-1).

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::UnshareFlags;

use super::init::Ahead;
use super::message::{Message, Orders, Stage};
use super::problem::{Doing, Problem, Step};
use super::publish::Ports;
use super::spec::{Security, Spec};
use super::sys::{self, Fork};
use super::wait::Waiting;
use super::wire::Wire;
use super::{apart, cgroup, init, launch, network};

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
    let (status, theirs) = socketpair().doing(|| "make a socket".to_owned())?;
    sys::unshare(UnshareFlags::NEWPID).doing(|| "make a pid namespace".to_owned())?;
    let pid = match sys::fork().doing(|| "fork".to_owned()).map_err(|e| crowded(e, orders.spec.resources.pids))? {
        Fork::Child => init::run(&orders, ahead, wire, &theirs),
        Fork::Parent(pid) => pid,
    };
    groups.leave();
    drop(theirs);
    let Spec { pid_one, devices, security, .. } = orders.spec;
    // Only the command and its children may hold the output open.
    let null = null().doing(|| "open /dev/null".to_owned())?;
    nix::unistd::dup2_stdin(&null)
        .and_then(|()| nix::unistd::dup2_stdout(&null))
        .and_then(|()| nix::unistd::dup2_stderr(&null))
        .doing(|| "let go of the output".to_owned())?;
    let waiting = Waiting::new(wire, status, pid, pid_one, devices).doing(|| "watch the command".to_owned())?;
    let (exit, noticed) = waiting.wait().doing(|| "wait for the command".to_owned())?;
    if security == Security::Sandbox
        && let Some(noticed) = noticed
    {
        let _ = wire.send(&Message::Noticed(noticed));
    }
    let _ = wire.send(&Message::Ended(exit));
    Ok(())
}

fn socketpair() -> io::Result<(Wire, Wire)> {
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    Ok((Wire::new(ours), Wire::new(theirs)))
}

fn null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
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
