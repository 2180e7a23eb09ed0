//! The text of `index.json`, of which only the entries in question are parsed.
//!
//! **Holds.** A change of one name parses and prints only the entries that it concerns. Every other byte of the file stays as
//! it was written, unknown fields included (N-64). Entries are found by text search: the text of an entry has its name and
//! digest letter by letter, unless it uses escapes; entries with escapes are always parsed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::OnceLock;

use memchr::memmem;
use serde_json::{Map, Value};

use crate::base::digest::BlobDigest;
pub(crate) use crate::oci::descriptor::ANNOTATION_REF_NAME as REF_NAME;
use crate::oci::descriptor::Descriptor;
use crate::oci::manifest::{Index, InvalidDocument};
use crate::oci::reference::{DEFAULT_TAG, Reference};

/// The annotation in which containerd keeps the full name.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// One entry of `index.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// `None`: the image has no name.
    pub name: Option<Reference>,
    /// Its manifest or index.
    pub target: Descriptor,
}

impl Entry {
    /// The name as users type it: `app:1`, or `<none>`.
    pub(crate) fn familiar(&self) -> String {
        self.name.as_ref().map_or_else(|| "<none>".to_owned(), Reference::familiar)
    }
}

/// The entries of `index.json`.
#[derive(Debug)]
pub(super) struct Names {
    text: String,
    /// The range of all entries with their separators.
    list: Range<usize>,
    /// The range of each entry.
    lines: Vec<Range<usize>>,
    /// The entries that use escapes.
    escaped: Vec<usize>,
    all: OnceLock<Vec<Entry>>,
}

impl Names {
    /// Reads the file. Ok: it is a JSON index; its entries are parsed later.
    pub(super) fn read(bytes: Vec<u8>) -> Result<Self, InvalidDocument> {
        let text =
            String::from_utf8(bytes).map_err(|e| InvalidDocument::Shape { what: "index", why: e.to_string() })?;
        // If it has no list of manifests, one is added.
        let Some((list, lines)) = Index::entries_of(&text)? else {
            return Self::read(Index::parse(text.as_bytes())?.to_bytes());
        };
        let mut names = Self { text, list, lines, escaped: Vec::new(), all: OnceLock::new() };
        names.escaped = names.lines_with("\\").collect();
        Ok(names)
    }

    /// All entries: by name, unnamed ones last.
    pub(super) fn entries(&self) -> Result<&[Entry], InvalidDocument> {
        if let Some(all) = self.all.get() {
            return Ok(all);
        }
        let mut all = (0..self.lines.len()).map(|at| self.entry(at)).collect::<Result<Vec<_>, _>>()?;
        all.sort_by(|a, b| order(a).cmp(&order(b)));
        Ok(self.all.get_or_init(|| all))
    }

    /// The entries that have `name`, or, for a name with a digest, that have its repository and digest.
    pub(super) fn named(&self, name: &Reference) -> impl Iterator<Item = Result<(usize, Entry), InvalidDocument>> {
        let last = name.repository.rsplit('/').next().unwrap_or_default();
        let hex = name.digest.map(|digest| digest.hex());
        let mut at = match (&name.tag, &hex) {
            (Some(tag), None) => self.candidates(&format!("{last}:{tag}\"")),
            _ => self.candidates(last),
        };
        if hex.is_none() && name.tag.as_deref() == Some(DEFAULT_TAG) {
            at.extend(self.candidates(&format!("{last}\"")));
            at.sort_unstable();
            at.dedup();
        }
        at.retain(|at| hex.as_ref().is_none_or(|hex| self.contains(*at, hex)));
        self.parsed(at).filter(move |found| {
            found.as_ref().map_or(true, |(_, entry)| match (&entry.name, &name.digest) {
                (Some(n), None) => n == name,
                (Some(n), Some(digest)) => entry.target.digest == *digest && n.name() == name.name(),
                (None, _) => false,
            })
        })
    }

