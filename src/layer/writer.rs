//! Entries and open files in, a finished layer out.

use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::base::digest::{BlobDigest, ContentDigest, DiffId, Hasher};
use crate::base::time::Timestamp;

use super::compress::Compression;
use super::entry::{Entry, Kind};
use super::error::Error;
use super::limits::check_entry;
use super::pipeline::{Output, Pipeline};
use super::resume::{Before, Mark, Marks, Seen};
use super::segment::{SegmentIndex, SegmentSource, TARGET, cut_before};
use super::tar_write;
use super::tree::Tree;
use super::xattrs;

/// How a layer is written.
#[derive(Clone, Default)]
pub struct WriteOptions {
    /// Of the blob.
    pub compression: Compression,
    /// Compression threads; the number of cores if `None`. The bytes do not depend on it.
    pub threads: Option<NonZeroUsize>,
    /// Compressed segments of earlier layers, to be copied where nothing changed.
    pub previous: Option<Arc<dyn SegmentSource>>,
    /// The layer before, compressed alike, for [`LayerWriter::take_over`].
    pub before: Option<Before>,
    /// Later times become this one (O-57).
    pub latest: Option<Timestamp>,
}

/// A layer that was written to the end.
#[derive(Clone, Debug)]
pub struct Written {
    /// Digest of the tar.
    pub diff_id: DiffId,
    /// Digest of the bytes that were written.
    pub blob: BlobDigest,
    /// How many bytes that were.
    pub size: u64,
    /// How long the tar is.
    pub plain_size: u64,
    /// The OCI media type.
    pub media_type: &'static str,
    /// What the layer holds.
    pub tree: Tree,
    /// Where which compressed segment lies, for the next layer like this one.
    pub segments: SegmentIndex,
    /// Where the next layer can go on from, if it begins like this one.
    pub marks: Marks,
    /// How many of the segments were copied from an earlier layer.
    pub reused: usize,
}

/// Writes one layer as canonical tar, compressed and digested in one pass.
///
/// The same entries and contents give the same bytes whatever the number of threads, the slicing of reads or the host.
/// Attributes that belong to the host rather than the file are left out ([`xattrs::belongs`]); times lose their
/// fraction of a second (C-13).
pub struct LayerWriter<W: Output> {
    pipeline: Pipeline<W>,
    segment: Vec<u8>,
    entries: Vec<Entry>,
    latest: Option<Timestamp>,
    before: Option<Before>,
    /// All entries so far.
    seen: Seen,
    /// Taken over from the layer before.
    marks: Vec<Mark>,
    /// How many entries were before each further mark, and their digest.
    marked: Vec<(u32, [u8; 32])>,
}

impl<W: Output> LayerWriter<W> {
    /// Begins a layer whose blob goes to `out`.
    pub fn new(out: W, options: &WriteOptions) -> Self {
        let pipeline = Pipeline::new(out, options.compression, options.threads, options.previous.clone());
        Self {
            pipeline,
            segment: Vec::new(),
            entries: Vec::new(),
            latest: options.latest,
            before: options.before.clone(),
            seen: Seen::default(),
            marks: Vec::new(),
            marked: Vec::new(),
        }
    }

