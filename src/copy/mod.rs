//! COPY, ADD and WORKDIR: from selected files to a layer.
//!
//! **Holds.** Everything is decided on trees: which files are meant ([`prepare`]), where they go and what they
//! replace ([`execute`]). Nothing is written below a root, so nothing can be written outside one (S-94, S-95); the
//! bytes go from the context straight into the layer.
//! **Order.** `prepare` → key → lookup; only on a miss `complete` and `execute`. What was digested for the key is what is read later, or
//! it is an error (S-93).
//! **Not here.** What a source means in a tree: `context`. The layer's format: `layer`.

mod ahead;
mod archive;
mod error;
mod hide;
mod inline;
mod layers;
mod owner;
mod place;
mod remote;
mod unpack;
mod view;
mod workdir;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

use crate::base::digest::Sha256;
use crate::base::sparse::SparseFile;
use crate::base::stable::StableHasher;
use crate::cache::Listing;
use crate::context::{self, Content, Given, Matcher, Options, Selected, SourceTree};
use crate::layer::{self, LayerWriter, MergedTree, Output, RelPath};
use crate::plan::{Copy, CopyFrom, CopySource, Mode};

use crate::fetch::{Remote, shown};

pub use error::{Error, SCHEMES};
pub use hide::{has_strangers, hide_ignored};
pub use layers::{LayerDirs, LayerFiles, LayerTree, Learnt};
pub use unpack::{Stream, sniff, unpack};
pub use workdir::workdir;

use archive::Spool;
use inline::Inline;
use place::Placer;
use remote::Pinned;
use view::{Data, Origin, View};

/// Where files go.
pub struct Dest<'a> {
    /// What is there; an empty tree for `--link` (C-19).
    pub tree: &'a MergedTree,
    /// For `--link`: which of the directories that the destination names are there. The layer says nothing of them.
    pub passed: &'a [RelPath],
    /// Opens what is there, to look names up.
    pub files: &'a dyn LayerFiles,
}

/// Something worth telling that is no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A pattern matched nothing, so nothing was copied for it (C-2, A5).
    NoMatch {
        /// As written.
        source: String,
    },
    /// Sockets became empty files: no layer can hold one (C-11, N-26).
    Sockets {
        /// One of them.
        path: String,
        /// How many there are.
        count: usize,
    },
    /// The stage's user is not in the image; root owns the directory.
    OwnerUnknown {
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
        /// The directory.
        dir: String,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::NoMatch { source } => write!(f, "nothing matches {source}; nothing was copied for it"),
            Note::Sockets { path, count: 1 } => {
                write!(f, "{path} is a socket, which no layer can hold; it becomes an empty file")
            }
            Note::Sockets { path, count } => {
                write!(f, "{count} sockets, which no layer can hold, become empty files, among them {path}")
            }
            Note::OwnerUnknown { what, name, dir } => {
                write!(f, "the image has no {what} {name}; {dir} belongs to root")
            }
        }
    }
}

enum Held<'a> {
    Borrowed(&'a dyn SourceTree),
    Owned(Box<dyn SourceTree + Send + 'a>),
    /// A repository that is not here yet.
    Later(Box<Pinned>),
}

/// One source of the instruction: what it means, and what is in that.
struct Item<'a> {
    /// Which: equal for sources of one tree, so that hard links between them are seen.
    source: usize,
    name: String,
    tree: Held<'a>,
    selected: Vec<Selected>,
    contents: Vec<(Content, Vec<Content>)>,
    /// An archive is to be unpacked (C-26, C-27).
    unpack: bool,
    /// The commit of a repository: it stands for all that is selected.
    commit: Option<String>,
}

impl Item<'_> {
    /// Where what `origin` names is in the tree.
    fn path(&self, origin: Origin) -> Vec<u8> {
        let selected = &self.selected[origin.selected()];
        match origin.inside() {
            Some(below) => context::join(&selected.path, &selected.below[below].path),
            None => selected.path.clone(),
        }
    }

    /// What it is.
    fn meta(&self, origin: Origin) -> &context::Meta {
        let selected = &self.selected[origin.selected()];
        origin.inside().map_or(&selected.meta, |below| &selected.below[below].meta)
    }

    fn tree(&self) -> &dyn SourceTree {
        match &self.tree {
            Held::Borrowed(tree) => *tree,
            Held::Owned(tree) => tree.as_ref(),
            Held::Later(_) => unreachable!("what is executed was completed"),
        }
    }
}

/// The sources of a COPY or ADD, selected and digested.
pub struct Prepared<'a> {
    items: Vec<Item<'a>>,
    mode: Option<Mode>,
    owned: bool,
    digest: Sha256,
    listing: OnceLock<Listing>,
    notes: Vec<Note>,
}

