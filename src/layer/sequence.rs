//! A list that many versions share: making one from another copies only what lies around the changes.
//!
//! **Holds.** Items in chunks of at most [`MAX`]. A version that takes a whole chunk over from another shares it, so that
//! a version costs what it changes, and one pointer per chunk.

use std::sync::Arc;

/// How many items a chunk has at most.
const MAX: usize = if cfg!(test) { 8 } else { 256 };
/// A chunk with fewer items is merged with the next one: many small changes do not leave many small chunks.
const MIN: usize = MAX / 4;

/// A list of items.
#[derive(Clone, Debug)]
pub(super) struct Sequence<T> {
    /// None of them is empty.
    chunks: Vec<Arc<Vec<T>>>,
}

/// The place of an item, or the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    chunk: usize,
    item: usize,
}

impl<T> Default for Sequence<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T: Copy> Sequence<T> {
    /// Where the first item is.
    pub(super) fn start(&self) -> Position {
        Position { chunk: 0, item: 0 }
    }

    /// Behind the last item.
    pub(super) fn end(&self) -> Position {
        Position { chunk: self.chunks.len(), item: 0 }
    }

    /// The item at `at`.
    pub(super) fn get(&self, at: Position) -> Option<T> {
        self.chunks.get(at.chunk)?.get(at.item).copied()
    }

    /// The last item.
    pub(super) fn last(&self) -> Option<T> {
        self.chunks.last()?.last().copied()
    }

    /// The place behind the item at `at`.
    pub(super) fn next(&self, at: Position) -> Position {
        self.normal(Position { item: at.item + 1, ..at })
    }

    /// The first place from `from` on whose item is not `before`; items that are `before` come first.
    pub(super) fn partition_point(&self, from: Position, before: impl Fn(T) -> bool) -> Position {
        let Some(rest) = self.chunks.get(from.chunk + 1..) else { return from };
        let chunk = from.chunk + rest.partition_point(|chunk| before(chunk[0]));
        let skipped = if chunk == from.chunk { from.item } else { 0 };
        let item = skipped + self.chunks[chunk][skipped..].partition_point(|&item| before(item));
        self.normal(Position { chunk, item })
    }

    /// The items from `from` to `to`, in order.
    pub(super) fn range(&self, from: Position, to: Position) -> impl Iterator<Item = T> {
        let chunks = self.chunks.iter().enumerate().take(to.chunk + 1).skip(from.chunk);
        chunks.flat_map(move |(number, chunk)| {
            let start = if number == from.chunk { from.item } else { 0 };
            let end = if number == to.chunk { to.item } else { chunk.len() };
            chunk[start..end].iter().copied()
        })
    }

    /// All items, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter().copied())
    }

    /// Adds an item at the end.
    pub(super) fn push(&mut self, item: T) {
        match self.chunks.last_mut().and_then(Arc::get_mut).filter(|last| last.len() < MAX) {
            Some(last) => last.push(item),
            None => self.chunks.push(Arc::new(vec![item])),
        }
    }

    /// Removes the last item.
    pub(super) fn pop(&mut self) {
        if let Some(last) = self.chunks.last_mut() {
            Arc::make_mut(last).pop();
        }
        self.chunks.pop_if(|last| last.is_empty());
    }

    /// Adds the items of `other` from `from` to `to` at the end, sharing whole chunks.
    pub(super) fn extend(&mut self, other: &Self, from: Position, to: Position) {
        for (number, chunk) in other.chunks.iter().enumerate().take(to.chunk + 1).skip(from.chunk) {
            let start = if number == from.chunk { from.item } else { 0 };
            let end = if number == to.chunk { to.item } else { chunk.len() };
            let is_whole = (start, end) == (0, chunk.len()) && end >= MIN;
            if is_whole && self.chunks.last().is_none_or(|last| last.len() >= MIN) {
                self.chunks.push(Arc::clone(chunk));
            } else {
                self.append(&chunk[start..end]);
            }
        }
    }

    fn append(&mut self, items: &[T]) {
        match self.chunks.last_mut().and_then(Arc::get_mut) {
            Some(last) => {
                last.extend_from_slice(items);
                if last.len() > MAX {
                    // In halves: a short rest would be merged with the next chunk, and so on to the end.
                    let rest = last.split_off(last.len() / 2);
                    last.shrink_to_fit();
                    self.chunks.push(Arc::new(rest));
                }
            }
            None if items.is_empty() => {}
            None => self.chunks.push(Arc::new(items.to_vec())),
        }
    }

    fn normal(&self, at: Position) -> Position {
        match self.chunks.get(at.chunk) {
            Some(chunk) if at.item >= chunk.len() => Position { chunk: at.chunk + 1, item: 0 },
            _ => at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(items: impl IntoIterator<Item = u32>) -> Sequence<u32> {
        let mut sequence = Sequence::default();
        items.into_iter().for_each(|item| sequence.push(item));
        sequence
    }

    #[test]
    fn changed_version_shares_the_other_chunks() {
        let old = sequence(0..800);
        let at = old.partition_point(old.start(), |item| item < 401);
        let mut new = Sequence::default();
        new.extend(&old, old.start(), at);
        new.push(1000);
        new.extend(&old, old.next(at), old.end());
        let items: Vec<u32> = new.iter().collect();
        let expected: Vec<u32> = (0..800).map(|item| if item == 401 { 1000 } else { item }).collect();
        assert_eq!(items, expected);
        let is_shared = |chunk: &&Arc<Vec<u32>>| old.chunks.iter().any(|other| Arc::ptr_eq(chunk, other));
        assert!(new.chunks.iter().filter(is_shared).count() >= old.chunks.len() - 3);
    }

    #[test]
    fn chunks_stay_large_after_many_changes() {
        let mut now = sequence((0..400).map(|item| item * 1000));
        for round in 0..1000 {
            let wanted = round * 397 % 400_000 + 1;
            let at = now.partition_point(now.start(), |item| item < wanted);
            let mut next = Sequence::default();
            next.extend(&now, now.start(), at);
            next.push(wanted);
            let rest = if round % 3 == 0 && at != now.end() { now.next(at) } else { at };
            next.extend(&now, rest, now.end());
            now = next;
        }
        let items: Vec<u32> = now.iter().collect();
        assert!(items.is_sorted() && now.chunks.iter().all(|chunk| (1..=MAX).contains(&chunk.len())));
        assert!(now.chunks.len() <= items.len() / MIN + 1, "{} chunks of {} items", now.chunks.len(), items.len());
    }

    #[test]
    fn range_and_pop_cross_chunks() {
        let mut items = sequence(0..20);
        let (from, to) =
            (items.partition_point(items.start(), |n| n < 5), items.partition_point(items.start(), |n| n < 18));
        assert!(items.range(from, to).eq(5..18));
        assert!(items.range(to, items.end()).eq(18..20));
        let before = items.clone();
        (0..5).for_each(|_| items.pop());
        assert!(items.iter().eq(0..15) && before.iter().eq(0..20));
        assert_eq!((items.last(), items.get(items.end())), (Some(14), None));
    }
}
