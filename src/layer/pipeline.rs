//! From segments to a blob: both digests and the compression in one pass.
//!
//! **Order.** The caller's thread fills segments; a thread digests the uncompressed stream; workers compress; a writer thread
//! takes the results in order, digests them and writes them out. Queues are bounded and buffers are reused, so memory depends
//! on the number of threads alone. The bytes do not depend on it. A layer of one segment starts no thread.
//!
//! Segments of zeros are passed on as a number: they are compressed once, and only the digest of the tar covers each (N-5).

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::compress::{Codec, Compressed, Compression};
use super::resume::{Beginning, copy_first};
use super::segment::{Segment, SegmentIndex, SegmentSource, TARGET};
use crate::base::digest::{BlobDigest, DiffId, HashState, Hasher};
use crate::base::sparse::is_zero;

/// A writer of a layer's blob, which may be used from another thread.
pub trait Output: Write + Send + 'static {}

impl<W: Write + Send + 'static> Output for W {}

/// What a finished stream was.
pub(super) struct Finished<W> {
    pub(super) out: W,
    pub(super) diff_id: DiffId,
    pub(super) blob: BlobDigest,
    pub(super) size: u64,
    pub(super) plain_size: u64,
    pub(super) segments: SegmentIndex,
    pub(super) reused: usize,
    /// The states of the digests of tar and blob after each marked segment, and the number of segments.
    pub(super) states: Vec<(HashState, HashState, u32)>,
}

/// The consumer of the uncompressed stream.
#[derive(Default)]
struct Plain {
    hasher: Hasher,
    states: Vec<HashState>,
}

impl Plain {
    fn take(&mut self, plain: &[u8], mark: bool) {
        self.hasher.update(plain);
        if mark {
            self.states.push(self.hasher.state());
        }
    }

    fn take_zeros(&mut self, segments: u64) {
        self.hasher.zeros(segments * TARGET as u64);
    }
}

/// The consumer of compressed segments, in order.
struct Sink<W> {
    out: W,
    compression: Compression,
    blob: Hasher,
    size: u64,
    segments: Vec<Segment>,
    reused: usize,
    states: Vec<(HashState, u32)>,
    /// A file and the number of its first bytes that begin the blob.
    beginning: Option<(Arc<File>, u64)>,
    /// A segment of zeros, once there was one.
    zeros: Option<Compressed>,
}

impl<W: Output> Sink<W> {
    fn take(&mut self, done: &Compressed, mark: bool) -> io::Result<()> {
        if let Some((blob, len)) = self.beginning.take() {
            copy_first(&blob, len, &mut self.out)?;
        }
        // Uncompressed, the blob is the stream: one digest is enough.
        if self.compression != Compression::Uncompressed {
            self.blob.update(&done.bytes);
        }
        self.segments.push(Segment { offset: self.size, ..done.segment });
        self.reused += usize::from(done.reused);
        if mark {
            self.states.push((self.blob.state(), self.segments.len() as u32));
        }
        self.size += done.bytes.len() as u64;
        self.out.write_all(&done.bytes)
    }

    /// Takes `segments` times [`TARGET`] zeros.
    fn take_zeros(&mut self, segments: u64) -> io::Result<()> {
        let done = match self.zeros.take() {
            Some(done) => done,
            None => Codec::new(self.compression)?.run(&vec![0; TARGET], None, Vec::new())?,
        };
        for _ in 0..segments {
            self.take(&done, false)?;
        }
        self.zeros = Some(done);
        Ok(())
    }

    fn finish(mut self, plain: Plain, plain_size: u64) -> io::Result<Finished<W>> {
        self.out.flush()?;
        let diff = plain.hasher.finish();
        let same = self.compression == Compression::Uncompressed;
        let blob = if same { diff } else { self.blob.finish() };
        let states = plain.states.into_iter().zip(self.states);
        let states = states.map(|(plain, (blob, count))| (plain.clone(), if same { plain } else { blob }, count));
        Ok(Finished {
            out: self.out,
            diff_id: DiffId(diff),
            blob: BlobDigest(blob),
            size: self.size,
            plain_size,
            segments: SegmentIndex(self.segments),
            reused: self.reused,
            states: states.collect(),
        })
    }
}