impl Prepared<'_> {
    /// Fetches the repositories, of which only the commits were needed so far.
    ///
    /// Ok: everything that is selected is here and digested.
    pub fn complete(&mut self, copy: &Copy, remote: &Remote<'_>) -> Result<(), Error> {
        let exclude = Matcher::patterns(&copy.exclude)?;
        let options = Options { parents: false, exclude: (!exclude.is_empty()).then_some(&exclude) };
        for item in &mut self.items {
            let Held::Later(pinned) = &item.tree else { continue };
            self.listing = OnceLock::new();
            let dir = pinned.checkout(remote)?;
            item.selected = context::select(&dir, b"/", options)?;
            item.contents = context::digest(&dir, &item.selected, Given::default())?.contents;
            item.tree = Held::Owned(Box::new(dir));
        }
        Ok(())
    }

    /// Of everything that is selected: the step's input besides its own text and the destination.
    pub fn digest(&self) -> Sha256 {
        self.digest
    }

    /// What is selected, file by file, to say which changed.
    pub fn listing(&self) -> &Listing {
        self.listing.get_or_init(|| self.list())
    }

    fn list(&self) -> Listing {
        let mode = self.mode.as_ref().map(|mode| |before, is_dir| mode.apply(before, is_dir));
        let given = Given { mode: mode.as_ref().map(|mode| mode as _), owner: self.owned };
        let files = self.items.iter().filter(|item| item.commit.is_none());
        let files = files.flat_map(|item| context::fingerprints(&item.selected, &item.contents, given));
        let commits = self.items.iter().filter_map(|item| {
            let [a, b, c, d, e, f, g, h, ..] = Sha256::of(item.commit.as_ref()?.as_bytes()).0;
            Some((item.name.clone().into_bytes(), u64::from_le_bytes([a, b, c, d, e, f, g, h])))
        });
        Listing::of(files.chain(commits))
    }

    /// What is worth telling.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }
}

/// Selects and digests the sources of `copy`, whose paths are in `from`. URLs are fetched by `remote`; of repositories
/// it finds out the commits.
///
/// Ok: every source exists. Files known to be unchanged were not read.
pub fn prepare<'a>(copy: &Copy, from: &'a dyn SourceTree, remote: &Remote<'_>) -> Result<Prepared<'a>, Error> {
    let exclude = Matcher::patterns(&copy.exclude)?;
    let options = Options { parents: copy.parents, exclude: (!exclude.is_empty()).then_some(&exclude) };
    let mode = copy.chmod.as_deref().map(Mode::parse).transpose()?;
    let mut prepared = Prepared {
        items: Vec::new(),
        mode: mode.clone(),
        owned: copy.chown.is_some(),
        digest: Sha256([0; 32]),
        listing: OnceLock::new(),
        notes: Vec::new(),
    };
    let mode = mode.as_ref().map(|mode| |before, is_dir| mode.apply(before, is_dir));
    let given = Given { mode: mode.as_ref().map(|mode| mode as _), owner: prepared.owned };
    let mut hasher = StableHasher::new("kiln.copy.v2");
    for (index, source) in copy.sources.iter().enumerate() {
        let owned = index + 1;
        let (source, name, tree, selected, unpack) = match source {
            CopySource::Path(path) => {
                let selected = context::select(from, path.as_bytes(), options)?;
                if selected.iter().all(|one| copy.parents && one.below.is_empty()) {
                    prepared.notes.push(Note::NoMatch { source: path.clone() });
                }
                (0, path.clone(), Held::Borrowed(from), selected, copy.unpack.unwrap_or(copy.add))
            }
            CopySource::Heredoc { name, content } => {
                let file = Inline::new(name, content);
                let selected = unless_excluded(file.selected(), &exclude);
                (owned, name.clone(), Held::Owned(Box::new(file)), selected, false)
            }
            CopySource::Http(url) => {
                let file = remote::http(url, copy.checksum.as_deref(), remote)?;
                let selected = unless_excluded(file.selected(), &exclude);
                (owned, url.clone(), Held::Owned(Box::new(file)), selected, copy.unpack.unwrap_or(false))
            }
            CopySource::Git(url) => {
                let pinned = Pinned::new(url, copy.checksum.as_deref(), copy.keep_git_dir, remote)?;
                hasher.field("commit", pinned.id().as_bytes());
                let (name, commit) = (shown(url), Some(pinned.id().to_owned()));
                let tree = Held::Later(Box::new(pinned));
                let (selected, contents) = (Vec::new(), Vec::new());
                prepared.items.push(Item { source: owned, name, tree, selected, contents, unpack: false, commit });
                continue;
            }
        };
        let mut item = Item { source, name, tree, selected, contents: Vec::new(), unpack, commit: None };
        prepared.notes.extend(sockets(&item.selected));
        let digested = context::digest(item.tree(), &item.selected, given)?;
        hasher.field("source", &digested.digest.0.0);
        item.contents = digested.contents;
        prepared.items.push(item);
    }
    prepared.digest = hasher.finish();
    Ok(prepared)
}

