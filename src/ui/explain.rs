//! Why steps would run, in words and as JSON.
//!
//! **Holds.** Values of arguments and variables are never shown: they may be secret. Digests are shortened.

use serde_json::{Value, json};

use crate::cache::{AttributeChange, Difference, FileChanges, Miss};
use crate::engine::{Explanation, Reason, Verdict};
use crate::plan::Plan;

use super::{json, sanitize, step};

/// Digits of a digest that are shown.
const DIGITS: usize = 12;

/// One step in words: its verdict and name, then a line per reason.
pub(crate) fn lines(plan: &Plan, explained: &Explanation) -> Vec<String> {
    let title = step::title(&plan.step(explained.step).meta.name);
    let (word, place) = match &explained.verdict {
        Verdict::Cached(None) => ("CACHED", String::new()),
        Verdict::Cached(Some(cache)) => ("CACHED", format!(" (in {})", sanitize::text(cache))),
        Verdict::Runs => ("RUNS", String::new()),
        Verdict::Depends => ("DEPENDS", String::new()),
    };
    let mut lines = vec![format!("{word:<7} {title}{place}")];
    let tag = |id| step::tag(&plan.step(id).meta.name);
    for reason in &explained.reasons {
        match reason {
            Reason::Miss(Miss::Changed { part, files: Some(files) }) => {
                lines.push(format!("  {part} changed"));
                lines.extend(of_files(files).into_iter().map(|line| format!("    {line}")));
            }
            Reason::Miss(miss) => lines.push(format!("  {miss}")),
            Reason::NotFetched => lines.push("  layers are not in the store".to_owned()),
            Reason::Parent(id) => lines.push(format!("  because {} runs", tag(*id))),
            Reason::Files(id) => lines.push(format!("  depends on files of {}", tag(*id))),
        }
    }
    lines.extend(explained.absent.iter().map(|cache| format!("  not in {cache}")));
    lines.into_iter().map(|line| sanitize::text(&line).into_owned()).collect()
}

/// One step as JSON.
pub(crate) fn object(plan: &Plan, explained: &Explanation) -> Value {
    let (verdict, found) = match &explained.verdict {
        Verdict::Cached(found) => ("cached", found.as_deref()),
        Verdict::Runs => ("runs", None),
        Verdict::Depends => ("depends", None),
    };
    let reason = |reason: &Reason| match reason {
        Reason::Miss(miss) => {
            let mut object = json::miss(miss);
            if let Miss::Changed { files: Some(files), .. } = miss {
                object["files"] = files.named.iter().map(|(path, difference)| file(path, difference)).collect();
                object["more"] = json!(files.more);
            }
            object
        }
        Reason::NotFetched => json!({ "kind": "not-fetched" }),
        Reason::Parent(id) => json!({ "kind": "step", "step": id.0 }),
        Reason::Files(id) => json!({ "kind": "files-of-step", "step": id.0 }),
    };
    let meta = &plan.step(explained.step).meta;
    let reasons: Vec<Value> = explained.reasons.iter().map(reason).collect();
    json!({
        "step": explained.step.0, "name": meta.name, "stage": meta.stage, "verdict": verdict, "found": found,
        "reasons": reasons, "absent": explained.absent,
    })
}

fn of_files(files: &FileChanges) -> Vec<String> {
    let line = |(path, difference): &(Vec<u8>, Difference)| {
        let path = String::from_utf8_lossy(path);
        match difference {
            Difference::Added => format!("{path} was added"),
            Difference::Removed => format!("{path} was removed"),
            Difference::Changed(attributes) if attributes.is_empty() => format!("{path} changed"),
            Difference::Changed(attributes) => {
                let list: Vec<String> =
                    attributes.iter().map(values).map(|(name, old, new)| format!("{name} {old} -> {new}")).collect();
                format!("{path}: {}", list.join(", "))
            }
        }
    };
    let more = (files.more > 0).then(|| format!("and {} more", files.more));
    files.named.iter().map(line).chain(more).collect()
}

fn file(path: &[u8], difference: &Difference) -> Value {
    let path = String::from_utf8_lossy(path);
    let attributes = match difference {
        Difference::Added => return json!({ "path": path, "change": "added" }),
        Difference::Removed => return json!({ "path": path, "change": "removed" }),
        Difference::Changed(attributes) => attributes.iter().map(values),
    };
    let attribute = |(name, old, new)| json!({ "attribute": name, "old": old, "new": new });
    json!({ "path": path, "change": "changed", "attributes": attributes.map(attribute).collect::<Vec<_>>() })
}

/// The name of an attribute, its old value, and the new one.
fn values(change: &AttributeChange) -> (&'static str, String, String) {
    let pair = |(first, second): &(u32, u32)| format!("{first}:{second}");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match change {
        AttributeChange::Kind(old, new) => ("type", kind(*old).to_owned(), kind(*new).to_owned()),
        AttributeChange::Mode(old, new) => ("mode", format!("{old:04o}"), format!("{new:04o}")),
        AttributeChange::Owner(old, new) => ("owner", pair(old), pair(new)),
        AttributeChange::Device(old, new) => ("device", pair(old), pair(new)),
        AttributeChange::Content(old, new) => ("content", digest(*old), digest(*new)),
        AttributeChange::Link(old, new) => ("link target", text(old), text(new)),
        AttributeChange::Xattrs(old, new) => ("extended attributes", digest(*old), digest(*new)),
    }
}

fn digest(short: u64) -> String {
    match short {
        0 => "none".to_owned(),
        short => format!("{short:016x}")[..DIGITS].to_owned(),
    }
}

fn kind(letter: u8) -> &'static str {
    match letter {
        b'f' => "file",
        b'd' => "directory",
        b'l' => "symlink",
        b'p' => "pipe",
        b's' => "socket",
        _ => "device",
    }
}
