//! A layer's blob in another compression.
//!
//! **Holds.** The tar stays byte for byte as it is. It is cut where [`LayerWriter`](super::LayerWriter) would have cut
//! it, so a layer of ours comes out as if it had been written in the other compression to begin with.

use std::io::{self, Read, Write};

use super::compress::Pipeline;
use super::decompress::decompress;
use super::entry::Kind;
use super::error::Error;
use super::limits::Limits;
use super::segment::{SegmentIndex, TARGET, cut_before};
use super::tar_read::{Dialect, TarReader};
use super::writer::WriteOptions;
use crate::base::digest::{BlobDigest, DiffId};

/// No segment of a layer of ours is longer; a foreign archive is cut there.
const LONG: usize = 4 * TARGET;

/// A layer that was compressed again.
#[derive(Clone, Debug)]
pub struct Recompressed {
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
    /// Where which compressed segment lies.
    pub segments: SegmentIndex,
}

/// Writes the layer `diff_id`, of which `blob` is one compressed form, to `out` in another.
///
/// Ok: `out` has taken every byte of it, and `blob` was that layer.
pub fn recompress<W: Write>(
    blob: impl Read + Send,
    diff_id: DiffId,
    out: W,
    options: &WriteOptions,
) -> Result<(W, Recompressed), Error> {
    let limits = Limits::default();
    let (_, plain) = decompress(blob, &limits).map_err(Error::Stream)?;
    let pipeline = Pipeline::new(out, options.compression, options.threads, options.previous.clone());
    let tee = Tee {
        inner: plain,
        cutter: Cutter { pipeline, segment: Vec::new(), place: Place::Head(Vec::new()) },
        failed: None,
    };
    let mut reader = TarReader::new(tee, Dialect::Layer, limits);
    let walked = walk(&mut reader);
    let mut tee = reader.into_inner();
    let drained = walked.and_then(|()| io::copy(&mut tee, &mut io::sink()).map_err(Error::Stream));
    if let Some(error) = tee.failed {
        return Err(Error::Write(error));
    }
    drained?;
    let media_type = tee.cutter.pipeline.media_type();
    let done = tee.cutter.finish().map_err(Error::Write)?;
    if done.diff_id != diff_id {
        return Err(Error::DiffId { want: diff_id, got: done.diff_id });
    }
    let recompressed = Recompressed {
        diff_id,
        blob: done.blob,
        size: done.size,
        plain_size: done.plain_size,
        media_type,
        segments: done.segments,
    };
    Ok((done.out, recompressed))
}

fn walk<R: Read, W: Write>(reader: &mut TarReader<Tee<R, W>>) -> Result<(), Error> {
    loop {
        reader.skip_content()?;
        reader.input_mut().cutter.place = Place::Head(Vec::new());
        let next = reader.next_entry()?;
        let size = reader.stored();
        let tee = reader.input_mut();
        let Some(entry) = next else {
            return tee.cutter.tail().map_err(Error::Write);
        };
        let promised = if let Kind::File { size, .. } = entry.kind { size } else { 0 };
        tee.cutter.entry(entry.path.as_bytes(), promised, size).map_err(Error::Write)?;
    }
}

/// Cuts the stream as the writer does.
struct Cutter<W: Write> {
    pipeline: Pipeline<W>,
    segment: Vec<u8>,
    place: Place,
}

/// Where in the archive we are.
enum Place {
    /// In headers: whether a segment ends before them is known only when the entry is.
    Head(Vec<u8>),
    /// In content: so much until the next step, and until the end.
    Content { step: usize, left: u64 },
    /// After the last entry.
    Tail,
}

impl<W: Write> Cutter<W> {
    /// The headers read last are those of this entry.
    fn entry(&mut self, path: &[u8], size: u64, stored: u64) -> io::Result<()> {
        let head = match std::mem::replace(&mut self.place, Place::Content { step: TARGET, left: stored }) {
            Place::Head(head) => head,
            _ => Vec::new(),
        };
        if cut_before(self.segment.len(), path, size) {
            self.cut()?;
        }
        self.segment.extend_from_slice(&head);
        Ok(())
    }

    fn tail(&mut self) -> io::Result<()> {
        if let Place::Head(end) = std::mem::replace(&mut self.place, Place::Tail) {
            self.add(&end)?;
        }
        Ok(())
    }

    fn add(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, cut) = match &mut self.place {
                Place::Head(head) => {
                    let now = bytes.len().min(LONG - head.len());
                    head.extend_from_slice(&bytes[..now]);
                    bytes = &bytes[now..];
                    if head.len() == LONG {
                        // Something between entries that is none, and larger than any header.
                        self.segment.append(head);
                        self.cut()?;
                    }
                    continue;
                }
                // Padding.
                Place::Content { left: 0, .. } => (bytes.len(), false),
                Place::Content { step, left } => {
                    let cut = *step == 0;
                    if cut {
                        *step = TARGET;
                    }
                    let now = bytes.len().min(*step).min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *step -= now;
                    *left -= now as u64;
                    (now, cut)
                }
                Place::Tail => {
                    let room = LONG.saturating_sub(self.segment.len());
                    (bytes.len().min(if room == 0 { LONG } else { room }), room == 0)
                }
            };
            if cut {
                self.cut()?;
            }
            self.segment.extend_from_slice(&bytes[..now]);
            bytes = &bytes[now..];
        }
        Ok(())
    }

    fn cut(&mut self) -> io::Result<()> {
        let full = std::mem::take(&mut self.segment);
        self.segment = self.pipeline.push(full)?;
        Ok(())
    }

    fn finish(self) -> io::Result<super::compress::Finished<W>> {
        self.pipeline.finish(self.segment)
    }
}

/// What is read also goes into the layer.
struct Tee<R, W: Write> {
    inner: R,
    cutter: Cutter<W>,
    /// The layer could not be written: not the archive's fault.
    failed: Option<io::Error>,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        match self.cutter.add(&buf[..n]) {
            Ok(()) => Ok(n),
            Err(error) => {
                self.failed = Some(error);
                Err(io::Error::other("the layer cannot be written"))
            }
        }
    }
}
