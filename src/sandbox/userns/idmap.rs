//! The id maps of a user namespace, as data.

use std::ffi::OsString;

use crate::base::passwd;

/// `count` consecutive ids that start with `outside` on the host and with `inside` in the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) inside: u64,
    pub(super) outside: u64,
    pub(super) count: u64,
}

/// The ranges `/etc/subuid` or `/etc/subgid` (`text`) gives to a user: `(start, count)`, in order.
pub(super) fn subordinate(text: &str, name: Option<&str>, uid: u32) -> Vec<(u64, u64)> {
    let by_uid = uid.to_string();
    passwd::subordinates(text)
        .filter(|range| range.count > 0 && (Some(range.owner) == name || range.owner == by_uid))
        .map(|range| (range.start, range.count))
        .collect()
}

/// The number of subordinate ids that images use.
pub(crate) const ENOUGH: u64 = 65_536;

/// The start of a range of [`ENOUGH`] ids that overlaps no line of these files (`/etc/subuid`, `/etc/subgid`).
pub(super) fn first_free(files: &[String]) -> u64 {
    let ranges = files.iter().flat_map(|text| passwd::subordinates(text));
    let ends = ranges.filter_map(|range| range.start.checked_add(range.count));
    ends.max().unwrap_or(0).max(100_000)
}

/// The map in which 0 is the user itself, and 1 and up are its subordinate ids.
pub(super) fn map(own: u32, subordinate: &[(u64, u64)]) -> Vec<Range> {
    let mut out = vec![Range { inside: 0, outside: u64::from(own), count: 1 }];
    let mut next = 1;
    for &(start, count) in subordinate {
        out.push(Range { inside: next, outside: start, count });
        next += count;
    }
    out
}

/// As the arguments of `newuidmap` and `newgidmap`.
pub(super) fn arguments(map: &[Range]) -> Vec<OsString> {
    map.iter().flat_map(|range| [range.inside, range.outside, range.count]).map(|n| n.to_string().into()).collect()
}

/// The map of every id of a namespace to itself, from its `/proc/self/uid_map`.
pub(super) fn identity(uid_map: &str) -> Vec<Range> {
    let ranges = uid_map.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (inside, count) = (fields.next()?.parse().ok()?, fields.nth(1)?.parse::<u64>().ok()?);
        // One less than all ids: a map of all ids marks the host's own namespace.
        Some(Range { inside, outside: inside, count: count.min(u64::from(u32::MAX) - 1) })
    });
    ranges.collect()
}

/// The form that the kernel reads.
pub(super) fn lines(map: &[Range]) -> String {
    map.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count)).collect()
}

/// The number of ids of a namespace, from its `/proc/self/uid_map`.
pub(super) fn count(uid_map: &str) -> u64 {
    uid_map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).sum()
}

/// The name of a user in `/etc/passwd` (`text`).
pub(super) fn name_of(text: &str, uid: u32) -> Option<&str> {
    passwd::users(text).find(|user| user.uid == uid).map(|user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBUID: &str =
        "# comment\nann:100000:65536\nbob:165536:65536\n1000:300000:1000\nann:500000:10\nbad:x:y\nann:1:0\n";

    #[test]
    fn subordinate_finds_ranges_by_name_and_number() {
        assert_eq!(subordinate(SUBUID, Some("ann"), 1000), [(100_000, 65_536), (300_000, 1_000), (500_000, 10)]);
        assert_eq!(subordinate(SUBUID, Some("bob"), 1001), [(165_536, 65_536)]);
        assert_eq!(subordinate(SUBUID, None, 1000), [(300_000, 1_000)]);
        assert_eq!(subordinate(SUBUID, Some("carl"), 7), []);
    }

    #[test]
    fn map_makes_user_root_and_leaves_no_gap() {
        let map = map(1000, &[(100_000, 65_536), (500_000, 10)]);
        let text: Vec<_> = arguments(&map).into_iter().map(|a| a.to_string_lossy().into_owned()).collect();
        assert_eq!(text.join(" "), "0 1000 1 1 100000 65536 65537 500000 10");
    }

    #[test]
    fn first_free_overlaps_no_range() {
        assert_eq!(first_free(&[]), 100_000);
        assert_eq!(first_free(&["ann:1000:10\n".to_owned()]), 100_000);
        assert_eq!(first_free(&[SUBUID.to_owned(), "bob:600000:65536".to_owned()]), 665_536);
    }

    #[test]
    fn count_adds_all_ranges() {
        assert_eq!(count("         0          0 4294967295\n"), 4_294_967_295);
        assert_eq!(count("0 1000 1\n1 100000 65536\n"), 65_537);
    }

    #[test]
    fn identity_leaves_out_last_id_of_host() {
        assert_eq!(lines(&identity("0 0 4294967295\n")), "0 0 4294967294\n");
        assert_eq!(lines(&identity("0 1000 1\n  1 100000 65536\n")), "0 0 1\n1 1 65536\n");
    }

    #[test]
    fn name_of_finds_user_by_number() {
        assert_eq!(name_of("root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:\n", 1000), Some("ann"));
        assert_eq!(name_of("root:x:0:0::/root:/bin/sh\n", 1000), None);
    }
}
