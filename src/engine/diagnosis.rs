//! Looks for facts that may explain why a command failed.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use crate::base::fs;
use crate::base::resolve::Last;
use crate::base::rooted::Root;
use crate::copy::{LayerDirs, LayerFiles};
use crate::layer::MergedTree;
use crate::plan::{Mount, Run};
use crate::sandbox::{ExecObstacle, Exit};
use crate::snapshot::Prepared;

use super::chain::State;
use super::clues::Clues;
use super::input::Input;
use super::shared::Shared;

/// The exit statuses of a shell for a command that it could not start.
const NOT_STARTED: [i32; 2] = [126, 127];
/// A disk with less free space, in bytes, counts as full.
const FULL: u64 = 64 << 10;
/// How many of the last words in the command's output are tried as file names.
const MAX_WORDS: usize = 200;

/// Facts that may explain why `run` ended with `exit`; `tail` is the end of its output.
pub(super) fn clues(
    shared: &Shared<'_>,
    run: &Run,
    parent: &State,
    prepared: &Prepared,
    exit: Exit,
    tail: &[u8],
) -> Clues {
    let settings = shared.builder.settings;
    let not_given = run.mounts.iter().filter_map(|mount| match mount {
        Mount::Secret { id, .. } if !settings.secrets.contains_key(id) => Some(Input::Secret(id.clone())),
        Mount::Ssh { id, .. } if !settings.ssh.contains_key(id) => Some(Input::Agent(id.clone())),
        _ => None,
    });
    // Some shells read a program for another processor as a script, and exit with any status.
    let likely = |found: &(String, ExecObstacle)| {
        NOT_STARTED.contains(&exit.code()) || matches!(found.1, ExecObstacle::Machine(_))
    };
    let unstartable = unstartable(shared, run, parent, prepared, tail).filter(likely);
    let full = fs::available(prepared.changed()).is_some_and(|left| left < FULL);
    Clues { not_given: not_given.collect(), full, unstartable }
}

/// The first word of `tail` that names a file which cannot be started.
fn unstartable(
    shared: &Shared<'_>,
    run: &Run,
    parent: &State,
    prepared: &Prepared,
    tail: &[u8],
) -> Option<(String, ExecObstacle)> {
    let changed = Root::open(prepared.changed()).ok()?;
    let files = Files {
        changed,
        tree: parent.merged(&shared.layers).ok()?,
        dirs: LayerDirs::open(&parent.directories(shared.snapshots().ok()?).ok()?).ok()?,
    };
    let path = run.environment().find(|(name, _)| *name == "PATH").map(|(_, value)| value.to_owned());
    let path = path.unwrap_or_default();
    let mut seen = BTreeSet::new();
    let text = String::from_utf8_lossy(tail);
    for word in text.split([' ', ':', '\n', '\t', '\'', '"', '`', '‘', '’']).rev().take(MAX_WORDS) {
        // A shell prints the carriage return that it took for part of a name.
        let word = word.trim_end_matches('\r');
        if word.is_empty() || !seen.insert(word) {
            continue;
        }
        let places: Vec<String> = match word.contains('/') {
            true => vec![Path::new(&run.cwd).join(word).display().to_string()],
            false => path.split(':').map(|dir| format!("{dir}/{word}")).collect(),
        };
        for place in places {
            let Some(file) = files.open(&place) else { continue };
            if let Ok(Some(obstacle)) = ExecObstacle::of(&file, &|path| files.exists(&run.cwd, path)) {
                return Some((if word.contains('/') { word.to_owned() } else { place }, obstacle));
            }
        }
    }
    None
}

/// The files of a command's root: its changes, and the layers below.
struct Files {
    changed: Root,
    tree: Arc<MergedTree>,
    dirs: LayerDirs,
}

impl Files {
    /// Opens an executable file.
    fn open(&self, path: &str) -> Option<File> {
        if let Ok(file) = self.changed.open_file(OsStr::new(path)) {
            return Some(file);
        }
        let found = self.tree.resolve(path.as_bytes(), Last::Follow).ok()?;
        let found = self.tree.get(&found).filter(|found| found.meta().mode & 0o111 != 0)?;
        self.dirs.open(&found).ok()
    }

    fn exists(&self, cwd: &str, path: &str) -> bool {
        let path = Path::new(cwd).join(path);
        let below = || {
            let found = self.tree.resolve(path.as_os_str().as_bytes(), Last::Follow);
            found.is_ok_and(|found| self.tree.get(&found).is_some())
        };
        self.changed.locate(path.as_os_str()).is_ok() || below()
    }
}
