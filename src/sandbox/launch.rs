//! The parent's side: start a warden, hand over the spec, pass output on, collect the exit.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::mount::OpenTreeFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::error::Error;
use super::listen::{Heard, Listener, Streams};
use super::message::Orders;
use super::pipes::Pipes;
use super::publish::Ports;
use super::seccomp::Notice;
use super::signals::Signals;
use super::spec::{Exit, Rootfs, Spec};
use super::stubs;
use super::watch::{self, Watch};
use super::wire::Wire;
use super::{message, sys, userns, warden};
use crate::base::cancel::Cancel;
use crate::base::rooted::Root;

/// First argument of the process that owns one run.
const WARDEN: &str = "@kiln-warden";
/// First argument of kiln run again as root of a user namespace.
pub(super) const USERNS: &str = "@kiln-userns";

/// What `main` does next.
#[derive(Debug)]
pub enum Reentry {
    /// This process was one of ours: exit with this code.
    Done(u8),
    /// Go on as usual, with this command line (program name first).
    Continue(Vec<OsString>),
}

/// Called first in `main`, before any thread exists: if kiln started this process for itself, does that work.
pub fn reentry(argv: Vec<OsString>) -> Reentry {
    match argv.get(1).map(OsString::as_os_str) {
        Some(arg) if arg == WARDEN => Reentry::Done(warden::main()),
        Some(arg) if arg == USERNS => userns::inside(argv),
        _ => Reentry::Continue(argv),
    }
}

/// Where a command's standard streams lead.
pub enum Io<'a> {
    /// Input is empty; output and errors come through one pipe, in order, to this function.
    Captured(&'a mut dyn FnMut(&[u8])),
    /// Pipes that lead to the caller's own output and, with `input`, from its input, else an empty one. Signals go to the
    /// command.
    Inherit {
        /// The command reads what the caller would.
        input: bool,
        /// What reaches this process while the command runs.
        signals: &'a Signals,
    },
    /// A terminal of the command's own, connected to the caller's, which must be standard input (`kiln run -it`).
    Terminal {
        /// What is typed goes to the command.
        input: bool,
        /// What reaches this process while the command runs.
        signals: &'a Signals,
    },
}

/// What accompanies a command.
#[derive(Default)]
pub struct Beside<'a> {
    /// These lead into its network, which must be its own. They are given back at its end.
    pub ports: Ports,
    /// Is asked before the command changes files.
    pub watch: Option<&'a dyn Watch>,
}

/// A command that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub exit: Exit,
    /// What was done without, and why: `(what, why)`. To be announced.
    pub fallbacks: Vec<(String, String)>,
    /// What it tried that cannot work here; `None` where nobody could take note.
    pub noticed: Option<Vec<Notice>>,
}

/// Starts commands. One per process: it holds a view of kiln's own program that nothing inside can write (S-28).
#[derive(Debug, Clone)]
pub struct Launcher {
    program: PathBuf,
    _sealed: Option<Arc<OwnedFd>>,
}

impl Launcher {
    /// Starts copies of the running program.
    pub fn new() -> Self {
        Self::of(Path::new("/proc/self/exe"))
    }

