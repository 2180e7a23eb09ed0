//! From a repository's URL to the files of a commit (C-25).
//!
//! **Order.** [`Remote::commit`] finds the commit; [`Remote::checkout`] fetches it. What is made from a commit is found
//! again by its id, without fetching it.
//! **On disk.** `<hex of URL and ref>` in the cache: the commit of the ref, and when the remote was asked.
//! `git-<hex of URL and commit>`: the `.git` of a repository with little but that commit and its submodules; the next
//! checkout starts from it instead of a transfer.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::cancel::Cancel;
use crate::base::digest::Sha256;
use crate::base::fs::{self, FsError};
use crate::base::publish;
use crate::base::sealed;
use crate::base::time::Timestamp;
use crate::base::unique;
use crate::base::url::redacted;

use super::address::Address;
use super::error::{FetchError, GitFailure};
use super::git::{Commit, Git};
use super::giturl::{GitUrl, is_commit, is_hex};
use super::remote::Remote;

/// The commit of a ref, as the remote reported it.
#[derive(Serialize, Deserialize)]
struct RefRecord {
    id: String,
    name: Option<String>,
    /// When the remote was asked.
    #[serde(rename = "at")]
    asked: String,
}

impl Remote<'_> {
    /// Finds the commit that `url` names, by asking the remote unless the URL contains a full id. `local` allows paths
    /// and `file://` URLs, for repositories that the user names.
    ///
    /// Ok: the commit has the checksum, if one is given. It is fetched only if the URL contains an abbreviated id.
    pub(crate) fn commit(&self, url: &GitUrl, checksum: Option<&str>, local: bool) -> Result<Commit, FetchError> {
        let wanted = if url.fetch_by_commit { url.checksum.as_deref() } else { url.reference.as_deref() };
        let commit = match wanted {
            Some(id) if is_commit(id) => Commit { id: id.to_ascii_lowercase(), name: None, fetched: None },
            _ => self.find_ref(url, local)?,
        };
        for want in [checksum, url.checksum.as_deref()].into_iter().flatten() {
            if !commit.id.starts_with(&want.to_ascii_lowercase()) {
                let (url, want) = (redacted(&url.remote), want.to_owned());
                return Err(FetchError::Checksum { url, want, got: commit.id });
            }
        }
        Ok(commit)
    }

    /// The commit of the ref of `url`; the remote is asked once per build.
    fn find_ref(&self, url: &GitUrl, local: bool) -> Result<Commit, FetchError> {
        fs::ensure_dir(self.cache)?;
        let reference = url.reference.as_deref().unwrap_or("HEAD");
        let path = self.cache.join(Sha256::of(format!("git\0{}\0{reference}", url.remote).as_bytes()).hex());
        let known = fs::read_opt(&path)?.and_then(sealed::open);
        let known = known.and_then(|bytes| serde_json::from_slice::<RefRecord>(&bytes).ok());
        if let Some(known) = known.filter(|known| is_commit(&known.id))
            && (self.is_recent(&known.asked) || known.name.is_none())
        {
            return Ok(Commit { id: known.id, name: known.name, fetched: None });
        }
        let asked = Timestamp::now().to_string();
        fs::ensure_dir(self.scratch)?;
        let git = Git::new(self, url, self.scratch, local)?;
        let peeled = format!("{reference}^{{}}");
        let listed = git.run("ls-remote", &["ls-remote", "--quiet", "--", "origin", reference, &peeled])?;
        let commit = match pick(&listed, reference) {
            Some((id, name)) => Commit { id, name: Some(name), fetched: None },
            None if is_hex(reference) => self.complete(url, reference, local)?,
            None => {
                let why = format!("the repository has no branch or tag {reference}");
                return Err(git.fail("ls-remote", GitFailure::Other, why));
            }
        };
        let record = RefRecord { id: commit.id.clone(), name: commit.name.clone(), asked };
        publish::atomic(&path, &sealed::seal(serde_json::to_vec(&record).expect("strings")), 0o600)?;
        Ok(commit)
    }

    /// The commit whose id begins with `part`; finding it needs all commits.
    fn complete(&self, url: &GitUrl, part: &str, local: bool) -> Result<Commit, FetchError> {
        let dir = self.new_repository()?;
        let git = Git::new(self, url, &dir, local)?;
        git.init()?;
        git.fetch_all()?;
        let commit = format!("{part}^{{commit}}");
        let id = git.run("rev-parse", &["rev-parse", "--verify", "--end-of-options", &commit])?;
        Ok(Commit { id, name: None, fetched: Some(dir) })
    }

    fn new_repository(&self) -> Result<PathBuf, FsError> {
        fs::ensure_dir(self.scratch)?;
        let dir = self.scratch.join(unique::name("git-"));
        fs::create_dir(&dir, 0o755)?;
        Ok(dir)
    }

    /// Checks `commit` of `url` out into a directory of scratch. Modes are 0644 and 0755; times are that of the commit,
    /// or now if the URL asks for that.
    ///
    /// Ok: the directory holds exactly the commit's files, or those of the URL's subdirectory.
    pub(crate) fn checkout(
        &self,
        url: &GitUrl,
        commit: &Commit,
        keep: bool,
        local: bool,
    ) -> Result<PathBuf, FetchError> {
        let dir = self.working_tree(url, commit, local)?;
        let git = Git::new(self, url, &dir, local)?;
        let time = match url.new_files {
            true => Timestamp::from_secs(Timestamp::now().secs),
            false => {
                let time = git.run("show", &["show", "--no-patch", "--format=%ct", "HEAD"])?;
                Timestamp::from_secs(time.parse().unwrap_or_default())
            }
        };
        if url.keep_git_dir.unwrap_or(keep) {
            git.run("config", &["config", "remote.origin.url", &git.plain])?;
            fs::remove_file(&dir.join(".git/FETCH_HEAD"))?;
            fs::remove_tree(&dir.join(".git/logs"))?;
        } else {
            fs::remove_tree(&dir.join(".git"))?;
        }
        let top = subdir(&dir, &url.subdir)
            .map_err(|why| FetchError::Url { url: redacted(&url.remote), why: format!("{}: {why}", url.subdir) })?;
        normalise(&top, time)?;
        Ok(top)
    }

    /// A repository in scratch with the files of `commit` and its submodules, from the cache if they are there.
    fn working_tree(&self, url: &GitUrl, commit: &Commit, local: bool) -> Result<PathBuf, FetchError> {
        let name = format!(
            "git\0{}\0{}\0{}",
            Address::parse(&url.remote).map_or_else(|| url.remote.clone(), |a| a.without_user()),
            commit.id,
            url.submodules
        );
        let kept = self.cache.join(format!("git-{}", Sha256::of(name.as_bytes()).hex()));
        if kept.is_dir() {
            let dir = self.new_repository()?;
            fs::touch(&kept);
            let again = copy_repository(&kept, &dir.join(".git"))
                .map_err(FetchError::from)
                .and_then(|()| Git::new(self, url, &dir, local)?.files(commit));
            match again {
                Ok(()) => return Ok(dir),
                Err(e) if self.stop.is_some_and(Cancel::is_cancelled) => return Err(e),
                // It is damaged, or another process just removed it.
                Err(_) => fs::remove_tree(&kept)?,
            }
        }
        let dir = match &commit.fetched {
            Some(dir) => dir.clone(),
            None => self.new_repository()?,
        };
        let git = Git::new(self, url, &dir, local)?;
        if commit.fetched.is_none() {
            git.init()?;
            git.fetch(commit)?;
        }
        git.files(commit)?;
        let draft = self.new_repository()?;
        copy_repository(&dir.join(".git"), &draft)?;
        fs::ensure_dir(self.cache)?;
        if !fs::rename_new(&draft, &kept)? {
            fs::remove_tree(&draft)?;
        }
        Ok(dir)
    }
}

