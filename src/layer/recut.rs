//! A tar passed through byte for byte, cut into segments where [`LayerWriter`](super::LayerWriter) would cut it.

use std::io::{self, Read};

use super::entry::{Entry, EntryKind};
use super::error::Error;
use super::limits::Limits;
use super::pipeline::{Finished, Output, Pipeline};
use super::segment::{TARGET, cut_before};
use super::tar_read::{Dialect, TarReader};
use super::tar_write;
use super::writer::WriteOptions;
use crate::base::sparse::{MOST, Run, SparseRead, ZEROS, drain};

/// No segment that kiln writes is longer; other archives are cut there.
const LONG: usize = 4 * TARGET;

/// How an archive passes through.
pub(super) struct Passage<'o> {
    pub(super) dialect: Dialect,
    pub(super) limits: Limits,
    pub(super) options: &'o WriteOptions,
    /// Sparse files are written out in full: other readers of layers do not support them.
    pub(super) expand: bool,
}

/// Reads `plain`, a tar, to its end and writes it to `out` as a layer blob; `visit` may refuse an entry.
pub(super) fn recut<W: Output>(
    plain: impl SparseRead,
    out: W,
    passage: &Passage<'_>,
    visit: impl FnMut(&Entry) -> Result<(), Error>,
) -> Result<Finished<W>, Error> {
    let options = passage.options;
    let pipeline = Pipeline::new(out, options.compression, options.threads, options.previous.clone());
    let cutter = Cutter { pipeline, segment: Vec::new(), place: Place::Head(Vec::new()) };
    let tee = Tee { inner: plain, cutter, silent: false, failed: None };
    let mut reader = TarReader::new(tee, passage.dialect, passage.limits.clone());
    let walked = walk(&mut reader, passage.expand, visit);
    let mut tee = reader.into_inner();
    // Padding after the end mark; and a compressed stream shows only at its end whether it was whole.
    let mut buffer = vec![0; 64 << 10];
    let drained = walked.and_then(|()| drain::<io::Error>(&mut tee, &mut buffer, |_| Ok(())).map_err(Error::Stream));
    if let Some(error) = tee.failed {
        return Err(Error::Write(error));
    }
    drained?;
    tee.cutter.finish().map_err(Error::Write)
}

fn walk<R: SparseRead, W: Output>(
    reader: &mut TarReader<Tee<R, W>>,
    expand: bool,
    mut visit: impl FnMut(&Entry) -> Result<(), Error>,
) -> Result<(), Error> {
    loop {
        reader.skip_content()?;
        let tee = reader.input_mut();
        tee.silent = false;
        tee.cutter.place = Place::Head(Vec::new());
        let next = reader.next_entry()?;
        let (size, sparse) = (reader.stored(), reader.is_sparse());
        let cutter = &mut reader.input_mut().cutter;
        let Some(entry) = next else {
            return cutter.tail().map_err(Error::Write);
        };
        visit(&entry)?;
        let promised = if let EntryKind::File { size, .. } = entry.kind { size } else { 0 };
        if expand && sparse {
            cutter.rewrite_head(&entry)?;
            cutter.entry(entry.path.as_bytes(), promised, promised).map_err(Error::Write)?;
            write_out(reader, promised)?;
        } else {
            cutter.entry(entry.path.as_bytes(), promised, size).map_err(Error::Write)?;
        }
    }
}

/// The whole content of a sparse file, instead of what the archive holds of it.
fn write_out<R: SparseRead, W: Output>(reader: &mut TarReader<Tee<R, W>>, size: u64) -> Result<(), Error> {
    reader.input_mut().silent = true;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let zeros = reader.zeros(MOST).map_err(Error::Stream)?;
        if zeros > 0 {
            reader.input_mut().cutter.zeros(zeros).map_err(Error::Write)?;
            continue;
        }
        let n = reader.read(&mut buffer).map_err(Error::Stream)?;
        let cutter = &mut reader.input_mut().cutter;
        if n == 0 {
            return cutter.add(&tar_write::END[..tar_write::padding(size)]).map_err(Error::Write);
        }
        cutter.add(&buffer[..n]).map_err(Error::Write)?;
    }
}

/// Cuts the stream as the writer does.
struct Cutter<W: Output> {
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

impl<W: Output> Cutter<W> {
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

    /// Replaces the header of the entry by one that kiln writes.
    fn rewrite_head(&mut self, entry: &Entry) -> Result<(), Error> {
        let Place::Head(head) = &mut self.place else { return Ok(()) };
        if head.get(156) == Some(&b'g') {
            let reason = "sparse file right after a global header".to_owned();
            return Err(Error::Entry { path: entry.path.clone(), reason });
        }
        head.clear();
        tar_write::head(entry, head)
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
                        // Larger than any header.
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

    /// Adds zeros; whole steps of a file's content are passed on as a number.
    fn zeros(&mut self, mut count: u64) -> io::Result<()> {
        let target = TARGET as u64;
        while count > 0 {
            if let Place::Content { step, left } = &mut self.place {
                let whole = count.min(left.saturating_sub(1)) / target;
                if *step == 0 && whole > 0 {
                    *step = TARGET;
                    self.cut()?;
                    continue;
                }
                if *step == TARGET && whole > 0 && self.segment.is_empty() {
                    *left -= whole * target;
                    self.pipeline.push_zeros(whole)?;
                    count -= whole * target;
                    continue;
                }
            }
            let mut now = count.min(ZEROS.len() as u64);
            if let Place::Content { step: step @ 1.., left: 1.. } = self.place {
                // Not beyond the step: the next may be a whole one.
                now = now.min(step as u64);
            }
            self.add(&ZEROS[..now as usize])?;
            count -= now;
        }
        Ok(())
    }

    fn cut(&mut self) -> io::Result<()> {
        let full = std::mem::take(&mut self.segment);
        self.segment = self.pipeline.push(full, false)?;
        Ok(())
    }

    fn finish(self) -> io::Result<Finished<W>> {
        self.pipeline.finish(self.segment)
    }
}

/// A reader whose bytes also go into the layer.
struct Tee<R, W: Output> {
    inner: R,
    cutter: Cutter<W>,
    /// Bytes that are read now do not go into the layer.
    silent: bool,
    /// Writing the layer failed, rather than reading the archive.
    failed: Option<io::Error>,
}

impl<R, W: Output> Tee<R, W> {
    fn pass(&mut self, run: Run<'_>) -> io::Result<()> {
        if self.silent {
            return Ok(());
        }
        let passed = match run {
            Run::Bytes(bytes) => self.cutter.add(bytes),
            Run::Zeros(count) => self.cutter.zeros(count),
        };
        match passed {
            Ok(()) => Ok(()),
            Err(error) => {
                self.failed = Some(error);
                Err(io::Error::other("the layer cannot be written"))
            }
        }
    }
}

impl<R: Read, W: Output> Read for Tee<R, W> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.pass(Run::Bytes(&buf[..n])).map(|()| n)
    }
}

impl<R: SparseRead, W: Output> SparseRead for Tee<R, W> {
    fn zeros(&mut self, max: u64) -> io::Result<u64> {
        let n = self.inner.zeros(max)?;
        self.pass(Run::Zeros(n)).map(|()| n)
    }
}
