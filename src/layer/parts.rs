//! Parts of a stored layer: the segments that another layer does not have.

use std::collections::BTreeSet;
use std::ops::Range;

use super::resume::Marks;
use super::segment::{SegmentIndex, SegmentKey};

/// Which bytes of a blob have the entries that are not in `base`: whole entries, in order, each range a sequence of segments.
/// `index` and `marks` describe the blob.
pub(crate) fn parts_missing_in(base: &SegmentIndex, index: &SegmentIndex, marks: &Marks) -> Vec<Range<u64>> {
    let known: BTreeSet<SegmentKey> = base.0.iter().map(|segment| segment.key).collect();
    let ends = marks.0.iter().map(|mark| mark.segments as usize).chain([index.0.len()]);
    let (mut from, mut parts) = (0, Vec::<Range<u64>>::new());
    for end in ends {
        let Some(segments) = index.0.get(from..end) else { continue };
        from = end;
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else { continue };
        if segments.iter().all(|segment| known.contains(&segment.key)) {
            continue;
        }
        let range = first.offset..last.offset + u64::from(last.len);
        match parts.last_mut() {
            Some(before) if before.end == range.start => before.end = range.end,
            _ => parts.push(range),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::super::resume::Mark;
    use super::super::segment::Segment;
    use super::*;
    use crate::base::digest::Hasher;

    fn index(keys: &[u8]) -> SegmentIndex {
        let segment = |(at, key): (usize, &u8)| Segment {
            key: SegmentKey([*key; 32]),
            offset: 10 * at as u64,
            len: 10,
            plain_len: 100,
            check: [0; 32],
        };
        SegmentIndex(keys.iter().enumerate().map(segment).collect())
    }

    fn marks(segments: &[u32]) -> Marks {
        let state = || Hasher::new().state();
        let mark =
            |segments: &u32| Mark { segments: *segments, entries: 0, seen: [0; 32], plain: state(), blob: state() };
        Marks(segments.iter().map(mark).collect())
    }

    #[test]
    fn new_segments_are_read_with_the_whole_entries_around_them() {
        for (base, layer, ends, want) in [
            (&[1, 2, 3][..], &[1, 2, 3][..], &[1, 2][..], &[][..]),
            (&[1, 2, 3], &[1, 9, 3], &[1, 2], &[(10, 20)]),
            // Segments 1 to 3 are parts of one file.
            (&[1, 2, 3, 4, 5], &[1, 2, 9, 4, 5], &[1, 4], &[(10, 40)]),
            (&[1, 2, 3, 4], &[9, 2, 3, 8], &[1, 2, 3], &[(0, 10), (30, 40)]),
            (&[1, 2, 3], &[9, 8, 3], &[1, 2], &[(0, 20)]),
            (&[], &[1, 2], &[], &[(0, 20)]),
            // Marks of another blob cost time only.
            (&[1], &[2], &[7], &[(0, 10)]),
        ] {
            let parts = parts_missing_in(&index(base), &index(layer), &marks(ends));
            let parts: Vec<(u64, u64)> = parts.into_iter().map(|part| (part.start, part.end)).collect();
            assert_eq!(parts, want, "{layer:?} over {base:?}");
        }
    }
}
