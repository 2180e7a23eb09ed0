//! Messages of step threads to the coordinator.

use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::plan::StepId;

use super::chain::State;
use super::error::StepError;
use super::event::Event;

/// One message.
pub(super) enum Message {
    /// For the observer.
    Event(Event),
    /// The step's files exist: steps that depend on it may start.
    Ready(StepId, Arc<State>),
    /// The step's thread ends.
    Done(StepId, Result<(), StepError>),
}

/// The sending side.
#[derive(Clone)]
pub(super) struct Reporter(Sender<Message>);

impl Reporter {
    /// Sends through `sender`.
    pub(super) fn new(sender: Sender<Message>) -> Self {
        Self(sender)
    }

    /// Sends an event for the observer.
    pub(super) fn event(&self, event: Event) {
        self.send(Message::Event(event));
    }

    /// Reports that something is done differently than usual, and why.
    pub(super) fn fallback(&self, what: impl Into<String>, why: impl Into<String>) {
        self.event(Event::Fallback { what: what.into(), why: why.into() });
    }

    /// Lets the steps that need `step` start.
    pub(super) fn ready(&self, step: StepId, state: &Arc<State>) {
        self.send(Message::Ready(step, Arc::clone(state)));
    }

    /// Reports the end of a step's thread.
    pub(super) fn done(&self, step: StepId, result: Result<(), StepError>) {
        self.send(Message::Done(step, result));
    }

    fn send(&self, message: Message) {
        // The coordinator outlives the step threads; if it is gone, nobody waits for the message.
        let _ = self.0.send(message);
    }
}
