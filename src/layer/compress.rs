//! Segments in, blob out: both digests and the compression in one pass.
//!
//! **Order.** The caller's thread fills segments and writes finished ones, in order. A hasher thread digests the
//! uncompressed stream; workers compress. Queues are bounded, so memory depends on the number of threads alone, and
//! which thread did what shows nowhere in the bytes. A layer of a single segment (most layers) starts no thread.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::digest::{BlobDigest, DiffId, Hasher, Sha256};

use super::segment::{Segment, SegmentIndex, SegmentKey, SegmentSource};

/// How a layer blob is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// One gzip member per segment: what every registry and runtime takes.
    Gzip {
        /// 1 to 12.
        level: i32,
    },
    /// One zstd frame per segment: faster and smaller.
    Zstd {
        /// 1 to 22.
        level: i32,
    },
    /// None.
    Uncompressed,
}

impl Default for Compression {
    /// Gzip at a level that is as small as zlib's default and twice as fast.
    fn default() -> Self {
        Self::Gzip { level: 4 }
    }
}

impl Compression {
    /// The OCI media type of such a layer.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Gzip { .. } => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd { .. } => "application/vnd.oci.image.layer.v1.tar+zstd",
            Self::Uncompressed => "application/vnd.oci.image.layer.v1.tar",
        }
    }

    /// Names the compressed form exactly: equal text and equal bytes in, equal bytes out.
    pub fn method(self) -> String {
        match self {
            Self::Gzip { level } => format!("gzip libdeflate-1 dense-stored {level}"),
            Self::Zstd { level } => format!("zstd libzstd-{} {level}", zstd::zstd_safe::version_number()),
            Self::Uncompressed => "plain".to_owned(),
        }
    }
}

/// What a finished stream was.
pub(super) struct Finished<W> {
    pub(super) out: W,
    pub(super) diff_id: DiffId,
    pub(super) blob: BlobDigest,
    pub(super) size: u64,
    pub(super) plain_size: u64,
    pub(super) segments: SegmentIndex,
}

struct Done {
    bytes: Vec<u8>,
    segment: Segment,
}

struct Job {
    plain: Arc<Vec<u8>>,
    done: Sender<io::Result<Done>>,
}

/// Everything behind the tar stream.
pub(super) struct Pipeline<W> {
    out: W,
    blob: Hasher,
    size: u64,
    plain_size: u64,
    segments: Vec<Segment>,
    compression: Compression,
    previous: Option<Arc<dyn SegmentSource>>,
    threads: usize,
    /// Digests the stream while there are no threads.
    diff: Hasher,
    inline: Option<Codec>,
    pool: Option<Pool>,
}

struct Pool {
    jobs: Sender<Job>,
    hash: Sender<Arc<Vec<u8>>>,
    hasher: JoinHandle<Sha256>,
    workers: Vec<JoinHandle<()>>,
    pending: VecDeque<Receiver<io::Result<Done>>>,
    spare: Receiver<Vec<u8>>,
}

impl<W: Write> Pipeline<W> {
    pub(super) fn new(
        out: W,
        compression: Compression,
        threads: Option<NonZeroUsize>,
        previous: Option<Arc<dyn SegmentSource>>,
    ) -> Self {
        let threads = threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
        Self {
            out,
            blob: Hasher::new(),
            size: 0,
            plain_size: 0,
            segments: Vec::new(),
            compression,
            previous,
            threads,
            diff: Hasher::new(),
            inline: None,
            pool: None,
        }
    }

