//! Tables as text, and the forms of sizes, ids and times in them.

use crate::base::digest::BlobDigest;
use crate::base::time::Timestamp;
use crate::ui::sanitize;

/// Aligns rows with equally many cells; the first is the heading. Lines have no trailing spaces.
pub(super) fn lines(rows: &[Vec<String>]) -> Vec<String> {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| sanitize::text(cell).replace(['\n', '\t'], " ")).collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("   ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// `12.3MB`: decimal, three digits.
pub(super) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if value < 999.5 || unit == "TB" {
            return match unit {
                "B" => format!("{bytes}B"),
                _ if value < 9.995 => format!("{value:.2}{unit}"),
                _ if value < 99.95 => format!("{value:.1}{unit}"),
                _ => format!("{value:.0}{unit}"),
            };
        }
        value /= 1000.0;
    }
    String::new()
}

/// The first twelve digits, or the whole digest.
pub(super) fn id(digest: BlobDigest, whole: bool) -> String {
    if whole { digest.to_string() } else { digest.hex()[..12].to_owned() }
}

/// `3 days ago`, as Docker counts.
pub(super) fn since(time: Option<Timestamp>) -> String {
    let Some(time) = time else { return "N/A".to_owned() };
    ago(Timestamp::now().secs - time.secs)
}

fn ago(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    let text = match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 14 => format!("{} days", hours / 24),
        _ if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    };
    format!("{text} ago")
}

/// `2024-05-01 10:00`, UTC.
pub(super) fn time(time: Option<Timestamp>) -> String {
    match time {
        Some(time) => time.to_string().get(..16).map(|t| t.replace('T', " ")).unwrap_or_default(),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_aligns_columns_and_escapes_controls() {
        let rows = [vec!["A".into(), "B".into()], vec!["long\u{1b}[2J".into(), "x\ny".into()]];
        assert_eq!(lines(&rows), ["A             B", "long\\x1b[2J   x y"]);
    }

    #[test]
    fn age_is_counted_as_docker_counts() {
        for (seconds, want) in [
            (-5, "Less than a second ago"),
            (59, "59 seconds ago"),
            (90, "About a minute ago"),
            (3000, "50 minutes ago"),
            (3700, "About an hour ago"),
            (3600 * 30, "30 hours ago"),
            (86_400 * 5, "5 days ago"),
            (86_400 * 20, "2 weeks ago"),
            (86_400 * 100, "3 months ago"),
            (86_400 * 800, "2 years ago"),
        ] {
            assert_eq!(ago(seconds), want);
        }
        assert_eq!(since(None), "N/A");
    }

    #[test]
    fn sizes_show_three_digits() {
        for (bytes, want) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (12_345, "12.3kB"),
            (999_999, "1.00MB"),
            (1_500_000_000, "1.50GB"),
        ] {
            assert_eq!(size(bytes), want);
        }
        assert_eq!(time(Some(Timestamp::from_secs(1_700_000_000))), "2023-11-14 22:13");
    }
}
