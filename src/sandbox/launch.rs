//! The parent's side: start a warden, hand over the spec, pass output on, collect the exit.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::mount::OpenTreeFlags;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType};

use super::cancel::Cancel;
use super::error::Error;
use super::message::{Message, Stage};
use super::spec::{Exit, Rootfs, Spec};
use super::stubs::{self, Made};
use super::wire::{Inbox, Wire};
use super::{sys, userns, warden};
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
    /// The caller's own three streams.
    Inherit,
    /// A terminal of the command's own, connected to the caller's (`kiln run -it`).
    Terminal,
}

/// A command that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub exit: Exit,
    /// What was done without, and why: `(what, why)`. To be announced.
    pub fallbacks: Vec<(String, String)>,
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
        let (mut output, mut sink) = (None, None);
        let mut passed_stdin = None;
        match io {
            Io::Captured(to) => {
                let (read, write) = io::pipe().map_err(start("make a pipe for the command's output"))?;
                let again = write.try_clone().map_err(start("make a pipe for the command's output"))?;
                command.stdout(Stdio::from(OwnedFd::from(write))).stderr(Stdio::from(OwnedFd::from(again)));
                (output, sink) = (Some(read), Some(to));
            }
            Io::Inherit | Io::Terminal => {
                let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(start("copy standard input"))?;
                passed_stdin = Some(stdin);
            }
        }
        let mut child = command.spawn().map_err(start("start the sandbox process"))?;
        drop(command);
        let wire = Wire::new(ours);
        let talk = hand_over(&wire, spec, passed_stdin).map_err(start("hand the command to the sandbox process"));
        let heard = match talk {
            Ok(()) => listen(&wire, &mut child, output, sink, cancel).map_err(start("read from the sandbox process")),
            Err(e) => Err(e),
        };
        drop(wire);
        let reaped = child.wait().map_err(start("wait for the sandbox process"));
        let heard = heard?;
        reaped?;
        if let (Rootfs::Dir(path), false) = (&spec.rootfs, heard.made.is_empty()) {
            let root = Root::open(path).map_err(start("open the root again"))?;
            stubs::take_away(&root, &heard.made);
        }
        heard.outcome(cancel)
    }
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

/// The spec, and our standard input if the command is to have it.
fn hand_over(wire: &Wire, spec: &Spec, stdin: Option<OwnedFd>) -> io::Result<()> {
    wire.send(&(stdin.is_some(), spec))?;
    match stdin {
        Some(fd) => wire.send_fd(fd.as_fd()),
        None => Ok(()),
    }
}

/// What the sandbox process said.
#[derive(Debug)]
struct Heard {
    stage: Stage,
    failure: Option<super::message::Failure>,
    exit: Option<Exit>,
    fallbacks: Vec<(String, String)>,
    made: Vec<Made>,
}

impl Heard {
    fn outcome(self, cancel: &Cancel) -> Result<Outcome, Error> {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if let Some(failure) = self.failure {
            return Err(Error::Setup(failure));
        }
        match self.exit {
            Some(exit) if self.stage == Stage::Exec => Ok(Outcome { exit, fallbacks: self.fallbacks }),
            _ => Err(Error::Died { stage: self.stage }),
        }
    }
}

/// Passes output on until the sandbox process has closed its end. On cancel it is told to kill; if it does not within a
/// second, it is killed itself, and init with it.
fn listen(
    wire: &Wire,
    child: &mut Child,
    mut output: Option<io::PipeReader>,
    mut sink: Option<&mut dyn FnMut(&[u8])>,
    cancel: &Cancel,
) -> io::Result<Heard> {
    let mut heard = Heard { stage: Stage::Start, failure: None, exit: None, fallbacks: Vec::new(), made: Vec::new() };
    let mut inbox = Inbox::default();
    let mut buffer = vec![0u8; 64 << 10];
    let mut cancelled = false;
    loop {
        let (mut said, mut wrote, mut stop, timed_out);
        {
            let mut fds = vec![PollFd::new(wire, PollFlags::IN)];
            if !cancelled {
                fds.push(PollFd::new(cancel, PollFlags::IN));
            }
            if let Some(output) = &output {
                fds.push(PollFd::new(output, PollFlags::IN));
            }
            let second = Timespec { tv_sec: 1, tv_nsec: 0 };
            let ready = match rustix::event::poll(&mut fds, cancelled.then_some(&second)) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            timed_out = ready == 0;
            let mut revents = fds.iter().map(|fd| !fd.revents().is_empty());
            said = revents.next().unwrap_or(false);
            stop = !cancelled && revents.next().unwrap_or(false);
            wrote = revents.next().unwrap_or(false);
        }
        if timed_out {
            child.kill()?;
        }
        if std::mem::take(&mut stop) {
            cancelled = true;
            let _ = rustix::net::shutdown(wire, Shutdown::Write);
        }
        if std::mem::take(&mut wrote)
            && let Some(pipe) = &mut output
        {
            match pipe.read(&mut buffer) {
                Ok(0) => output = None,
                Ok(n) => {
                    if let Some(sink) = &mut sink {
                        sink(&buffer[..n]);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if std::mem::take(&mut said) {
            match rustix::io::read(wire, &mut buffer[..]) {
                Ok(0) | Err(rustix::io::Errno::CONNRESET) => break,
                Ok(n) => inbox.push(&buffer[..n]),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
            while let Some(message) = inbox.next()? {
                match message {
                    Message::Reached(stage) => heard.stage = stage,
                    Message::Failed(failure) => heard.failure = Some(failure),
                    Message::Fallback(what, why) => heard.fallbacks.push((what, why)),
                    Message::Ended(exit) => heard.exit = Some(exit),
                    Message::Made(made) => heard.made.extend(made),
                    Message::Terminal => {}
                }
            }
        }
    }
    if let (Some(mut pipe), Some(sink)) = (output, sink) {
        drain(&mut pipe, sink, &mut buffer)?;
    }
    Ok(heard)
}

/// What is left in the pipe. All its writers are dead, unless one gave its end away: hence no waiting for the end.
fn drain(pipe: &mut io::PipeReader, sink: &mut dyn FnMut(&[u8]), buffer: &mut [u8]) -> io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        let mut fds = [PollFd::new(&*pipe, PollFlags::IN)];
        if rustix::event::poll(&mut fds, Some(&now))? == 0 {
            return Ok(());
        }
        match pipe.read(buffer)? {
            0 => return Ok(()),
            n => sink(&buffer[..n]),
        }
    }
}

use std::os::unix::process::CommandExt as _;

/// The name a process shows in `ps`.
pub(super) fn name_process(name: &OsStr) {
    use std::os::unix::ffi::OsStrExt;
    if let Ok(name) = std::ffi::CString::new(name.as_bytes()) {
        let _ = rustix::thread::set_name(&name);
    }
}