/// A file that is a source by itself, unless `exclude` names it (C-21).
fn unless_excluded(file: Selected, exclude: &Matcher) -> Vec<Selected> {
    if exclude.excludes(&file.name) { Vec::new() } else { vec![file] }
}

/// The sockets among what is selected.
fn sockets(selected: &[Selected]) -> Option<Note> {
    let all = selected.iter().flat_map(|one| {
        let below = one.below.iter().map(|node| (context::join(&one.path, &node.path), node.meta));
        std::iter::once((one.path.clone(), one.meta)).chain(below)
    });
    let mut found = all.filter(|(_, meta)| meta.kind == context::Kind::Socket);
    let (first, _) = found.next()?;
    Some(Note::Sockets { path: String::from_utf8_lossy(&first).into_owned(), count: 1 + found.count() })
}

/// Puts what `prepared`, completed, selected into `writer`, as `copy` says, over `dest`; archives are unpacked by way of `scratch`.
///
/// Ok: the writer has every changed path with the directories above it, in order. An empty selection changes nothing.
pub fn execute<W: Output>(
    copy: &Copy,
    prepared: &Prepared<'_>,
    dest: &Dest<'_>,
    scratch: &Path,
    writer: &mut LayerWriter<W>,
) -> Result<(), Error> {
    let mut placer = Placer::new(copy, dest)?;
    let exclude = Matcher::patterns(&copy.exclude)?;
    let mut spools: Vec<Spool> = Vec::new();
    let mut todo = Vec::new();
    let mut files = 0;
    for (number, item) in prepared.items.iter().enumerate() {
        for (at, selected) in item.selected.iter().enumerate() {
            let spool = match item.unpack && selected.meta.is_file() {
                true => Spool::fill(item, selected, &exclude, scratch)?,
                false => None,
            };
            files += usize::from(spool.is_none() && !selected.meta.is_dir());
            todo.push((number, at, spool));
        }
    }
    if files > 1 && !placer.goes_into()? {
        return Err(Error::ManyToOne { count: files, dest: copy.dest.clone() });
    }
    for (number, at, spool) in todo {
        match spool {
            None => placer.place(&prepared.items[number], Origin::new(number, at))?,
            Some(mut spool) => {
                spool.place(&mut placer, spools.len())?;
                spools.push(spool);
            }
        }
    }
    write(placer.view, dest, &prepared.items, &spools, writer)
}

/// A COPY of everything in `from` to the root: what FROM a named directory means (F-11).
pub fn whole(from: CopyFrom) -> Copy {
    Copy {
        add: false,
        from,
        sources: vec![CopySource::Path("/".to_owned())],
        dest: "/".to_owned(),
        dest_is_dir: true,
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        exclude: Vec::new(),
        checksum: None,
        keep_git_dir: false,
        unpack: None,
    }
}

fn write<W: Output>(
    view: View<'_>,
    dest: &Dest<'_>,
    items: &[Item<'_>],
    spools: &[Spool],
    writer: &mut LayerWriter<W>,
) -> Result<(), Error> {
    let (entries, data) = view.finish();
    // The layer begins like the one before it: what has the same digests need not be read.
    let taken = writer.take_over(&entries);
    let data = &data[taken..];
    ahead::read_ahead(items, data, |mut ahead| {
        for (entry, data) in entries.into_iter().skip(taken).zip(data) {
            match data {
                Data::None | Data::Passed => writer.append_empty(entry)?,
                Data::Tree(origin) => {
                    let item = &items[origin.item()];
                    if let Some(mut bytes) = ahead.take(item, *origin, &entry)? {
                        writer.append(entry, &mut bytes)?;
                    } else {
                        let mut reader = item.tree().open(&item.path(*origin), item.meta(*origin))?;
                        writer.append(entry, &mut reader)?;
                    }
                }
                Data::Dest(path) => {
                    let gone =
                        || layer::Error::Read { path: path.clone(), source: std::io::ErrorKind::NotFound.into() };
                    let found = dest.tree.get(path).ok_or_else(gone)?;
                    let file = dest.files.open(&found);
                    let file = file.map_err(|source| layer::Error::Read { path: path.clone(), source })?;
                    let size = if let layer::Kind::File { size, .. } = entry.kind { size } else { 0 };
                    writer.append(entry, &mut SparseFile::new(file, size))?;
                }
                Data::Spool { spool, at } => {
                    let size = if let layer::Kind::File { size, .. } = entry.kind { size } else { 0 };
                    writer.append(entry, &mut spools[*spool].read(*at, size))?;
                }
            }
        }
        Ok(())
    })
}
