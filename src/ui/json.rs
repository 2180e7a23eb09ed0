//! Progress as JSON, one object per line: the events of [`super::plain`] as data (O-70).

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Value, json};

use crate::cache::Miss;
use crate::engine::{Event, Observer};
use crate::plan::{Plan, StepId};

use super::lines::Lines;
use super::{sanitize, step};

/// Writes progress as JSON lines.
pub(crate) struct Json<W> {
    out: W,
    logs: BTreeMap<StepId, Lines>,
}

impl<W: Write> Json<W> {
    /// Writes to `out`.
    pub(crate) fn new(out: W) -> Self {
        Self { out, logs: BTreeMap::new() }
    }

    fn line(&mut self, value: &Value) {
        // A closed standard error cannot be reported.
        let _ = self.out.write_all(format!("{value}\n").as_bytes()).and_then(|()| self.out.flush());
    }

    fn end_of_output(&mut self, id: StepId) {
        let mut last = None;
        if let Some(mut lines) = self.logs.remove(&id) {
            lines.finish(|line| last = Some(line));
        }
        if let Some(line) = last {
            self.line(&json!({ "event": "output", "step": id.0, "line": line }));
        }
    }
}

impl<W: Write> Observer for Json<W> {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Planned(plan) => self.line(&planned(plan)),
            Event::Fetching { step, bytes } => {
                self.line(&json!({ "event": "fetching", "step": step.0, "bytes": bytes }));
            }
            Event::Fetched { step, bytes, of } => {
                self.line(&json!({ "event": "fetched", "step": step.0, "bytes": bytes, "of": of }));
            }
            Event::Packing { step, bytes } => {
                self.line(&json!({ "event": "packing", "step": step.0, "bytes": bytes }));
            }
            Event::Packed { step, bytes } => {
                self.line(&json!({ "event": "packed", "step": step.0, "bytes": bytes }));
            }
            Event::Stored { .. } => {}
            Event::Started { step, why } => {
                let text = why.to_string();
                self.line(&json!({ "event": "started", "step": step.0, "why": text, "miss": miss(why) }));
            }
            Event::Cached(step) => self.line(&json!({ "event": "cached", "step": step.0 })),
            Event::Output { step, bytes } => {
                let mut lines = Vec::new();
                self.logs.entry(*step).or_default().feed(bytes, |line| lines.push(line));
                for line in lines {
                    self.line(&json!({ "event": "output", "step": step.0, "line": line }));
                }
            }
            Event::Finished { step, took } => {
                self.end_of_output(*step);
                self.line(&json!({ "event": "finished", "step": step.0, "seconds": took.as_secs_f64() }));
            }
            Event::Failed(step) => {
                self.end_of_output(*step);
                self.line(&json!({ "event": "failed", "step": step.0 }));
            }
            Event::Fallback { what, why } => {
                self.line(&json!({ "event": "fallback", "what": what, "why": sanitize::plain(why) }))
            }
            Event::HostNetwork => {
                let (what, why) = step::HOST_NETWORK;
                self.line(&json!({ "event": "fallback", "what": what, "why": why }));
            }
            Event::Keystore(path) => {
                let (what, why) = step::keystore(path);
                self.line(&json!({ "event": "fallback", "what": what, "why": why }));
            }
            Event::ManyLayers { layers, portable } => {
                self.line(&json!({ "event": "warning", "message": step::many_layers(*layers, *portable) }));
            }
            Event::StorageFreed { freed, left, limit } => {
                self.line(&json!({ "event": "storage", "freed": freed, "left": left, "limit": limit }));
            }
            Event::StorageFull { left, limit, named } => {
                let message = step::storage_full(*left, *limit, *named);
                self.line(&json!({ "event": "warning", "message": message }));
            }
            Event::Noted { name, note } => {
                self.line(&json!({ "event": "warning", "message": step::noted(name, note) }));
            }
        }
    }
}

fn planned(plan: &Plan) -> Value {
    let steps: Vec<Value> = plan
        .steps
        .iter()
        .map(|step| {
            let inputs: Vec<u32> = step.inputs.iter().map(|id| id.0).collect();
            json!({ "step": step.id.0, "name": step.meta.name, "stage": step.meta.stage, "inputs": inputs })
        })
        .collect();
    json!({ "event": "planned", "steps": steps })
}

/// The reason of a miss: its kind, and the part that changed.
pub(crate) fn miss(why: &Miss) -> Value {
    match why {
        Miss::NoRecord { absent } => json!({ "kind": "no-record", "absent": absent }),
        Miss::Changed { part, files } => {
            let detail = files.as_ref().map(ToString::to_string);
            json!({ "kind": "changed", "part": part, "detail": detail })
        }
        Miss::Replaced => json!({ "kind": "replaced" }),
        Miss::Added(part) => json!({ "kind": "added", "part": part }),
        Miss::Removed(part) => json!({ "kind": "removed", "part": part }),
        Miss::Parent => json!({ "kind": "parent" }),
        Miss::Old { age, limit } => {
            json!({ "kind": "old", "age": age.map(|age| age.as_secs()), "limit": limit.as_secs() })
        }
        Miss::Disabled => json!({ "kind": "disabled" }),
        Miss::Lost => json!({ "kind": "lost" }),
    }
}