    /// Adds an entry; `content` is read only for a file. Entries come in [`Entry::order`], hard links after the file
    /// they name.
    ///
    /// A file must yield exactly the promised number of bytes: one that is shorter or longer has changed since it was
    /// looked at, and the layer is lost (S-93). A content digest in the entry is taken on trust; where there is none it
    /// is computed.
    pub fn append(&mut self, entry: Entry, content: &mut dyn Read) -> Result<(), Error> {
        let mut entry = self.as_written(entry)?;
        let size = if let Kind::File { size, .. } = entry.kind { size } else { 0 };
        if cut_before(self.segment.len(), entry.path.as_bytes(), size) {
            self.marked.push((self.entries.len() as u32, self.seen.digest()));
            self.cut(true)?;
        }
        let head = self.segment.len();
        tar_write::head(&entry, &mut self.segment)?;
        self.seen.head(&self.segment[head..]);
        if let Kind::File { size, content: known } = entry.kind {
            let digest = self.content(&entry, size, known, content)?;
            self.seen.content(&digest.0);
            entry.kind = Kind::File { size, content: Some(digest) };
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Takes over as much of the layer before as begins with the `coming` entries, of which nothing was appended yet.
    /// Ok: that many of them must not be appended any more. Their contents are those that their digests name.
    pub fn take_over(&mut self, coming: &[Entry]) -> usize {
        let Some(before) = self.before.take() else { return 0 };
        // The best mark so far, and everything seen until there.
        let mut best = None;
        let mut marks = before.marks().iter().enumerate().peekable();
        let (mut seen, mut head) = (Seen::default(), Vec::new());
        for entry in coming {
            if let Some((at, mark)) = marks.next_if(|(_, mark)| mark.entries as usize == self.entries.len()) {
                if mark.seen != seen.digest() {
                    break;
                }
                // Whoever writes all of it decides by the entry that comes now.
                let size = if let Kind::File { size, .. } = entry.kind { size } else { 0 };
                if before.last_segment(mark).is_some_and(|len| cut_before(len, entry.path.as_bytes(), size)) {
                    best = Some((at, self.entries.len(), seen.clone()));
                }
            }
            // What cannot be written is for `append` to say.
            let Ok(entry) = self.as_written(entry.clone()) else { break };
            head.clear();
            if marks.peek().is_none() || tar_write::head(&entry, &mut head).is_err() {
                break;
            }
            seen.head(&head);
            match entry.kind {
                Kind::File { content: Some(digest), .. } => seen.content(&digest.0),
                Kind::File { content: None, .. } => break,
                _ => {}
            }
            self.entries.push(entry);
        }
        let found = best.and_then(|(at, count, seen)| Some((before.until(at)?, count, seen)));
        let Some((mut beginning, count, seen)) = found else {
            self.entries.clear();
            return 0;
        };
        self.entries.truncate(count);
        self.seen = seen;
        self.marks = std::mem::take(&mut beginning.marks);
        self.pipeline.resume(beginning);
        count
    }

    /// `entry`, which comes next, with what the layer will say of it.
    fn as_written(&self, mut entry: Entry) -> Result<Entry, Error> {
        assert!(
            self.entries.last().is_none_or(|last| last.order(&entry).is_lt()),
            "layer entries come in order, each path once: {} after {:?}",
            entry.path,
            self.entries.last().map(|e| &e.path),
        );
        entry.meta.mtime = entry.meta.mtime.capped(self.latest);
        entry.meta.xattrs.retain(xattrs::belongs);
        check_entry(&entry)?;
        if let Kind::Hardlink { target } = &entry.kind {
            let found = self.entries.binary_search_by(|e| e.path.cmp(target)).ok().map(|i| &self.entries[i]);
            match found {
                Some(file) if !matches!(file.kind, Kind::Hardlink { .. } | Kind::Dir) && !file.kind.is_marker() => {
                    entry.meta = file.meta.clone();
                }
                _ => {
                    let reason = "hard link to something that is not in the layer before it";
                    return Err(Error::NotRepresentable { path: entry.path, reason });
                }
            }
        }
        Ok(entry)
    }

    /// Adds an entry that has no content.
    pub fn append_empty(&mut self, entry: Entry) -> Result<(), Error> {
        self.append(entry, &mut io::empty())
    }

    fn content(
        &mut self,
        entry: &Entry,
        size: u64,
        known: Option<ContentDigest>,
        content: &mut dyn Read,
    ) -> Result<ContentDigest, Error> {
        let mut hasher = Hasher::new();
        let fail = |source| Error::Read { path: entry.path.clone(), source };
        let changed = |got| Error::Changed { path: entry.path.clone(), promised: size, got };
        let mut left = size;
        while left > 0 {
            if left < size {
                // Inside a large file: a full step is behind us.
                self.cut(false)?;
            }
            let step = left.min(TARGET as u64) as usize;
            let start = self.segment.len();
            self.segment.resize(start + step, 0);
            let got = read_full(content, &mut self.segment[start..]).map_err(fail)?;
            if got < step {
                return Err(changed(size - left + got as u64));
            }
            if known.is_none() {
                hasher.update(&self.segment[start..]);
            }
            left -= step as u64;
        }
        if read_full(content, &mut [0]).map_err(fail)? != 0 {
            return Err(changed(size + 1));
        }
        self.segment.resize(self.segment.len() + tar_write::padding(size), 0);
        Ok(known.unwrap_or_else(|| ContentDigest(hasher.finish())))
    }

    fn cut(&mut self, mark: bool) -> Result<(), Error> {
        let full = std::mem::take(&mut self.segment);
        self.segment = self.pipeline.push(full, mark).map_err(Error::Write)?;
        Ok(())
    }

    /// Ends the layer. Ok: `W` has taken every byte of a blob with the digest and size stated.
    pub fn finish(mut self) -> Result<(W, Written), Error> {
        self.segment.extend_from_slice(&tar_write::END);
        let media_type = self.pipeline.media_type();
        let done = self.pipeline.finish(self.segment).map_err(Error::Write)?;
        let states = self.marked.into_iter().zip(done.states);
        self.marks.extend(states.map(|((entries, seen), (plain, blob, segments))| Mark {
            segments,
            entries,
            seen,
            plain,
            blob,
        }));
        let written = Written {
            diff_id: done.diff_id,
            blob: done.blob,
            size: done.size,
            plain_size: done.plain_size,
            media_type,
            tree: Tree::new(self.entries),
            segments: done.segments,
            marks: Marks(self.marks),
            reused: done.reused,
        };
        Ok((done.out, written))
    }
}

fn read_full(from: &mut dyn Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buf.len() {
        match from.read(&mut buf[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}
