//! Repositories, through the `git` command (C-25).
//!
//! **Holds.** Nothing a repository or a URL says becomes an option, a command, a hook, a filter or a path outside the
//! checkout (S-8, S-10): no user or system configuration is read, transports are named, `--` stands before every
//! operand, and what follows a `#` is looked at before git sees it. Credentials go through git's environment only, to
//! one host, and are not sent where that host redirects.
//! **Order.** [`Remote::commit`] says which commit is meant and asks for no more than that; [`Remote::checkout`]
//! fetches it. What is made of a commit can be found again by its id, without fetching it.
//! **On disk.** `<hex of URL and ref>` in the cache: which commit the ref was, and when that was asked.
//! `git-<hex of URL and commit>` there: the `.git` of a repository with that commit, its submodules' commits and little
//! else; the next checkout begins with that instead of a transfer.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use super::auth::Address;
use super::giturl::{is_commit, is_hex};
use super::{FetchError, GitUrl, Remote, shown};
use crate::base::cancel::Cancel;
use crate::base::digest::Sha256;
use crate::base::fs::{self, FsError};
use crate::base::publish;
use crate::base::time::Timestamp;
use crate::base::unique;
use crate::base::watch::beside;

/// How git says that it was redirected and may not follow.
const REDIRECTED: [&str; 5] = ["error: 301", "error: 302", "error: 303", "error: 307", "error: 308"];

/// What a repository's URL means now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its whole id.
    pub id: String,
    /// The remote's name for it, where the URL has one: `refs/heads/main`.
    name: Option<String>,
    /// A directory of scratch with a repository that has it.
    fetched: Option<PathBuf>,
}

/// What a remote said of a ref.
#[derive(Serialize, Deserialize)]
struct Said {
    id: String,
    name: Option<String>,
    at: String,
}

