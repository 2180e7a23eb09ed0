//! The files that a step reads, so that the next build can say which changed, and how.

use crate::base::digest::Sha256;

/// As many changed files are named; the others are counted.
pub(crate) const NAMED: usize = 10;

/// How a stored listing begins.
const MAGIC: &[u8] = b"kiln files 2\n";

/// What is in a step's key of a file. Digests are shortened: this only explains misses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileFacts {
    /// What it is, as tar and ls abbreviate it: `f`, `d`, `l`, `p`, `s`, `c`, `b`.
    pub(crate) kind: u8,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Owner and group.
    pub(crate) owner: (u32, u32),
    /// Device numbers.
    pub(crate) device: (u32, u32),
    /// The first 8 bytes of the SHA-256 of its content; 0 if it has none.
    pub(crate) content: u64,
    /// The target of a symbolic link.
    pub(crate) link: Vec<u8>,
    /// Of all extended attributes; 0 if it has none.
    pub(crate) xattrs: u64,
    /// Of other files with the same path, from other sources.
    pub(crate) others: u64,
}

/// How an attribute differs: its old value, and the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AttributeChange {
    /// [`FileFacts::kind`].
    Kind(u8, u8),
    /// The permission bits.
    Mode(u32, u32),
    /// Owner and group.
    Owner((u32, u32), (u32, u32)),
    /// Device numbers.
    Device((u32, u32), (u32, u32)),
    /// The beginning of the content's digest.
    Content(u64, u64),
    /// The target of a symbolic link.
    Link(Vec<u8>, Vec<u8>),
    /// The beginning of a digest of all extended attributes.
    Xattrs(u64, u64),
}

/// How a file differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    /// It was not there.
    Added,
    /// It is not there any more.
    Removed,
    /// It has other attributes; none: one of several files with this path does.
    Changed(Vec<AttributeChange>),
}

/// Files that differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileChanges {
    /// The first ones, by path; removed files come last.
    pub(crate) named: Vec<(Vec<u8>, Difference)>,
    /// How many more there are.
    pub(crate) more: usize,
}

impl FileFacts {
    /// What the digest `of` is shortened to. Its hexadecimal digits begin like those of the digest.
    pub(crate) fn short(of: &Sha256) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = of.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// How it differs from what it was.
    fn changes(&self, was: &Self) -> Vec<AttributeChange> {
        let Self { kind, mode, owner, device, content, link, xattrs, others: _ } = self;
        let kind_differs = *kind != was.kind;
        let changes = [
            kind_differs.then_some(AttributeChange::Kind(was.kind, *kind)),
            (*mode != was.mode).then_some(AttributeChange::Mode(was.mode, *mode)),
            (*owner != was.owner).then_some(AttributeChange::Owner(was.owner, *owner)),
            (*device != was.device && !kind_differs).then_some(AttributeChange::Device(was.device, *device)),
            (*content != was.content && !kind_differs).then_some(AttributeChange::Content(was.content, *content)),
            (*link != was.link && !kind_differs).then(|| AttributeChange::Link(was.link.clone(), link.clone())),
            (*xattrs != was.xattrs).then_some(AttributeChange::Xattrs(was.xattrs, *xattrs)),
        ];
        changes.into_iter().flatten().collect()
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        let Self { kind, mode, owner, device, content, link, xattrs, others } = self;
        bytes.push(*kind);
        for number in [*mode, owner.0, owner.1, device.0, device.1] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for number in [*content, *xattrs, *others, link.len() as u64] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(link);
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let kind = *bytes.split_off_first()?;
        let mut four = || take(bytes).map(u32::from_le_bytes);
        let (mode, owner, device) = (four()?, (four()?, four()?), (four()?, four()?));
        let mut eight = || take(bytes).map(u64::from_le_bytes);
        let (content, xattrs, others, length) = (eight()?, eight()?, eight()?, eight()?);
        let link = bytes.split_off(..usize::try_from(length).ok()?)?.to_vec();
        Some(Self { kind, mode, owner, device, content, link, xattrs, others })
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    bytes.split_off(..N)?.try_into().ok()
}

/// Files by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing(Vec<(Vec<u8>, FileFacts)>);

impl Listing {
    /// Lists files, given in any order. Of files with the same path, from several sources, the first is described.
    pub(crate) fn of(files: impl IntoIterator<Item = (Vec<u8>, FileFacts)>) -> Self {
        let mut files: Vec<(Vec<u8>, FileFacts)> = files.into_iter().collect();
        files.sort_by(|a, b| a.0.cmp(&b.0));
        files.dedup_by(|again, first| {
            let same = again.0 == first.0;
            if same {
                let mut bytes = first.1.others.to_le_bytes().to_vec();
                again.1.write(&mut bytes);
                first.1.others = FileFacts::short(&Sha256::of(&bytes));
            }
            same
        });
        Self(files)
    }

