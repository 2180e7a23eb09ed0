//! Pid 1 while the command runs as its child.
//!
//! **Holds.** A command is not pid 1 of its namespace: the kernel drops every signal to pid 1 that it does not handle, so
//! a program that restores a default action and raises the signal again, or calls `abort`, would not end. This process
//! forwards signals to the command, reaps orphans, and ends with the command, which ends everything else.
//! **Order.** The fork comes after confinement: there is nothing here that the command does not have itself. This process
//! is not dumpable, holds no descriptor but the one it reports through, and executes nothing.

use std::os::fd::BorrowedFd;

use nix::sys::signal::{SigSet, Signal};
use rustix::process::{DumpableBehavior, Pid, WaitOptions};

use super::problem::{Context, StepResult};
use super::sys::{self, Fork};

/// Forks the command. Returns in the command's process only, which has a session of its own and no signal blocked; the
/// caller stays pid 1 and writes the number of the signal that ended the command, if one did, to `status`.
pub(super) fn fork_command(status: BorrowedFd<'_>) -> StepResult<()> {
    let undumpable = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    undumpable.context(|| "protect the init process".to_owned())?;
    match sys::fork().context(|| "fork the command".to_owned())? {
        Fork::Parent(pid) => attend(pid, status),
        Fork::Child => rustix::process::setsid().map(drop).context(|| "start a session".to_owned()),
    }
}

fn attend(command: Pid, status: BorrowedFd<'_>) -> ! {
    // Whoever waits for the end of the command's output waits for the command, not for this process. No descriptor is
    // made: the command's limit of them is in force.
    if sys::close_all_but(status).is_err() {
        std::process::exit(125);
    }
    let signals: SigSet = Signal::iterator().collect();
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => reap(command, status),
            Ok(signal) => {
                if let Some(signal) = rustix::process::Signal::from_named_raw(signal as i32) {
                    // Gone already is as good.
                    let _ = rustix::process::kill_process(command, signal);
                }
            }
            Err(_) => {}
        }
    }
}

/// Takes every process that has ended; ends with the command.
fn reap(command: Pid, to: BorrowedFd<'_>) {
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid != command {
            continue;
        }
        if let Some(signal) = status.terminating_signal() {
            // Without the warden nobody wants to know.
            let _ = rustix::io::write(to, &[u8::try_from(signal).unwrap_or(0)]);
            std::process::exit(128 + signal);
        }
        std::process::exit(status.exit_status().unwrap_or(125));
    }
}