    /// The entries whose names are in the repository of `name`.
    pub(super) fn in_repository(&self, name: &Reference) -> impl Iterator<Item = Result<Entry, InvalidDocument>> {
        let last = name.repository.rsplit('/').next().unwrap_or_default();
        let found = self.parsed(self.candidates(last)).map(|found| found.map(|(_, entry)| entry));
        found.filter(move |found| {
            found.as_ref().map_or(true, |entry| entry.name.as_ref().is_some_and(|other| other.name() == name.name()))
        })
    }

    /// The entries that mention a registry: in their names, or in what is kept with them.
    pub(super) fn mentioning(&self, registry: &str) -> impl Iterator<Item = Result<Entry, InvalidDocument>> {
        self.parsed(self.candidates(registry)).map(|found| found.map(|(_, entry)| entry))
    }

    /// The entries of an image.
    pub(super) fn of(&self, digest: BlobDigest) -> impl Iterator<Item = Result<(usize, Entry), InvalidDocument>> {
        let found = self.parsed(self.candidates(&digest.hex()));
        found.filter(move |found| found.as_ref().map_or(true, |(_, entry)| entry.target.digest == digest))
    }

    /// The entries of an image that have no name.
    pub(super) fn nameless(&self, digest: BlobDigest) -> impl Iterator<Item = Result<(usize, Entry), InvalidDocument>> {
        let mut at = self.candidates(&digest.hex());
        at.retain(|at| !self.contains(*at, CONTAINERD_NAME));
        self.parsed(at).filter(move |found| {
            found.as_ref().map_or(true, |(_, entry)| entry.name.is_none() && entry.target.digest == digest)
        })
    }

    /// The text with some entries removed and others inserted in order; `None`: nothing changes.
    pub(super) fn edited(&self, edit: Edit) -> Option<Vec<u8>> {
        if edit.gone.is_empty() && edit.new.is_empty() {
            return None;
        }
        let mut changes: BTreeMap<usize, Vec<String>> = edit.gone.keys().map(|at| (*at, Vec::new())).collect();
        let mut new = edit.new;
        new.sort_by(|(a, _), (b, _)| order(a).cmp(&order(b)));
        for (entry, text) in new {
            changes.entry(self.position_of(&entry)).or_default().push(text);
        }
        let mut parts: Vec<&str> = Vec::new();
        let mut from = 0;
        for (at, texts) in &changes {
            parts.extend(self.text_of(from..*at));
            parts.extend(texts.iter().map(String::as_str));
            from = at + usize::from(edit.gone.contains_key(at));
        }
        parts.extend(self.text_of(from..self.lines.len()));
        // Most of the text is copied, which is done once.
        let mut text =
            Vec::with_capacity(self.text.len() + changes.values().flatten().map(|t| t.len() + 1).sum::<usize>());
        text.extend_from_slice(&self.text.as_bytes()[..self.list.start]);
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                text.push(b',');
            }
            text.extend_from_slice(part.as_bytes());
        }
        text.extend_from_slice(&self.text.as_bytes()[self.list.end..]);
        Some(text)
    }

    /// The text of neighbouring entries with their separators.
    fn text_of(&self, lines: Range<usize>) -> Option<&str> {
        let lines = self.lines.get(lines)?;
        Some(&self.text[lines.first()?.start..lines.last()?.end])
    }

    /// The position at which an entry is inserted.
    fn position_of(&self, entry: &Entry) -> usize {
        let (mut low, mut high) = (0, self.lines.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.entry(middle) {
                Ok(other) if order(&other) >= order(entry) => high = middle,
                _ => low = middle + 1,
            }
        }
        low
    }

    fn parsed(&self, at: Vec<usize>) -> impl Iterator<Item = Result<(usize, Entry), InvalidDocument>> {
        at.into_iter().map(|at| Ok((at, self.entry(at)?)))
    }

    fn entry(&self, at: usize) -> Result<Entry, InvalidDocument> {
        Index::read_entry(self.line(at)).map(entry_of)
    }

    fn line(&self, at: usize) -> &str {
        &self.text[self.lines[at].clone()]
    }

    fn contains(&self, at: usize, word: &str) -> bool {
        let line = self.line(at).as_bytes();
        memmem::find(line, word.as_bytes()).is_some() || memchr::memchr(b'\\', line).is_some()
    }

    /// The entries that may have `word` in one of their texts.
    fn candidates(&self, word: &str) -> Vec<usize> {
        let mut at: Vec<usize> = self.lines_with(word).collect();
        if !self.escaped.is_empty() {
            at.extend(&self.escaped);
            at.sort_unstable();
            at.dedup();
        }
        at
    }

    fn lines_with(&self, word: &str) -> impl Iterator<Item = usize> {
        let finder = memmem::Finder::new(word).into_owned();
        let (mut at, mut from) = (0, self.list.start);
        std::iter::from_fn(move || {
            let found = from + finder.find(&self.text.as_bytes()[from..self.list.end])?;
            at += self.lines[at..].partition_point(|line| line.end <= found);
            from = self.lines.get(at)?.end;
            Some(at)
        })
    }
}

