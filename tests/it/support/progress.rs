//! Parses the steps of a build from `--progress plain`, which is a stable format.

use std::collections::BTreeSet;

use super::env::Done;

/// One step of a finished build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// `[app 2/3] RUN make`.
    pub title: String,
    /// Why it ran; `None` if it was cached.
    pub why: Option<String>,
}

/// All steps, in output order.
#[derive(Clone, Debug)]
pub struct Progress(pub Vec<Step>);

impl Progress {
    pub fn of(done: &Done) -> Progress {
        let mut steps = Vec::new();
        let lines: Vec<&str> = done.stderr.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            if let Some(title) = line.strip_prefix("CACHED ") {
                steps.push(Step { title: title.to_owned(), why: None });
            } else if let Some((tag, why)) = line.split_once("] why: ") {
                let title = i.checked_sub(1).map_or("", |before| lines[before]);
                assert!(title.starts_with(&format!("{tag}] ")), "`why:` follows the title of its step\n{done}");
                steps.push(Step { title: title.to_owned(), why: Some(why.to_owned()) });
            }
        }
        Progress(steps)
    }

    /// Instructions that ran, without their tags.
    pub fn ran(&self) -> BTreeSet<&str> {
        self.0.iter().filter(|s| s.why.is_some()).map(|s| instruction(&s.title)).collect()
    }

    /// Instructions that were cached, without their tags.
    pub fn cached(&self) -> BTreeSet<&str> {
        self.0.iter().filter(|s| s.why.is_none()).map(|s| instruction(&s.title)).collect()
    }

    /// Why the step whose title contains `part` ran. Panics unless there is exactly one and it ran.
    #[track_caller]
    pub fn why(&self, part: &str) -> &str {
        let found: Vec<&Step> = self.0.iter().filter(|s| s.title.contains(part)).collect();
        assert_eq!(found.len(), 1, "steps with {part:?} among {:#?}", self.0);
        found[0].why.as_deref().unwrap_or_else(|| panic!("{part} was cached: {:#?}", self.0))
    }
}

fn instruction(title: &str) -> &str {
    title.split_once("] ").map_or(title, |(_, instruction)| instruction)
}
