//! Repositories, through the `git` command (C-25).
//!
//! **Holds.** Nothing a repository or a URL says becomes an option, a command, a hook, a filter or a path outside the
//! checkout (S-8, S-10): no user or system configuration is read, transports are named, `--` stands before every
//! operand, and what follows a `#` is looked at before git sees it.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{FetchError, Remote, shown};
use crate::base::fs::{self, FsError};
use crate::base::time::Timestamp;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A repository's URL in its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitUrl {
    /// What git fetches from.
    pub remote: String,
    /// Branch, tag or commit; the remote's default branch if absent.
    pub reference: Option<String>,
    /// The part of the checkout that is meant; all of it if empty.
    pub subdir: String,
    /// What the commit's id must begin with.
    pub checksum: Option<String>,
    /// Keep `.git`.
    pub keep_git_dir: Option<bool>,
    /// Fetch submodules.
    pub submodules: bool,
}

/// A commit's files.
#[derive(Clone, Debug)]
pub struct Checkout {
    /// Where they are; modes are 0644 and 0755, times those of the commit.
    pub dir: PathBuf,
    /// The commit.
    pub commit: String,
}

impl GitUrl {
    /// Reads `URL[#ref[:subdir]]` and the query keys of BuildKit.
    pub fn parse(text: &str) -> Result<Self, FetchError> {
        let bad = |why: &str| FetchError::Url { url: shown(text), why: why.to_owned() };
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (remote, query) = match rest.split_once('?') {
            Some((remote, query)) if remote.contains("://") => (remote, query),
            _ => (rest, ""),
        };
        let mut url = GitUrl { remote: remote.to_owned(), submodules: true, ..GitUrl::default() };
        if !fragment.is_empty() {
            let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
            url.reference = Some(reference.to_owned()).filter(|r| !r.is_empty());
            url.subdir = subdir.to_owned();
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let flag = || match value {
                "" | "1" | "true" => Ok(true),
                "0" | "false" => Ok(false),
                _ => Err(bad("want true or false in the query")),
            };
            match key {
                "ref" | "branch" | "tag" | "commit" => {
                    let prefix = match key {
                        "branch" => "refs/heads/",
                        "tag" => "refs/tags/",
                        _ => "",
                    };
                    let value = format!("{prefix}{value}");
                    if url.reference.as_ref().is_some_and(|r| *r != value) {
                        return Err(bad("two different refs"));
                    }
                    url.reference = Some(value);
                }
                "subdir" if url.subdir.is_empty() || url.subdir == value => value.clone_into(&mut url.subdir),
                "subdir" => return Err(bad("two different subdirs")),
                "checksum" => url.checksum = Some(value.to_owned()),
                "keep-git-dir" => url.keep_git_dir = Some(flag()?),
                "submodules" => url.submodules = flag()?,
                _ => return Err(bad("unknown key in the query")),
            }
        }
        url.check().map_err(|why| bad(&why))?;
        Ok(url)
    }

    /// Nothing in it can be taken for an option or a transport of git's own (S-10).
    fn check(&self) -> Result<(), String> {
        let plain = |s: &str| !s.starts_with('-') && !s.bytes().any(|b| b.is_ascii_control());
        if self.remote.is_empty() || !plain(&self.remote) || self.remote.contains("::") {
            return Err("not a repository's address".into());
        }
        let host = self.remote.split_once("://").map_or(self.remote.as_str(), |(_, rest)| rest);
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        if host.starts_with('-') {
            return Err("not a host's name".into());
        }
        if let Some(reference) = &self.reference {
            let good = reference.bytes().all(|b| b.is_ascii_graphic() && !b"~^:?*[\\".contains(&b));
            if !plain(reference) || !good || reference.contains("..") {
                return Err(format!("not a ref: {reference:?}"));
            }
        }
        match &self.checksum {
            Some(sum) if sum.len() < 7 || sum.len() > 64 || !sum.bytes().all(|b| b.is_ascii_hexdigit()) => {
                Err("a commit's checksum has 7 to 64 hexadecimal digits".into())
            }
            _ => Ok(()),
        }
    }
}

