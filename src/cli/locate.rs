//! Finding and reading the Dockerfile (P-21, S-91).

use std::ffi::OsStr;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use crate::base::fs::{self, FsError};
use crate::base::rooted::{self, Root};
use crate::dockerfile::Source;
use crate::dockerfile::suggest::nearest;

use super::failure::{Failure, Kind};
use super::request::DockerfileFrom;

/// Names of a Dockerfile in a context, in order; the last is Podman's.
const NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];

/// Larger files are refused.
const MAX_BYTES: u64 = 16 << 20;

/// A Dockerfile that was read.
#[derive(Debug)]
pub(super) struct Located {
    /// Its text, and its name in messages.
    pub(super) source: Source,
    /// Where it is; none for standard input.
    pub(super) path: Option<PathBuf>,
}

impl Located {
    /// The real path of the file, if its path is in `context` and leads out of it through a link. Messages do not show its
    /// lines then: the author of the context must not see them (P-21).
    pub(super) fn leads_out(&self, context: &Path) -> Option<PathBuf> {
        let path = std::path::absolute(self.path.as_ref()?).ok()?;
        let (root, target) = (std::fs::canonicalize(context).ok()?, std::fs::canonicalize(&path).ok()?);
        let named_in_context = path.starts_with(std::path::absolute(context).ok()?) || {
            let dir = std::fs::canonicalize(path.parent()?).ok()?;
            dir.starts_with(&root)
        };
        (named_in_context && !target.starts_with(&root)).then_some(target)
    }
}

/// Reads the Dockerfile. Ok: it is a regular file (or standard input) of bounded size and was read to its end.
pub(super) fn read(from: &DockerfileFrom, context: &Path, stdin: &mut dyn Read) -> Result<Located, Failure> {
    match from {
        DockerfileFrom::Stdin => {
            let bytes = bounded(stdin, "standard input").map_err(|why| Failure::build(why.to_string()))?;
            Ok(Located { source: Source::new("stdin", bytes), path: None })
        }
        DockerfileFrom::Path(path) => match file(path) {
            Ok(bytes) => Ok(Located { source: Source::new(shown(path), bytes), path: Some(path.clone()) }),
            Err(failure) => Err(hint_for_path(failure, path, context)),
        },
        DockerfileFrom::Fetched(name) => fetched(name.as_deref(), context),
        DockerfileFrom::Text(name, text) => Ok(Located { source: Source::new(name, text.clone()), path: None }),
        DockerfileFrom::Url(url) => Err(Failure::build(format!("no such Dockerfile: {url}"))),
        DockerfileFrom::Context => {
            for name in NAMES {
                let path = if context == Path::new(".") { PathBuf::from(name) } else { context.join(name) };
                match file(&path) {
                    Ok(bytes) => return Ok(Located { source: Source::new(shown(&path), bytes), path: Some(path) }),
                    Err(ReadError::Missing) => {}
                    Err(other) => return Err(other.failure(&path)),
                }
            }
            Err(nothing_in(context))
        }
    }
}

/// The text of a Dockerfile that was downloaded to `path`.
pub(super) fn downloaded(path: &Path, url: &str) -> Result<Vec<u8>, Failure> {
    bounded(&mut fs::open(path)?, "the file").map_err(|why| Failure::build(format!("read Dockerfile {url}: {why}")))
}

/// Reads the Dockerfile of a fetched context; links are followed inside the context only.
fn fetched(name: Option<&Path>, context: &Path) -> Result<Located, Failure> {
    let root = Root::open(context).map_err(|e| FsError::new("open context", context, e))?;
    let names = name.map_or_else(|| NAMES.map(Path::new).to_vec(), |name| vec![name]);
    for name in &names {
        let unread = |why: String| Failure::build(format!("read Dockerfile {}: {why}", name.display()));
        match root.open_file(name.as_os_str()) {
            Ok(mut file) => {
                let bytes = bounded(&mut file, "the file").map_err(unread)?;
                return Ok(Located { source: Source::new(shown(name), bytes), path: None });
            }
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(e) => return Err(unread(e.to_string())),
        }
    }
    match name {
        Some(name) => Err(Failure::build(format!("no {} in the context", name.display()))
            .hint("name a file in the context with -f: it is not a local directory")),
        None => Err(nothing_in(context)),
    }
}

