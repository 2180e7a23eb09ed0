//! Finds the behaviour ids that a text cites, and the files that a page links to or names.

use crate::reader::words;

/// The letters of the ids in `docs/behaviour.md`.
const AREAS: &str = "ACFGIMNOPRSV";

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Area and number of the id that begins with word `i` of `text`, if one does: `C-8`.
fn id_at<'t>(text: &str, words: &[(usize, &'t str)], i: usize) -> Option<(&'t str, u32)> {
    let (&(at, area), &(number_at, number)) = (words.get(i)?, words.get(i + 1)?);
    let is_id = area.len() == 1
        && AREAS.contains(area)
        && is_number(number)
        && text.get(at + 1..number_at) == Some("-")
        && !text[..at].ends_with('-');
    if is_id { Some((area, number.parse().ok()?)) } else { None }
}

/// The ids that the name of a test ends in: `_s_31_m7` gives `M-7` and `S-31`.
fn ids_of_name(name: &str) -> Vec<String> {
    let mut parts: Vec<&str> = name.split('_').collect();
    let mut ids = Vec::new();
    while let Some(last) = parts.pop() {
        let number = last.trim_start_matches(|c: char| c.is_ascii_lowercase());
        let area = match &last[..last.len() - number.len()] {
            "" => parts.pop().unwrap_or_default(),
            area => area,
        };
        let area = area.to_ascii_uppercase();
        if area.len() != 1 || !AREAS.contains(&area) || !is_number(number) {
            break;
        }
        ids.push(format!("{area}-{number}"));
    }
    ids
}

/// The ids that `text` cites, with the byte they start at: `C-8`, `C-8…C-10` (all three), the decision `A4`, and those
/// at the end of a test's name.
pub(crate) fn cited(text: &str) -> Vec<(usize, String)> {
    let words = words(text);
    let mut ids = Vec::new();
    for (i, &(at, word)) in words.iter().enumerate() {
        if let Some((area, first)) = id_at(text, &words, i) {
            let (number_at, number) = words[i + 1];
            let is_range = text[number_at + number.len()..].starts_with('…');
            let last = id_at(text, &words, i + 2).filter(|&(other, _)| is_range && other == area);
            let last = last.map_or(first, |(_, last)| last);
            // The end of a range is added as a separate id.
            ids.extend((first..last.max(first + 1)).map(|number| (at, format!("{area}-{number}"))));
        }
        if word.strip_prefix('A').is_some_and(is_number) {
            ids.push((at, word.to_owned()));
        }
        if word == "fn" && text[..at].trim_end().ends_with("#[test]") {
            let name = words.get(i + 1).map_or("", |&(_, name)| name);
            ids.extend(ids_of_name(name).into_iter().map(|id| (at, id)));
        }
    }
    ids
}

/// The targets of the links of a Markdown page that are files, with the byte they start at.
pub(crate) fn links(page: &str) -> Vec<(usize, &str)> {
    let starts = page.match_indices("](").map(|(at, open)| at + open.len());
    let targets = starts.filter_map(|at| page[at..].split_once(')').map(|(target, _)| (at, target)));
    let files = targets.map(|(at, target)| (at, target.split(['#', ' ']).next().unwrap_or_default()));
    files.filter(|(_, file)| !file.is_empty() && !file.contains(':')).collect()
}

/// The paths of the repository that a Markdown page names in backticks, with the byte they start at:
/// `src/layer/tree.rs`.
pub(crate) fn paths(page: &str) -> Vec<(usize, &str)> {
    const TOPS: [&str; 8] =
        ["src/", "tests/", "testdata/", "scripts/", "docs/", "benches/", "fuzz/", "rootfs-fixtures/"];
    let spans = page.lines().scan(0, |at, line| {
        let start = *at;
        *at += line.len() + 1;
        Some((start, line))
    });
    let mut found = Vec::new();
    for (start, line) in spans {
        let mut at = start;
        for (i, part) in line.split('`').enumerate() {
            let path = part.split([' ', ':']).next().unwrap_or_default();
            // A path with an upper-case placeholder, such as `RULE`.
            let general = path.contains(['*', '{', '…', '<', '[']) || path.split('/').any(is_placeholder);
            if i % 2 == 1 && TOPS.iter().any(|top| path.starts_with(top)) && !general {
                found.push((at, path));
            }
            at += part.len() + 1;
        }
    }
    found
}

fn is_placeholder(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or_default();
    stem.len() > 1 && stem.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') && stem != "README"
}
