//! Reads small files ahead of the layer writer.
//!
//! **Order.** A few threads read batches of neighbouring files; batches are taken in the order of the layer. The number of
//! batches is bounded, and their memory is reused. A COPY of few files starts no thread; large files are not read ahead.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::ops::Range;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Error;
use super::item::Item;
use super::view::{Data, Origin};
use crate::layer::{self, Entry};

/// Larger files are read by the layer writer.
const SMALL: u64 = 128 << 10;
/// A batch is complete when it has this many bytes.
const BATCH: u64 = 256 << 10;
/// Fewer small files are not read ahead.
const FEW: usize = 16;
/// On any number of cores: slow storage answers several requests at once.
const THREADS: usize = 4;

/// The result of reading one file.
#[derive(Debug)]
enum Piece {
    /// That many bytes, after those of the previous file. If the file has grown, one more than its size.
    Bytes(usize),
    NotOpened(crate::context::Error),
    NotRead(io::Error),
}

#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    pieces: VecDeque<Piece>,
    /// The offset of the next piece.
    at: usize,
}

struct Job {
    range: Range<usize>,
    memory: Batch,
    done: Sender<Batch>,
}

/// The small files, in the order of the layer.
pub(super) struct Ahead {
    queue: Option<Queue>,
}

struct Queue {
    jobs: Sender<Job>,
    todo: std::vec::IntoIter<Range<usize>>,
    pending: VecDeque<Receiver<Batch>>,
    current: Batch,
    room: usize,
}

/// Calls `body` with the small files of `data`, in order.
pub(super) fn read_ahead<R>(items: &[Item<'_>], data: &[Data], body: impl FnOnce(Ahead) -> R) -> R {
    let batches = batches(items, data);
    if batches.is_empty() {
        return body(Ahead { queue: None });
    }
    std::thread::scope(|scope| {
        let threads = THREADS.min(batches.len());
        let room = threads + 2;
        let (jobs, queue) = bounded::<Job>(room);
        for _ in 0..threads {
            let queue = queue.clone();
            scope.spawn(move || {
                for Job { range, memory, done } in queue {
                    // Fails only if writing the layer failed.
                    let _ = done.send(read(items, &data[range], memory));
                }
            });
        }
        let (todo, pending) = (batches.into_iter(), VecDeque::new());
        let mut queue = Queue { jobs, todo, pending, current: Batch::default(), room };
        for _ in 0..room {
            queue.ask(Batch::default());
        }
        body(Ahead { queue: Some(queue) })
    })
}

impl Ahead {
    /// The bytes of `entry`, if it is a file that was read ahead.
    pub(super) fn take(&mut self, item: &Item<'_>, origin: Origin, entry: &Entry) -> Result<Option<&[u8]>, Error> {
        let Some(queue) = self.queue.as_mut().filter(|_| is_small(item, origin)) else { return Ok(None) };
        let batch = queue.batch()?;
        match batch.pieces.pop_front() {
            Some(Piece::Bytes(len)) => {
                let start = batch.at;
                batch.at += len;
                Ok(Some(&batch.bytes[start..start + len]))
            }
            Some(Piece::NotOpened(error)) => Err(error.into()),
            Some(Piece::NotRead(source)) => Err(layer::Error::Read { path: entry.path.clone(), source }.into()),
            None => Ok(None),
        }
    }
}

impl Queue {
    /// Queues the next batch.
    fn ask(&mut self, memory: Batch) {
        let Some(range) = self.todo.next() else { return };
        let (done, batch) = bounded(1);
        // If every reader has ended, receiving from `batch` fails.
        let _ = self.jobs.send(Job { range, memory, done });
        self.pending.push_back(batch);
    }

    /// The batch with the next file.
    fn batch(&mut self) -> Result<&mut Batch, Error> {
        if self.current.pieces.is_empty()
            && let Some(next) = self.pending.pop_front()
        {
            let next =
                next.recv().map_err(|_| layer::Error::Stream(io::Error::other("a reading thread ended early")))?;
            let memory = std::mem::replace(&mut self.current, next);
            if self.pending.len() < self.room {
                self.ask(memory);
            }
        }
        Ok(&mut self.current)
    }
}

fn is_small(item: &Item<'_>, origin: Origin) -> bool {
    (1..=SMALL).contains(&item.meta(origin).size)
}

/// The ranges of files that are read as one batch; none if there are few files.
fn batches(items: &[Item<'_>], data: &[Data]) -> Vec<Range<usize>> {
    let (mut batches, mut start, mut bytes, mut files) = (Vec::new(), 0, 0, 0);
    for (at, one) in data.iter().enumerate() {
        let Data::Tree(origin) = one else { continue };
        if !is_small(&items[origin.item()], *origin) {
            continue;
        }
        files += 1;
        bytes += items[origin.item()].meta(*origin).size;
        if bytes >= BATCH {
            batches.push(start..at + 1);
            (start, bytes) = (at + 1, 0);
        }
    }
    if bytes > 0 {
        batches.push(start..data.len());
    }
    if files < FEW { Vec::new() } else { batches }
}

fn read(items: &[Item<'_>], data: &[Data], mut batch: Batch) -> Batch {
    batch.pieces.clear();
    batch.at = 0;
    let mut end = 0;
    for one in data {
        let Data::Tree(origin) = one else { continue };
        let item = &items[origin.item()];
        if !is_small(item, *origin) {
            continue;
        }
        let size = item.meta(*origin).size as usize;
        if batch.bytes.len() < end + size + 1 {
            batch.bytes.resize((end + size + 1).max(BATCH as usize), 0);
        }
        let piece = match item.tree().open(&item.path(*origin), item.meta(*origin)) {
            Ok(mut file) => fill(&mut file, &mut batch.bytes[end..end + size + 1]),
            Err(error) => Piece::NotOpened(error),
        };
        if let Piece::Bytes(len) = piece {
            end += len;
        }
        batch.pieces.push_back(piece);
    }
    batch
}

/// Reads until the end or until `buffer` is full.
fn fill(file: &mut dyn Read, buffer: &mut [u8]) -> Piece {
    let mut len = 0;
    while len < buffer.len() {
        match file.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Piece::NotRead(e),
        }
    }
    Piece::Bytes(len)
}
