//! Writing of a layer from entries and open files.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::base::digest::{BlobDigest, ContentDigest, DiffId, Hasher};
use crate::base::sparse::{SparseRead, read_full};
use crate::base::time::Timestamp;

use super::compress::Compression;
use super::entry::{Entry, EntryKind, RelPath};
use super::error::Error;
use super::limits::{Limits, check_entry};
use super::pipeline::{Output, Pipeline};
use super::resume::{Before, Mark, Marks, Seen};
use super::segment::{SegmentIndex, SegmentSource, TARGET, cut_before};
use super::tar_write;
use super::tree::Tree;
use super::xattrs;

/// How a layer is written.
#[derive(Clone, Default)]
pub struct WriteOptions {
    /// How the blob is compressed.
    pub compression: Compression,
    /// Compression threads; the number of cores if `None`. The bytes do not depend on it.
    pub threads: Option<NonZeroUsize>,
    /// Compressed segments of earlier layers, copied where nothing changed.
    pub previous: Option<Arc<dyn SegmentSource>>,
    /// The previous layer, in the same compression, for [`LayerWriter::take_over`].
    pub before: Option<Before>,
    /// Later times become this one (O-57).
    pub latest: Option<Timestamp>,
    /// Called as the layer grows.
    pub watch: Option<Watch>,
}

/// Called with the length of the tar so far, at least every few hundred milliseconds; an error ends the layer.
pub(crate) type Watch = Arc<dyn Fn(u64) -> io::Result<()> + Send + Sync>;

/// More than all headers of an entry may have.
const HEADERS: u64 = 2 << 20;

/// The most segments of zeros that are passed on at once.
const MOST: u64 = 16;

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
    /// The compressed segments, for the next layer like this one.
    pub segments: SegmentIndex,
    /// Places from which a layer with the same beginning can continue.
    pub marks: Marks,
    /// How many of the segments were copied from an earlier layer.
    pub reused: usize,
}

