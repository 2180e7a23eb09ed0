//! The files that a step reads, so that the next build can name the one that changed.

/// Files by path, each with a fingerprint of everything about it that is in the step's key. It only explains misses: a
/// 64-bit fingerprint is too short to decide on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing(Vec<(Vec<u8>, u64)>);

impl Listing {
    /// Lists files, given in any order. The fingerprints of a file that is read twice are combined.
    pub(crate) fn of(files: impl IntoIterator<Item = (Vec<u8>, u64)>) -> Self {
        let mut files: Vec<(Vec<u8>, u64)> = files.into_iter().collect();
        files.sort_by(|a, b| a.0.cmp(&b.0));
        files.dedup_by(|again, first| {
            let same = again.0 == first.0;
            if same {
                first.1 = first.1.rotate_left(1) ^ again.1;
            }
            same
        });
        Self(files)
    }

    /// The first path that differs from `before`, and how many others do: `a/b changed`, `a was added, and 2 more`.
    /// `None` if no path does.
    pub(crate) fn difference(&self, before: &Self) -> Option<String> {
        // Both are sorted: merge them.
        let mut old = before.0.iter().peekable();
        let (mut here, mut gone) = (Vec::new(), Vec::new());
        for (path, print) in &self.0 {
            let missing = std::iter::from_fn(|| old.next_if(|(was, _)| was < path));
            gone.extend(missing.map(|(path, _)| (path, "was removed")));
            match old.next_if(|(was, _)| was == path) {
                Some((_, was)) if was == print => {}
                Some(_) => here.push((path, "changed")),
                None => here.push((path, "was added")),
            }
        }
        gone.extend(old.map(|(path, _)| (path, "was removed")));
        let mut all = here.into_iter().chain(gone);
        let (path, what) = all.next()?;
        let first = format!("{} {what}", String::from_utf8_lossy(path));
        Some(match all.count() {
            0 => first,
            more => format!("{first}, and {more} more"),
        })
    }

    /// Serializes for [`Listing::from_bytes`]: for each file its fingerprint, its path and a zero byte.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.iter().map(|(path, _)| path.len() + 9).sum());
        for (path, fingerprint) in &self.0 {
            bytes.extend_from_slice(&fingerprint.to_le_bytes());
            bytes.extend_from_slice(path);
            bytes.push(0);
        }
        bytes
    }

    /// Parses a stored listing, up to the first file that is cut off.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Self {
        let mut files = Vec::new();
        while let Some((fingerprint, rest)) = bytes.split_first_chunk()
            && let Some(end) = rest.iter().position(|&b| b == 0)
        {
            files.push((rest[..end].to_vec(), u64::from_le_bytes(*fingerprint)));
            bytes = &rest[end + 1..];
        }
        Self::of(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(files: &[(&str, u64)]) -> Listing {
        Listing::of(files.iter().map(|(path, print)| (path.as_bytes().to_vec(), *print)))
    }

    #[test]
    fn difference_names_first_path_and_counts_the_rest() {
        let before = listing(&[("a", 1), ("b", 2), ("z", 9)]);
        for (now, want) in [
            (listing(&[("a", 1), ("b", 2), ("z", 9)]), None),
            (listing(&[("a", 1), ("b", 3), ("z", 9)]), Some("b changed")),
            (listing(&[("a", 1), ("b", 2), ("c", 2), ("z", 9)]), Some("c was added")),
            (listing(&[("a", 1), ("b", 2)]), Some("z was removed")),
            (listing(&[("b", 5)]), Some("b changed, and 2 more")),
        ] {
            assert_eq!(now.difference(&before).as_deref(), want);
        }
    }

    #[test]
    fn listing_round_trips_and_tolerates_truncation() {
        let files = listing(&[("a", 1), ("b\n/c", u64::MAX)]);
        let bytes = files.to_bytes();
        assert_eq!(Listing::from_bytes(&bytes), files);
        assert_eq!(Listing::from_bytes(&bytes[..bytes.len() - 1]), listing(&[("a", 1)]));
    }
}
