//! Contexts that are not local directories: archives, repositories, files by URL.
//!
//! **Holds.** Each becomes a directory of the build's own, or the text of a Dockerfile. Ignore files do not apply to it
//! (G-2, A14).

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::base::fs::{self, FsError};
use crate::base::time::Timestamp;
use crate::base::url::redacted;
use crate::layer::Limits;
use crate::plan::EpochSource;

use crate::copy::{self, Stream};
use crate::fetch::{FetchError, FetchedFile, GitUrl, Remote};

/// Maximum size of a Dockerfile.
const MAX_TEXT: u64 = 16 << 20;

/// Where a context comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A directory of this host (O-1).
    Directory(PathBuf),
    /// Standard input: an archive or a Dockerfile.
    Stdin,
    /// An archive on this host.
    Archive(PathBuf),
    /// An archive or a Dockerfile on a server.
    Http(String),
    /// A commit's files.
    Git {
        /// Which.
        url: GitUrl,
        /// It may be on this host, because the user named it.
        local: bool,
    },
}

/// What was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// A directory that is the build's own.
    Files {
        /// Where.
        dir: PathBuf,
        /// When they last changed, if known: the commit's time, the server's `Last-Modified`, otherwise the time of the
        /// archive's latest file.
        time: Option<Timestamp>,
    },
    /// The text of a Dockerfile, without any files.
    Dockerfile(Vec<u8>),
}

