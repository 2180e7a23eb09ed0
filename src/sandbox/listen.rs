//! The parent's ear: output, signals and what the sandbox process says, until it has ended.

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::process::Child;

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::Shutdown;

use super::error::Error;
use super::launch::Outcome;
use super::message::{Failure, Message, Order, Stage};
use super::seccomp::Notice;
use super::signals::Signals;
use super::spec::Exit;
use super::stubs::Made;
use super::terminal::Relay;
use super::userns;
use super::wire::{Inbox, Wire};
use crate::base::cancel::Cancel;

/// What the sandbox process said.
#[derive(Debug)]
pub(super) struct Heard {
    stage: Stage,
    failure: Option<Failure>,
    exit: Option<Exit>,
    noticed: Option<Vec<Notice>>,
    pub(super) fallbacks: Vec<(String, String)>,
    /// Made in a plain root; to be taken away.
    pub(super) made: Vec<Made>,
}

impl Heard {
    /// What became of the command.
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

/// Where the command's output comes out.
pub(super) enum Streams<'a> {
    /// Pipes that others attend to.
    Own,
    /// A pipe, until it is closed.
    Pipe { from: Option<io::PipeReader>, to: &'a mut dyn FnMut(&[u8]) },
    /// A terminal, once init has made it.
    Terminal { input: bool, relay: Option<Relay> },
}

/// Whom one answer of `poll` is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Wire,
    Cancel,
    Signals,
    Output,
    Keyboard,
}

/// Passes output, signals and keys on until the sandbox process has closed its end. On cancel it is told to kill; if it
/// does not within a second, it is killed itself, and init with it.
pub(super) struct Listener<'a, 'b> {
    wire: &'a Wire,
    child: &'a mut Child,
    streams: Streams<'b>,
    signals: Option<&'a Signals>,
    cancel: &'a Cancel,
    cancelled: bool,
    inbox: Inbox,
    /// A descriptor that arrived; the message about it may still be on its way.
    received: Option<OwnedFd>,
    /// Takes the listener of stopped calls.
    watched: &'a mut dyn FnMut(OwnedFd),
    heard: Heard,
    buffer: Vec<u8>,
}

impl<'a, 'b> Listener<'a, 'b> {
    pub(super) fn new(
        wire: &'a Wire,
        child: &'a mut Child,
        streams: Streams<'b>,
        signals: Option<&'a Signals>,
        cancel: &'a Cancel,
        watched: &'a mut dyn FnMut(OwnedFd),
    ) -> Self {
        let heard = Heard {
            stage: Stage::Start,
            failure: None,
            exit: None,
            noticed: None,
            fallbacks: Vec::new(),
            made: Vec::new(),
        };
        let (inbox, buffer) = (Inbox::default(), vec![0; 64 << 10]);
        Self { wire, child, streams, signals, cancel, cancelled: false, inbox, received: None, watched, heard, buffer }
    }

    pub(super) fn listen(mut self) -> io::Result<Heard> {
        if let Some(signals) = self.signals {
            signals.start();
        }
        let ended = self.until_closed();
        if let Some(signals) = self.signals {
            signals.stop();
        }
        ended?;
        match self.streams {
            Streams::Own | Streams::Terminal { relay: None, .. } | Streams::Pipe { from: None, .. } => {}
            Streams::Pipe { from: Some(mut pipe), to } => drain(&mut pipe, to, &mut self.buffer)?,
            Streams::Terminal { relay: Some(relay), .. } => relay.finish(&mut self.buffer)?,
        }
        Ok(self.heard)
    }

    fn until_closed(&mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            if ready.is_empty() {
                self.child.kill()?;
            }
            for who in ready {
                match who {
                    Who::Cancel => {
                        self.cancelled = true;
                        let _ = rustix::net::shutdown(self.wire, Shutdown::Write);
                    }
                    Who::Signals => self.pass_signal_on()?,
                    Who::Output => self.pass_output_on()?,
                    Who::Keyboard => {
                        if let Streams::Terminal { relay: Some(relay), .. } = &mut self.streams {
                            relay.keys(&mut self.buffer)?;
                        }
                    }
                    Who::Wire => {
                        if !self.hear()? {
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    /// Waits until somebody has something. Nobody: a cancelled run has not ended within a second.
    fn wait(&self) -> io::Result<Vec<Who>> {
        let mut fds = vec![PollFd::new(self.wire, PollFlags::IN)];
        let mut who = vec![Who::Wire];
        let mut add = |one: Who, fd: PollFd<'a>| {
            who.push(one);
            fd
        };
        let stdin = io::stdin();
        if !self.cancelled {
            fds.push(add(Who::Cancel, PollFd::new(self.cancel, PollFlags::IN)));
        }
        if let Some(signals) = self.signals {
            fds.push(add(Who::Signals, PollFd::new(signals, PollFlags::IN)));
        }
        let mut others: Vec<(Who, PollFd<'_>)> = Vec::new();
        match &self.streams {
            Streams::Pipe { from: Some(pipe), .. } => others.push((Who::Output, PollFd::new(pipe, PollFlags::IN))),
            Streams::Terminal { relay: Some(relay), .. } => {
                let (screen, flags) = relay.screen();
                others.push((Who::Output, PollFd::new(screen, flags)));
                if relay.wants_keys() {
                    others.push((Who::Keyboard, PollFd::new(&stdin, PollFlags::IN)));
                }
            }
            _ => {}
        }
        for (one, fd) in others {
            who.push(one);
            fds.push(fd);
        }
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        loop {
            match rustix::event::poll(&mut fds, self.cancelled.then_some(&second)) {
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
                Ok(_) => break,
            }
        }
        let ready = fds.iter().zip(who).filter(|(fd, _)| !fd.revents().is_empty());
        // What was written comes before what was said: the end is the last thing said.
        let mut ready: Vec<Who> = ready.map(|(_, who)| who).collect();
        ready.sort_by_key(|who| *who == Who::Wire);
        Ok(ready)
    }

    fn pass_signal_on(&mut self) -> io::Result<()> {
        let Some(signals) = self.signals else { return Ok(()) };
        let signal = signals.take()?;
        match (&self.streams, signal) {
            (Streams::Terminal { relay: Some(relay), .. }, Signal::SIGWINCH) => relay.resize(),
            (_, Signal::SIGWINCH) => {}
            // If nobody listens any more, the end is near.
            _ => drop(self.wire.send(&Order::Signal(signal as i32))),
        }
        Ok(())
    }

    fn pass_output_on(&mut self) -> io::Result<()> {
        match &mut self.streams {
            Streams::Own => {}
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
                    && !open.move_on(&mut self.buffer)?
                {
                    *relay = None;
                }
            }
        }
        Ok(())
    }

    /// Takes what the sandbox process said. False: it has closed its end.
    fn hear(&mut self) -> io::Result<bool> {
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
                Message::Reached(stage) => self.heard.stage = stage,
                Message::Failed(failure) => self.heard.failure = Some(failure),
                Message::Fallback(what, why) => self.heard.fallbacks.push((what, why)),
                Message::Noticed(calls) => self.heard.noticed = Some(calls),
                Message::Ended(exit) => self.heard.exit = Some(exit),
                Message::Made(made) => self.heard.made.extend(made),
                Message::Watched => {
                    if let Some(listener) = self.received.take() {
                        (self.watched)(listener);
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
