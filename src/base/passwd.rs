//! `/etc/passwd`, `/etc/group`, `/etc/subuid` and `/etc/subgid`, one entry per line.
//!
//! Lines that are not entries (comments, missing or invalid numbers) are skipped, as the C library does.

/// A larger file is refused (S-12, S-22).
pub(crate) const LARGEST: u64 = 10 << 20;

/// An entry of `/etc/passwd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User<'a> {
    /// The login name.
    pub name: &'a str,
    /// The user id.
    pub uid: u32,
    /// The primary group id, if the line has one.
    pub gid: Option<u32>,
    /// The home directory; may be empty.
    pub home: &'a str,
}

/// An entry of `/etc/group`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group<'a> {
    /// The name.
    pub name: &'a str,
    /// The group id.
    pub gid: u32,
    members: &'a str,
}

impl<'a> Group<'a> {
    /// The login names of users whose supplementary group it is.
    pub(crate) fn members(&self) -> impl Iterator<Item = &'a str> {
        self.members.split(',').map(str::trim)
    }
}

/// An entry of `/etc/subuid` or `/etc/subgid`: ids that a user may map in a user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subordinate<'a> {
    /// A login name or a user id.
    pub owner: &'a str,
    /// The first id.
    pub start: u64,
    /// The number of ids.
    pub count: u64,
}

/// The users that the text of a passwd file names.
pub(crate) fn users(text: &str) -> impl Iterator<Item = User<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, _, uid) = (fields.next()?, fields.next()?, number(fields.next()?)?);
        let gid = fields.next().and_then(number);
        Some(User { name, uid, gid, home: fields.nth(1).unwrap_or("") })
    })
}

/// The groups that the text of a group file names.
pub(crate) fn groups(text: &str) -> impl Iterator<Item = Group<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, number(fields.next()?)?);
        Some(Group { name, gid, members: fields.next().unwrap_or("") })
    })
}

/// The ranges in the text of a subuid or subgid file.
pub(crate) fn subordinates(text: &str) -> impl Iterator<Item = Subordinate<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        Some(Subordinate { owner: fields.next()?, start: number(fields.next()?)?, count: number(fields.next()?)? })
    })
}

fn number<T: std::str::FromStr>(field: &str) -> Option<T> {
    field.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_not_entries_are_skipped() {
        let text = "root:x:0:0:root:/root:/bin/sh\n# note\n\napp:x:7\nbad:x:y:z\n over : x : 9 : 4294967296 ::/:\n";
        let found: Vec<_> = users(text).map(|user| (user.name, user.uid, user.gid, user.home)).collect();
        assert_eq!(found, [("root", 0, Some(0), "/root"), ("app", 7, None, ""), ("over ", 9, None, "/")]);
        let group = groups("wheel:x:10:root, app\nx\nempty:x:11\n").collect::<Vec<_>>();
        assert_eq!(
            group.iter().map(|group| (group.name, group.gid)).collect::<Vec<_>>(),
            [("wheel", 10), ("empty", 11)]
        );
        assert_eq!(group[0].members().collect::<Vec<_>>(), ["root", "app"]);
        let ranges: Vec<_> = subordinates("ann:100000:65536\n# x\nbad:x:y\n7: 5 :1\n").collect();
        assert_eq!(ranges[1], Subordinate { owner: "7", start: 5, count: 1 });
        assert_eq!(ranges.len(), 2);
    }
}