    /// Starts copies of the kiln at `program` (tests, whose own program is not kiln).
    pub fn of(program: &Path) -> Self {
        // A detached read-only mount of the one file: whoever gets hold of `/proc/<pid>/exe` inside cannot write
        // through it, whoever owns the file. Without the right to do this we are no root of anything either.
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let sealed = rustix::mount::open_tree(rustix::fs::CWD, program, flags).ok();
        let sealed = sealed.filter(|fd| sys::set_mount_attributes(fd.as_fd(), READ_ONLY, false).is_ok());
        match sealed {
            Some(fd) => Self {
                program: PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())),
                _sealed: Some(Arc::new(fd)),
            },
            None => Self { program: program.to_owned(), _sealed: None },
        }
    }

    /// Runs `spec` to its end. Ok: the command ran and ended, and every process it started is dead; a non-zero exit is
    /// Ok too. Err: it never ran, or `cancel` was set; then too nothing of it is left.
    pub fn run(&self, spec: &Spec, io: Io<'_>, cancel: &Cancel) -> Result<Outcome, Error> {
        self.run_with(spec, Beside::default(), io, cancel)
    }

    /// The same, with something `beside` it.
    pub fn run_with(&self, spec: &Spec, beside: Beside<'_>, io: Io<'_>, cancel: &Cancel) -> Result<Outcome, Error> {
        let Beside { ports, watch } = beside;
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let start = |what: &str| {
            let what = what.to_owned();
            move |source: io::Error| Error::Start { what, source }
        };
        let (ours, theirs) = socketpair().map_err(start("make a socket for the sandbox"))?;
        let mut command = Command::new(&self.program);
        command.arg0("kiln").arg(WARDEN).env_clear().current_dir("/").stdin(Stdio::from(theirs));
        let (mut stdin, mut pipes) = (None, None);
        let (streams, signals) = match io {
            Io::Captured(sink) => {
                let (read, write) = io::pipe().map_err(start("make a pipe for the command's output"))?;
                let again = write.try_clone().map_err(start("make a pipe for the command's output"))?;
                command.stdout(Stdio::from(OwnedFd::from(write))).stderr(Stdio::from(OwnedFd::from(again)));
                (Streams::Pipe { from: Some(read), to: sink }, None)
            }
            Io::Inherit { input, signals } => {
                let connected = Pipes::connect(&mut command, input);
                let (connected, read) = connected.map_err(start("make pipes for the command's streams"))?;
                (pipes, stdin) = (Some(connected), read);
                (Streams::Own, Some(signals))
            }
            Io::Terminal { input, signals } => {
                // The warden and init have no business with the caller's terminal.
                command.stdout(Stdio::null()).stderr(Stdio::null());
                (Streams::Terminal { input, relay: None }, Some(signals))
            }
        };
        let terminal = matches!(streams, Streams::Terminal { .. });
        let mut child = command.spawn().map_err(start("start the sandbox process"))?;
        drop(command);
        let wire = Wire::new(ours);
        let watched = watch.map(Watch::files);
        let orders = Orders { stdin: stdin.is_some(), ports: ports.inside(), terminal, watched, spec };
        let talk = hand_over(&wire, &orders, stdin, ports).map_err(start("hand the command to the sandbox process"));
        let heard = match talk {
            Ok(()) => attended(watch, |watched| {
                let listener = Listener::new(&wire, &mut child, streams, signals, cancel, watched);
                listener.listen()
            })
            .map_err(start("read from the sandbox process")),
            Err(e) => Err(e),
        };
        drop(wire);
        if let Some(pipes) = pipes {
            pipes.finish();
        }
        let reaped = child.wait().map_err(start("wait for the sandbox process"));
        let heard = heard?;
        reaped?;
        let (Rootfs::Dir(path) | Rootfs::Overlay { upper: path, .. }) = &spec.rootfs;
        if !heard.made.is_empty() {
            let root = Root::open(path).map_err(start("open the root again"))?;
            stubs::take_away(&root, &heard.made);
        }
        heard.outcome(cancel)
    }
}

/// Listens to the command's end, while a thread answers the calls that are stopped for `watch`.
fn attended(
    watch: Option<&dyn Watch>,
    listen: impl FnOnce(&mut dyn FnMut(OwnedFd)) -> io::Result<Heard>,
) -> io::Result<Heard> {
    let Some(watch) = watch else { return listen(&mut |_| {}) };
    let (stopped, stop) = io::pipe()?;
    std::thread::scope(|scope| {
        let mut thread = None;
        let stopped = &stopped;
        let heard = listen(&mut |listener| {
            thread = Some(scope.spawn(move || watch::serve(&listener, stopped, watch)));
        });
        drop(stop);
        let blind = thread.and_then(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        let mut heard = heard?;
        heard.fallbacks.extend(blind.map(|why| message::unwatched(&why)));
        Ok(heard)
    })
}

impl Default for Launcher {
    fn default() -> Self {
        Self::new()
    }
}

const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;

fn socketpair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

/// The orders, our standard input if the command is to have it, and the ports.
fn hand_over(wire: &Wire, orders: &Orders<&Spec>, stdin: Option<OwnedFd>, ports: Ports) -> io::Result<()> {
    wire.send(orders)?;
    if let Some(fd) = stdin {
        wire.send_fd(fd.as_fd())?;
    }
    ports.send(wire)
}

use std::os::unix::process::CommandExt as _;

/// The name a process shows in `ps`.
pub(super) fn name_process(name: &OsStr) {
    use std::os::unix::ffi::OsStrExt;
    if let Ok(name) = std::ffi::CString::new(name.as_bytes()) {
        let _ = rustix::thread::set_name(&name);
    }
}