/// Digests, compresses and writes the tar stream.
pub(super) struct Pipeline<W: Output> {
    compression: Compression,
    previous: Option<Arc<dyn SegmentSource>>,
    threads: Option<NonZeroUsize>,
    plain_size: u64,
    stage: Stage<W>,
}

enum Stage<W: Output> {
    /// In the caller's thread.
    Alone(Box<Alone<W>>),
    Shared(Pool<W>),
    /// After a failure, or the end.
    Over,
}

struct Alone<W> {
    sink: Sink<W>,
    plain: Plain,
    codec: Option<Codec>,
}

impl<W: Output> Alone<W> {
    fn push(
        &mut self,
        plain: &[u8],
        mark: bool,
        compression: Compression,
        previous: Option<&dyn SegmentSource>,
    ) -> io::Result<()> {
        self.plain.take(plain, mark);
        let codec = match &mut self.codec {
            Some(codec) => codec,
            none => none.insert(Codec::new(compression)?),
        };
        self.sink.take(&codec.run(plain, previous, Vec::new())?, mark)
    }
}

impl<W: Output> Pipeline<W> {
    pub(super) fn new(
        out: W,
        compression: Compression,
        threads: Option<NonZeroUsize>,
        previous: Option<Arc<dyn SegmentSource>>,
    ) -> Self {
        let (blob, segments, states) = (Hasher::new(), Vec::new(), Vec::new());
        let sink = Sink { out, compression, blob, size: 0, segments, reused: 0, states, beginning: None, zeros: None };
        let stage = Stage::Alone(Box::new(Alone { sink, plain: Plain::default(), codec: None }));
        Self { compression, previous, threads, plain_size: 0, stage }
    }

    pub(super) fn media_type(&self) -> &'static str {
        self.compression.media_type()
    }

    /// Continues after the beginning of another layer. Only before the first segment.
    pub(super) fn resume(&mut self, beginning: Beginning) {
        let Stage::Alone(alone) = &mut self.stage else { return };
        self.plain_size = beginning.plain_len;
        alone.plain.hasher = beginning.plain_hash;
        alone.sink.blob = beginning.blob_hash;
        alone.sink.size = beginning.len;
        alone.sink.reused = beginning.segments.len();
        alone.sink.segments = beginning.segments;
        alone.sink.beginning = Some((beginning.blob, beginning.len));
    }

    /// Starts threads with the second segment.
    fn share(&mut self) -> io::Result<()> {
        if !matches!(self.stage, Stage::Alone(_)) {
            return Ok(());
        }
        // Counting processors takes twenty system calls: only for layers that need it, once.
        let count = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let threads = self.threads.get_or_insert_with(count).get();
        if threads > 1 {
            let Stage::Alone(alone) = std::mem::replace(&mut self.stage, Stage::Over) else { return Err(ended()) };
            self.stage = Stage::Shared(Pool::start(threads, self.compression, *alone, self.previous.as_ref())?);
        }
        Ok(())
    }

    /// The length of the stream so far.
    pub(super) fn plain_size(&self) -> u64 {
        self.plain_size
    }

    /// Takes `segments` times [`TARGET`] zeros, each of them a segment that is not the last.
    pub(super) fn push_zeros(&mut self, segments: u64) -> io::Result<()> {
        self.share()?;
        self.plain_size += segments * TARGET as u64;
        match &mut self.stage {
            Stage::Alone(alone) => {
                alone.plain.take_zeros(segments);
                alone.sink.take_zeros(segments)
            }
            Stage::Shared(pool) => pool.submit_zeros(segments).map_err(|()| self.failure()),
            Stage::Over => Err(ended()),
        }
    }

    /// Takes a segment that is not the last and returns an empty buffer. `mark`: the states of the digests after it are kept.
    pub(super) fn push(&mut self, mut plain: Vec<u8>, mark: bool) -> io::Result<Vec<u8>> {
        if plain.len() == TARGET && !mark && is_zero(&plain) {
            self.push_zeros(1)?;
            plain.clear();
            return Ok(plain);
        }
        self.share()?;
        self.plain_size += plain.len() as u64;
        match &mut self.stage {
            Stage::Alone(alone) => {
                alone.push(&plain, mark, self.compression, self.previous.as_deref())?;
                plain.clear();
                Ok(plain)
            }
            Stage::Shared(pool) => match pool.submit(plain, mark) {
                Ok(()) => Ok(pool.spare.try_recv().unwrap_or_default()),
                Err(()) => Err(self.failure()),
            },
            Stage::Over => Err(ended()),
        }
    }

    /// Takes the last segment. Ok: everything is in `out`.
    pub(super) fn finish(mut self, last: Vec<u8>) -> io::Result<Finished<W>> {
        self.plain_size += last.len() as u64;
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Alone(mut alone) => {
                alone.push(&last, false, self.compression, self.previous.as_deref())?;
                alone.sink.finish(alone.plain, self.plain_size)
            }
            Stage::Shared(mut pool) => {
                // If it fails, `end` returns the cause.
                let taken = pool.submit(last, false);
                let (sink, plain) = pool.end()?;
                taken.map_err(|()| ended())?;
                sink.finish(plain, self.plain_size)
            }
            Stage::Over => Err(ended()),
        }
    }

    /// Why the threads have ended.
    fn failure(&mut self) -> io::Error {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Shared(mut pool) => pool.end().err().unwrap_or_else(ended),
            _ => ended(),
        }
    }
}

