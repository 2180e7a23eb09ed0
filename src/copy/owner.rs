//! Owners: `--chown`, and the user of WORKDIR (C-16).

use std::io::Read;

use crate::base::passwd;
use crate::base::resolve::Last;

use super::Error;
use super::dest::Dest;

/// An error about an unknown name lists at most this many known ones.
const LISTED: usize = 8;

/// A user and a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Reads `user`, `user:group`, `uid:gid`, `user:`, `:group` and `uid`. Names are looked up in the destination.
///
/// A user name alone also gives its primary group, a number alone is also the group. Beside a colon, an empty part is 0; `root`
/// is always 0 (N-23). An unknown name is an error (A2).
pub(super) fn resolve(text: &str, dest: &Dest<'_>) -> Result<Owner, Error> {
    let bad = || Error::Owner { text: text.to_owned(), why: "want USER, USER:GROUP, :GROUP or numbers".into() };
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    if group.is_some_and(|g| g.contains(':')) {
        return Err(bad());
    }
    let gid = match group {
        None => None,
        Some(group) => Some(match number(group) {
            Some(gid) => gid.map_err(|()| bad())?,
            None => find(dest, "etc/group", group)?.0,
        }),
    };
    let (uid, primary) = match number(user) {
        Some(uid) => {
            let uid = uid.map_err(|()| bad())?;
            (uid, uid)
        }
        None => find(dest, "etc/passwd", user)?,
    };
    Ok(Owner { uid, gid: gid.unwrap_or(primary) })
}

/// An id; an error if the number is too large for one.
fn number(text: &str) -> Option<Result<u32, ()>> {
    if matches!(text, "" | "root") {
        return Some(Ok(0));
    }
    // The largest number is not an id: for the kernel it means "unchanged".
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok().filter(|&id| id != u32::MAX).ok_or(()))
}

/// The id of a user or group, and the primary group of a user, whose id stands in for one that is missing.
fn find(dest: &Dest<'_>, file: &'static str, name: &str) -> Result<(u32, u32), Error> {
    let users = file == "etc/passwd";
    let text = read(dest, file)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let entries: Vec<(&str, u32, u32)> = match users {
        true => passwd::users(&text).map(|user| (user.name, user.uid, user.gid.unwrap_or(user.uid))).collect(),
        false => passwd::groups(&text).map(|group| (group.name, group.gid, group.gid)).collect(),
    };
    if let Some(&(_, id, gid)) = entries.iter().find(|entry| entry.0 == name) {
        return Ok((id, gid));
    }
    let known: Vec<&str> = entries.iter().map(|entry| entry.0).collect();
    let what = if users { "user" } else { "group" };
    let listed = match known.len() {
        0 => format!("the image has no {what}s in /{file}"),
        n if n > LISTED => format!("/{file} has {} and {} more", known[..LISTED].join(", "), n - LISTED),
        _ => format!("/{file} has {}", known.join(", ")),
    };
    Err(Error::UnknownName { what, name: name.to_owned(), known: listed })
}

/// A small file of the destination; `None` if there is none.
fn read(dest: &Dest<'_>, path: &'static str) -> Result<Option<Vec<u8>>, Error> {
    let unreadable = |why: String| Error::Owner { text: format!("/{path}"), why };
    let place = dest.tree.resolve(path.as_bytes(), Last::Follow)?;
    let Some(found) = dest.tree.get(&place) else { return Ok(None) };
    let size = match found.kind() {
        crate::layer::EntryKind::File { size, .. } => *size,
        _ => return Err(unreadable("not a regular file".into())),
    };
    if size > passwd::LARGEST {
        return Err(unreadable("larger than 10 MiB".into()));
    }
    let file = dest.files.open(&found).map_err(|e| unreadable(e.to_string()))?;
    let mut text = Vec::new();
    file.take(passwd::LARGEST).read_to_end(&mut text).map_err(|e| unreadable(e.to_string()))?;
    Ok(Some(text))
}
