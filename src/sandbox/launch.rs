//! kiln's side of one command: starts a warden, sends it the spec, forwards output and collects the exit.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::mount::OpenTreeFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::error::Error;
use super::fallback::{Fallback, Feature};
use super::message::Orders;
use super::monitor::{Monitor, Report, Streams};
use super::mountfs::READ_ONLY;
use super::outcome::Outcome;
use super::pipes::Pipes;
use super::publish::Ports;
use super::signals::Signals;
use super::spec::{Rootfs, Spec};
use super::supervise::{self, Watch};
use super::wire::Wire;
use super::{stubs, sys, warden};
use crate::base::cancel::Cancel;
use crate::base::rooted::Root;

/// The standard streams of a command.
pub enum Io<'a> {
    /// Input is empty; output and errors go through one pipe, in order, to this function.
    Captured(&'a mut dyn FnMut(&[u8])),
    /// Pipes to the caller's own output and, with `input`, from its input; otherwise the input is empty. Signals are
    /// forwarded to the command.
    Inherit {
        /// The command reads the caller's input.
        input: bool,
        /// The signals that reach this process while the command runs.
        signals: &'a Signals,
    },
    /// A terminal of the command's own, connected to the caller's, which must be standard input (`kiln run -it`).
    Terminal {
        /// The command gets the keys that are typed.
        input: bool,
        /// The signals that reach this process while the command runs.
        signals: &'a Signals,
    },
}

/// Options of a run besides its [`Spec`].
#[derive(Default)]
pub struct RunOptions<'a> {
    /// Published ports. The command's network must not be the host's. Released when the command ends.
    pub ports: Ports,
    /// Called before the command changes files.
    pub watch: Option<&'a dyn Watch>,
}

/// Starts commands from a read-only mount of kiln's own program, which no command can write to (S-28).
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

    /// Starts copies of the kiln at `program`, for tests: their own program is not kiln.
    pub fn of(program: &Path) -> Self {
        // A detached read-only mount of this file: a command that opens `/proc/<pid>/exe` cannot write through it, even
        // if it owns the file. If this is not permitted, kiln is not root and cannot run a command either.
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

    /// Runs `spec` to its end. Ok: the command ran and ended, perhaps with a non-zero exit. Err: it never ran, or
    /// `cancel` was set. Either way, every process it started is dead.
    pub fn run(&self, spec: &Spec, io: Io<'_>, cancel: &Cancel) -> Result<Outcome, Error> {
        self.run_with(spec, RunOptions::default(), io, cancel)
    }

    /// [`run`](Self::run) with published ports or a file watch.
    pub fn run_with(
        &self,
        spec: &Spec,
        options: RunOptions<'_>,
        io: Io<'_>,
        cancel: &Cancel,
    ) -> Result<Outcome, Error> {
        let RunOptions { ports, watch } = options;
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let (ours, theirs) = socketpair().map_err(start_error("create a socket for the sandbox"))?;
        let mut command = Command::new(&self.program);
        command.arg0("kiln").arg(warden::ARGUMENT).env_clear().current_dir("/").stdin(Stdio::from(theirs));
        let Connected { streams, signals, stdin, pipes } = connect(io, &mut command)?;
        let terminal = matches!(streams, Streams::Terminal { .. });
        let mut child = command.spawn().map_err(start_error("start the sandbox process"))?;
        drop(command);
        let wire = Wire::new(ours);
        let watch_scope = watch.map(Watch::scope);
        let orders = Orders { stdin: stdin.is_some(), ports: ports.inside(), terminal, watch: watch_scope, spec };
        let sent = send_orders(&wire, &orders, stdin, ports);
        let report = sent.map_err(start_error("send the command to the sandbox process")).and_then(|()| {
            let monitored = with_supervisor(watch, |take_listener| {
                Monitor::new(&wire, &mut child, streams, signals, cancel, take_listener).run()
            });
            monitored.map_err(start_error("read from the sandbox process"))
        });
        drop(wire);
        if let Some(pipes) = pipes {
            pipes.finish();
        }
        let reaped = child.wait().map_err(start_error("wait for the sandbox process"));
        let report = report?;
        reaped?;
        let (Rootfs::Dir(path) | Rootfs::Overlay { upper: path, .. }) = &spec.rootfs;
        if !report.created.is_empty() {
            let root = Root::open(path).map_err(start_error("open the root again"))?;
            stubs::remove(&root, &report.created);
        }
        report.outcome(cancel)
    }
}

/// The streams of a command, once they are connected.
struct Connected<'a> {
    streams: Streams<'a>,
    signals: Option<&'a Signals>,
    /// The command's standard input; `None`: `/dev/null`.
    stdin: Option<OwnedFd>,
    pipes: Option<Pipes>,
}

fn connect<'a>(io: Io<'a>, command: &mut Command) -> Result<Connected<'a>, Error> {
    Ok(match io {
        Io::Captured(sink) => {
            let (read, write) = io::pipe().map_err(start_error("create a pipe for the command's output"))?;
            let again = write.try_clone().map_err(start_error("create a pipe for the command's output"))?;
            command.stdout(Stdio::from(OwnedFd::from(write))).stderr(Stdio::from(OwnedFd::from(again)));
            let streams = Streams::Pipe { from: Some(read), to: sink };
            Connected { streams, signals: None, stdin: None, pipes: None }
        }
        Io::Inherit { input, signals } => {
            let connected = Pipes::connect(command, input);
            let (pipes, stdin) = connected.map_err(start_error("create pipes for the command's streams"))?;
            Connected { streams: Streams::Threads, signals: Some(signals), stdin, pipes: Some(pipes) }
        }
        Io::Terminal { input, signals } => {
            // The warden and init do not use the caller's terminal.
            command.stdout(Stdio::null()).stderr(Stdio::null());
            let streams = Streams::Terminal { input, relay: None };
            Connected { streams, signals: Some(signals), stdin: None, pipes: None }
        }
    })
}

/// Runs `monitor` to the command's end, while a thread answers the calls that are stopped for `watch`.
fn with_supervisor(
    watch: Option<&dyn Watch>,
    monitor: impl FnOnce(&mut dyn FnMut(OwnedFd)) -> io::Result<Report>,
) -> io::Result<Report> {
    let Some(watch) = watch else { return monitor(&mut |_| {}) };
    let (stopped, stop) = io::pipe()?;
    std::thread::scope(|scope| {
        let mut thread = None;
        let stopped = &stopped;
        let report = monitor(&mut |listener| {
            thread = Some(scope.spawn(move || supervise::watch_files(listener, stopped, watch)));
        });
        drop(stop);
        let blind = thread.and_then(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        let mut report = report?;
        report.fallbacks.extend(blind.map(|cause| Fallback::new(Feature::FileWatch, cause)));
        Ok(report)
    })
}

fn start_error(action: &str) -> impl FnOnce(io::Error) -> Error + '_ {
    move |source| Error::Start { action: action.to_owned(), source }
}

impl Default for Launcher {
    fn default() -> Self {
        Self::new()
    }
}

fn socketpair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

/// Sends the orders, the command's standard input if it has one, and the ports.
fn send_orders(wire: &Wire, orders: &Orders<&Spec>, stdin: Option<OwnedFd>, ports: Ports) -> io::Result<()> {
    wire.send(orders)?;
    if let Some(fd) = stdin {
        wire.send_fd(fd.as_fd())?;
    }
    ports.send(wire)
}
