//! Pid 1 while the command runs as its child.
//!
//! **Holds.** The command is not pid 1 of its namespace, because the kernel drops every signal that pid 1 does not
//! handle: a program that restores a default action and raises the signal again, or calls `abort`, would not end. This
//! process forwards signals to the command, reaps orphans, and exits with the command, which ends the namespace.
//! **Order.** The fork comes after confinement: this process has no right that the command lacks. It is not dumpable,
//! holds no descriptor but the one it reports through, and executes nothing.

use std::os::fd::BorrowedFd;

use nix::sys::signal::{SigSet, Signal};
use rustix::process::{DumpableBehavior, Pid, WaitOptions};

use super::problem::{Context, StepResult};
use super::sys::{self, Fork};

/// Forks the command. Returns only in the command's process, which has a session of its own. The caller stays pid 1;
/// if a signal ends the command, it writes the signal's number to `status`.
pub(super) fn fork_command(status: BorrowedFd<'_>) -> StepResult<()> {
    let undumpable = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    undumpable.context(|| "protect the init process".to_owned())?;
    match sys::fork().context(|| "fork the command".to_owned())? {
        Fork::Parent(pid) => supervise(pid, status),
        Fork::Child => rustix::process::setsid().map(drop).context(|| "create a session".to_owned()),
    }
}

fn supervise(command: Pid, status: BorrowedFd<'_>) -> ! {
    // Readers of the command's output must not wait for this process. No descriptor can be opened here: the command's
    // limit is in force.
    if sys::close_all_but(status).is_err() {
        std::process::exit(125);
    }
    let signals: SigSet = Signal::iterator().collect();
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => reap(command, status),
            Ok(signal) => {
                if let Some(signal) = rustix::process::Signal::from_named_raw(signal as i32) {
                    // It may have ended already.
                    let _ = rustix::process::kill_process(command, signal);
                }
            }
            Err(_) => {}
        }
    }
}

/// Reaps every process that has ended; exits with the command.
fn reap(command: Pid, to: BorrowedFd<'_>) {
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid != command {
            continue;
        }
        if let Some(signal) = status.terminating_signal() {
            // If the warden is dead, the report is lost.
            let _ = rustix::io::write(to, &[u8::try_from(signal).unwrap_or(0)]);
            std::process::exit(128 + signal);
        }
        std::process::exit(status.exit_status().unwrap_or(125));
    }
}
