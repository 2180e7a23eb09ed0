//! Paths with symbolic links, resolved inside a tree that may exist only in memory.
//!
//! **Holds.** The result never leaves the root, whatever the links say: an absolute target starts at the root and `..`
//! stops there (S-31, S-90, S-95). More than `MAX_LINKS` links are an error, as in the kernel (S-32).
//! **Not here.** What is in the tree: the caller's lookup tells, and decides whether a missing name is an error.
//! Directories on disk that others can change: [`super::rooted`] lets the kernel resolve their paths.

use std::borrow::Cow;

/// The kernel follows as many links in one path.
const MAX_LINKS: usize = 40;

/// What a path names, its last component not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A directory.
    Dir,
    /// A symbolic link.
    Link {
        /// Where it points.
        to: Vec<u8>,
        /// The directory in which it is resolved: an absolute target starts there and `..` stops there. Empty: the root.
        top: Vec<u8>,
    },
    /// Anything else: nothing can be below it.
    Other,
    /// Nothing. The name is kept as written, so that the result may name something that is to be made.
    Absent,
}

impl Target {
    /// A link that is resolved in the root.
    pub fn link(to: &[u8]) -> Self {
        Self::Link { to: to.to_vec(), top: Vec::new() }
    }
}

/// What happens to a link that is the last component of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// It is followed.
    Follow,
    /// It is the result.
    Keep,
}

/// Why a path does not resolve.
#[derive(Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// More than `MAX_LINKS` links.
    Loop,
    /// A component before the last is [`Target::Other`]. Its path.
    NotADirectory(Vec<u8>),
    /// The lookup failed.
    Lookup(E),
}

/// A component that is still to be resolved, and the directory above which it does not lead.
struct Part<'p> {
    name: Cow<'p, [u8]>,
    top: Vec<u8>,
}

/// Resolves `path` from the directory `start` and returns the path it leads to. Empty components and `.` are skipped.
///
/// Paths given to `lookup`, and the result, are relative to the root, with single slashes and without `.`, `..` and links
/// before the last component. The empty path is the root, which is not looked up.
pub fn resolve<E>(
    start: &[u8],
    path: &[u8],
    last: Last,
    mut lookup: impl FnMut(&[u8]) -> Result<Target, E>,
) -> Result<Vec<u8>, Error<E>> {
    let mut todo: Vec<Part<'_>> = names(path).rev().map(|name| Part { name: name.into(), top: Vec::new() }).collect();
    let mut at = start.to_vec();
    let mut links = 0;
    while let Some(Part { name, top }) = todo.pop() {
        if *name == *b".." {
            if at != top {
                at.truncate(parent_len(&at));
            }
            continue;
        }
        let parent = at.len();
        if parent > 0 {
            at.push(b'/');
        }
        at.extend_from_slice(&name);
        match lookup(&at).map_err(Error::Lookup)? {
            Target::Link { to, top } if last == Last::Follow || !todo.is_empty() => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Error::Loop);
                }
                at.truncate(parent);
                if to.starts_with(b"/") {
                    at.clone_from(&top);
                }
                todo.extend(names(&to).rev().map(|name| Part { name: name.to_vec().into(), top: top.clone() }));
            }
            Target::Other if !todo.is_empty() => return Err(Error::NotADirectory(at)),
            _ => {}
        }
    }
    Ok(at)
}

fn names(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&b| b == b'/').filter(|name| !matches!(*name, b"" | b"."))
}