struct Job {
    plain: Arc<Vec<u8>>,
    done: Sender<io::Result<Compressed>>,
}

/// The threads of one layer. Dropping it waits for them, so that nothing is written after a failure.
struct Pool<W: Output> {
    queues: Option<Queues>,
    workers: Vec<JoinHandle<()>>,
    hasher: Option<JoinHandle<Plain>>,
    writer: Option<JoinHandle<io::Result<Sink<W>>>>,
    /// Buffers that were segments.
    spare: Receiver<Vec<u8>>,
}

struct Queues {
    jobs: Sender<Job>,
    hash: Sender<Piece<Arc<Vec<u8>>>>,
    /// The result of each job, in order. Its bound bounds all queues.
    order: Sender<Piece<Receiver<io::Result<Compressed>>>>,
}

/// What goes through a queue in the order of the stream.
enum Piece<T> {
    /// A segment, and whether to mark where it ends.
    Segment(T, bool),
    /// A number of segments of zeros.
    Zeros(u64),
}

fn ended() -> io::Error {
    io::Error::other("a compression thread ended early")
}

fn spawn<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body)
}

/// Segments waiting to be digested.
type HashQueue = Receiver<Piece<Arc<Vec<u8>>>>;
/// Results of compression, in the order of the stream.
type OrderQueue = Receiver<Piece<Receiver<io::Result<Compressed>>>>;

/// Compresses segments until `jobs` ends.
fn compress_all(
    mut codec: Codec,
    jobs: Receiver<Job>,
    previous: Option<Arc<dyn SegmentSource>>,
    blank: Receiver<Vec<u8>>,
    give_back: impl Fn(Arc<Vec<u8>>),
) {
    for Job { plain, done } in jobs {
        let result = codec.run(&plain, previous.as_deref(), blank.try_recv().unwrap_or_default());
        give_back(plain);
        // An error here means that the writer has ended and nobody needs the result.
        let _ = done.send(result);
    }
}

/// Digests the uncompressed stream until `queue` ends.
fn hash_all(mut stream: Plain, queue: HashQueue, give_back: impl Fn(Arc<Vec<u8>>)) -> Plain {
    for piece in queue {
        match piece {
            Piece::Zeros(segments) => stream.take_zeros(segments),
            Piece::Segment(plain, mark) => {
                stream.take(&plain, mark);
                give_back(plain);
            }
        }
    }
    stream
}

