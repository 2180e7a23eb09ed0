//! Resolves `USER` to ids with the root's own `/etc/passwd` and `/etc/group`.

use std::ffi::OsStr;
use std::io::{self, Read};

use crate::base::passwd::{self, User, groups};
use crate::base::rooted::Root;

use super::hint::Hint;
use super::problem::{Problem, StepResult};

/// Who the command runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// User id.
    pub(super) uid: u32,
    /// Primary group id.
    pub(super) gid: u32,
    /// Supplementary groups; the primary one among them (S-7).
    pub(super) groups: Vec<u32>,
    /// Home directory, `/` if there is no entry.
    pub(super) home: String,
}

/// Looks `text` up in `root`. A numeric user needs no entry; a name does.
pub(super) fn resolve(root: &Root, text: &str) -> StepResult<Identity> {
    let passwd = database(root, "/etc/passwd")?;
    let group = database(root, "/etc/group")?;
    identity(text, &passwd, &group)
}

fn database(root: &Root, path: &str) -> StepResult<String> {
    let unusable = |e: &io::Error| Problem::host(format!("read {path} of the root"), e).requested();
    let file = match root.open_file(OsStr::new(path)) {
        Ok(file) => file,
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(String::new()),
        Err(e) => return Err(unusable(&e)),
    };
    let mut bytes = Vec::new();
    file.take(passwd::LARGEST + 1).read_to_end(&mut bytes).map_err(|e| unusable(&e))?;
    if bytes.len() as u64 > passwd::LARGEST {
        let limit = passwd::LARGEST >> 20;
        return Err(Problem::request(format!("cannot read {path} of the root: it is larger than {limit} MiB")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The pure part of [`resolve`].
fn identity(text: &str, passwd: &str, group: &str) -> StepResult<Identity> {
    let (user, wanted) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let entry = match number(user)? {
        Some(uid) => users(passwd).find(|entry| entry.name == user || entry.uid == uid),
        None => Some(users(passwd).find(|entry| entry.name == user).ok_or_else(|| {
            let problem = Problem::request(format!("no user {user:?} in /etc/passwd of the root"));
            problem.hint(known_names(users(passwd).map(|entry| entry.name)))
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
                let problem = Problem::request(format!("no group {name:?} in /etc/group of the root"));
                return Err(problem.hint(known_names(groups(group).map(|entry| entry.name))));
            }
        },
    };
    let mut all = vec![gid];
    // An explicit group replaces the user's memberships, as in Docker.
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

/// The number, if `text` is all digits; one that is too large is an error, not a name.
fn number(text: &str) -> StepResult<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    // 2^32-1 means "unchanged" to the kernel.
    match text.parse::<u32>() {
        Ok(id) if id != u32::MAX => Ok(Some(id)),
        _ => Err(Problem::request(format!("user or group id {text} is out of range"))),
    }
}

/// Users with a group: others cannot run a command.
fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd::users(passwd).filter(|user| user.gid.is_some())
}

/// The first names of a database.
fn known_names<'a>(names: impl Iterator<Item = &'a str>) -> Hint {
    const SHOWN: usize = 8;
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    Hint::KnownNames { names, more }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# junk\napp:x:1000:1001::/home/app:/bin/sh\nbad:x:y:z\n";
    const GROUP: &str = "root:x:0:\napp:x:1001:\nwheel:x:10:root,app\nvideo:x:44:app\n";

    #[test]
    fn identity_comes_from_the_databases_of_the_root() {
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
    fn identity_rejects_unknown_names_and_lists_known_ones() {
        let failure = identity("nobody", PASSWD, GROUP).unwrap_err().at(crate::sandbox::Stage::User);
        assert_eq!(failure.to_string(), "no user \"nobody\" in /etc/passwd of the root");
        let names = vec!["root".to_owned(), "app".to_owned()];
        assert_eq!(failure.hint, Some(Hint::KnownNames { names, more: 0 }));
        let failure = identity("app:disk", PASSWD, GROUP).unwrap_err().at(crate::sandbox::Stage::User);
        let Some(Hint::KnownNames { names, .. }) = failure.hint else { panic!("{failure}") };
        assert!(names.contains(&"wheel".to_owned()));
        assert!(identity("4294967295", PASSWD, GROUP).is_err());
        assert!(identity("99999999999", PASSWD, GROUP).is_err());
    }
}
