//! The coordinator: starts steps when their inputs are done, and passes their events to the observer.
//!
//! It runs on the thread that called `build`; only this thread starts steps and calls the observer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use crate::plan::{Step, StepId};

use super::chain::State;
use super::error::{Error, StepError};
use super::event::{Event, Observer};
use super::message::{Message, Reporter};
use super::ready::ReadySet;
use super::task::Task;
use super::worker::Worker;

/// Capacity of the message queue: a command that writes faster than the observer reads is slowed down, not buffered
///
const QUEUE: usize = 64;

/// Executes the steps that have no state yet, as many at once as the graph and the settings allow. Ok: all have one.
pub(super) fn execute(
    worker: &Worker<'_>,
    states: &mut [Option<Arc<State>>],
    observer: &mut dyn Observer,
) -> Result<(), Error> {
    let steps = &worker.shared.plan.steps;
    let inputs: Vec<Vec<usize>> = steps.iter().map(|s| s.inputs.iter().map(|i| i.index()).collect()).collect();
    let mut schedule = Schedule {
        worker,
        states,
        observer,
        ready: ReadySet::new(&inputs),
        running: 0,
        error: None,
        ended: BTreeSet::new(),
        fallbacks: BTreeSet::new(),
        host_network: false,
        keystores: BTreeSet::new(),
    };
    schedule.run(steps);
    schedule.error.map_or(Ok(()), Err)
}

/// The state of an execution.
struct Schedule<'s, 'a> {
    worker: &'s Worker<'a>,
    states: &'s mut [Option<Arc<State>>],
    observer: &'s mut dyn Observer,
    ready: ReadySet,
    /// How many step threads are running.
    running: usize,
    /// Why the build fails, if it does.
    error: Option<Error>,
    /// Steps whose end has been reported.
    ended: BTreeSet<StepId>,
    /// Fallbacks that have been reported: many steps report the same one.
    fallbacks: BTreeSet<(String, String)>,
    /// Whether it has been reported that commands use the host's network.
    host_network: bool,
    /// Keystores that were reported.
    keystores: BTreeSet<String>,
}

impl Schedule<'_, '_> {
    fn run(&mut self, steps: &[Step]) {
        let (sender, messages) = bounded(QUEUE);
        let reporter = Reporter::new(sender);
        let (worker, settings) = (self.worker, self.worker.shared.builder.settings);
        worker.shared.report_to(&reporter);
        let deadline = settings.timeout.map(|limit| (Instant::now() + limit, limit));
        std::thread::scope(|scope| {
            while !self.ready.finished() || self.running > 0 {
                while self.error.is_none()
                    && self.running < settings.jobs
                    && let Some(index) = self.ready.take()
                {
                    if self.states[index].is_some() {
                        self.ready.done(index);
                        continue;
                    }
                    let step = &steps[index];
                    let inputs: Vec<Arc<State>> =
                        step.inputs.iter().filter_map(|i| self.states[i.index()].clone()).collect();
                    let reporter = reporter.clone();
                    self.running += 1;
                    scope.spawn(move || worker.work(Task { step, inputs: &inputs }, &reporter));
                }
                if self.running == 0 {
                    // Everything is done, or an error keeps the rest from starting.
                    break;
                }
                match next(&messages, deadline.filter(|_| self.error.is_none())) {
                    Ok(message) => self.take(message),
                    Err(limit) => self.fail(Error::TimedOut(limit)),
                }
            }
        });
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Event(event) => self.pass_on(event),
            Message::Ready(step, state) => {
                self.states[step.index()] = Some(state);
                self.ready.done(step.index());
            }
            Message::Done(step, result) => {
                self.running -= 1;
                if let Err(error) = result {
                    self.step_failed(step, error);
                }
            }
        }
    }

    fn pass_on(&mut self, event: Event) {
        match &event {
            Event::Fallback { what, why } if !self.fallbacks.insert((what.clone(), why.clone())) => return,
            // Every RUN sends it (S-76).
            Event::HostNetwork if std::mem::replace(&mut self.host_network, true) => return,
            Event::Keystore(path) if !self.keystores.insert(path.clone()) => return,
            Event::Finished { step, .. } => drop(self.ended.insert(*step)),
            _ => {}
        }
        self.observer.event(&event);
    }

    fn step_failed(&mut self, step: StepId, error: StepError) {
        // A RUN whose layer could not be packed has finished already; the error of the build names it.
        if self.ended.insert(step) {
            self.observer.event(&Event::Failed(step));
        }
        self.fail(self.worker.shared.located(step, error));
    }

    /// Notes why the build fails and stops everything.
    fn fail(&mut self, error: Error) {
        // A consequence of another failure must not hide it.
        let consequence = |e: &Error| matches!(e, Error::Cancelled | Error::Stopped);
        if self.error.as_ref().is_none_or(|before| consequence(before) && !consequence(&error)) {
            self.error = Some(error);
        }
        let builder = self.worker.shared.builder;
        builder.cancel.cancel();
        builder.images.cancel();
    }
}

/// The next message. Err: the time limit of the build, if it is reached before one comes.
fn next(messages: &Receiver<Message>, deadline: Option<(Instant, Duration)>) -> Result<Message, Duration> {
    match deadline {
        Some((at, limit)) => messages.recv_deadline(at).map_err(|_| limit),
        None => messages.recv().map_err(|_| Duration::ZERO),
    }
}
