//! The `git` command (C-25).
//!
//! **Holds.** Nothing that a repository or URL contains becomes an option, a command, a hook, a filter or a path outside
//! the checkout (S-8, S-10): no user or system configuration is read, transports are listed, `--` precedes every operand,
//! and `giturl` checks what follows a `#`. Credentials reach git through its environment only, are for one host, and are
//! not sent to the target of a redirect.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::base::cancel::Cancel;
use crate::base::url::redacted;
use crate::base::watch::beside;
use crate::base::{fs, publish};

use super::address::Address;
use super::error::{FetchError, GitFailure};
use super::giturl::GitUrl;
use super::remote::Remote;

/// The commit that a repository's URL names now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Its full id.
    pub id: String,
    /// The remote's ref: `refs/heads/main`. `None`: the URL names an id.
    pub(super) name: Option<String>,
    /// A repository in scratch that has the commit.
    pub(super) fetched: Option<PathBuf>,
}

/// The file in scratch with the authorities that git trusts.
const BUNDLE: &str = "authorities.pem";

/// Runs git in one repository.
pub(super) struct Git<'a> {
    url: &'a GitUrl,
    dir: &'a Path,
    local: bool,
    env: &'a [(String, String)],
    home: &'a Path,
    stop: Option<&'a Cancel>,
    /// The remote's URL, without user name and password if it is an HTTP URL: they are sent in a header.
    pub(super) plain: String,
    /// The authorities to trust, where the system's alone are not enough.
    bundle: Option<PathBuf>,
    /// Configuration for the environment, in git's own quoting, because command lines are visible to other users.
    private: String,
}

impl<'a> Git<'a> {
    pub(super) fn new(remote: &'a Remote<'a>, url: &'a GitUrl, dir: &'a Path, local: bool) -> Result<Self, FetchError> {
        let mut plain = url.remote.clone();
        let mut private = String::new();
        if let Some(address) = Address::parse(&url.remote) {
            plain = address.without_user();
            let header = match address.authorization() {
                Some(header) => Some(header),
                None => remote.secrets.for_git(&address)?,
            };
            if let Some(header) = header {
                let key = format!("http.{}.extraheader", address.origin());
                private = format!("{}={}", quoted(&key), quoted(&format!("Authorization: {header}")));
                // git would send the header to the target of a redirect.
                private += " 'http.followredirects'='false'";
            }
        }
        let bundle = match remote.authorities {
            Some(authorities) => {
                let path = remote.scratch.join(BUNDLE);
                fs::ensure_dir(remote.scratch)?;
                publish::atomic(&path, authorities.bundle(), 0o600)?;
                Some(path)
            }
            None => None,
        };
        Ok(Self { url, dir, local, env: remote.env, home: remote.scratch, stop: remote.stop, plain, private, bundle })
    }

    pub(super) fn init(&self) -> Result<(), FetchError> {
        self.run("init", &["init", "--quiet", "--template=", "."]).map(drop)
    }

    /// Ok: the repository has the commit.
    pub(super) fn fetch(&self, commit: &Commit) -> Result<(), FetchError> {
        // The ref may have moved meanwhile, and not every server sends a commit by its id.
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
        // The error of fetching by id explains more than that of fetching everything.
        self.fetch_all().map_err(|all| by_id.err().unwrap_or(all))?;
        match self.has(commit) {
            true => Ok(()),
            false => Err(self.fail("fetch", GitFailure::Other, format!("the repository has no commit {}", commit.id))),
        }
    }

    /// Writes the files of `commit`, which the repository has, and of its submodules to the working tree.
    pub(super) fn files(&self, commit: &Commit) -> Result<(), FetchError> {
        self.run("checkout", &["checkout", "--quiet", "--force", "--detach", &commit.id])?;
        if self.url.submodules && self.dir.join(".gitmodules").symlink_metadata().is_ok_and(|m| m.is_file()) {
            self.submodules()?;
        }
        Ok(())
    }

    fn fetch_ref(&self, name: &str) -> Result<(), FetchError> {
        match self.run("fetch", &["fetch", "--quiet", "--depth=1", "--no-tags", "--", "origin", name]) {
            // Plain file servers do not support shallow clones.
            Err(FetchError::Git { failure: GitFailure::NoShallowClone, .. }) => {
                self.run("fetch", &["fetch", "--quiet", "--no-tags", "--", "origin", name]).map(drop)
            }
            other => other.map(drop),
        }
    }

    fn submodules(&self) -> Result<(), FetchError> {
        const UPDATE: [&str; 5] = ["submodule", "--quiet", "update", "--init", "--recursive"];
        match self.run("submodule update", &[&UPDATE[..], &["--depth=1"]].concat()) {
            Err(FetchError::Git { failure: GitFailure::NoShallowClone, .. }) => {
                self.run("submodule update", &UPDATE).map(drop)
            }
            other => other.map(drop),
        }
    }

