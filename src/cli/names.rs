//! `kiln tag` and `kiln rmi`: adding and removing names.

use crate::oci::reference::Reference;
use crate::store::{Error, Store};

use super::args::{RmiArgs, TagArgs};
use super::failure::{Done, Failure, SUCCESS};
use super::session::Session;

/// Adds names to an image. Ok: each of them names it; another image loses only the names that moved.
pub(super) fn tag(args: &TagArgs, session: &mut Session<'_>) -> Done {
    if let Some(pinned) = args.names.iter().find(|name| name.digest.is_some()) {
        return Err(Failure::usage(format!("{}: a new name has a tag, not a digest", pinned.familiar())));
    }
    let store = session.store()?;
    // A concurrent prune must not remove the image before it is named.
    session.share(&store)?;
    let found = store.find(&args.image)?;
    store.tag(&args.names, &found.target)?;
    Ok(SUCCESS)
}

/// Removes names, and images without names. Their blobs stay until a prune: the build cache may use them.
pub(super) fn rmi(args: &RmiArgs, session: &mut Session<'_>) -> Done {
    let store = session.store()?;
    let mut missing = None;
    for text in &args.images {
        match remove(&store, text, args.force) {
            Ok(lines) => {
                for line in lines {
                    session.console.data(format_args!("{line}"))?;
                }
            }
            Err(Removal::Store(Error::NoSuchImage { .. })) if args.force => {}
            // The others are removed; the first missing one is reported at the end.
            Err(Removal::Store(error @ Error::NoSuchImage { .. })) => missing = missing.or(Some(error)),
            Err(Removal::Store(error)) => return Err(error.into()),
            Err(Removal::SeveralNames(names)) => {
                return Err(Failure::build(format!("{text} has several names: {}", names.join(", ")))
                    .hint("remove one name, or all names with --force"));
            }
        }
    }
    match missing {
        Some(error) => Err(error.into()),
        None => Ok(SUCCESS),
    }
}

enum Removal {
    Store(Error),
    SeveralNames(Vec<String>),
}

impl From<Error> for Removal {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

fn remove(store: &Store, text: &str, force: bool) -> Result<Vec<String>, Removal> {
    let found = store.find(text)?;
    let digest = found.target.digest;
    let by_tag = text.parse::<Reference>().is_ok_and(|name| name.digest.is_none());
    if let Some(name) = found.name.filter(|_| by_tag) {
        let mut lines = vec![format!("untagged {}", name.familiar())];
        for orphan in store.untag(std::slice::from_ref(&name))? {
            lines.push(format!("removed {}", orphan.digest));
        }
        return Ok(lines);
    }
    let entries = store.entries()?;
    let listed: Vec<_> = entries.into_iter().filter(|e| e.target.digest == digest).collect();
    if listed.is_empty() {
        return Err(Error::NoSuchImage { name: text.to_owned(), similar: None }.into());
    }
    let names: Vec<String> = listed.iter().filter_map(|e| e.name.as_ref()).map(Reference::familiar).collect();
    if names.len() > 1 && !force {
        return Err(Removal::SeveralNames(names));
    }
    store.forget(digest)?;
    let untagged = names.into_iter().map(|name| format!("untagged {name}"));
    Ok(untagged.chain([format!("removed {digest}")]).collect())
}