/// Why a Dockerfile was not read.
enum ReadError {
    Missing,
    Other(String),
}

impl ReadError {
    fn failure(self, path: &Path) -> Failure {
        match self {
            ReadError::Missing => Failure::build(format!("no such Dockerfile: {}", path.display())),
            ReadError::Other(why) => Failure::build(format!("read Dockerfile {}: {why}", path.display())),
        }
    }
}

fn file(path: &Path) -> Result<Vec<u8>, ReadError> {
    let other = |e: rustix::io::Errno| match e {
        rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => ReadError::Missing,
        e => ReadError::Other(std::io::Error::from(e).to_string()),
    };
    // Checked before it is opened: opening a fifo or a device can block or have effects.
    let found = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(other)?;
    let stat = rustix::fs::fstat(&found).map_err(other)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(ReadError::Other("is a directory".to_owned())),
        _ => return Err(ReadError::Other("is not a regular file".to_owned())),
    }
    let opened = rooted::reopen(found.as_fd(), OFlags::RDONLY).map_err(|e| ReadError::Other(e.to_string()))?;
    bounded(&mut std::fs::File::from(opened), "the file").map_err(ReadError::Other)
}

fn bounded(reader: &mut dyn Read, what: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = reader.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|e| format!("read {what}: {e}"))?;
    match bytes.len() as u64 > MAX_BYTES {
        true => Err(format!("{what} is larger than {} MiB", MAX_BYTES >> 20)),
        false => Ok(bytes),
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The context has no Dockerfile; the hint names a file that looks like one.
fn nothing_in(context: &Path) -> Failure {
    let place =
        if context == Path::new(".") { "the working directory".to_owned() } else { context.display().to_string() };
    let failure = Failure::build(format!("no Dockerfile in {place}"));
    let names = match fs::list(context) {
        Ok(names) => names,
        Err(e) => return Failure::from_error(Kind::Build, &e),
    };
    let close = names.iter().filter_map(|name| name.to_str()).find(|name| {
        let lower = name.to_ascii_lowercase();
        lower.starts_with("dockerfile.") && !lower.ends_with(".dockerignore")
            || lower.ends_with(".dockerfile")
            || nearest(&lower, ["dockerfile", "containerfile"]).is_some()
    });
    match close {
        Some(name) => failure.hint(format!("use -f {0}", context.join(name).display())),
        None => failure.hint("name it with -f FILE, or -f - for standard input"),
    }
}

fn hint_for_path(error: ReadError, path: &Path, context: &Path) -> Failure {
    let missing = matches!(error, ReadError::Missing);
    let failure = error.failure(path);
    if !missing {
        return failure;
    }
    // Some builders resolve the path in the context.
    let inside = context.join(path);
    if path.is_relative() && inside.is_file() {
        return failure.hint(format!(
            "paths of -f start at the working directory, not at the context: use -f {}",
            inside.display()
        ));
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names: Vec<String> = match fs::list(dir) {
        Ok(names) => names.into_iter().filter_map(|name| name.into_string().ok()).collect(),
        Err(FsError { .. }) => return failure,
    };
    let wanted = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    match nearest(wanted, names.iter().map(String::as_str)) {
        Some(name) => failure.hint(format!("did you mean {}?", dir.join(name).display())),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::base::publish;

    fn put(dir: &Path, name: &str, text: &str) {
        publish::atomic(&dir.join(name), text.as_bytes(), 0o644).expect("write");
    }

    fn text(located: &Located) -> &str {
        located.source.text()
    }

    #[test]
    fn dockerfile_names_are_tried_in_order() {
        // P-21
        let dir = tempfile::tempdir().expect("tempdir");
        for (name, want) in [("Containerfile", "c"), ("dockerfile", "b"), ("Dockerfile", "a")] {
            put(dir.path(), name, want);
            let located = read(&DockerfileFrom::Context, dir.path(), &mut std::io::empty()).expect("found");
            assert_eq!(text(&located), want);
            assert_eq!(located.path, Some(dir.path().join(name)));
        }
    }

    #[test]
    fn missing_dockerfile_suggests_close_names() {
        let dir = tempfile::tempdir().expect("tempdir");
        let missing = |from: &DockerfileFrom| {
            let failure = read(from, dir.path(), &mut std::io::empty()).expect_err("missing");
            (failure.message, failure.hints.join("\n"))
        };
        let (message, hint) = missing(&DockerfileFrom::Context);
        assert_eq!(message, format!("no Dockerfile in {}", dir.path().display()));
        assert_eq!(hint, "name it with -f FILE, or -f - for standard input");
        put(dir.path(), "Dockerfile.dev", "");
        assert!(missing(&DockerfileFrom::Context).1.contains("Dockerfile.dev"));
        let (message, hint) = missing(&DockerfileFrom::Path(dir.path().join("Dockerfile.deb")));
        assert!(message.starts_with("no such Dockerfile: "), "{message}");
        assert!(hint.contains("did you mean") && hint.contains("Dockerfile.dev"), "{hint}");
        let (_, hint) = missing(&DockerfileFrom::Path("Dockerfile.dev".into()));
        assert!(hint.starts_with("paths of -f start"), "{hint}");
    }

    #[test]
    fn dockerfile_must_be_regular_and_bounded() {
        // S-91
        let dir = tempfile::tempdir().expect("tempdir");
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
        symlink("/dev/zero", dir.path().join("zero")).expect("symlink");
        let huge = std::fs::File::create(dir.path().join("huge")).expect("create");
        huge.set_len(MAX_BYTES + 1).expect("truncate");
        for (name, want) in [
            ("fifo", "is not a regular file"),
            ("zero", "is not a regular file"),
            (".", "is a directory"),
            ("huge", "the file is larger than 16 MiB"),
        ] {
            let from = DockerfileFrom::Path(dir.path().join(name));
            let failure = read(&from, dir.path(), &mut std::io::empty()).expect_err(name);
            assert!(failure.message.ends_with(want), "{}", failure.message);
        }
        // A link to a regular file is followed: the path was given by the user.
        put(dir.path(), "real", "FROM scratch");
        symlink("real", dir.path().join("link")).expect("symlink");
        let from = DockerfileFrom::Path(dir.path().join("link"));
        assert_eq!(text(&read(&from, dir.path(), &mut std::io::empty()).expect("read")), "FROM scratch");
    }

    #[test]
    fn leads_out_detects_links_out_of_context() {
        let dir = tempfile::tempdir().expect("tempdir");
        let context = dir.path().join("context");
        std::fs::create_dir_all(context.join("sub")).expect("mkdir");
        put(dir.path(), "outside", "FROM scratch");
        put(&context, "inside", "FROM scratch");
        symlink("../outside", context.join("file")).expect("symlink");
        symlink("../..", context.join("sub/dir")).expect("symlink");
        symlink("inside", context.join("fine")).expect("symlink");
        let outside = std::fs::canonicalize(dir.path().join("outside")).expect("there");
        for (name, out) in [
            ("context/file", true),
            ("context/sub/dir/outside", true),
            ("context/sub/dir/context/inside", false),
            ("context/fine", false),
            ("context/inside", false),
            ("outside", false),
        ] {
            let from = DockerfileFrom::Path(dir.path().join(name));
            let located = read(&from, &context, &mut std::io::empty()).expect(name);
            assert_eq!(located.leads_out(&context), out.then(|| outside.clone()), "{name}");
        }
    }

    #[test]
    fn dash_reads_dockerfile_from_stdin() {
        let located = read(&DockerfileFrom::Stdin, Path::new("."), &mut &b"FROM x"[..]).expect("read");
        assert_eq!((text(&located), located.source.name()), ("FROM x", "stdin"));
        assert!(read(&DockerfileFrom::Stdin, Path::new("."), &mut std::io::repeat(b'x')).is_err());
    }
}
