//! Pipes between the caller's standard streams and a command's.
//!
//! **Holds.** The command never gets the caller's own files, which it could open again through `/dev/stdout` and
//! truncate, read or change. It gets pipes, which init makes the command's user the owner of (N-50); one thread per
//! pipe copies the data.
//! **Order.** All output is copied before [`Pipes::finish`] returns. Streams of the same file share one pipe, so that
//! their order is kept. `/dev/null` is passed as it is.

use std::io::{self, PipeReader, PipeWriter, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::FileType;
use rustix::io::Errno;

/// The command's ends of its standard streams; `None`: `/dev/null`.
#[derive(Default)]
pub(super) struct CommandStreams {
    pub(super) stdin: Option<OwnedFd>,
    /// Standard output and standard error.
    pub(super) output: Option<(OwnedFd, OwnedFd)>,
}

/// The threads of one command.
pub(super) struct Pipes {
    threads: Vec<JoinHandle<()>>,
    /// Dropped when the command has ended, which stops the threads.
    stop: PipeWriter,
}

impl Pipes {
    /// Ok: output of the command arrives at the caller's. With `input`, its input is the caller's.
    pub(super) fn connect(input: bool) -> io::Result<(Self, CommandStreams)> {
        let (stopped, stop) = io::pipe()?;
        let stopped = Arc::new(stopped);
        let mut pipes = Self { threads: Vec::new(), stop };
        let (out, err) = (io::stdout().as_fd().try_clone_to_owned()?, io::stderr().as_fd().try_clone_to_owned()?);
        let shared = same_file(&out, &err)?;
        let out = pipes.output(out, &stopped)?;
        let err = if shared { out.try_clone()? } else { pipes.output(err, &stopped)? };
        let stdin = if input { Some(pipes.input(stopped)?) } else { None };
        Ok((pipes, CommandStreams { stdin, output: Some((out, err)) }))
    }

    /// The command's end of a pipe that leads from the caller's input.
    fn input(&mut self, stopped: Arc<PipeReader>) -> io::Result<OwnedFd> {
        let own = io::stdin().as_fd().try_clone_to_owned()?;
        if is_null(&own)? {
            return Ok(own);
        }
        let (read, write) = io::pipe()?;
        self.spawn("stdin", move || pass_input(&own, write, &stopped))?;
        Ok(read.into())
    }

    /// The command's end of a pipe that leads to `to`.
    fn output(&mut self, to: OwnedFd, stopped: &Arc<PipeReader>) -> io::Result<OwnedFd> {
        if is_null(&to)? {
            return Ok(to);
        }
        let (read, write) = io::pipe()?;
        let stopped = Arc::clone(stopped);
        self.spawn("output", move || pass_output(read, &to, &stopped))?;
        Ok(write.into())
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(std::thread::Builder::new().name(name.to_owned()).stack_size(256 << 10).spawn(work)?);
        Ok(())
    }

    /// To be called when the command has ended. Copies its remaining output, unless the reader is gone.
    pub(super) fn finish(self) {
        drop(self.stop);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Copies output until the command's end is closed, the reader is gone, or the command has ended and the pipe is empty.
fn pass_output(mut from: PipeReader, to: &OwnedFd, stopped: &PipeReader) {
    let mut buffer = vec![0; 64 << 10];
    while wait(from.as_fd(), PollFlags::IN, stopped) {
        match io::Read::read(&mut from, &mut buffer) {
            Ok(0) => return,
            Ok(n) if write_whole(to.as_fd(), &buffer[..n]).is_ok() => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // Closing this end sends the command SIGPIPE.
            _ => return,
        }
    }
}

/// Copies input until its end, or until the command closes its end.
fn pass_input(from: &OwnedFd, mut to: PipeWriter, stopped: &PipeReader) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let mut fds = [
            PollFd::new(from, PollFlags::IN),
            PollFd::new(&to, PollFlags::empty()),
            PollFd::new(stopped, PollFlags::IN),
        ];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        let [input, closed, ended] = [0, 1, 2].map(|i: usize| !fds[i].revents().is_empty());
        if closed || ended {
            return;
        }
        if !input {
            continue;
        }
        match rustix::io::read(from, &mut *buffer) {
            Ok(n) if n > 0 && to.write_all(&buffer[..n]).is_ok() => {}
            Err(Errno::INTR | Errno::AGAIN) => {}
            _ => return,
        }
    }
}

/// Waits for `fd`. `false`: the command has ended and nothing is left.
fn wait(fd: BorrowedFd<'_>, flags: PollFlags, stopped: &PipeReader) -> bool {
    loop {
        let mut fds = [PollFd::from_borrowed_fd(fd, flags), PollFd::new(stopped, PollFlags::IN)];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) if !fds[0].revents().is_empty() => return true,
            Ok(_) if !fds[1].revents().is_empty() => return false,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Writes all of `bytes`. A program that shares the descriptor may have set non-blocking mode.
pub(super) fn write_whole(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut fds = [PollFd::from_borrowed_fd(to, PollFlags::OUT)];
                rustix::event::poll(&mut fds, None)?;
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn same_file(one: &OwnedFd, other: &OwnedFd) -> io::Result<bool> {
    let (one, other) = (rustix::fs::fstat(one)?, rustix::fs::fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

fn is_null(fd: &OwnedFd) -> io::Result<bool> {
    let stat = rustix::fs::fstat(fd)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    Ok(kind == FileType::CharacterDevice && stat.st_rdev == rustix::fs::makedev(1, 3))
}