/// Copies the files of a repository to `to`, except those that belong to its working tree.
fn copy_repository(from: &Path, to: &Path) -> Result<(), FsError> {
    let own = |entry: &walkdir::DirEntry| !matches!(entry.file_name().as_encoded_bytes(), b"index" | b"logs");
    for entry in walkdir::WalkDir::new(from).follow_links(false).into_iter().filter_entry(own) {
        let entry = entry.map_err(|e| FsError::new("list", from, e))?;
        let Ok(inside) = entry.path().strip_prefix(from) else { continue };
        let to = to.join(inside);
        if entry.file_type().is_dir() {
            fs::ensure_dir(&to)?;
        } else if entry.file_type().is_file() {
            std::fs::copy(entry.path(), &to).map_err(|e| FsError::new("copy", entry.path(), e))?;
        }
    }
    Ok(())
}

/// The id and name of `reference` in the output of `ls-remote`: the ref itself, else the branch, else the tag of that
/// name. An annotated tag stands for its commit.
fn pick(listed: &str, reference: &str) -> Option<(String, String)> {
    let lines = || listed.lines().filter_map(|line| line.split_once('\t'));
    ["", "refs/heads/", "refs/tags/", "refs/"].into_iter().find_map(|prefix| {
        let name = format!("{prefix}{reference}");
        if prefix.is_empty() && reference != "HEAD" && !reference.starts_with("refs/") {
            return None;
        }
        let peeled = format!("{name}^{{}}");
        let found = |want: &str| lines().find(|(_, name)| *name == want).map(|(id, _)| id.trim().to_owned());
        let id = found(&peeled).or_else(|| found(&name)).filter(|id| is_commit(id))?;
        Some((id, name))
    })
}

/// The directory `path` in `top`: every component a real directory (S-8).
pub(super) fn subdir(top: &Path, path: &str) -> Result<PathBuf, String> {
    let mut at = top.to_owned();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        at.push(part);
        let real = part != ".." && at.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        if !real {
            return Err("not a directory of the repository".into());
        }
    }
    Ok(at)
}

/// Sets the mode that git records and one time on everything below `top`, so that two checkouts are equal.
fn normalise(top: &Path, time: Timestamp) -> Result<(), FsError> {
    let stamp = rustix::fs::Timespec { tv_sec: time.secs, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: stamp, last_modification: stamp };
    for entry in walkdir::WalkDir::new(top).contents_first(true).follow_links(false) {
        let entry = entry.map_err(|e| {
            let path = e.path().unwrap_or(top).to_owned();
            FsError::new("list", &path, e)
        })?;
        let path = entry.path();
        let kind = entry.file_type();
        if !kind.is_symlink() {
            let meta = entry.metadata().map_err(|e| FsError::new("stat", path, e))?;
            let mode = if kind.is_dir() || meta.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
                .map_err(|e| FsError::new("set mode of", path, e))?;
        }
        rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| FsError::new("set time of", path, e))?;
    }
    Ok(())
}
