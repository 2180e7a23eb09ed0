//! "Did you mean": the nearest of several known words.

/// The known word nearest to `word`, ignoring case: about a third of its letters (at least one, at most three) may
/// differ. Nothing if `word` itself is known.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    // A longer word is not a typo, and the distance takes quadratic time.
    if lower.is_empty() || lower.len() > 64 {
        return None;
    }
    let mut best: Option<(usize, &'a str)> = None;
    for candidate in known {
        let other = candidate.to_lowercase();
        if candidate == word {
            return None;
        }
        let allowed = ((other.chars().count().max(lower.chars().count()) + 1) / 3).clamp(1, 3);
        if other.len() > 96 {
            continue;
        }
        let distance = distance(&lower, &other);
        if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Edit distance with neighbouring swaps counted once.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_near_words_only() {
        let known = ["RUN", "COPY", "ENTRYPOINT", "ENV"];
        assert_eq!(nearest("CPOY", known), Some("COPY"));
        assert_eq!(nearest("entrypiont", known), Some("ENTRYPOINT"));
        assert_eq!(nearest("RNU", known), Some("RUN"));
        assert_eq!(nearest("WHATEVER", known), None);
        assert_eq!(nearest("RUN", known), None);
        assert_eq!(nearest("", known), None);
    }
}