impl Remote<'_> {
    /// Checks `url` out below scratch. `local` = paths and `file://` of this host are allowed: the user named them.
    ///
    /// Ok: the directory holds exactly the files of one commit, which has the checksum if one is given.
    pub fn git(&self, url: &GitUrl, checksum: Option<&str>, keep: bool, local: bool) -> Result<Checkout, FetchError> {
        let dir = self.scratch.join(format!("git-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::ensure_dir(self.scratch)?;
        fs::create_dir(&dir, 0o755)?;
        let git = Git { remote: self, url, dir: &dir, local };
        git.run("init", &["init", "--quiet", "--template=", "."])?;
        git.run("config", &["config", "remote.origin.url", &url.remote])?;
        git.fetch()?;
        git.run("checkout", &["checkout", "--quiet", "--force", "--detach", "FETCH_HEAD"])?;
        let commit = git.run("rev-parse", &["rev-parse", "--verify", "HEAD"])?;
        for want in [checksum, url.checksum.as_deref()].into_iter().flatten() {
            if !commit.starts_with(&want.to_ascii_lowercase()) {
                let (url, want) = (shown(&url.remote), want.to_owned());
                return Err(FetchError::Checksum { url, want, got: commit });
            }
        }
        if url.submodules && dir.join(".gitmodules").symlink_metadata().is_ok_and(|m| m.is_file()) {
            let args = ["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"];
            git.run("submodule update", &args)?;
        }
        let time = git.run("show", &["show", "--no-patch", "--format=%ct", "HEAD"])?;
        if url.keep_git_dir.unwrap_or(keep) {
            git.run("config", &["config", "remote.origin.url", &shown(&url.remote)])?;
            fs::remove_file(&dir.join(".git/FETCH_HEAD"))?;
            fs::remove_tree(&dir.join(".git/logs"))?;
        } else {
            fs::remove_tree(&dir.join(".git"))?;
        }
        let top = subdir(&dir, &url.subdir)
            .map_err(|why| FetchError::Url { url: shown(&url.remote), why: format!("{}: {why}", url.subdir) })?;
        normalise(&top, Timestamp::from_secs(time.parse().unwrap_or_default()), url.keep_git_dir.unwrap_or(keep))?;
        Ok(Checkout { dir: top, commit })
    }
}

struct Git<'a> {
    remote: &'a Remote<'a>,
    url: &'a GitUrl,
    dir: &'a Path,
    local: bool,
}

impl Git<'_> {
    fn fetch(&self) -> Result<(), FetchError> {
        let reference = self.url.reference.as_deref().unwrap_or("HEAD");
        let shallow = self.run("fetch", &["fetch", "--quiet", "--depth=1", "--no-tags", "--", "origin", reference]);
        let hex = reference.len() >= 7 && reference.bytes().all(|b| b.is_ascii_hexdigit());
        match shallow {
            // A server that only has files knows nothing of depth.
            Err(FetchError::Git { why, .. }) if why.contains("shallow") => {
                self.run("fetch", &["fetch", "--quiet", "--no-tags", "--", "origin", reference]).map(drop)
            }
            // Not every server gives a commit by its id, and none by a part of it.
            Err(_) if hex => {
                let all = ["fetch", "--quiet", "--tags", "--", "origin", "+refs/heads/*:refs/remotes/origin/*"];
                self.run("fetch", &all)?;
                let commit = format!("{reference}^{{commit}}");
                let commit = self.run("rev-parse", &["rev-parse", "--verify", "--end-of-options", &commit])?;
                crate::base::publish::atomic(
                    &self.dir.join(".git/FETCH_HEAD"),
                    format!("{commit}\n").as_bytes(),
                    0o600,
                )?;
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Runs git without any configuration but this. Ok: what it wrote, trimmed.
    fn run(&self, action: &'static str, args: &[&str]) -> Result<String, FetchError> {
        let fail = |why: String| FetchError::Git { action, url: shown(&self.url.remote), why };
        let transports = if self.local { "http:https:ssh:git:file" } else { "http:https:ssh:git" };
        let output = Command::new("git")
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .envs(self.remote.env.iter().map(|(name, value)| (name, value)))
            .env("HOME", self.remote.scratch)
            .env("GIT_DIR", OsStr::new(".git"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", transports)
            .env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "protocol.ext.allow=never"])
            .args(["-c", "safe.directory=*", "-c", "core.autocrlf=false", "-c", "submodule.fetchJobs=1"])
            .args(["-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=60", "-c", "init.defaultBranch=main"])
            .args(["-c", "advice.detachedHead=false", "-c", "gc.auto=0", "-c", "maintenance.auto=false"])
            .args(args)
            .current_dir(self.dir)
            .stdin(Stdio::null())
            .output();
        let output = match output {
            Ok(output) => output,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(fail("the command git is not installed".into()));
            }
            Err(e) => return Err(fail(e.to_string())),
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let text = String::from_utf8_lossy(&output.stderr).replace(&self.url.remote, &shown(&self.url.remote));
        // What was wrong comes first, advice after it.
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let first = lines.iter().position(|line| line.starts_with("fatal:") || line.starts_with("error:"));
        let said = &lines[first.unwrap_or_default()..];
        Err(fail(said[..said.len().min(2)].join("; ")))
    }
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

/// Gives everything below `top` the mode git means and one time, so that two checkouts are equal.
fn normalise(top: &Path, time: Timestamp, git_dir: bool) -> Result<(), FsError> {
    let stamp = rustix::fs::Timespec { tv_sec: time.secs, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: stamp, last_modification: stamp };
    for entry in walkdir::WalkDir::new(top).contents_first(true).follow_links(false) {
        let entry = entry.map_err(|e| {
            let path = e.path().unwrap_or(top).to_owned();
            FsError::new("list", &path, e)
        })?;
        let path = entry.path();
        let kind = entry.file_type();
        // A submodule's `.git` is a file that names a directory of ours.
        if !git_dir && kind.is_file() && entry.file_name() == ".git" {
            fs::remove_file(path)?;
            continue;
        }
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
