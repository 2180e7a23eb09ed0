//! Small files, read before the layer comes to them.
//!
//! **Order.** A few threads read neighbouring files, some at a time as one batch; batches come back in the order of the
//! layer. The number of batches that are being read or waiting is bounded, and their memory goes round. A COPY of few
//! files starts no thread; large files are not read ahead at all.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::ops::Range;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Error;
use super::item::Item;
use super::view::{Data, Origin};
use crate::layer::{self, Entry};

/// A longer file is read by whoever writes the layer.
const SMALL: u64 = 128 << 10;
/// A batch ends with the file that makes it as long as this.
const BATCH: u64 = 256 << 10;
/// Fewer small files are not worth a thread.
const FEW: usize = 16;
/// Also on fewer cores: storage that has to seek, or is far away, answers several at once.
const THREADS: usize = 4;

/// What came of reading one file.
#[derive(Debug)]
enum Piece {
    /// So many bytes after those of the file before. One more than there should be if the file is longer than it was.
    Bytes(usize),
    NotOpened(crate::context::Error),
    NotRead(io::Error),
}

#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    pieces: VecDeque<Piece>,
    /// Where the next piece begins.
    at: usize,
}

struct Job {
    range: Range<usize>,
    memory: Batch,
    done: Sender<Batch>,
}

/// Hands out small files in the order of the layer.
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

/// Gives `body` the small files of `data`, in order.
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
                    // Fails only when the layer is given up.
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
    /// Has the next batch read.
    fn ask(&mut self, memory: Batch) {
        let Some(range) = self.todo.next() else { return };
        let (done, batch) = bounded(1);
        // If every reader is gone, so is the other end of `done`.
        let _ = self.jobs.send(Job { range, memory, done });
        self.pending.push_back(batch);
    }

    /// The batch that has the next file.
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

/// Which neighbours are read together; nothing if there are few files to read.
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
