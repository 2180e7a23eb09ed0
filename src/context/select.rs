//! Selection of the files that a COPY source names.

use super::error::Error;
use super::file::{Meta, Node};
use super::glob::Glob;
use super::ignore::Matcher;
use super::path::{anchor, join, parents, split};
use super::tree::SourceTree;
use crate::base::resolve::{self, Last, Target};

/// How a source is selected.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options<'a> {
    /// Keep the source's directories below the destination (C-20).
    pub parents: bool,
    /// Patterns of files that are not copied (C-21).
    pub exclude: Option<&'a Matcher>,
}

/// One file or directory that a source names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selected {
    /// Its name before links were followed: the name of a file in the destination directory.
    pub name: Vec<u8>,
    /// Its path in the tree, links followed.
    pub path: Vec<u8>,
    /// Its metadata; never a symlink's.
    pub meta: Meta,
    /// For a directory: everything below it that is copied, in order. Links in there are not followed.
    pub below: Vec<Node>,
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// An existing path and its metadata.
    Found(Vec<u8>, Meta),
    /// A path where nothing is, or what is there is excluded.
    Missing(Vec<u8>),
}

/// Whether `pattern` has a special character of `filepath.Match`.
fn has_wildcards(pattern: &[u8]) -> bool {
    let mut bytes = pattern.iter();
    while let Some(b) = bytes.next() {
        match b {
            b'*' | b'?' | b'[' => return true,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    false
}

/// Follows `path` and every symlink on it, the last one included. `..` and absolute links start from or stop at the
/// tree's root (C-10, S-90).
pub(crate) fn resolve(tree: &dyn SourceTree, path: &[u8]) -> Result<Resolved, Error> {
    enum Stop {
        Missing(Vec<u8>),
        Failed(Error),
    }
    let lookup = |path: &[u8]| match tree.lookup(path).map_err(Stop::Failed)? {
        None => Err(Stop::Missing(path.to_vec())),
        Some(meta) if meta.is_symlink() => {
            tree.content(path, &meta).map(|content| Target::link(&content.link)).map_err(Stop::Failed)
        }
        // What is below a file is looked up as well, and is missing.
        Some(_) => Ok(Target::Dir),
    };
    let at = match resolve::resolve(b"", path, Last::Follow, lookup) {
        Ok(at) => at,
        Err(resolve::Error::Loop) => return Err(Error::Loop { path: path.to_vec() }),
        Err(resolve::Error::NotADirectory(at) | resolve::Error::Lookup(Stop::Missing(at))) => {
            return Ok(Resolved::Missing(at));
        }
        Err(resolve::Error::Lookup(Stop::Failed(error))) => return Err(error),
    };
    match tree.lookup(&at)? {
        Some(meta) => Ok(Resolved::Found(at, meta)),
        None => Ok(Resolved::Missing(at)),
    }
}

/// The files that `source` names in `tree`. Empty only if it has wildcards that match nothing (C-2).
pub(crate) fn select(tree: &dyn SourceTree, source: &[u8], options: Options<'_>) -> Result<Vec<Selected>, Error> {
    if options.parents {
        return with_parents(tree, source, options);
    }
    let mut selected = Vec::new();
    for named in expand(tree, source)? {
        let (path, meta) = found(tree, source, &named)?;
        let name = split(&named).1.to_vec();
        let mut below = Vec::new();
        if meta.is_dir() {
            below = tree.walk(&path, options.exclude.as_slice())?;
        } else if options.exclude.is_some_and(|exclude| exclude.excludes(&name)) {
            continue;
        }
        selected.push(Selected { name, path, meta, below });
    }
    Ok(selected)
}

/// What `path` leads to, or why `source` names nothing.
fn found(tree: &dyn SourceTree, source: &[u8], path: &[u8]) -> Result<(Vec<u8>, Meta), Error> {
    match resolve(tree, path)? {
        Resolved::Found(path, meta) => Ok((path, meta)),
        Resolved::Missing(at) => {
            let mut itself = parents(path).chain([path]);
            let led = (!itself.any(|prefix| prefix == at)).then(|| Box::new((path.to_vec(), at.clone())));
            Err(Error::NotFound { path: source.to_vec(), excluded: tree.excluded_by(&at), led })
        }
    }
}

/// The paths `source` names, in order of bytes, links not followed after the first wildcard.
fn expand(tree: &dyn SourceTree, source: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let anchored = anchor(source);
    let parts: Vec<&[u8]> = anchored.split(|&b| b == b'/').collect();
    let Some(first) = parts.iter().position(|part| has_wildcards(part)) else { return Ok(vec![anchored]) };
    let (start, meta) = found(tree, source, &parts[..first].join(&b'/'))?;
    let mut dirs = if meta.is_dir() { vec![start] } else { Vec::new() };
    for (depth, part) in parts.iter().enumerate().skip(first) {
        let glob = Glob::go(part).map_err(|why| Error::BadPattern { pattern: source.to_vec(), why })?;
        let last = depth + 1 == parts.len();
        let mut matched = Vec::new();
        for dir in &dirs {
            let fits = |meta: &Meta| last || meta.is_dir();
            if let Some(name) = glob.literal() {
                let path = join(dir, name);
                matched.extend(tree.lookup(&path)?.filter(fits).map(|_| path));
                continue;
            }
            let children = tree.children(dir)?.into_iter();
            matched.extend(children.filter(|c| fits(&c.meta) && glob.matches(&c.path)).map(|c| join(dir, &c.path)));
        }
        dirs = matched;
    }
    Ok(dirs)
}

/// `--parents`: the source's path after `/./`, or all of it, is a pattern over what lies below the part before (C-20).
fn with_parents(tree: &dyn SourceTree, source: &[u8], options: Options<'_>) -> Result<Vec<Selected>, Error> {
    let pivot = source.windows(3).position(|w| w == b"/./");
    let (start, pattern) = match pivot {
        Some(at) => (&source[..at], anchor(&source[at + 3..])),
        None => (&b""[..], anchor(source)),
    };
    let only = match pattern.is_empty() {
        true => None,
        false => Some(Matcher::only(&pattern)?),
    };
    let rules: Vec<&Matcher> = only.iter().chain(options.exclude).collect();
    let required = !has_wildcards(source);
    let mut selected = Vec::new();
    for named in expand(tree, start)? {
        let (path, meta) = found(tree, source, &named)?;
        if !meta.is_dir() {
            continue;
        }
        if required && !pattern.is_empty() {
            let wanted = join(&path, &pattern);
            if tree.lookup(&wanted)?.is_none() {
                let mut at = parents(&wanted).chain([wanted.as_slice()]);
                let excluded = at.find_map(|at| tree.excluded_by(at));
                return Err(Error::NotFound { path: source.to_vec(), excluded, led: None });
            }
        }
        // Even if nothing is selected, the destination is created (N-25).
        let below = tree.walk(&path, &rules)?;
        selected.push(Selected { name: Vec::new(), path, meta, below });
    }
    Ok(selected)
}
