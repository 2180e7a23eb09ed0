//! Progress as plain lines: stable, in order, one event per line (O-70).
//!
//! **Holds.** Every line of a step begins with its tag, because steps run at the same time:
//!
//! ```text
//! [app 2/3] RUN make
//! [app 2/3] why: build argument VERSION changed
//! [app 2/3] | cc -o app app.c
//! [app 2/3] done in 1.20s
//! CACHED [app 3/3] COPY app /usr/bin/
//! ```
//!
//! **Order.** Each line is written at once and flushed, so that a CI log is up to date and lines do not mix.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

use crate::engine::{Event, Observer};
use crate::plan::{Plan, StepId};

use super::lines::Lines;
use super::{sanitize, step};

/// Most output shown of one step, in bytes (R-12). If the step fails, the error repeats the last lines.
pub(crate) const DEFAULT_LOG_LIMIT: u64 = 2 << 20;

/// Writes progress as plain lines.
pub(crate) struct Plain<W> {
    out: W,
    log_limit: Option<u64>,
    plan: Option<Arc<Plan>>,
    logs: BTreeMap<StepId, Log>,
    started: BTreeSet<StepId>,
}

#[derive(Default)]
struct Log {
    lines: Lines,
    shown: u64,
}

impl<W: Write> Plain<W> {
    /// Writes to `out`. `log_limit`: most output shown of each step, in bytes.
    pub(crate) fn new(out: W, log_limit: Option<u64>) -> Self {
        Self { out, log_limit, plan: None, logs: BTreeMap::new(), started: BTreeSet::new() }
    }

    fn name(&self, id: StepId) -> &str {
        self.plan.as_ref().map_or("", |plan| plan.step(id).meta.name.as_str())
    }

    fn line(&mut self, line: &str) {
        // A closed standard error cannot be reported.
        let _ = self.out.write_all(format!("{line}\n").as_bytes()).and_then(|()| self.out.flush());
    }

    fn lines(&mut self, id: StepId, lines: Vec<String>) {
        let tag = step::tag(self.name(id));
        for line in lines {
            let log = self.logs.entry(id).or_default();
            let before = log.shown;
            log.shown += line.len() as u64 + 1;
            match self.log_limit {
                Some(limit) if before > limit => {}
                Some(limit) if log.shown > limit => {
                    self.line(&format!("{tag} | [more than {} KiB of output: the rest is not shown]", limit >> 10));
                }
                _ => self.line(format!("{tag} | {line}").trim_end()),
            }
        }
    }

    fn end_of_output(&mut self, id: StepId) {
        let mut last = Vec::new();
        if let Some(log) = self.logs.get_mut(&id) {
            log.lines.finish(|line| last.push(line));
        }
        self.lines(id, last);
        self.logs.remove(&id);
    }
}

impl<W: Write> Observer for Plain<W> {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Planned(plan) => self.plan = Some(Arc::clone(plan)),
            Event::Fetching { step: id, bytes } => {
                let tag = step::tag(self.name(*id));
                self.line(&format!("{tag} fetching {}", step::size(*bytes)));
            }
            Event::Fetched { step: id, bytes, of } => {
                let tag = step::tag(self.name(*id));
                self.line(&format!("{tag} fetched {} of {}", step::size(*bytes), step::size(*of)));
            }
            Event::Packing { step: id, bytes } => {
                let tag = step::tag(self.name(*id));
                self.line(&format!("{tag} packing: {} so far", step::size(*bytes)));
            }
            Event::Packed { step: id, bytes } => {
                let tag = step::tag(self.name(*id));
                self.line(&format!("{tag} packed {}", step::size(*bytes)));
            }
            Event::Stored { .. } => {}
            Event::Started { step: id, why } => {
                self.started.insert(*id);
                let name = self.name(*id);
                let text =
                    format!("{}\n{} why: {}", step::title(name), step::tag(name), sanitize::text(&why.to_string()));
                self.line(&text);
            }
            Event::Cached(id) => self.line(&format!("CACHED {}", step::title(self.name(*id)))),
            Event::Output { step: id, bytes } => {
                let mut lines = Vec::new();
                self.logs.entry(*id).or_default().lines.feed(bytes, |line| lines.push(line));
                self.lines(*id, lines);
            }
            Event::Finished { step: id, took } => {
                self.end_of_output(*id);
                self.line(&format!("{} done in {}", step::tag(self.name(*id)), step::duration(*took)));
            }
            Event::Failed(id) => {
                self.end_of_output(*id);
                // It failed before its key was known.
                if !self.started.contains(id) {
                    self.line(&step::title(self.name(*id)));
                }
                self.line(&format!("{} FAILED", step::tag(self.name(*id))));
            }
            Event::Fallback { .. }
            | Event::HostNetwork
            | Event::Keystore(_)
            | Event::ManyLayers { .. }
            | Event::StorageFreed { .. }
            | Event::StorageFull { .. }
            | Event::Noted { .. } => {
                step::notice(event).into_iter().for_each(|line| self.line(&line));
            }
        }
    }
}
