//! kiln's event loop while a command runs: output, signals, and messages of the sandbox process.

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::Shutdown;

use super::error::Error;
use super::failure::{SetupFailure, Stage};
use super::fallback::Fallback;
use super::message::{Message, Order};
use super::outcome::Outcome;
use super::seccomp::Notice;
use super::signals::Signals;
use super::spec::Exit;
use super::starter::Warden;
use super::stubs::Created;
use super::terminal::Relay;
use super::userns;
use super::wire::{Inbox, Wire};
use crate::base::cancel::Cancel;

/// What the sandbox process reported.
#[derive(Debug)]
pub(super) struct Report {
    stage: Stage,
    failure: Option<SetupFailure>,
    exit: Option<Exit>,
    noticed: Option<Vec<Notice>>,
    pub(super) fallbacks: Vec<Fallback>,
    /// Mount targets created in the root; to be removed.
    pub(super) created: Vec<Created>,
}

impl Report {
    /// The result of the command.
    pub(super) fn outcome(self, cancel: &Cancel) -> Result<Outcome, Error> {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if let Some(failure) = self.failure {
            return Err(Error::Setup(userns::explain(failure)));
        }
        match self.exit {
            Some(exit) if self.stage == Stage::Exec => {
                Ok(Outcome { exit, fallbacks: self.fallbacks, noticed: self.noticed })
            }
            _ => Err(Error::Died { stage: self.stage }),
        }
    }
}

/// Where the command's output arrives.
pub(super) enum Streams<'a> {
    /// Pipes served by threads.
    Threads,
    /// A pipe, until it is closed.
    Pipe { from: Option<io::PipeReader>, to: &'a mut dyn FnMut(&[u8]) },
    /// A terminal, once init has made it.
    Terminal { input: bool, relay: Option<Relay> },
}

/// What `poll` found ready.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ready {
    Messages,
    Cancel,
    Signals,
    Output,
    Keyboard,
}

/// Forwards output, signals and keys until the sandbox process has closed its end. When the run is cancelled, the
/// sandbox process has one second to kill the command; then it is killed, and init with it.
pub(super) struct Monitor<'a, 'b> {
    wire: &'a Wire,
    warden: &'a Warden,
    streams: Streams<'b>,
    signals: Option<&'a Signals>,
    cancel: &'a Cancel,
    cancelled: bool,
    inbox: Inbox,
    /// A descriptor that arrived before the message about it was complete.
    received: Option<OwnedFd>,
    /// Takes the listener of the file filter.
    take_listener: &'a mut dyn FnMut(OwnedFd),
    report: Report,
    buffer: Vec<u8>,
}

impl<'a, 'b> Monitor<'a, 'b> {
    pub(super) fn new(
        wire: &'a Wire,
        warden: &'a Warden,
        streams: Streams<'b>,
        signals: Option<&'a Signals>,
        cancel: &'a Cancel,
        take_listener: &'a mut dyn FnMut(OwnedFd),
    ) -> Self {
        let report = Report {
            stage: Stage::Start,
            failure: None,
            exit: None,
            noticed: None,
            fallbacks: Vec::new(),
            created: Vec::new(),
        };
        let (inbox, buffer) = (Inbox::default(), vec![0; 64 << 10]);
        let (cancelled, received) = (false, None);
        Self { wire, warden, streams, signals, cancel, cancelled, inbox, received, take_listener, report, buffer }
    }

    /// Ok: the sandbox process has closed its end, and all output has been forwarded.
    pub(super) fn run(mut self) -> io::Result<Report> {
        if let Some(signals) = self.signals {
            signals.start();
        }
        let ended = self.until_closed();
        if let Some(signals) = self.signals {
            signals.stop();
        }
        ended?;
        match self.streams {
            Streams::Threads | Streams::Terminal { relay: None, .. } | Streams::Pipe { from: None, .. } => {}
            Streams::Pipe { from: Some(mut pipe), to } => drain(&mut pipe, to, &mut self.buffer)?,
            Streams::Terminal { relay: Some(relay), .. } => relay.finish(&mut self.buffer)?,
        }
        Ok(self.report)
    }

