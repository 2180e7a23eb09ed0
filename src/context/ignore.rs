//! Ignore files and `--exclude`.
//!
//! **Holds.** The rules are moby's, not git's (G-5, G-6): patterns are anchored at the directory, a path is excluded if the
//! last pattern that matches it *or a directory above it* is not negated, and `*` does not match a slash.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use super::error::{Error, Excluded};
use super::glob::Glob;
use super::path::{clean, parents};
use crate::base::fs::FsError;
use crate::base::rooted::{Root, reopen};

/// The longest line of an ignore file (G-3).
const MAX_LINE: usize = 64 * 1024 - 1;
/// The largest ignore file (S-91).
const MAX_FILE: u64 = 16 << 20;

/// The text of an ignore file, and what to call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoreFile {
    /// How messages name it.
    pub name: String,
    /// What it says.
    pub text: Vec<u8>,
}

impl IgnoreFile {
    /// The ignore file of a build (G-1): `<dockerfile>.dockerignore` beside the Dockerfile, else `.dockerignore` in the
    /// context, else `.containerignore` there.
    ///
    /// A name that is not a regular file is an error and is not opened; links in the context stay inside it (S-91).
    pub fn find(context: &Root, dockerfile: Option<&Path>) -> Result<Option<Self>, Error> {
        if let Some(dockerfile) = dockerfile {
            let mut name = dockerfile.as_os_str().to_owned();
            name.push(".dockerignore");
            let path = PathBuf::from(name);
            if let Some(text) = read_regular(&path)? {
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
                return Ok(Some(Self { name, text }));
            }
        }
        for name in [".dockerignore", ".containerignore"] {
            match context.open_file(name.as_ref()) {
                Ok(file) => {
                    let text = bounded(file).map_err(|e| Error::io("read", name.as_bytes(), e))?;
                    return Ok(Some(Self { name: name.to_owned(), text }));
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("open", name.as_bytes(), e)),
            }
        }
        Ok(None)
    }
}

/// The content of a regular file; `None` if there is none.
fn read_regular(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let (dir, name) = (path.parent().filter(|p| !p.as_os_str().is_empty()), path.file_name());
    let dir = dir.unwrap_or(Path::new("."));
    let found = match (Root::open(dir), name) {
        (Ok(root), Some(name)) => {
            rustix::fs::openat(&root, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(std::io::Error::from)
        }
        (Err(e), _) => Err(e),
        (_, None) => return Ok(None),
    };
    let found = match found {
        Ok(found) => found,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(FsError::new("open", path, e).into()),
    };
    let stat = rustix::fs::fstat(&found).map_err(|e| FsError::new("stat", path, e))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        let why = std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file");
        return Err(FsError::new("open", path, why).into());
    }
    let file = reopen(found.as_fd(), OFlags::RDONLY).map_err(|e| FsError::new("open", path, e))?;
    Ok(Some(bounded(File::from(file)).map_err(|e| FsError::new("read", path, e))?))
}

fn bounded(file: impl Read) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "larger than 16 MiB"));
    }
    Ok(text)
}

#[derive(Clone, Debug)]
struct Rule {
    negated: bool,
    glob: Glob,
    line: usize,
    text: String,
}

/// Ignore rules, or the patterns of `--exclude`.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    rules: Vec<Rule>,
    negations: bool,
    file: String,
}

/// The rules that match a directory, and so everything below it.
#[derive(Clone, Debug, Default)]
pub(super) struct Inherited(Vec<bool>);