    pub(super) fn media_type(&self) -> &'static str {
        self.compression.media_type()
    }

    /// Takes a segment that is not the last and gives an empty buffer back.
    pub(super) fn push(&mut self, plain: Vec<u8>) -> io::Result<Vec<u8>> {
        if self.threads == 1 && self.pool.is_none() {
            return self.push_inline(plain);
        }
        self.plain_size += plain.len() as u64;
        if self.pool.is_none() {
            self.pool = Some(Pool::start(self.threads, self.compression, &self.diff, self.previous.as_ref())?);
        }
        let ready = match &mut self.pool {
            Some(pool) => {
                pool.submit(plain)?;
                if pool.pending.len() > self.threads + 1 { pool.pending.pop_front() } else { None }
            }
            None => None,
        };
        if let Some(ready) = ready {
            let done = ready.recv().map_err(|_| io::Error::other("a compression thread ended early"))?;
            self.emit(done?)?;
        }
        Ok(self.pool.as_ref().and_then(|p| p.spare.try_recv().ok()).unwrap_or_default())
    }

    fn push_inline(&mut self, mut plain: Vec<u8>) -> io::Result<Vec<u8>> {
        self.plain_size += plain.len() as u64;
        self.diff.update(&plain);
        let codec = match &mut self.inline {
            Some(codec) => codec,
            none => none.insert(Codec::new(self.compression)?),
        };
        let done = codec.run(&plain, self.previous.as_deref())?;
        self.emit(done)?;
        plain.clear();
        Ok(plain)
    }

    fn emit(&mut self, mut done: Done) -> io::Result<()> {
        if self.compression != Compression::Uncompressed {
            self.blob.update(&done.bytes);
            done.segment.offset = self.size;
            self.segments.push(done.segment);
        }
        self.size += done.bytes.len() as u64;
        self.out.write_all(&done.bytes)
    }

    /// Takes the last segment. Ok: everything is in `out`.
    pub(super) fn finish(mut self, last: Vec<u8>) -> io::Result<Finished<W>> {
        match self.pool.take() {
            None => {
                self.push_inline(last)?;
            }
            Some(mut pool) => {
                self.plain_size += last.len() as u64;
                pool.submit(last)?;
                let ended = || io::Error::other("a compression thread ended early");
                while let Some(ready) = pool.pending.pop_front() {
                    let done = ready.recv().map_err(|_| ended())??;
                    self.emit(done)?;
                }
                drop((pool.jobs, pool.hash));
                for worker in pool.workers {
                    worker.join().map_err(|_| ended())?;
                }
                self.diff = Hasher::new();
                let digest = pool.hasher.join().map_err(|_| ended())?;
                return self.finished(digest);
            }
        }
        let digest = std::mem::take(&mut self.diff).finish();
        self.finished(digest)
    }

    fn finished(mut self, diff: Sha256) -> io::Result<Finished<W>> {
        self.out.flush()?;
        // Uncompressed, the blob is the stream: one digest is enough.
        let blob = if self.compression == Compression::Uncompressed { diff } else { self.blob.finish() };
        Ok(Finished {
            out: self.out,
            diff_id: DiffId(diff),
            blob: BlobDigest(blob),
            size: self.size,
            plain_size: self.plain_size,
            segments: SegmentIndex(self.segments),
        })
    }
}

impl Pool {
    fn start(
        threads: usize,
        compression: Compression,
        diff: &Hasher,
        previous: Option<&Arc<dyn SegmentSource>>,
    ) -> io::Result<Self> {
        let (jobs, job_queue) = bounded::<Job>(threads + 2);
        let (hash, hash_queue) = bounded::<Arc<Vec<u8>>>(threads + 2);
        // Whoever lets go of a segment last hands its memory back: fresh pages cost more than hashing them.
        let (reuse, spare) = bounded::<Vec<u8>>(threads + 4);
        let give_back = move |plain: Arc<Vec<u8>>| {
            if let Some(mut buffer) = Arc::into_inner(plain) {
                buffer.clear();
                // Full: enough are waiting already.
                let _ = reuse.try_send(buffer);
            }
        };
        let mut workers = Vec::new();
        for _ in 0..threads {
            let (queue, previous, give_back) = (job_queue.clone(), previous.cloned(), give_back.clone());
            let mut codec = Codec::new(compression)?;
            workers.push(std::thread::Builder::new().name("kiln-compress".into()).spawn(move || {
                for Job { plain, done } in queue {
                    let result = codec.run(&plain, previous.as_deref());
                    give_back(plain);
                    // The writer gave up: nobody wants the result.
                    let _ = done.send(result);
                }
            })?);
        }
        let mut diff = diff.clone();
        let hasher = std::thread::Builder::new().name("kiln-diff-id".into()).spawn(move || {
            for plain in hash_queue {
                diff.update(&plain);
                give_back(plain);
            }
            diff.finish()
        })?;
        Ok(Self { jobs, hash, hasher, workers, pending: VecDeque::new(), spare })
    }

    fn submit(&mut self, plain: Vec<u8>) -> io::Result<()> {
        let plain = Arc::new(plain);
        let (done, ready) = bounded(1);
        let ended = |_| io::Error::other("a compression thread ended early");
        self.jobs.send(Job { plain: Arc::clone(&plain), done }).map_err(|_| ended(()))?;
        self.hash.send(plain).map_err(|_| ended(()))?;
        self.pending.push_back(ready);
        Ok(())
    }
}

/// Compresses segments, one at a time.
struct Codec {
    method: String,
    kind: CodecKind,
}

enum CodecKind {
    Gzip(Box<Gzip>),
    Zstd(Box<zstd::bulk::Compressor<'static>>),
    Plain,
}

impl Codec {
    fn new(compression: Compression) -> io::Result<Self> {
        let kind = match compression {
            Compression::Gzip { level } => CodecKind::Gzip(Box::new(Gzip::new(level)?)),
            Compression::Zstd { level } => CodecKind::Zstd(Box::new(zstd::bulk::Compressor::new(level)?)),
            Compression::Uncompressed => CodecKind::Plain,
        };
        Ok(Self { method: compression.method(), kind })
    }