/// A change of entries.
#[derive(Debug, Default)]
pub(super) struct Edit {
    /// Entries to remove, by their position.
    pub(super) gone: BTreeMap<usize, Entry>,
    new: Vec<(Entry, String)>,
}

impl Edit {
    /// Adds an entry, unless the edit has it already.
    pub(super) fn add(&mut self, entry: Entry) {
        if !self.new.iter().any(|(other, _)| *other == entry) {
            let text = Index::write_entry(&descriptor_of(entry.clone()));
            self.new.push((entry, text));
        }
    }

    /// Keeps a removed entry as an unnamed one. Its unknown fields stay.
    pub(super) fn add_nameless(&mut self, names: &Names, at: usize, mut entry: Entry) {
        if entry.name.take().is_none() {
            return;
        }
        let Ok(mut fields) = serde_json::from_str::<Map<String, Value>>(names.line(at)) else { return self.add(entry) };
        if let Some(Value::Object(annotations)) = fields.get_mut("annotations") {
            annotations.remove(REF_NAME);
            annotations.remove(CONTAINERD_NAME);
            if annotations.is_empty() {
                fields.remove("annotations");
            }
        }
        self.new.push((entry, Value::Object(fields).to_string()));
    }

    /// Whether the edit gives the image a name.
    pub(super) fn names(&self, digest: BlobDigest) -> bool {
        self.new.iter().any(|(entry, _)| entry.name.is_some() && entry.target.digest == digest)
    }

    /// Whether the image has an entry after the edit.
    pub(super) fn lists(&self, names: &Names, digest: BlobDigest) -> Result<bool, InvalidDocument> {
        if self.new.iter().any(|(entry, _)| entry.target.digest == digest) {
            return Ok(true);
        }
        for found in names.of(digest) {
            if !self.gone.contains_key(&found?.0) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn order(entry: &Entry) -> (bool, Option<&Reference>, BlobDigest) {
    (entry.name.is_none(), entry.name.as_ref(), entry.target.digest)
}

/// Moves the name from the annotations of a descriptor to the entry. A `ref.name` that is not an image name (other tools
/// write any text) is left in place, and the entry counts as unnamed.
fn entry_of(mut target: Descriptor) -> Entry {
    let parse = |text: &String| text.parse::<Reference>().ok().filter(|name| name.digest.is_none());
    let full = target.annotations.get(CONTAINERD_NAME).and_then(parse);
    let name = full.or_else(|| target.annotations.get(REF_NAME).and_then(parse));
    if name.is_some() {
        target.annotations.remove(REF_NAME);
        target.annotations.remove(CONTAINERD_NAME);
    }
    Entry { name, target }
}

fn descriptor_of(entry: Entry) -> Descriptor {
    let mut target = entry.target;
    if let Some(name) = entry.name {
        target.annotations.insert(REF_NAME.to_owned(), name.familiar());
        target.annotations.insert(CONTAINERD_NAME.to_owned(), name.to_string());
    }
    target
}
