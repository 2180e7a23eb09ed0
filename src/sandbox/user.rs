//! `USER` text → ids, by the root's own `/etc/passwd` and `/etc/group`.

use std::ffi::OsStr;
use std::io::{self, Read};

use crate::base::passwd::{self, User, groups};
use crate::base::rooted::Root;

use super::problem::{Problem, Step};

/// Larger user databases are refused (S-12).
const LONGEST: u64 = 8 << 20;

/// Who the command runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// User id.
    pub(super) uid: u32,
    /// Primary group id.
    pub(super) gid: u32,
    /// Supplementary groups; the primary one among them (S-7).
    pub(super) groups: Vec<u32>,
    /// Home directory, `/` if nobody says.
    pub(super) home: String,
}

/// Looks `text` up in `root`. A numeric user needs no entry; a name does.
pub(super) fn resolve(root: &Root, text: &str) -> Step<Identity> {
    let passwd = database(root, "/etc/passwd")?;
    let group = database(root, "/etc/group")?;
    identity(text, &passwd, &group)
}

fn database(root: &Root, path: &str) -> Step<String> {
    let unusable = |e: &io::Error| Problem::host(format!("read {path} of the root"), e).requested();
    let file = match root.open_file(OsStr::new(path)) {
        Ok(file) => file,
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(String::new()),
        Err(e) if e.raw_os_error().is_none() => {
            return Err(Problem::request(format!("read {path} of the root: {e}")));
        }
        Err(e) => return Err(unusable(&e)),
    };
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|e| unusable(&e))?;
    if bytes.len() as u64 > LONGEST {
        return Err(Problem::request(format!("read {path} of the root: larger than {} MiB", LONGEST >> 20)));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The pure part of [`resolve`].
fn identity(text: &str, passwd: &str, group: &str) -> Step<Identity> {
    let (user, wanted) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let entry = match number(user)? {
        Some(uid) => users(passwd).find(|entry| entry.name == user || entry.uid == uid),
        None => Some(users(passwd).find(|entry| entry.name == user).ok_or_else(|| {
            let known = some_names(users(passwd).map(|entry| entry.name));
            let problem = Problem::request(format!("no user {user:?} in /etc/passwd of the root"));
            problem.hint(format!("{known}; a numeric id needs no entry"))
        })?),
    };
    let uid = match &entry {
        Some(entry) => entry.uid,
        None => number(user)?.unwrap_or(0),
    };
    let gid = match wanted.filter(|name| !name.is_empty()) {
        None => entry.and_then(|entry| entry.gid).unwrap_or(0),
        Some(name) => match (groups(group).find(|entry| entry.name == name), number(name)?) {
            (Some(entry), _) => entry.gid,
            (None, Some(gid)) => gid,
            (None, None) => {
                let known = some_names(groups(group).map(|entry| entry.name));
                let problem = Problem::request(format!("no group {name:?} in /etc/group of the root"));
                return Err(problem.hint(format!("{known}; a numeric id needs no entry")));
            }
        },
    };
    let mut all = vec![gid];
    // An explicit group replaces the user's memberships, as elsewhere.
    if let (Some(entry), None) = (&entry, wanted) {
        for group in groups(group) {
            if group.members().any(|member| member == entry.name) && !all.contains(&group.gid) {
                all.push(group.gid);
            }
        }
    }
    let home = entry.map(|entry| entry.home).filter(|home| !home.is_empty()).unwrap_or("/");
    Ok(Identity { uid, gid, groups: all, home: home.to_owned() })
}

/// `Some` if it is all digits; too large is an error, not a name.
fn number(text: &str) -> Step<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    // 2^32-1 means "unchanged" to the kernel.
    match text.parse::<u32>() {
        Ok(id) if id != u32::MAX => Ok(Some(id)),
        _ => Err(Problem::request(format!("user or group id {text} is out of range"))),
    }
}

/// Users whose line has a group: others cannot run a command.
fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd::users(passwd).filter(|user| user.gid.is_some())
}

/// `it has root, app, www-data and 12 more`.
fn some_names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.len() {
        0 => "it names nobody".to_owned(),
        n if n <= 8 => format!("it has {}", names.join(", ")),
        n => format!("it has {} and {} more", names[..8].join(", "), n - 8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# junk\napp:x:1000:1001::/home/app:/bin/sh\nbad:x:y:z\n";
    const GROUP: &str = "root:x:0:\napp:x:1001:\nwheel:x:10:root,app\nvideo:x:44:app\n";

    #[test]
    fn users_and_groups_come_from_the_root() {
        // R-5, S-7: the primary group is always among the supplementary ones.
        let cases: &[(&str, u32, u32, &[u32], &str)] = &[
            ("", 0, 0, &[0, 10], "/root"),
            ("root", 0, 0, &[0, 10], "/root"),
            ("app", 1000, 1001, &[1001, 10, 44], "/home/app"),
            ("1000", 1000, 1001, &[1001, 10, 44], "/home/app"),
            ("1234", 1234, 0, &[0], "/"),
            ("1234:77", 1234, 77, &[77], "/"),
            ("app:video", 1000, 44, &[44], "/home/app"),
            ("app:0", 1000, 0, &[0], "/home/app"),
            ("1000:1001", 1000, 1001, &[1001], "/home/app"),
            (":44", 0, 44, &[44], "/root"),
        ];
        for (text, uid, gid, groups, home) in cases {
            let found = identity(text, PASSWD, GROUP).unwrap();
            let want = Identity { uid: *uid, gid: *gid, groups: groups.to_vec(), home: (*home).to_owned() };
            assert_eq!(found, want, "{text}");
        }
        assert_eq!(identity("", "", "").unwrap().groups, [0]);
    }

    #[test]
    fn an_unknown_name_is_an_error_that_names_the_known_ones() {
        let failure = identity("nobody", PASSWD, GROUP).unwrap_err().at(crate::sandbox::Stage::User);
        assert_eq!(failure.to_string(), "no user \"nobody\" in /etc/passwd of the root");
        assert_eq!(failure.hint.as_deref(), Some("it has root, app; a numeric id needs no entry"));
        let failure = identity("app:disk", PASSWD, GROUP).unwrap_err().at(crate::sandbox::Stage::User);
        assert!(failure.hint.unwrap().contains("wheel"));
        assert!(identity("4294967295", PASSWD, GROUP).is_err());
        assert!(identity("99999999999", PASSWD, GROUP).is_err());
    }
}