    /// The compressed form of `plain`, copied from an earlier layer if it has it.
    fn run(&mut self, plain: &[u8], previous: Option<&dyn SegmentSource>) -> io::Result<Done> {
        let mut segment =
            Segment { key: SegmentKey([0; 32]), offset: 0, len: 0, plain_len: plain.len() as u32, check: [0; 32] };
        if matches!(self.kind, CodecKind::Plain) {
            return Ok(Done { bytes: plain.to_vec(), segment });
        }
        segment.key = SegmentKey::of(&self.method, plain);
        let bytes = match previous.and_then(|p| p.get(&segment.key)) {
            Some(bytes) => bytes,
            None => self.compress(plain)?,
        };
        segment.len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        segment.check = *blake3::hash(&bytes).as_bytes();
        Ok(Done { bytes, segment })
    }

    fn compress(&mut self, plain: &[u8]) -> io::Result<Vec<u8>> {
        match &mut self.kind {
            CodecKind::Gzip(gzip) => gzip.compress(plain),
            CodecKind::Zstd(compressor) => compressor.compress(plain),
            CodecKind::Plain => Ok(plain.to_vec()),
        }
    }
}

/// Bytes looked at to tell whether a segment is worth compressing.
const SAMPLE: usize = 32 << 10;
/// In pieces of so many.
const PIECE: usize = 2 << 10;

/// Makes gzip members. What is dense already (archives, pictures, packages) is stored: trying would cost the most time
/// and save nothing.
struct Gzip {
    wanted: libdeflater::Compressor,
    fast: libdeflater::Compressor,
    none: libdeflater::Compressor,
    sample: Vec<u8>,
    scratch: Vec<u8>,
}

impl Gzip {
    fn new(level: i32) -> io::Result<Self> {
        let compressor = |level| {
            let level = libdeflater::CompressionLvl::new(level)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "gzip level must be 1 to 12"))?;
            io::Result::Ok(libdeflater::Compressor::new(level))
        };
        let mut fast = compressor(1)?;
        let scratch = vec![0; fast.deflate_compress_bound(SAMPLE)];
        Ok(Self { wanted: compressor(level)?, fast, none: compressor(0)?, sample: Vec::new(), scratch })
    }

    fn compress(&mut self, plain: &[u8]) -> io::Result<Vec<u8>> {
        let compressor = if self.is_dense(plain)? { &mut self.none } else { &mut self.wanted };
        let mut out = vec![0; compressor.gzip_compress_bound(plain.len())];
        let len = compressor.gzip_compress(plain, &mut out).map_err(io::Error::other)?;
        out.truncate(len);
        Ok(out)
    }

    /// Whether a sample from all over `plain` hardly shrinks. The bytes alone decide.
    fn is_dense(&mut self, plain: &[u8]) -> io::Result<bool> {
        if plain.len() < 4 * SAMPLE {
            return Ok(false);
        }
        self.sample.clear();
        let stride = plain.len() / (SAMPLE / PIECE);
        for start in (0..SAMPLE / PIECE).map(|i| i * stride) {
            self.sample.extend_from_slice(&plain[start..start + PIECE]);
        }
        let len = self.fast.deflate_compress(&self.sample, &mut self.scratch).map_err(io::Error::other)?;
        Ok(len > SAMPLE / 100 * 98)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_dense_throughout_is_stored() {
        let mut state = 1u64;
        let mut random = |len: usize| -> Vec<u8> {
            (0..len)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 56) as u8
                })
                .collect()
        };
        let text = |len: usize| b"some words again and again ".iter().copied().cycle().take(len).collect::<Vec<u8>>();
        let dense = random(1 << 20);
        let half = [random(512 << 10), text(512 << 10)].concat();
        let mut gzip = Gzip::new(4).unwrap();
        for (plain, below, stored) in [
            (dense.clone(), (1 << 20) + 2000, true),
            (dense[..100 << 10].to_vec(), 101 << 10, false),
            (half, 600 << 10, false),
            (text(1 << 20), 20 << 10, false),
        ] {
            assert_eq!(gzip.is_dense(&plain).unwrap(), stored);
            let packed = gzip.compress(&plain).unwrap();
            assert!(packed.len() < below, "{} bytes", packed.len());
            let mut back = Vec::new();
            io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&packed[..]), &mut back).unwrap();
            assert!(back == plain);
        }
        assert!(Gzip::new(13).is_err());
    }
}
