//! What may explain why a command failed: facts about its surroundings, looked up once it has ended.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use crate::base::fs;
use crate::base::resolve::Last;
use crate::base::rooted::Root;
use crate::layer::MergedTree;
use crate::plan::{Mount, Run};
use crate::sandbox::{ExecObstacle, Exit};
use crate::snapshot::Prepared;

use super::chain::State;
use super::worker::Worker;
use crate::copy::{LayerDirs, LayerFiles};

/// A shell's statuses for what cannot be started.
const NOT_STARTED: [i32; 2] = [126, 127];
/// Where less is left, a command that writes may well have failed for it.
const FULL: u64 = 64 << 10;
/// How many of the words that a command printed are looked at.
const MAX_WORDS: usize = 200;

/// Facts that may explain a failure; none of them is certain to be the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clues {
    /// Mounts of secrets (`true`) and ssh agents (`false`) that the command may do without, by id: nobody gave them.
    pub ungiven: Vec<(bool, String)>,
    /// The disk that receives what commands write has no space left.
    pub full: bool,
    /// A file that the command's last output names and that cannot be started, and why.
    pub unstartable: Option<(String, ExecObstacle)>,
}

impl Worker<'_> {
    /// What may explain that `run` ended with `exit` after printing `tail` last.
    pub(super) fn clues(&self, run: &Run, parent: &State, prepared: &Prepared, exit: Exit, tail: &[u8]) -> Clues {
        let settings = self.builder.settings;
        let ungiven = run.mounts.iter().filter_map(|mount| match mount {
            Mount::Secret { id, .. } if !settings.secrets.contains_key(id) => Some((true, id.clone())),
            Mount::Ssh { id, .. } if !settings.ssh.contains_key(id) => Some((false, id.clone())),
            _ => None,
        });
        // Some shells read a program for another processor as a script, and fail with whatever comes of it.
        let likely = |found: &(String, ExecObstacle)| {
            NOT_STARTED.contains(&exit.code()) || matches!(found.1, ExecObstacle::Machine(_))
        };
        let unstartable = self.unstartable(run, parent, prepared, tail).filter(likely);
        let full = fs::available(prepared.changed()).is_some_and(|left| left < FULL);
        Clues { ungiven: ungiven.collect(), full, unstartable }
    }

    /// The first word of `tail` that names a file which cannot be started.
    fn unstartable(
        &self,
        run: &Run,
        parent: &State,
        prepared: &Prepared,
        tail: &[u8],
    ) -> Option<(String, ExecObstacle)> {
        let changed = Root::open(prepared.changed()).ok()?;
        let files = Files { changed, tree: parent.merged(&self.layers).ok()?, dirs: self.open_layers(parent)? };
        let path = run.environment().find(|(name, _)| *name == "PATH").map(|(_, value)| value.to_owned());
        let path = path.unwrap_or_default();
        let mut seen = BTreeSet::new();
        let text = String::from_utf8_lossy(tail);
        for word in text.split([' ', ':', '\n', '\t', '\'', '"', '`', '‘', '’']).rev().take(MAX_WORDS) {
            // A shell prints the carriage return that it took for a part of a name.
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

    fn open_layers(&self, parent: &State) -> Option<LayerDirs> {
        LayerDirs::open(&parent.directories(&self.layers).ok()?).ok()
    }
}

/// The files a command had: those it wrote, and those of the layers below.
struct Files {
    changed: Root,
    tree: Arc<MergedTree>,
    dirs: LayerDirs,
}

impl Files {
    /// An executable file.
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
