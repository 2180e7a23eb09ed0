//! The digest of selected files, for the key of a step.
//!
//! | of a selected file or directory | in the digest |
//! | --- | --- |
//! | path relative to its source, or a file's name | yes |
//! | kind, mode, ids as the tree reports them (0:0 in a context), device numbers | yes, unless the instruction gives them |
//! | link text, extended attributes, SHA-256 of the content | yes |
//! | which names are hard links of each other | yes |
//! | times, inode numbers, absolute paths, the order of a listing | never (C-29) |
//! | a source directory's own metadata: only what is in it is copied (C-4, C-6) | no |

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::error::Error;
use super::file::{Content, FileKind, Meta, Node};
use super::path::join;
use super::select::Selected;
use super::tree::SourceTree;
use crate::base::digest::ContentDigest;
use crate::base::stable::StableHasher;

/// Change it whenever equal files may get a different digest.
const DOMAIN: &str = "kiln.selection.v1";
/// The number of nodes that one thread handles at a time.
const CHUNK: usize = 256;

/// Metadata that the instruction sets. Only the result is in the digest, not what the files have (N-9).
#[derive(Clone, Copy, Default)]
pub(crate) struct Given<'a> {
    /// Computes the new mode from the old one and whether it is a directory.
    pub mode: Option<&'a (dyn Fn(u32, bool) -> u32 + Sync)>,
    /// The instruction sets the owner.
    pub owner: bool,
}

impl Given<'_> {
    fn apply(&self, meta: &Meta) -> Meta {
        let mut meta = *meta;
        if let Some(mode) = self.mode.filter(|_| !meta.is_symlink()) {
            meta.mode = mode(meta.mode, meta.is_dir());
        }
        if self.owner {
            (meta.uid, meta.gid) = (0, 0);
        }
        meta
    }
}

/// The digest of a selection, and the contents that were read for it.
#[derive(Clone, Debug)]
pub(crate) struct Digested {
    /// Of everything in the table above.
    pub digest: ContentDigest,
    /// The content of each selected path and of each of its [`Selected::below`], in order.
    pub contents: Vec<(Content, Vec<Content>)>,
}

/// Digests the files that were selected from `tree`. Ok: every file was read, or was known and has not changed since.
pub(crate) fn digest(tree: &dyn SourceTree, selected: &[Selected], given: Given<'_>) -> Result<Digested, Error> {
    let mut hasher = StableHasher::new(DOMAIN);
    hasher.number("sources", selected.len() as u64);
    let mut contents = Vec::with_capacity(selected.len());
    let mut links = Links::default();
    for one in selected {
        if one.meta.is_dir() {
            let below = below(tree, one)?;
            hasher.number("directory", below.len() as u64);
            for (node, content) in one.below.iter().zip(&below) {
                let path = join(&one.path, &node.path);
                hasher.bytes(&record(&node.path, &given.apply(&node.meta), content, links.first(&path, &node.meta)));
            }
            contents.push((Content::default(), below));
        } else {
            let content = tree.content(&one.path, &one.meta)?;
            let first = links.first(&one.path, &one.meta);
            hasher.field("file", &record(&one.name, &given.apply(&one.meta), &content, first));
            contents.push((content, Vec::new()));
        }
    }
    Ok(Digested { digest: ContentDigest(hasher.finish()), contents })
}

/// Calls `describe` with each selected file, as [`digest`] sees it.
pub(crate) fn describe<T: Send>(
    selected: &[Selected],
    contents: &[(Content, Vec<Content>)],
    given: Given<'_>,
    describe: impl Fn(&Meta, &Content) -> T + Sync,
) -> Vec<(Vec<u8>, T)> {
    let print = |path, meta: &Meta, content: &Content| (path, describe(&given.apply(meta), content));
    let mut all = Vec::new();
    for (one, (content, below)) in selected.iter().zip(contents) {
        if !one.meta.is_dir() {
            all.push(print(one.path.clone(), &one.meta, content));
        }
        let inside = one.below.par_iter().zip(below).with_min_len(CHUNK);
        all.par_extend(inside.map(|(node, content)| print(join(&one.path, &node.path), &node.meta, content)));
    }
    all
}

fn below(tree: &dyn SourceTree, one: &Selected) -> Result<Vec<Content>, Error> {
    let look = |node: &Node| tree.content(&join(&one.path, &node.path), &node.meta);
    if one.below.len() <= CHUNK && one.below.iter().map(|n| n.meta.size).sum::<u64>() < 1 << 20 {
        return one.below.iter().map(look).collect();
    }
    one.below.par_iter().map(look).collect()
}

/// The first path of each file that has several names.
#[derive(Default)]
struct Links(BTreeMap<(u64, u64), Vec<u8>>);

impl Links {
    fn first(&mut self, path: &[u8], meta: &Meta) -> Option<&[u8]> {
        let inode = meta.inode.filter(|i| i.links > 1 && meta.is_file())?;
        let first = self.0.entry((inode.device, inode.number)).or_insert_with(|| path.to_vec());
        (first.as_slice() != path).then_some(first.as_slice())
    }
}

fn record(path: &[u8], meta: &Meta, content: &Content, first: Option<&[u8]>) -> Vec<u8> {
    let (kind, major, minor) = match meta.kind {
        FileKind::File => (b'f', 0, 0),
        FileKind::Dir => (b'd', 0, 0),
        FileKind::Symlink => (b'l', 0, 0),
        FileKind::Fifo => (b'p', 0, 0),
        FileKind::Socket => (b's', 0, 0),
        FileKind::Char { major, minor } => (b'c', major, minor),
        FileKind::Block { major, minor } => (b'b', major, minor),
    };
    let mut out = Vec::with_capacity(path.len() + 96);
    let framed = |out: &mut Vec<u8>, value: &[u8]| {
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
        out.extend_from_slice(value);
    };
    framed(&mut out, path);
    out.push(kind);
    for number in [meta.mode, meta.uid, meta.gid, major, minor] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    framed(&mut out, content.digest.as_ref().map_or(&[], |d| &d.0));
    framed(&mut out, &content.link);
    framed(&mut out, first.unwrap_or_default());
    for (name, value) in &content.xattrs {
        framed(&mut out, name);
        framed(&mut out, value);
    }
    out
}
