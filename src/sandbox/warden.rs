//! The warden: the process between kiln and pid 1.
//!
//! **Holds.** A single-threaded process, forked by the starter, that owns one pid namespace: it forks init into it, waits, and
//! reports the end. If kiln cancels or dies, kiln's end of the socket closes; the warden then kills pid 1, and the
//! kernel kills every other process of the namespace. If the warden dies, pid 1's parent-death signal does the same.
//! **Order.** Every descriptor of the starter and of this process is close-on-exec, so that the command gets only 0, 1
//! and 2 (S-1).

use std::io;

use rustix::thread::UnshareFlags;

use super::failure::Stage;
use super::hint::Hint;
use super::init::WardenSetup;
use super::message::{Follow, Message, Orders};
use super::problem::{Context, Problem, StepResult};
use super::process::{name_process, null};
use super::publish::Ports;
use super::spec::{Security, Spec};
use super::sys::{self, Fork};
use super::userns::nested;
use super::wait::{Ended, RunningCommand};
use super::wire::Wire;
use super::{cgroup, init, network};

/// Runs the command whose orders arrive on `wire`. kiln ignores the exit code.
pub(super) fn main(wire: &Wire) -> u8 {
    let mut stage = Stage::Start;
    match supervise(wire, &mut stage) {
        Ok(()) => 0,
        Err(problem) => {
            let _ = wire.send(&Message::Failed(problem.at(stage)));
            125
        }
    }
}

fn supervise(wire: &Wire, stage: &mut Stage) -> StepResult<()> {
    name_process("kiln:warden".as_ref());
    let mut orders: Orders<Spec> = wire.receive().context(|| "receive the command from kiln".to_owned())?;
    receive_streams(wire, orders.streams).context(|| "receive the standard streams from kiln".to_owned())?;
    let ports = Ports::receive(wire, &orders.ports).context(|| "receive the ports from kiln".to_owned())?;
    let mut done = WardenSetup::default();
    // Before the pid namespace: the first process forked after that is its pid 1.
    let _helpers = if network::is_made_by_warden(&orders.spec, &ports) {
        *stage = Stage::Network;
        done = WardenSetup { user_namespace: nested::enter_if_needed()?, network: true };
        Some(network::enter(&mut orders.spec, ports)?)
    } else {
        None
    };
    let (groups, fallbacks) = cgroup::Groups::enter(&orders.spec.resources);
    for fallback in fallbacks {
        wire.send(&Message::Fallback(fallback)).context(|| "report to kiln".to_owned())?;
    }
    let (status, theirs) = Wire::pair().context(|| "create a socket".to_owned())?;
    sys::unshare(UnshareFlags::NEWPID).context(|| "create a pid namespace".to_owned())?;
    let pid =
        match sys::fork().context(|| "fork".to_owned()).map_err(|e| explain_fork(e, orders.spec.resources.pids))? {
            Fork::Child => init::run(&orders, done, wire, &theirs),
            Fork::Parent(pid) => pid,
        };
    groups.leave();
    drop(theirs);
    let Spec { pid_one, devices, security, authorities, .. } = orders.spec;
    // Only the command and its children may hold the output open.
    let null = null().context(|| "open /dev/null".to_owned())?;
    nix::unistd::dup2_stdin(&null)
        .and_then(|()| nix::unistd::dup2_stdout(&null))
        .and_then(|()| nix::unistd::dup2_stderr(&null))
        .context(|| "redirect the standard streams".to_owned())?;
    let command = RunningCommand::new(wire, status, pid, pid_one, devices);
    let command = if authorities.is_some() { command.and_then(RunningCommand::with_bundles) } else { command };
    let command = command.context(|| "watch the command".to_owned())?;
    let Ended { exit, noticed } = command.wait().context(|| "wait for the command".to_owned())?;
    if security == Security::Sandbox
        && let Some(noticed) = noticed
    {
        let _ = wire.send(&Message::Noticed(noticed));
    }
    let _ = wire.send(&Message::Ended(exit));
    Ok(())
}

/// Replaces the standard streams, which are `/dev/null`, with those that follow.
fn receive_streams(wire: &Wire, follow: Follow) -> io::Result<()> {
    if follow.stdin {
        nix::unistd::dup2_stdin(wire.receive_fd()?)?;
    }
    if follow.output {
        nix::unistd::dup2_stdout(wire.receive_fd()?)?;
        nix::unistd::dup2_stderr(wire.receive_fd()?)?;
    }
    Ok(())
}

/// Adds the hint that the process limit, which is already in force and counts init, is too low.
fn explain_fork(problem: Problem, limit: Option<u64>) -> Problem {
    match limit {
        Some(limit) if problem.errno() == Some(libc::EAGAIN) => problem.requested().hint(Hint::ProcessLimit(limit)),
        _ => problem,
    }
}