/// Writes one layer as canonical tar, compressed and digested in one pass.
///
/// The same entries and contents give the same bytes whatever the number of threads, the slicing of reads or the host.
/// Attributes that belong to the host rather than the file are left out (`xattrs::belongs`); times lose their
/// fraction of a second (C-13).
pub struct LayerWriter<W: Output> {
    pipeline: Pipeline<W>,
    segment: Vec<u8>,
    entries: Vec<Entry>,
    latest: Option<Timestamp>,
    watch: Option<Watch>,
    before: Option<Before>,
    /// All entries so far.
    seen: Seen,
    /// Marks that were taken over from the previous layer.
    marks: Vec<Mark>,
    /// The number of entries before each further mark, and their digest.
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
            watch: options.watch.clone(),
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
    /// looked at, and the layer is lost (S-93). Where it knows of zeros they are not read; the bytes are the same
    /// (N-5). An entry that makes the layer longer than [`Limits`] allow is refused before its content is read. A content digest
    /// in the entry is trusted; otherwise it is computed.
    pub fn append(&mut self, entry: Entry, content: &mut dyn SparseRead) -> Result<(), Error> {
        let mut entry = self.as_written(entry)?;
        let size = if let EntryKind::File { size, .. } = entry.kind { size } else { 0 };
        if cut_before(self.segment.len(), entry.path.as_bytes(), size) {
            self.marked.push((self.entries.len() as u32, self.seen.digest()));
            self.cut(true)?;
        }
        self.fits(&entry, size)?;
        let head = self.segment.len();
        tar_write::head(&entry, &mut self.segment)?;
        self.seen.head(&self.segment[head..]);
        if let EntryKind::File { size, content: known } = entry.kind {
            let digest = self.content(&entry, size, known, content)?;
            self.seen.content(&digest.0);
            entry.kind = EntryKind::File { size, content: Some(digest) };
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Takes over the longest beginning of the previous layer that has the first of the `coming` entries, before any was
    /// appended. Returns the number of entries taken over: they must not be appended. Their contents are those of their digests.
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
                // A complete write decides by this entry whether to cut.
                let size = if let EntryKind::File { size, .. } = entry.kind { size } else { 0 };
                if before.last_segment(mark).is_some_and(|len| cut_before(len, entry.path.as_bytes(), size)) {
                    best = Some((at, self.entries.len(), seen.clone()));
                }
            }
            // `append` reports what cannot be written.
            let Ok(entry) = self.as_written(entry.clone()) else { break };
            head.clear();
            if marks.peek().is_none() || tar_write::head(&entry, &mut head).is_err() {
                break;
            }
            seen.head(&head);
            match entry.kind {
                EntryKind::File { content: Some(digest), .. } => seen.content(&digest.0),
                EntryKind::File { content: None, .. } => break,
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

    /// The next entry as the layer will hold it.
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
        if let EntryKind::Hardlink { target } = &entry.kind {
            let found = self.entries.binary_search_by(|e| e.path.cmp(target)).ok().map(|i| &self.entries[i]);
            match found {
                Some(file)
                    if !matches!(file.kind, EntryKind::Hardlink { .. } | EntryKind::Dir) && !file.kind.is_marker() =>
                {
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
        content: &mut dyn SparseRead,
    ) -> Result<ContentDigest, Error> {
        let mut hasher = known.is_none().then(Hasher::new);
        let fail = |source| Error::Read { path: entry.path.clone(), source };
        let changed = |got| Error::Changed { path: entry.path.clone(), promised: size, got };
        let mut left = size;
        while left > 0 {
            let mut zeros = 0;
            if left < size {
                // Inside a large file, after a full step.
                self.cut(false)?;
                (left, zeros) = self.zeros(&entry.path, left, content, hasher.as_mut())?;
            }
            let step = left.min(TARGET as u64) as usize;
            let start = self.segment.len();
            self.segment.resize(start + step, 0);
            let got = zeros + read_full(content, &mut self.segment[start + zeros..]).map_err(fail)?;
            if got < step {
                return Err(changed(size - left + got as u64));
            }
            if let Some(hasher) = &mut hasher {
                hasher.update(&self.segment[start..]);
            }
            left -= step as u64;
        }
        if read_full(content, &mut [0]).map_err(fail)? != 0 {
            return Err(changed(size + 1));
        }
        self.segment.resize(self.segment.len() + tar_write::padding(size), 0);
        Ok(known.unwrap_or_else(|| ContentDigest(hasher.unwrap_or_default().finish())))
    }

    /// Takes whole steps of known zeros from `content`, of which `left` bytes are to come, the first of them at the
    /// beginning of a segment. The last step is never taken: what follows the file may belong to its segment.
    ///
    /// Ok: how many bytes are left, and how many zeros were taken that still have to be written.
    fn zeros(
        &mut self,
        path: &RelPath,
        mut left: u64,
        content: &mut dyn SparseRead,
        mut hasher: Option<&mut Hasher>,
    ) -> Result<(u64, usize), Error> {
        let target = TARGET as u64;
        let mut ahead = 0;
        loop {
            let most = ((left - 1) / target).min(MOST) * target;
            while ahead < most {
                match content.zeros(most - ahead).map_err(|source| Error::Read { path: path.clone(), source })? {
                    0 => break,
                    n => ahead += n,
                }
            }
            let steps = ahead / target;
            if steps == 0 {
                return Ok((left, ahead as usize));
            }
            self.pipeline.push_zeros(steps).map_err(Error::Write)?;
            if let Some(hasher) = &mut hasher {
                hasher.zeros(steps * target);
            }
            ahead -= steps * target;
            left -= steps * target;
            self.watch()?;
        }
    }

    fn cut(&mut self, mark: bool) -> Result<(), Error> {
        let full = std::mem::take(&mut self.segment);
        self.segment = self.pipeline.push(full, mark).map_err(Error::Write)?;
        self.watch()
    }

    fn watch(&self) -> Result<(), Error> {
        let length = self.pipeline.plain_size();
        self.watch.as_ref().map_or(Ok(()), |watch| watch(length).map_err(Error::Write))
    }

    /// Ok: with `size` bytes more the layer can still be read.
    fn fits(&self, entry: &Entry, size: u64) -> Result<(), Error> {
        let limit = Limits::default().total_bytes;
        let so_far = self.pipeline.plain_size() + self.segment.len() as u64;
        // With room for this header, padding and the end of the archive.
        let full = so_far.saturating_add(size).saturating_add(HEADERS) > limit;
        if full { Err(Error::TooLong { path: entry.path.clone(), limit }) } else { Ok(()) }
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