/// Why a context could not be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It could not be fetched, or its URL is invalid.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] copy::Error),
    /// It could not be read.
    #[error("cannot read {what}: {source}")]
    Read {
        /// `standard input`, a path or a URL.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A file is not an archive.
    #[error("{0} is not an archive")]
    NotAnArchive(String),
    /// A file of kiln's own could not be read or written.
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl Origin {
    /// Parses `text` as Docker does: `-`, a URL, a repository, otherwise a path. A path to a file is an archive;
    /// `dir#ref:subdir` is a repository if `dir` is one and no file has the whole name.
    pub(crate) fn parse(text: &str) -> Result<Self, FetchError> {
        if text == "-" {
            return Ok(Origin::Stdin);
        }
        if let Some(rest) = text.strip_prefix("github.com/") {
            let url = GitUrl::parse(&format!("https://github.com/{rest}"))?;
            return Ok(Origin::Git { url, local: false });
        }
        let git = ["git://", "ssh://", "git@", "file://"].iter().any(|prefix| text.starts_with(prefix));
        if git {
            return Ok(Origin::Git { url: GitUrl::parse(text)?, local: text.starts_with("file://") });
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            let path = text.split(['#', '?']).next().unwrap_or_default();
            return Ok(match path.ends_with(".git") {
                true => Origin::Git { url: GitUrl::parse(text)?, local: false },
                false => Origin::Http(text.to_owned()),
            });
        }
        let path = Path::new(text);
        if path.is_dir() {
            return Ok(Origin::Directory(path.to_owned()));
        }
        if let Some((dir, fragment)) = text.split_once('#')
            && !path.exists()
            && is_repository(Path::new(dir))
            && let Ok(dir) = std::path::absolute(dir)
        {
            let url = GitUrl::parse(&format!("file://{}#{fragment}", dir.display()))?;
            return Ok(Origin::Git { url, local: true });
        }
        Ok(match path.is_file() {
            true => Origin::Archive(path.to_owned()),
            false => Origin::Directory(path.to_owned()),
        })
    }
}

fn is_repository(dir: &Path) -> bool {
    dir.join(".git").exists() || (dir.join("HEAD").is_file() && dir.join("objects").is_dir())
}

impl Remote<'_> {
    /// Fetches and unpacks `origin` into new scratch directories with `name` in their names. `keep_git_dir` keeps the
    /// `.git` of a repository even if its URL does not ask for it.
    ///
    /// Ok: it was read to its end, and matches its checksum or commit id.
    pub(crate) fn context(
        &self,
        origin: &Origin,
        name: &str,
        keep_git_dir: bool,
        stdin: &mut (dyn Read + Send),
    ) -> Result<Fetched, Error> {
        match origin {
            Origin::Directory(dir) => Ok(Fetched::Files { dir: dir.clone(), time: None }),
            Origin::Git { url, local } => {
                let commit = self.commit(url, None, *local)?;
                let keep = keep_git_dir || url.keep_git_dir == Some(true);
                let url = GitUrl { keep_git_dir: Some(keep), ..url.clone() };
                let dir = self.checkout(&url, &commit, keep, *local)?;
                // Files of a checkout have the time of its commit.
                let time = if url.new_files { None } else { Some(changed(&dir)?) };
                Ok(Fetched::Files { dir, time })
            }
            Origin::Stdin => self.stream(stdin, "standard input", name, true),
            Origin::Archive(path) => self.stream(fs::open(path)?, &path.display().to_string(), name, false),
            Origin::Http(url) => {
                let file = self.http(url, None)?;
                let mut fetched = self.unpacked(&file, url, name)?;
                if let Fetched::Files { time, .. } = &mut fetched
                    && file.mtime != Timestamp::EPOCH
                {
                    *time = Some(file.mtime);
                }
                Ok(fetched)
            }
        }
    }

    /// When `source` last changed: the commit's time, the server's `Last-Modified`, otherwise the time of the archive's
    /// latest file; `None` if unknown. Ok: it matches its checksum.
    pub(crate) fn time_of(&self, source: &EpochSource) -> Result<Option<Timestamp>, Error> {
        let checksum = source.checksum.as_deref();
        if source.git {
            // Files of a checkout have the time of its commit, unless `new_files` is set.
            let url = GitUrl { new_files: false, ..GitUrl::parse(&source.url)? };
            let commit = self.commit(&url, checksum, false)?;
            return Ok(Some(changed(&self.checkout(&url, &commit, false, false)?)?));
        }
        let file = self.http(&source.url, checksum)?;
        if file.mtime != Timestamp::EPOCH {
            return Ok(Some(file.mtime));
        }
        match self.unpacked(&file, &source.url, "epoch") {
            Ok(Fetched::Files { time, .. }) => Ok(time),
            // ADD accepts any file.
            Ok(Fetched::Dockerfile(_)) | Err(Error::NotAnArchive(_) | Error::Unpack(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The content of a file from `url`.
    fn unpacked(&self, file: &FetchedFile, url: &str, name: &str) -> Result<Fetched, Error> {
        let open = File::open(&file.path).map_err(|e| FsError::new("open", &file.path, e))?;
        self.stream(open, &redacted(url), name, true)
    }

    fn stream(&self, from: impl Read + Send, what: &str, name: &str, text: bool) -> Result<Fetched, Error> {
        let unread = |source| Error::Read { what: what.to_owned(), source };
        match copy::sniff(from).map_err(unread)? {
            Stream::Archive(archive) => {
                let (staging, dest) = (format!("context-{name}-files"), format!("context-{name}"));
                let dest = self.scratch.join(dest);
                let limits = self.stop.map_or_else(Limits::default, Limits::until);
                copy::unpack(archive, what, &self.scratch.join(staging), &dest, limits)?;
                let time = latest(&dest)?;
                Ok(Fetched::Files { dir: dest, time })
            }
            Stream::Other(_) if !text => Err(Error::NotAnArchive(what.to_owned())),
            Stream::Other(from) => {
                let mut bytes = Vec::new();
                from.take(MAX_TEXT + 1).read_to_end(&mut bytes).map_err(unread)?;
                match bytes.len() as u64 > MAX_TEXT {
                    true => Err(Error::NotAnArchive(what.to_owned())),
                    false => Ok(Fetched::Dockerfile(bytes)),
                }
            }
        }
    }
}

/// When `path` changed.
fn changed(path: &Path) -> Result<Timestamp, FsError> {
    let meta = path.symlink_metadata().map_err(|e| FsError::new("stat", path, e))?;
    Ok(Timestamp::from_secs(meta.mtime()))
}

/// When the latest file below `dir` changed.
fn latest(dir: &Path) -> Result<Option<Timestamp>, FsError> {
    let mut latest = None;
    for entry in walkdir::WalkDir::new(dir).follow_links(false) {
        let entry = entry.map_err(|e| FsError::new("list", dir, e))?;
        if entry.file_type().is_file() {
            latest = latest.max(Some(changed(entry.path())?));
        }
    }
    Ok(latest)
}
