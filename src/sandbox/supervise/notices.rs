//! Records calls that cannot work on this host, to explain a failure of the command (N-53, N-55).

use std::collections::BTreeSet;

use super::dispatch::{Answerer, Listener, Reply};
use crate::sandbox::seccomp::{self, Notice};
use crate::sandbox::sys::Notification;

/// The recorded calls.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Notices(BTreeSet<Notice>);

impl Notices {
    /// What the command tried, each once.
    pub(in crate::sandbox) fn into_vec(self) -> Vec<Notice> {
        self.0.into_iter().collect()
    }
}

impl Answerer for Notices {
    fn answer(&mut self, call: &Notification, _: &dyn Listener) -> Option<Reply> {
        self.0.insert(seccomp::notice(call));
        Some(Reply::Continue)
    }
}