    fn until_closed(&mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            if ready.is_empty() {
                self.warden.kill()?;
            }
            for one in ready {
                match one {
                    Ready::Cancel => {
                        self.cancelled = true;
                        let _ = rustix::net::shutdown(self.wire, Shutdown::Write);
                    }
                    Ready::Signals => self.pass_signal_on()?,
                    Ready::Output => self.pass_output_on()?,
                    Ready::Keyboard => {
                        if let Streams::Terminal { relay: Some(relay), .. } = &mut self.streams {
                            relay.keys(&mut self.buffer)?;
                        }
                    }
                    Ready::Messages => {
                        if !self.take_messages()? {
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    /// Waits until something is ready. Empty: a cancelled run has not ended within a second.
    fn wait(&self) -> io::Result<Vec<Ready>> {
        let stdin = io::stdin();
        let mut watched = vec![(Ready::Messages, PollFd::new(self.wire, PollFlags::IN))];
        if !self.cancelled {
            watched.push((Ready::Cancel, PollFd::new(self.cancel, PollFlags::IN)));
        }
        if let Some(signals) = self.signals {
            watched.push((Ready::Signals, PollFd::new(signals, PollFlags::IN)));
        }
        match &self.streams {
            Streams::Pipe { from: Some(pipe), .. } => watched.push((Ready::Output, PollFd::new(pipe, PollFlags::IN))),
            Streams::Terminal { relay: Some(relay), .. } => {
                let (screen, flags) = relay.screen();
                watched.push((Ready::Output, PollFd::new(screen, flags)));
                if relay.wants_keys() {
                    watched.push((Ready::Keyboard, PollFd::new(&stdin, PollFlags::IN)));
                }
            }
            _ => {}
        }
        let (kinds, mut fds): (Vec<Ready>, Vec<PollFd<'_>>) = watched.into_iter().unzip();
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        loop {
            match rustix::event::poll(&mut fds, self.cancelled.then_some(&second)) {
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
                Ok(_) => break,
            }
        }
        let ready = fds.iter().zip(kinds).filter(|(fd, _)| !fd.revents().is_empty());
        // Output before messages, because the last message reports the end of the command.
        let mut ready: Vec<Ready> = ready.map(|(_, kind)| kind).collect();
        ready.sort_by_key(|kind| *kind == Ready::Messages);
        Ok(ready)
    }

    fn pass_signal_on(&mut self) -> io::Result<()> {
        let Some(signals) = self.signals else { return Ok(()) };
        let signal = signals.take()?;
        match (&self.streams, signal) {
            (Streams::Terminal { relay: Some(relay), .. }, Signal::SIGWINCH) => relay.resize(),
            (_, Signal::SIGWINCH) => {}
            // If the warden does not read any more, it is about to end.
            _ => drop(self.wire.send(&Order::Signal(signal as i32))),
        }
        Ok(())
    }

    fn pass_output_on(&mut self) -> io::Result<()> {
        match &mut self.streams {
            Streams::Threads => {}
            Streams::Pipe { from, to } => {
                let Some(pipe) = from else { return Ok(()) };
                match pipe.read(&mut self.buffer) {
                    Ok(0) => *from = None,
                    Ok(n) => to(&self.buffer[..n]),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
            Streams::Terminal { relay, .. } => {
                if let Some(open) = relay
                    && !open.pass_on(&mut self.buffer)?
                {
                    *relay = None;
                }
            }
        }
        Ok(())
    }

    /// Takes messages of the sandbox process. False: it has closed its end.
    fn take_messages(&mut self) -> io::Result<bool> {
        let (n, fd) = match self.wire.read(&mut self.buffer) {
            Ok(read) => read,
            Err(e) if e.raw_os_error() == Some(libc::ECONNRESET) => return Ok(false),
            Err(e) => return Err(e),
        };
        if n == 0 {
            return Ok(false);
        }
        self.received = fd.or(self.received.take());
        self.inbox.push(&self.buffer[..n]);
        while let Some(message) = self.inbox.next()? {
            match message {
                Message::Reached(stage) => self.report.stage = stage,
                Message::Failed(failure) => self.report.failure = Some(failure),
                Message::Fallback(fallback) => self.report.fallbacks.push(fallback),
                Message::Noticed(calls) => self.report.noticed = Some(calls),
                Message::Ended(exit) => self.report.exit = Some(exit),
                Message::Created(created) => self.report.created.extend(created),
                Message::FileListener => {
                    if let Some(listener) = self.received.take() {
                        (self.take_listener)(listener);
                    }
                }
                Message::Terminal => {
                    if let (Streams::Terminal { input, relay }, Some(outer)) = (&mut self.streams, self.received.take())
                    {
                        *relay = Some(Relay::new(outer, *input)?);
                    }
                }
            }
        }
        Ok(true)
    }
}

/// Reads what is left in the pipe without waiting for its end, which a process that lives on may hold open.
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
