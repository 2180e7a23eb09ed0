//! kiln's side of one command: has a warden started, sends it the spec, forwards output and collects the exit.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::mount::OpenTreeFlags;

use super::error::Error;
use super::fallback::{Fallback, Feature};
use super::message::{Follow, Orders};
use super::monitor::{Monitor, Report, Streams};
use super::mountfs::READ_ONLY;
use super::outcome::Outcome;
use super::pipes::{CommandStreams, Pipes};
use super::publish::Ports;
use super::signals::Signals;
use super::spec::{Rootfs, Spec};
use super::starter::{Starter, Warden};
use super::supervise::{self, Watch};
use super::wire::Wire;
use super::{stubs, sys};
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
#[derive(Debug)]
pub struct Launcher {
    program: PathBuf,
    _sealed: Option<OwnedFd>,
    /// From the first command on.
    starter: Mutex<Option<Starter>>,
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
        let program = match &sealed {
            Some(fd) => PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())),
            None => program.to_owned(),
        };
        Self { program, _sealed: sealed, starter: Mutex::default() }
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
        let Connected { streams, signals, theirs, pipes } = connect(io)?;
        let terminal = matches!(streams, Streams::Terminal { .. });
        let (wire, other) = Wire::pair().map_err(start_error("create a socket for the sandbox"))?;
        let warden = self.warden(&other).map_err(start_error("start the sandbox process"))?;
        drop(other);
        let follow = Follow { stdin: theirs.stdin.is_some(), output: theirs.output.is_some() };
        let watch_scope = watch.map(Watch::scope);
        let orders = Orders { streams: follow, ports: ports.inside(), terminal, watch: watch_scope, spec };
        let sent = send_orders(&wire, &orders, theirs, ports);
        let report = sent.map_err(start_error("send the command to the sandbox process")).and_then(|()| {
            let monitored = with_supervisor(watch, |take_listener| {
                Monitor::new(&wire, &warden, streams, signals, cancel, take_listener).run()
            });
            monitored.map_err(start_error("read from the sandbox process"))
        });
        drop(wire);
        if let Some(pipes) = pipes {
            pipes.finish();
        }
        let ended = warden.wait().map_err(start_error("wait for the sandbox process"));
        let report = report?;
        ended?;
        let (Rootfs::Dir(path) | Rootfs::Overlay { upper: path, .. }) = &spec.rootfs;
        if !report.created.is_empty() {
            let root = Root::open(path).map_err(start_error("open the root again"))?;
            stubs::remove(&root, &report.created);
        }
        report.outcome(cancel)
    }

    /// Starts what the first command needs, while its caller does something else. An error is one of that command.
    pub(crate) fn prepare(&self) {
        let mut starter = self.lock();
        if starter.is_none() {
            *starter = Starter::start(&self.program).ok();
        }
    }

    /// A new warden, which reads its orders from the other end of `socket`.
    fn warden(&self, socket: &Wire) -> io::Result<Warden> {
        let mut starter = self.lock();
        if let Some(running) = &*starter {
            match running.fork(socket) {
                // Somebody killed it.
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe || e.raw_os_error() == Some(libc::ECONNRESET) => {}
                answered => return answered,
            }
        }
        starter.insert(Starter::start(&self.program)?).fork(socket)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Starter>> {
        self.starter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The streams of a command, once they are connected.
struct Connected<'a> {
    streams: Streams<'a>,
    signals: Option<&'a Signals>,
    /// The command's ends.
    theirs: CommandStreams,
    pipes: Option<Pipes>,
}

fn connect(io: Io<'_>) -> Result<Connected<'_>, Error> {
    Ok(match io {
        Io::Captured(sink) => {
            let pipe = io::pipe().and_then(|(read, write)| Ok((read, write.try_clone()?, write)));
            let (read, out, err) = pipe.map_err(start_error("create a pipe for the command's output"))?;
            let streams = Streams::Pipe { from: Some(read), to: sink };
            let theirs = CommandStreams { stdin: None, output: Some((out.into(), err.into())) };
            Connected { streams, signals: None, theirs, pipes: None }
        }
        Io::Inherit { input, signals } => {
            let connected = Pipes::connect(input);
            let (pipes, theirs) = connected.map_err(start_error("create pipes for the command's streams"))?;
            Connected { streams: Streams::Threads, signals: Some(signals), theirs, pipes: Some(pipes) }
        }
        Io::Terminal { input, signals } => {
            // The warden and init do not use the caller's terminal.
            let streams = Streams::Terminal { input, relay: None };
            Connected { streams, signals: Some(signals), theirs: CommandStreams::default(), pipes: None }
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

/// Sends the orders, the command's streams, and the ports.
fn send_orders(wire: &Wire, orders: &Orders<&Spec>, streams: CommandStreams, ports: Ports) -> io::Result<()> {
    wire.send(orders)?;
    let (out, err) = streams.output.unzip();
    for fd in [streams.stdin, out, err].iter().flatten() {
        wire.send_fd(fd.as_fd())?;
    }
    ports.send(wire)
}