/// Writes compressed segments until `queue` ends; their buffers go to `written`.
fn write_all<W: Output>(mut sink: Sink<W>, queue: OrderQueue, written: Sender<Vec<u8>>) -> io::Result<Sink<W>> {
    for piece in queue {
        match piece {
            Piece::Zeros(segments) => sink.take_zeros(segments)?,
            Piece::Segment(ready, mark) => {
                let done = ready.recv().map_err(|_| ended())??;
                sink.take(&done, mark)?;
                // An error here means that enough buffers are waiting already.
                let _ = written.try_send(done.bytes);
            }
        }
    }
    Ok(sink)
}

impl<W: Output> Pool<W> {
    fn start(
        threads: usize,
        compression: Compression,
        alone: Alone<W>,
        previous: Option<&Arc<dyn SegmentSource>>,
    ) -> io::Result<Self> {
        let (jobs, job_queue) = bounded(threads + 1);
        let (hash, hash_queue) = bounded(threads + 1);
        let (order, order_queue) = bounded(threads + 1);
        // The last user of a segment returns its memory: new pages cost more than hashing the segment.
        let (reuse, spare) = bounded::<Vec<u8>>(threads + 3);
        let give_back = move |plain: Arc<Vec<u8>>| {
            if let Some(mut buffer) = Arc::into_inner(plain) {
                buffer.clear();
                // An error here means that enough buffers are waiting already.
                let _ = reuse.try_send(buffer);
            }
        };
        let (written, blank) = bounded::<Vec<u8>>(threads + 3);
        let mut workers = Vec::new();
        for _ in 0..threads {
            let (queue, blank, previous) = (job_queue.clone(), blank.clone(), previous.cloned());
            let (codec, give_back) = (Codec::new(compression)?, give_back.clone());
            workers.push(spawn("kiln-compress", move || compress_all(codec, queue, previous, blank, give_back))?);
        }
        let Alone { sink, plain, .. } = alone;
        let hasher = spawn("kiln-diff-id", move || hash_all(plain, hash_queue, give_back))?;
        let writer = spawn("kiln-blob", move || write_all(sink, order_queue, written))?;
        let queues = Some(Queues { jobs, hash, order });
        Ok(Self { queues, workers, hasher: Some(hasher), writer: Some(writer), spare })
    }

    /// Err: a thread has ended.
    fn submit(&mut self, plain: Vec<u8>, mark: bool) -> Result<(), ()> {
        let queues = self.queues.as_ref().ok_or(())?;
        let plain = Arc::new(plain);
        let (done, ready) = bounded(1);
        queues.order.send(Piece::Segment(ready, mark)).map_err(drop)?;
        queues.jobs.send(Job { plain: Arc::clone(&plain), done }).map_err(drop)?;
        queues.hash.send(Piece::Segment(plain, mark)).map_err(drop)
    }

    /// The same for segments of zeros.
    fn submit_zeros(&mut self, segments: u64) -> Result<(), ()> {
        let queues = self.queues.as_ref().ok_or(())?;
        queues.order.send(Piece::Zeros(segments)).map_err(drop)?;
        queues.hash.send(Piece::Zeros(segments)).map_err(drop)
    }

    /// Lets the threads finish, and waits for them.
    fn end(&mut self) -> io::Result<(Sink<W>, Plain)> {
        self.queues = None;
        let worked = self.workers.drain(..).try_fold((), |(), worker| worker.join().map_err(|_| ended()));
        let plain = self.hasher.take().ok_or_else(ended).and_then(|hasher| hasher.join().map_err(|_| ended()));
        let sink = self.writer.take().ok_or_else(ended).and_then(|writer| writer.join().map_err(|_| ended())?);
        let sink = sink?;
        worked?;
        Ok((sink, plain?))
    }
}

impl<W: Output> Drop for Pool<W> {
    fn drop(&mut self) {
        // An error was returned before, or the caller has one of its own.
        let _ = self.end();
    }
}