    pub(super) fn fetch_all(&self) -> Result<(), FetchError> {
        let all = ["fetch", "--quiet", "--tags", "--", "origin", "+refs/heads/*:refs/remotes/origin/*"];
        self.run("fetch", &all).map(drop)
    }

    fn has(&self, commit: &Commit) -> bool {
        self.run("cat-file", &["cat-file", "-e", &format!("{}^{{commit}}", commit.id)]).is_ok()
    }

    /// Waits for `child`, and kills it if the build is cancelled.
    fn wait(&self, child: Child) -> io::Result<Output> {
        let Some(stop) = self.stop else { return child.wait_with_output() };
        let group = Pid::from_child(&child);
        let end = |_| {
            // The whole group, because its helpers would go on waiting for their server; other signals are blocked
            // here. An error means that it has ended already.
            let _ = kill_process_group(group, Signal::KILL);
        };
        beside(stop, None, end, || child.wait_with_output())?
    }

    pub(super) fn fail(&self, action: &'static str, failure: GitFailure, why: String) -> FetchError {
        FetchError::Git { action, url: redacted(&self.url.remote), failure, why }
    }

    /// Runs git with no other configuration than this. Ok: its output, trimmed.
    pub(super) fn run(&self, action: &'static str, args: &[&str]) -> Result<String, FetchError> {
        let output = match self.command(args).spawn().and_then(|child| self.wait(child)) {
            Ok(output) => output,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let why = "the command git is not installed".to_owned();
                return Err(self.fail(action, GitFailure::NotInstalled, why));
            }
            Err(e) => return Err(self.fail(action, GitFailure::Other, e.to_string())),
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let text = String::from_utf8_lossy(&output.stderr).replace(&self.url.remote, &redacted(&self.url.remote));
        let (failure, why) = explain(&text, !self.private.is_empty());
        Err(self.fail(action, failure, why))
    }

    fn command(&self, args: &[&str]) -> Command {
        let transports = if self.local { "http:https:ssh:git:file" } else { "http:https:ssh:git" };
        let mut git = Command::new("git");
        git.env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            // `explain` reads English.
            .env("LC_ALL", "C")
            .env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .envs(self.bundle.iter().map(|path| ("GIT_SSL_CAINFO", path)))
            .env("HOME", self.home)
            .env("GIT_DIR", OsStr::new(".git"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_PARAMETERS", &self.private)
            // Submodules have their own URLs and do not inherit these variables.
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
        // Without a flag to watch, it stays in this process's group and ends with it by a terminal's signals.
        if self.stop.is_some() {
            git.process_group(0);
        }
        git
    }
}

/// How git reports a redirect that it may not follow.
const REDIRECTED: [&str; 5] = ["error: 301", "error: 302", "error: 303", "error: 307", "error: 308"];

/// What git printed for a failure.
const KNOWN: [(&str, GitFailure); 8] = [
    ("shallow", GitFailure::NoShallowClone),
    ("could not read Username", GitFailure::AuthenticationRequired),
    ("Authentication failed", GitFailure::AuthenticationRequired),
    (": 403", GitFailure::AuthenticationRequired),
    ("Permission denied (publickey", GitFailure::KeyRejected),
    ("Host key verification", GitFailure::UnknownHostKey),
    // With GnuTLS, and with OpenSSL.
    ("certificate verification failed", GitFailure::UnknownAuthority),
    ("SSL certificate problem", GitFailure::UnknownAuthority),
];

/// The cause of a failure in git's error output, and the lines that describe it.
fn explain(errors: &str, has_credentials: bool) -> (GitFailure, String) {
    if has_credentials && REDIRECTED.iter().any(|code| errors.contains(code)) {
        let why = "the server redirects, and credentials are not sent to the target of a redirect";
        return (GitFailure::Redirected, why.to_owned());
    }
    // The error comes first, advice after it.
    let lines: Vec<&str> = errors.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut first = lines.iter().position(|line| line.starts_with("fatal:") || line.starts_with("error:"));
    // git only reports that ssh failed; ssh printed the reason before.
    if first.is_some_and(|at| at > 0 && lines[at].contains("Could not read from remote repository")) {
        first = Some(0);
    }
    let lines = &lines[first.unwrap_or_default()..];
    let why = lines[..lines.len().min(2)].join("; ");
    let failure = KNOWN.iter().find(|(text, _)| why.contains(text)).map_or(GitFailure::Other, |&(_, failure)| failure);
    (failure, why)
}

/// A configuration value in git's own quoting.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
