//! Selecting and digesting the sources of a COPY or ADD.

use std::sync::OnceLock;

use crate::base::digest::Sha256;
use crate::base::stable::StableHasher;
use crate::base::url::redacted;
use crate::cache::{FileFacts, Listing};
use crate::context::{self, Content, Digested, FileKind, Given, Matcher, Meta, Options, Selected, SourceTree};
use crate::fetch::Remote;
use crate::plan::{Copy, CopyFrom, CopySource, Mode};

use super::Error;
use super::inline::Inline;
use super::item::{Item, SourceFiles};
use super::note::Note;
use super::remote::{self, Pinned};

/// The sources of a COPY or ADD, selected and digested.
pub(crate) struct Prepared<'a> {
    pub(super) items: Vec<Item<'a>>,
    mode: Option<Mode>,
    owned: bool,
    digest: Sha256,
    listing: OnceLock<Listing>,
    notes: Vec<Note>,
}

impl Prepared<'_> {
    /// Fetches the repositories, of which only the commits were needed for the key.
    ///
    /// Ok: all selected files are available and digested.
    pub(crate) fn complete(&mut self, copy: &Copy, remote: &Remote<'_>) -> Result<(), Error> {
        let exclude = Matcher::patterns(&copy.exclude)?;
        let options = Options { parents: false, exclude: (!exclude.is_empty()).then_some(&exclude) };
        for item in &mut self.items {
            let SourceFiles::Repository(pinned) = &item.tree else { continue };
            self.listing = OnceLock::new();
            let dir = pinned.checkout(remote)?;
            item.selected = context::select(&dir, b"/", options)?;
            item.contents = context::digest(&dir, &item.selected, Given::default())?.contents;
            item.tree = SourceFiles::Owned(Box::new(dir));
        }
        Ok(())
    }

    /// Digest of all selected files: with the instruction and the destination, the input of the step.
    pub(crate) fn digest(&self) -> Sha256 {
        self.digest
    }

    /// The selected files, one by one, to report which changed.
    pub(crate) fn listing(&self) -> &Listing {
        self.listing.get_or_init(|| self.list())
    }

    fn list(&self) -> Listing {
        let mode = self.mode.as_ref().map(|mode| |before, is_dir| mode.apply(before, is_dir));
        let given = Given { mode: mode.as_ref().map(|mode| mode as _), owner: self.owned };
        let files = self.items.iter().filter(|item| item.commit.is_none());
        let files = files.flat_map(|item| context::describe(&item.selected, &item.contents, given, facts));
        let commits = self.items.iter().filter_map(|item| {
            let content = FileFacts::short(&Sha256::of(item.commit.as_ref()?.as_bytes()));
            Some((item.name.clone().into_bytes(), FileFacts { kind: b'd', content, ..FileFacts::default() }))
        });
        Listing::of(files.chain(commits))
    }

    /// What to report.
    pub(crate) fn notes(&self) -> &[Note] {
        &self.notes
    }
}

/// The files at one place of a context as a bind mount shows them: their digest, and on demand a list of them.
pub(crate) struct Mounted {
    selected: Vec<Selected>,
    digested: Digested,
}

impl Mounted {
    /// Selects and digests the files at `source` in `tree`.
    pub(crate) fn new(tree: &dyn SourceTree, source: &str) -> Result<Self, Error> {
        let selected = context::select(tree, source.as_bytes(), Options { parents: false, exclude: None })?;
        let digested = context::digest(tree, &selected, Given::default())?;
        Ok(Self { selected, digested })
    }

    /// Their digest: part of a key.
    pub(crate) fn digest(&self) -> Sha256 {
        self.digested.digest.0
    }

    /// The files, one by one, to report which changed.
    pub(crate) fn listing(&self) -> Listing {
        Listing::of(context::describe(&self.selected, &self.digested.contents, Given::default(), facts))
    }
}

/// What a listing says of a file.
fn facts(meta: &Meta, content: &Content) -> FileFacts {
    let (kind, device) = match meta.kind {
        FileKind::File => (b'f', (0, 0)),
        FileKind::Dir => (b'd', (0, 0)),
        FileKind::Symlink => (b'l', (0, 0)),
        FileKind::Fifo => (b'p', (0, 0)),
        FileKind::Socket => (b's', (0, 0)),
        FileKind::Char { major, minor } => (b'c', (major, minor)),
        FileKind::Block { major, minor } => (b'b', (major, minor)),
    };
    let mut xattrs = StableHasher::new("kiln.xattrs.v1");
    for (name, value) in &content.xattrs {
        xattrs.field("name", name).field("value", value);
    }
    FileFacts {
        kind,
        mode: meta.mode,
        owner: (meta.uid, meta.gid),
        device,
        content: content.digest.as_ref().map_or(0, FileFacts::short),
        link: content.link.clone(),
        xattrs: if content.xattrs.is_empty() { 0 } else { FileFacts::short(&xattrs.finish()) },
        ..FileFacts::default()
    }
}

/// Selects and digests the sources of `copy`; paths are in `from`. URLs are fetched by `remote`; for repositories it only
/// resolves the commit.
///
/// Ok: every source exists. Files that are known to be unchanged were not read.
pub(crate) fn prepare<'a>(copy: &Copy, from: &'a dyn SourceTree, remote: &Remote<'_>) -> Result<Prepared<'a>, Error> {
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
                (0, path.clone(), SourceFiles::Borrowed(from), selected, copy.unpack.unwrap_or(copy.add))
            }
            CopySource::Heredoc { name, content } => {
                let file = Inline::new(name, content);
                let selected = unless_excluded(file.selected(), &exclude);
                (owned, name.clone(), SourceFiles::Owned(Box::new(file)), selected, false)
            }
            CopySource::Http(url) => {
                let file = remote::http(url, copy.checksum.as_deref(), remote)?;
                let selected = unless_excluded(file.selected(), &exclude);
                (owned, url.clone(), SourceFiles::Owned(Box::new(file)), selected, copy.unpack.unwrap_or(false))
            }
            CopySource::Git(url) => {
                let pinned = Pinned::new(url, copy.checksum.as_deref(), copy.keep_git_dir, remote)?;
                hasher.field("commit", pinned.id().as_bytes());
                let (name, commit) = (redacted(url), Some(pinned.id().to_owned()));
                let tree = SourceFiles::Repository(Box::new(pinned));
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

/// The selection of a single file, unless `exclude` matches it (C-21).
fn unless_excluded(file: Selected, exclude: &Matcher) -> Vec<Selected> {
    if exclude.excludes(&file.name) { Vec::new() } else { vec![file] }
}

/// The sockets among what is selected.
fn sockets(selected: &[Selected]) -> Option<Note> {
    let all = selected.iter().flat_map(|one| {
        let below = one.below.iter().map(|node| (context::join(&one.path, &node.path), node.meta));
        std::iter::once((one.path.clone(), one.meta)).chain(below)
    });
    let mut found = all.filter(|(_, meta)| meta.kind == context::FileKind::Socket);
    let (first, _) = found.next()?;
    Some(Note::Sockets { path: String::from_utf8_lossy(&first).into_owned(), count: 1 + found.count() })
}

/// A COPY of everything in `from` to the root: FROM of a named directory (F-11).
pub(crate) fn whole(from: CopyFrom) -> Copy {
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