impl Matcher {
    /// Reads the rules of an ignore file (G-3, G-4, G-8).
    pub fn parse(file: &IgnoreFile) -> Result<Self, Error> {
        let mut matcher = Self { file: file.name.clone(), ..Self::default() };
        let text = file.text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&file.text);
        for (index, line) in text.split(|&b| b == b'\n').enumerate() {
            let bad = |pattern: &[u8], why| {
                Err(Error::BadIgnore { file: file.name.clone(), line: index + 1, pattern: pattern.to_vec(), why })
            };
            if line.len() > MAX_LINE {
                return bad(&line[..64], "the line is longer than 64 KiB");
            }
            // Comments begin in the first column: an indented `#` is a name.
            if line.first() == Some(&b'#') || trim(line).is_empty() {
                continue;
            }
            if let Err(why) = matcher.add(trim(line), index + 1) {
                return bad(trim(line), why);
            }
        }
        Ok(matcher)
    }

    /// The patterns of `--exclude`, relative to the directory being copied (C-21, G-12).
    pub fn patterns<T: AsRef<[u8]>>(patterns: &[T]) -> Result<Self, Error> {
        let mut matcher = Self::default();
        for (index, pattern) in patterns.iter().enumerate() {
            let pattern = trim(pattern.as_ref());
            if !pattern.is_empty() {
                matcher.add(pattern, index + 1).map_err(|why| Error::BadPattern { pattern: pattern.to_vec(), why })?;
            }
        }
        Ok(matcher)
    }

    /// Excludes everything except what `pattern` matches, what is below it, and the directories above (C-20).
    pub(super) fn only(pattern: &[u8]) -> Result<Self, Error> {
        let mut matcher = Self { negations: true, ..Self::default() };
        let bad = |why| Error::BadPattern { pattern: pattern.to_vec(), why };
        for (negated, text) in [(false, &b"**"[..]), (true, pattern)] {
            let glob = Glob::moby(text).map_err(bad)?;
            matcher.rules.push(Rule { negated, glob, line: 0, text: String::from_utf8_lossy(text).into_owned() });
        }
        Ok(matcher)
    }

    fn add(&mut self, written: &[u8], line: usize) -> Result<(), &'static str> {
        let negated = written[0] == b'!';
        let pattern = trim(&written[usize::from(negated)..]);
        if pattern.is_empty() {
            return Err("`!` needs a pattern");
        }
        let mut pattern = clean(pattern);
        if pattern.len() > 1 && pattern[0] == b'/' {
            pattern.remove(0);
        }
        let glob = Glob::moby(&pattern)?;
        let text = String::from_utf8_lossy(written).into_owned();
        self.rules.push(Rule { negated, glob, line, text });
        self.negations |= negated;
        Ok(())
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules that match directory `dir`, given those of its parent.
    pub(super) fn enter(&self, above: &Inherited, dir: &[u8]) -> Inherited {
        let inherited = |at: usize| above.0.get(at).copied().unwrap_or(false);
        Inherited(self.rules.iter().enumerate().map(|(i, rule)| inherited(i) || rule.glob.matches(dir)).collect())
    }

    /// The rules that match directory `dir`, computed from its path.
    pub(super) fn inherited(&self, dir: &[u8]) -> Inherited {
        if self.is_empty() || dir.is_empty() {
            return Inherited::default();
        }
        let above = parents(dir).fold(Inherited::default(), |above, dir| self.enter(&above, dir));
        self.enter(&above, dir)
    }

    /// The last rule that matches `path`, given those of its parent, if that rule excludes it.
    fn decisive(&self, above: &Inherited, path: &[u8]) -> Option<&Rule> {
        let matches = |(i, rule): &(usize, &Rule)| above.0.get(*i) == Some(&true) || rule.glob.matches(path);
        let (_, rule) = self.rules.iter().enumerate().rev().find(matches)?;
        (!rule.negated).then_some(rule)
    }

    /// Whether `path` is excluded, given the rules of its parent.
    pub(super) fn excludes_in(&self, above: &Inherited, path: &[u8]) -> bool {
        self.decisive(above, path).is_some()
    }

    /// Whether something below the excluded directory `dir` may be re-included (G-4, G-10).
    pub(super) fn may_keep_below(&self, held: &Inherited, dir: &[u8]) -> bool {
        let last = held.0.iter().rposition(|&m| m).map_or(0, |at| at + 1);
        self.negations && self.rules[last..].iter().any(|rule| rule.negated && rule.glob.may_match_below(dir))
    }

    /// Whether `path` is excluded (G-6).
    pub fn excludes(&self, path: &[u8]) -> bool {
        !path.is_empty() && self.excludes_in(&self.inherited(super::path::split(path).0), path)
    }

    /// The rule that excludes `path`, for a message.
    pub(super) fn excluded_by(&self, path: &[u8]) -> Option<Excluded> {
        if path.is_empty() {
            return None;
        }
        let above = self.inherited(super::path::split(path).0);
        let rule = self.decisive(&above, path)?;
        Some(Excluded { file: self.file.clone(), line: rule.line, pattern: rule.text.clone() })
    }
}

/// Removes white space at both ends.
fn trim(line: &[u8]) -> &[u8] {
    match std::str::from_utf8(line) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => line.trim_ascii(),
    }
}