    /// The files that differ from `before`; `None` if none does.
    pub(crate) fn changes(&self, before: &Self) -> Option<FileChanges> {
        // Both are sorted: merge them.
        let mut old = before.0.iter().peekable();
        let (mut here, mut gone) = (Vec::new(), Vec::new());
        for (path, facts) in &self.0 {
            let missing = std::iter::from_fn(|| old.next_if(|(was, _)| was < path));
            gone.extend(missing.map(|(path, _)| (path, None, None)));
            match old.next_if(|(was, _)| was == path) {
                Some((_, was)) if was == facts => {}
                was => here.push((path, Some(facts), was.map(|(_, was)| was))),
            }
        }
        gone.extend(old.map(|(path, _)| (path, None, None)));
        let count = here.len() + gone.len();
        let named = here.into_iter().chain(gone).take(NAMED).map(|(path, now, was)| {
            let difference = match (now, was) {
                (None, _) => Difference::Removed,
                (Some(_), None) => Difference::Added,
                (Some(now), Some(was)) => Difference::Changed(now.changes(was)),
            };
            (path.clone(), difference)
        });
        let named: Vec<_> = named.collect();
        (count > 0).then(|| FileChanges { more: count - named.len(), named })
    }

    /// Serializes for [`Listing::from_bytes`].
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.reserve(self.0.iter().map(|(path, facts)| path.len() + facts.link.len() + 64).sum());
        for (path, facts) in &self.0 {
            bytes.extend_from_slice(&(path.len() as u64).to_le_bytes());
            bytes.extend_from_slice(path);
            facts.write(&mut bytes);
        }
        bytes
    }

    /// Parses a stored listing. `None`: it is cut off, or of another version.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (mut bytes, mut files) = (bytes.strip_prefix(MAGIC)?, Vec::new());
        while !bytes.is_empty() {
            let length = take(&mut bytes).map(u64::from_le_bytes)?;
            let path = bytes.split_off(..usize::try_from(length).ok()?)?.to_vec();
            files.push((path, FileFacts::read(&mut bytes)?));
        }
        Some(Self(files))
    }
}

impl std::fmt::Display for FileChanges {
    /// The first file, and how many others: `a/b changed`, `a was added, and 2 more`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some((path, difference)) = self.named.first() else { return Ok(()) };
        let what = match difference {
            Difference::Added => "was added",
            Difference::Removed => "was removed",
            Difference::Changed(_) => "changed",
        };
        write!(f, "{} {what}", String::from_utf8_lossy(path))?;
        match self.named.len() - 1 + self.more {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(files: &[(&str, u64)]) -> Listing {
        let facts = |content: &u64| FileFacts { kind: b'f', mode: 0o644, content: *content, ..FileFacts::default() };
        Listing::of(files.iter().map(|(path, content)| (path.as_bytes().to_vec(), facts(content))))
    }

    #[test]
    fn difference_names_first_path_and_counts_the_rest() {
        let before = listing(&[("a", 1), ("b", 2), ("z", 9)]);
        for (now, want) in [
            (listing(&[("a", 1), ("b", 2), ("z", 9)]), None),
            (listing(&[("a", 1), ("b", 3), ("z", 9)]), Some("b changed")),
            (listing(&[("a", 1), ("b", 2), ("c", 2), ("z", 9)]), Some("c was added")),
            (listing(&[("a", 1), ("b", 2)]), Some("z was removed")),
            (listing(&[("b", 5)]), Some("b changed, and 2 more")),
        ] {
            assert_eq!(now.changes(&before).map(|changes| changes.to_string()).as_deref(), want);
        }
        let many: Vec<(String, u64)> = (0..25).map(|n| (format!("{n:02}"), n)).collect();
        let many: Vec<(&str, u64)> = many.iter().map(|(path, n)| (path.as_str(), *n)).collect();
        let changes = listing(&many).changes(&Listing::default()).expect("all are new");
        assert_eq!((changes.named.len(), changes.more), (NAMED, 15));
        assert_eq!(changes.to_string(), "00 was added, and 24 more");
    }

    #[test]
    fn every_attribute_that_changed_is_named() {
        let was = FileFacts { kind: b'l', mode: 0o777, link: b"a".to_vec(), ..FileFacts::default() };
        let now = FileFacts { mode: 0o700, owner: (1, 2), link: b"b".to_vec(), xattrs: 7, ..was.clone() };
        let list = |facts: &FileFacts| Listing::of([(b"f".to_vec(), facts.clone())]);
        let changes = list(&now).changes(&list(&was)).expect("it changed").named;
        let want = vec![
            AttributeChange::Mode(0o777, 0o700),
            AttributeChange::Owner((0, 0), (1, 2)),
            AttributeChange::Link(b"a".to_vec(), b"b".to_vec()),
            AttributeChange::Xattrs(0, 7),
        ];
        assert_eq!(changes, [(b"f".to_vec(), Difference::Changed(want))]);
        let file = FileFacts { kind: b'f', content: 3, ..FileFacts::default() };
        assert_eq!(file.changes(&was), [AttributeChange::Kind(b'l', b'f'), AttributeChange::Mode(0o777, 0)]);
    }

    #[test]
    fn second_file_of_a_path_counts_too() {
        let one = listing(&[("a", 1), ("a", 2)]);
        assert_eq!(one.changes(&one), None);
        let changes = listing(&[("a", 1), ("a", 3)]).changes(&one).expect("the second differs");
        assert_eq!(changes.named, [(b"a".to_vec(), Difference::Changed(Vec::new()))]);
    }

    #[test]
    fn listing_round_trips_and_refuses_others() {
        let files = listing(&[("a", 1), ("b\n/c", u64::MAX)]);
        let bytes = files.to_bytes();
        assert_eq!(Listing::from_bytes(&bytes), Some(files));
        assert_eq!(Listing::from_bytes(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Listing::from_bytes(b"\x01\0\0\0\0\0\0\0a\0"), None, "an earlier version");
    }
}