fn parent_len(path: &[u8]) -> usize {
    path.iter().rposition(|&b| b == b'/').unwrap_or(0)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the test makes a real tree")]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsStr;
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;

    use proptest::prelude::*;
    use rustix::io::Errno;

    use super::*;
    use crate::base::rooted::Root;

    type Tree = BTreeMap<Vec<u8>, Target>;

    /// Up to 12 names of at most three levels; links may point anywhere.
    fn tree(tops: bool) -> impl Strategy<Value = Tree> {
        let node = prop_oneof![
            3 => Just(Target::Dir),
            3 => (path(), any::<bool>()).prop_map(move |(to, in_a)| {
                Target::Link { to, top: if in_a && tops { b"a".to_vec() } else { Vec::new() } }
            }),
            1 => Just(Target::Other),
        ];
        let name = prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4);
        prop::collection::vec((name, node), 0..12).prop_map(move |nodes| {
            // The directory in which links may be confined.
            let mut tree = if tops { Tree::from([(b"a".to_vec(), Target::Dir)]) } else { Tree::new() };
            for (name, node) in nodes {
                // What a directory is needed for comes first.
                let above = (1..name.len()).map(|end| name[..end].join("/").into_bytes());
                if above.clone().all(|dir| matches!(tree.get(&dir), None | Some(Target::Dir))) {
                    above.for_each(|dir| drop(tree.insert(dir, Target::Dir)));
                    tree.entry(name.join("/").into_bytes()).or_insert(node);
                }
            }
            tree
        })
    }

    /// A path that does not end in `.` or a slash: there the kernel wants a directory.
    fn path() -> impl Strategy<Value = Vec<u8>> {
        let part = || prop::sample::select(vec!["a", "b", "c", "..", "a", "b"]);
        let parts = prop::collection::vec(prop_oneof![6 => part(), 1 => Just(".")], 0..5);
        ("/{0,2}", parts, part()).prop_map(|(slash, parts, last)| {
            let parts: String = parts.iter().map(|part| format!("{part}/")).collect();
            format!("{slash}{parts}{last}").into_bytes()
        })
    }

    fn at(tree: &Tree, path: &[u8]) -> Target {
        if path.is_empty() { Target::Dir } else { tree.get(path).cloned().unwrap_or(Target::Absent) }
    }

    fn child(dir: &[u8], name: &[u8]) -> Vec<u8> {
        if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
    }

    /// The definition: a link leads to where its target, resolved on its own, leads.
    fn slow(
        tree: &Tree,
        (dir, top): (&[u8], &[u8]),
        path: &[&[u8]],
        last: Last,
        links: &mut usize,
    ) -> Result<Vec<u8>, Error<()>> {
        let Some((name, rest)) = path.split_first() else { return Ok(dir.to_vec()) };
        let mut reached = match *name {
            b"" | b"." => dir.to_vec(),
            b".." if dir == top => dir.to_vec(),
            b".." => dir[..dir.iter().rposition(|&b| b == b'/').unwrap_or(0)].to_vec(),
            name => child(dir, name),
        };
        let named = !matches!(*name, b"" | b"." | b"..");
        let more = rest.iter().any(|name| !matches!(*name, b"" | b"."));
        if let Target::Link { to, top } = at(tree, &reached)
            && named
            && (more || last == Last::Follow)
        {
            *links += 1;
            if *links > MAX_LINKS {
                return Err(Error::Loop);
            }
            let from = if to.starts_with(b"/") { top.clone() } else { dir.to_vec() };
            let to: Vec<&[u8]> = to.split(|&b| b == b'/').collect();
            reached = slow(tree, (&from, &top), &to, Last::Follow, links)?;
        }
        if more && at(tree, &reached) == Target::Other {
            return Err(Error::NotADirectory(reached));
        }
        slow(tree, (&reached, top), rest, last, links)
    }

    /// Makes the tree on disk.
    fn make(tree: &Tree) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, node) in tree {
            let path = dir.path().join(OsStr::from_bytes(path));
            match node {
                Target::Dir => std::fs::create_dir(path).unwrap(),
                Target::Link { to, .. } => std::os::unix::fs::symlink(OsStr::from_bytes(to), path).unwrap(),
                _ => std::fs::write(path, "").unwrap(),
            }
        }
        dir
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn resolve_agrees_with_its_definition(tree in tree(true), path in path(), keep: bool) {
            let last = if keep { Last::Keep } else { Last::Follow };
            let parts: Vec<&[u8]> = path.split(|&b| b == b'/').collect();
            let fast = resolve(b"", &path, last, |path| Ok::<_, ()>(at(&tree, path)));
            prop_assert_eq!(fast, slow(&tree, (b"", b""), &parts, last, &mut 0));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn resolve_agrees_with_the_kernel(tree in tree(false), paths in prop::collection::vec((path(), any::<bool>()), 20)) {
            let dir = make(&tree);
            let top = std::fs::canonicalize(dir.path()).unwrap();
            let root = Root::open(dir.path()).unwrap();
            for (path, keep) in paths {
                let (last, name) = (if keep { Last::Keep } else { Last::Follow }, OsStr::from_bytes(&path));
                let found = if keep { root.locate_nofollow(name) } else { root.locate(name) };
                let kernel = found.map_err(|e| e.raw_os_error()).map(|fd| {
                    let real = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
                    real.strip_prefix(&top).unwrap().as_os_str().as_bytes().to_vec()
                });
                // To the kernel a name that is not there is an error wherever it is.
                let ours = resolve(b"", &path, last, |path| match at(&tree, path) {
                    Target::Absent => Err(Errno::NOENT),
                    found => Ok(found),
                });
                let ours = ours.map_err(|e| Some(match e {
                    Error::Loop => Errno::LOOP,
                    Error::NotADirectory(_) => Errno::NOTDIR,
                    Error::Lookup(e) => e,
                }.raw_os_error()));
                prop_assert_eq!(ours, kernel, "{:?} {:?}", String::from_utf8_lossy(&path), last);
            }
        }
    }

    #[test]
    fn links_with_a_top_do_not_lead_above_it() {
        let tree = Tree::from([
            (b"a".to_vec(), Target::Dir),
            (b"a/up".to_vec(), Target::Link { to: b"../../x".to_vec(), top: b"a".to_vec() }),
            (b"a/abs".to_vec(), Target::Link { to: b"/x".to_vec(), top: b"a".to_vec() }),
            (b"a/out".to_vec(), Target::link(b"/x")),
        ]);
        for (path, want) in [("up", "a/x"), ("abs", "a/x"), ("out", "x"), ("../x", "x"), ("new/../y", "a/y")] {
            let found = resolve(b"a", path.as_bytes(), Last::Follow, |path| Ok::<_, ()>(at(&tree, path)));
            assert_eq!(found, Ok(want.as_bytes().to_vec()), "{path}");
        }
    }
}