impl Remote<'_> {
    /// Finds out which commit `url` means: a whole id says so itself, of a ref the remote is asked. `local` = paths and
    /// `file://` of this host are allowed: the user named them.
    ///
    /// Ok: the commit has the checksum, if one is given. It was not fetched, unless only a part of its id is known.
    pub fn commit(&self, url: &GitUrl, checksum: Option<&str>, local: bool) -> Result<Commit, FetchError> {
        let wanted = if url.fetch_by_commit { url.checksum.as_deref() } else { url.reference.as_deref() };
        let commit = match wanted {
            Some(id) if is_commit(id) => Commit { id: id.to_ascii_lowercase(), name: None, fetched: None },
            _ => self.ask(url, local)?,
        };
        for want in [checksum, url.checksum.as_deref()].into_iter().flatten() {
            if !commit.id.starts_with(&want.to_ascii_lowercase()) {
                let (url, want) = (shown(&url.remote), want.to_owned());
                return Err(FetchError::Checksum { url, want, got: commit.id });
            }
        }
        Ok(commit)
    }

    /// Which commit the remote means by the ref of `url`; asked once in a build.
    fn ask(&self, url: &GitUrl, local: bool) -> Result<Commit, FetchError> {
        fs::ensure_dir(self.cache)?;
        let reference = url.reference.as_deref().unwrap_or("HEAD");
        let path = self.cache.join(Sha256::of(format!("git\0{}\0{reference}", url.remote).as_bytes()).hex());
        let said = fs::read_opt(&path)?.and_then(|bytes| serde_json::from_slice::<Said>(&bytes).ok());
        if let Some(said) = said.filter(|said| is_commit(&said.id))
            && (self.is_recent(&said.at) || said.name.is_none())
        {
            return Ok(Commit { id: said.id, name: said.name, fetched: None });
        }
        let at = Timestamp::now().to_string();
        fs::ensure_dir(self.scratch)?;
        let git = Git::new(self, url, self.scratch, local)?;
        let peeled = format!("{reference}^{{}}");
        let listed = git.run("ls-remote", &["ls-remote", "--quiet", "--", "origin", reference, &peeled])?;
        let commit = match pick(&listed, reference) {
            Some((id, name)) => Commit { id, name: Some(name), fetched: None },
            None if is_hex(reference) => self.complete(url, reference, local)?,
            None => {
                let why = format!("the repository has no branch or tag {reference}");
                return Err(FetchError::Git { action: "ls-remote", url: shown(&url.remote), why });
            }
        };
        let said = Said { id: commit.id.clone(), name: commit.name.clone(), at };
        publish::atomic(&path, &serde_json::to_vec(&said).expect("strings"), 0o600)?;
        Ok(commit)
    }

    /// The commit whose id begins with `part`: no server tells without giving all it has.
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

    /// Checks `commit` of `url` out below scratch; gives the directory. Modes are 0644 and 0755, the time is that
    /// of the commit, or now.
    ///
    /// Ok: the directory holds exactly the files of the commit that are meant.
    pub fn checkout(&self, url: &GitUrl, commit: &Commit, keep: bool, local: bool) -> Result<PathBuf, FetchError> {
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
            .map_err(|why| FetchError::Url { url: shown(&url.remote), why: format!("{}: {why}", url.subdir) })?;
        normalise(&top, time)?;
        Ok(top)
    }

    /// A repository in scratch with the files of `commit` and of its submodules, from the cache if that has them.
    fn working_tree(&self, url: &GitUrl, commit: &Commit, local: bool) -> Result<PathBuf, FetchError> {
        let name = format!(
            "git\0{}\0{}\0{}",
            Address::parse(&url.remote).map_or_else(|| url.remote.clone(), |a| a.plain()),
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
                // It is damaged, or somebody just removed it.
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

/// Copies a repository's own files to `to`. What belongs to one working tree is left out.
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

/// Which of the lines of `ls-remote` is `reference`: the ref itself, else the branch, else the tag of that name. An
/// annotated tag stands for its commit.
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

struct Git<'a> {
    url: &'a GitUrl,
    dir: &'a Path,
    local: bool,
    env: &'a [(String, String)],
    home: &'a Path,
    stop: Option<&'a Cancel>,
    /// The remote's URL without user name and password, if those can be sent in a header.
    plain: String,
    /// Configuration that no command line shows, as git gives what `-c` says to the commands it starts itself.
    private: String,
}

impl<'a> Git<'a> {
    fn new(remote: &'a Remote<'a>, url: &'a GitUrl, dir: &'a Path, local: bool) -> Result<Self, FetchError> {
        let mut plain = url.remote.clone();
        let mut private = String::new();
        if let Some(address) = Address::parse(&url.remote) {
            plain = address.plain();
            let header = match address.user() {
                Some(header) => Some(header),
                None => remote.secrets.for_git(&address)?,
            };
            if let Some(header) = header {
                let key = format!("http.{}.extraheader", address.origin());
                private = format!("{}={}", quoted(&key), quoted(&format!("Authorization: {header}")));
                // git would send the header to wherever it is redirected.
                private += " 'http.followredirects'='false'";
            }
        }
        Ok(Self { url, dir, local, env: remote.env, home: remote.scratch, stop: remote.stop, plain, private })
    }

    fn init(&self) -> Result<(), FetchError> {
        self.run("init", &["init", "--quiet", "--template=", "."]).map(drop)
    }

    /// Ok: the repository has the commit.
    fn fetch(&self, commit: &Commit) -> Result<(), FetchError> {
        // Some server's ref has moved since it was asked, and not every server gives a commit by its id.
        if let Some(name) = commit.name.as_ref().filter(|_| !self.url.fetch_by_commit) {
            self.fetch_ref(name)?;
            if self.has(commit) {
                return Ok(());
            }
        }
        let by_id = self.fetch_ref(&commit.id);
        if self.has(commit) {
            return Ok(());
        }
        // Why there is nothing by that id says more than why there is nothing at all.
        self.fetch_all().map_err(|all| by_id.err().unwrap_or(all))?;
        match self.has(commit) {
            true => Ok(()),
            false => Err(self.fail("fetch", format!("the repository has no commit {}", commit.id))),
        }
    }

    /// Puts the files of `commit`, which the repository has, and of its submodules into the working tree.
    fn files(&self, commit: &Commit) -> Result<(), FetchError> {
        self.run("checkout", &["checkout", "--quiet", "--force", "--detach", &commit.id])?;
        if self.url.submodules && self.dir.join(".gitmodules").symlink_metadata().is_ok_and(|m| m.is_file()) {
            self.submodules()?;
        }
        Ok(())
    }

    fn fetch_ref(&self, name: &str) -> Result<(), FetchError> {
        match self.run("fetch", &["fetch", "--quiet", "--depth=1", "--no-tags", "--", "origin", name]) {
            // A server that only has files knows nothing of depth.
            Err(FetchError::Git { why, .. }) if why.contains("shallow") => {
                self.run("fetch", &["fetch", "--quiet", "--no-tags", "--", "origin", name]).map(drop)
            }
            other => other.map(drop),
        }
    }

    fn submodules(&self) -> Result<(), FetchError> {
        const UPDATE: [&str; 5] = ["submodule", "--quiet", "update", "--init", "--recursive"];
        match self.run("submodule update", &[&UPDATE[..], &["--depth=1"]].concat()) {
            Err(FetchError::Git { why, .. }) if why.contains("shallow") => {
                self.run("submodule update", &UPDATE).map(drop)
            }
            other => other.map(drop),
        }
    }

    fn fetch_all(&self) -> Result<(), FetchError> {
        let all = ["fetch", "--quiet", "--tags", "--", "origin", "+refs/heads/*:refs/remotes/origin/*"];
        self.run("fetch", &all).map(drop)
    }

    fn has(&self, commit: &Commit) -> bool {
        self.run("cat-file", &["cat-file", "-e", &format!("{}^{{commit}}", commit.id)]).is_ok()
    }

    /// Waits for `child`, which ends when the build is to.
    fn wait(&self, child: Child) -> io::Result<Output> {
        let Some(stop) = self.stop else { return child.wait_with_output() };
        let group = Pid::from_child(&child);
        let end = |_| {
            // Its helpers too, which would go on waiting for their server; other signals are blocked here. What has
            // ended needs no telling.
            let _ = kill_process_group(group, Signal::KILL);
        };
        beside(stop, None, end, || child.wait_with_output())?
    }

    fn fail(&self, action: &'static str, why: String) -> FetchError {
        FetchError::Git { action, url: shown(&self.url.remote), why }
    }

    /// Runs git without any configuration but this. Ok: what it wrote, trimmed.
    fn run(&self, action: &'static str, args: &[&str]) -> Result<String, FetchError> {
        let fail = |why: String| self.fail(action, why);
        let transports = if self.local { "http:https:ssh:git:file" } else { "http:https:ssh:git" };
        let mut git = Command::new("git");
        git.env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env("HOME", self.home)
            .env("GIT_DIR", OsStr::new(".git"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_PARAMETERS", &self.private)
            // Not for submodules, which have their own.
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "remote.origin.url")
            .env("GIT_CONFIG_VALUE_0", &self.plain)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", transports)
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "protocol.ext.allow=never"])
            .args(["-c", "safe.directory=*", "-c", "core.autocrlf=false", "-c", "submodule.fetchJobs=1"])
            .args(["-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=60", "-c", "init.defaultBranch=main"])
            .args(["-c", "advice.detachedHead=false", "-c", "gc.auto=0", "-c", "maintenance.auto=false"])
            .args(args)
            .current_dir(self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Where nobody will end it, it stays in our group, and ends with us by the signals of a terminal.
        if self.stop.is_some() {
            git.process_group(0);
        }
        let output = match git.spawn().and_then(|child| self.wait(child)) {
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
        if !self.private.is_empty() && REDIRECTED.iter().any(|code| text.contains(code)) {
            return Err(fail(
                "the server redirects, and credentials are not sent to where it does; name that URL".into(),
            ));
        }
        // What was wrong comes first, advice after it.
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let mut first = lines.iter().position(|line| line.starts_with("fatal:") || line.starts_with("error:"));
        // git only knows that ssh failed; ssh said why.
        if first.is_some_and(|at| at > 0 && lines[at].contains("Could not read from remote repository")) {
            first = Some(0);
        }
        let said = &lines[first.unwrap_or_default()..];
        Err(fail(said[..said.len().min(2)].join("; ")))
    }
}

/// As git quotes what it hands on.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
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
