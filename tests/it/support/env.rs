//! The environment of one test: a store, a home, contexts, and the binary.

use std::fs;
use std::io::Write;
use std::ops::Deref;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::dir::Dir;
use super::image::Image;
use super::progress::Progress;
use super::requires;

/// Where binary, fixtures and test data are. `scripts/test` copies them for the plain user, who cannot read the
/// sources, and sets `KILN_TEST_HOME`.
fn place(in_home: &str, otherwise: impl FnOnce() -> PathBuf) -> PathBuf {
    std::env::var_os("KILN_TEST_HOME").map_or_else(otherwise, |home| PathBuf::from(home).join(in_home))
}

/// The `kiln` under test.
pub fn binary() -> PathBuf {
    place("kiln", || PathBuf::from(env!("CARGO_BIN_EXE_kiln")))
}

/// A file of `testdata/`.
pub fn testdata(path: &str) -> PathBuf {
    place("testdata", || Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")).join(path)
}

/// The directory of a base image: `rootfs.tar` and `layout` (tag `latest`). Runs its recipe if necessary.
pub fn fixture(name: &str) -> PathBuf {
    let fixtures = match std::env::var_os("KILN_FIXTURES") {
        Some(dir) => PathBuf::from(dir),
        None => place("fixtures", || {
            Path::new(env!("CARGO_BIN_EXE_kiln")).ancestors().nth(2).expect("<target>/<profile>/kiln").join("fixtures")
        }),
    };
    if std::env::var_os("KILN_TEST_HOME").is_none() {
        let make = Path::new(env!("CARGO_MANIFEST_DIR")).join("rootfs-fixtures/make");
        let out = Command::new(make).arg(name).env("KILN_FIXTURES", &fixtures).output().expect("run the recipe");
        assert!(out.status.success(), "make {name}: {}", String::from_utf8_lossy(&out.stderr));
    }
    let dir = fixtures.join(name);
    assert!(dir.join("rootfs.tar").is_file(), "no base image {name} in {}", fixtures.display());
    dir
}

/// Environments with `busybox:latest`: one for the user who runs the tests and, if that is root, one for a plain user.
pub fn each_user() -> Vec<TestEnv> {
    let mut all = vec![TestEnv::with_busybox()];
    all.extend(plain_user().inspect(|plain| plain.import("busybox")));
    all
}

/// An empty store of the plain user `kiln-test`; `None`: tests cannot become that user.
pub fn plain_user() -> Option<TestEnv> {
    // Root of a user namespace cannot become a user with subordinate ids.
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let hosts = map.split_whitespace().eq(["0", "0", "4294967295"]);
    (requires::is_root() && hosts && requires::have("kiln_test")).then(TestEnv::of_plain_user)
}

/// The account that `scripts/test` makes for rootless tests.
pub const PLAIN_USER: &str = "kiln-test";

/// A test environment with its own store and HOME, and no variables from outside.
pub struct TestEnv {
    dir: Dir,
    /// The environment whose store this one's base image was copied from, kept alive for further copies.
    base: Mutex<Option<Arc<TestEnv>>>,
    /// The user to run commands as, instead of the one who runs the tests.
    user: Option<&'static str>,
}

impl TestEnv {
    /// With an empty store.
    pub fn new() -> TestEnv {
        let dir = Dir::new();
        // Subordinate ids must be able to reach files below.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        for sub in ["home", "tmp"] {
            fs::create_dir(dir.path().join(sub)).expect("create");
        }
        TestEnv { dir, base: Mutex::new(None), user: None }
    }

    /// With an empty store that belongs to the plain user `kiln-test`; all commands run as that user. For tests that
    /// run as root and compare: guard with `requires!(root, kiln_test)`.
    pub fn of_plain_user() -> TestEnv {
        let mut env = TestEnv::new();
        env.user = Some(PLAIN_USER);
        // That user may be unable to reach the build directory.
        fs::copy(binary(), env.dir.path().join("kiln")).expect("copy kiln");
        env.hand_over(env.dir.path());
        env
    }

    /// Gives a path that the test wrote to the user of this environment.
    fn hand_over(&self, path: &Path) {
        if let Some(user) = self.user {
            let status = Command::new("chown").args(["-R", "-h", user]).arg(path).status().expect("run chown");
            assert!(status.success(), "chown to {user}");
        }
    }

    /// With `busybox:latest` in the store.
    pub fn with_busybox() -> TestEnv {
        TestEnv::with("busybox")
    }

    /// With one base image (`busybox`, `debian`, `python`, `node`) in the store.
    pub fn with(base: &str) -> TestEnv {
        let env = TestEnv::new();
        env.import(base);
        env
    }

    /// Puts a base image (`busybox`, `debian`, `python`, `node`) into the store as `NAME:latest`.
    ///
    /// The first image of a store is imported once for all tests that run at the time; the store gets hard links to its
    /// blobs, which never change, and copies of the other files.
    pub fn import(&self, name: &str) {
        static BASES: Mutex<Vec<(String, Weak<TestEnv>)>> = Mutex::new(Vec::new());
        let tar = fixture(name).join("rootfs.tar");
        let import = |env: &TestEnv| drop(env.kiln(&["import", tar.to_str().expect("UTF-8"), name]).ok());
        if self.user.is_some() {
            let copy = self.dir.path().join("rootfs.tar");
            fs::copy(&tar, &copy).expect("copy the base image");
            self.kiln(&["import", copy.to_str().expect("UTF-8"), name]).ok();
            return fs::remove_file(copy).expect("remove the copy");
        }
        if self.store().join("index.json").exists() {
            return import(self);
        }
        let mut bases = BASES.lock().unwrap_or_else(PoisonError::into_inner);
        let base = match bases.iter().find(|(n, _)| n == name).and_then(|(_, base)| base.upgrade()) {
            Some(base) => base,
            None => {
                let base = Arc::new(TestEnv::new());
                import(&base);
                bases.retain(|(n, _)| n != name);
                bases.push((name.to_owned(), Arc::downgrade(&base)));
                base
            }
        };
        drop(bases);
        copy_store(&base.store(), &self.store());
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) = Some(base);
    }

    /// The store's directory.
    pub fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// The directory of this test.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a context and returns its directory. The notation is one header per file, with its text below:
    ///
    /// ```text
    /// -- PATH --              a file, mode 0644
    /// -- PATH 0755 --         a file of this mode
    /// -- DIR/ -- or -- DIR/ 0700 --
    /// -- PATH -> TARGET --    a symbolic link
    /// -- PATH = TARGET --     a hard link
    /// ```
    pub fn context(&self, notation: &str) -> PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let dir = self.dir.path().join(format!("context-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&dir).expect("create the context");
        write_tree(&dir, notation);
        self.hand_over(&dir);
        dir
    }

    /// A copy of an application of `testdata/apps`, with the files that its script generates.
    pub fn app(&self, name: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        let status = Command::new("cp").arg("-r").arg(testdata("apps").join(name)).arg(&dir).status().expect("run cp");
        assert!(status.success(), "copy the application {name}");
        for script in ["make-wheels", "make-vendor"].map(|s| dir.join(s)).iter().filter(|s| s.exists()) {
            let out = Command::new("python3").arg(script).output().expect("run python3");
            assert!(out.status.success(), "{}: {}", script.display(), String::from_utf8_lossy(&out.stderr));
        }
        self.hand_over(&dir);
        dir
    }

    /// Adds to (or replaces in) a context.
    pub fn add(&self, context: &Path, notation: &str) {
        write_tree(context, notation);
        self.hand_over(context);
    }

    /// `kiln build ARGS CONTEXT`.
    pub fn build(&self, args: &[&str], context: &Path) -> Kiln<'_> {
        let context = context.to_str().expect("UTF-8");
        let all: Vec<&str> = ["build"].into_iter().chain(args.iter().copied()).chain([context]).collect();
        self.kiln(&all)
    }

    /// `kiln ARGS`, which runs at `.ok()`, `.fails(code)`, `.output()` or `.spawn()`.
    pub fn kiln(&self, args: &[&str]) -> Kiln<'_> {
        let command = match self.user {
            None => Command::new(binary()),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", user, "--regid", user, "--init-groups", "--inh-caps=-all"]);
                command.arg(self.dir.path().join("kiln"));
                command
            }
        };
        self.cleared(command, args)
    }

    /// The same in a process with at most `mib` MiB of memory; it is aborted if it needs more.
    pub fn kiln_within(&self, mib: u64, args: &[&str]) -> Kiln<'_> {
        self.wrapped(&["prlimit", &format!("--data={}", mib << 20)], args)
    }

    /// The same as if the machine had just been started, with a time namespace. For root only.
    pub fn kiln_restarted(&self, args: &[&str]) -> Kiln<'_> {
        let uptime = fs::read_to_string("/proc/uptime").expect("read uptime");
        let seconds: u64 = uptime.split('.').next().and_then(|s| s.parse().ok()).expect("seconds");
        let boot = format!("--boottime=-{}", seconds.saturating_sub(1));
        self.wrapped(&["unshare", "--fork", "--time", &boot], args)
    }

    /// The same with a kernel that reports to be Linux 2.6.
    pub fn kiln_on_old_kernel(&self, args: &[&str]) -> Kiln<'_> {
        self.wrapped(&["setarch", "--uname-2.6"], args)
    }

    /// The same, started by another program with these arguments.
    pub fn wrapped(&self, by: &[&str], args: &[&str]) -> Kiln<'_> {
        let plain = self.kiln(&[]).command;
        let mut command = Command::new(by[0]);
        command.args(&by[1..]).arg(plain.get_program()).args(plain.get_args());
        self.cleared(command, args)
    }

    fn cleared(&self, mut command: Command, args: &[&str]) -> Kiln<'_> {
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.dir.path().join("home"))
            .env("TMPDIR", self.dir.path().join("tmp"))
            .env("KILN_ROOT", self.store())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Kiln { command, env: self, stdin: None }
    }

    /// An image of the store, read without the code of kiln.
    #[track_caller]
    pub fn image(&self, name: &str) -> Image {
        Image::open(&self.store(), name)
    }

    /// Panics if a finished command left scratch directories or mounts behind.
    #[track_caller]
    pub fn assert_swept(&self) {
        let scratch: Vec<_> =
            fs::read_dir(self.store().join("scratch")).into_iter().flatten().flatten().map(|e| e.path()).collect();
        assert!(scratch.is_empty(), "scratch was not swept: {scratch:?}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
        let left: Vec<_> = mounts.lines().filter(|l| l.contains(&*self.dir.path().to_string_lossy())).collect();
        assert!(left.is_empty(), "mounts were left: {left:?}");
    }
}

/// A command that has not run yet.
#[must_use = "nothing runs before `.ok()`, `.fails(code)`, `.output()` or `.spawn()`"]
pub struct Kiln<'e> {
    command: Command,
    env: &'e TestEnv,
    stdin: Option<Vec<u8>>,
}

impl Kiln<'_> {
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }

    pub fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    pub fn stdin(mut self, bytes: &[u8]) -> Self {
        self.stdin = Some(bytes.to_owned());
        self.command.stdin(Stdio::piped());
        self
    }

    /// Sets its three standard streams, for tests with a terminal.
    pub fn stdio(mut self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Self {
        self.command.stdin(stdin).stdout(stdout).stderr(stderr);
        self
    }

    /// Runs it and waits for its end.
    #[track_caller]
    pub fn output(mut self) -> Done {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let line = words.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
        let started = Instant::now();
        let mut child = self.command.spawn().unwrap_or_else(|e| panic!("{}: {e}", binary().display()));
        if let (Some(bytes), Some(mut pipe)) = (self.stdin, child.stdin.take()) {
            std::thread::spawn(move || pipe.write_all(&bytes).ok());
        }
        let out = child.wait_with_output().expect("wait for kiln");
        Done {
            line,
            code: out.status.code().unwrap_or_else(|| 128 + out.status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
            took: started.elapsed(),
            tree: listing(self.env.dir.path()),
        }
    }

    /// Runs it and panics, showing everything, unless it exits 0.
    #[track_caller]
    pub fn ok(self) -> Done {
        self.fails(0)
    }

    /// Runs it and panics, showing everything, unless it exits with `code`.
    #[track_caller]
    pub fn fails(self, code: i32) -> Done {
        let done = self.output();
        assert!(done.code == code, "expected exit code {code}\n{done}");
        done
    }

    /// Starts it, for tests that send signals or input while it runs.
    pub fn spawn(mut self) -> Child {
        self.command.spawn().unwrap_or_else(|e| panic!("{}: {e}", binary().display()))
    }
}

/// A command that has run.
pub struct Done {
    line: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
    tree: String,
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "$ {}\nexit code {} after {:?}\n--- stdout\n{}--- stderr\n{}--- files\n{}",
            self.line, self.code, self.took, self.stdout, self.stderr, self.tree
        )
    }
}

impl Done {
    /// Panics, showing everything, unless either stream contains the text.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        assert!(self.stdout.contains(text) || self.stderr.contains(text), "does not say {text:?}\n{self}");
        self
    }

    /// Panics, showing everything, if either stream contains the text.
    #[track_caller]
    pub fn never_says(&self, text: &str) -> &Self {
        assert!(!self.stdout.contains(text) && !self.stderr.contains(text), "says {text:?}\n{self}");
        self
    }
}

impl Done {
    /// Which steps ran and why, and which were cached.
    pub fn progress(&self) -> Progress {
        Progress::of(self)
    }
}

impl Deref for Done {
    type Target = str;

    /// Its standard output, trimmed.
    fn deref(&self) -> &str {
        self.stdout.trim()
    }
}

/// Names below the directory of the test, with little of the store: enough to see what a context looked like.
fn listing(dir: &Path) -> String {
    let mut lines = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        for item in fs::read_dir(&at).into_iter().flatten().flatten() {
            let path = item.path();
            let name = path.strip_prefix(dir).expect("below").to_string_lossy().into_owned();
            let is_dir = item.file_type().is_ok_and(|t| t.is_dir());
            let deep = name.starts_with("store/") || name.matches('/').count() > 4;
            if is_dir && !deep {
                todo.push(path);
            }
            lines.push(format!("{name}{}\n", if is_dir { "/" } else { "" }));
        }
    }
    lines.sort();
    let n = lines.len();
    let mut text: String = lines.into_iter().take(80).collect();
    if n > 80 {
        text += &format!("… and {} more\n", n - 80);
    }
    text
}

fn write_tree(dir: &Path, notation: &str) {
    let mut header: Option<String> = None;
    let mut body = String::new();
    for line in notation.split_inclusive('\n') {
        let trimmed = line.trim_end();
        match trimmed.strip_prefix("-- ").and_then(|l| l.strip_suffix(" --")) {
            Some(next) => {
                if let Some(header) = header.replace(next.to_owned()) {
                    write_one(dir, &header, &body);
                }
                body.clear();
            }
            None => body += line,
        }
    }
    write_one(dir, &header.expect("a context has at least one `-- PATH --`"), &body);
}

fn write_one(dir: &Path, header: &str, body: &str) {
    let at = |name: &str| {
        let path = dir.join(name.trim_end_matches('/'));
        fs::create_dir_all(path.parent().expect("below the context")).expect("create parents");
        fs::remove_file(&path).ok();
        path
    };
    if let Some((name, target)) = header.split_once(" -> ") {
        return symlink(target, at(name)).expect("symlink");
    }
    if let Some((name, target)) = header.split_once(" = ") {
        return fs::hard_link(dir.join(target), at(name)).expect("link");
    }
    let (name, mode) = match header.rsplit_once(' ') {
        Some((name, mode)) if mode.len() == 4 => match u32::from_str_radix(mode, 8) {
            Ok(mode) => (name, Some(mode)),
            Err(_) => (header, None),
        },
        _ => (header, None),
    };
    let path = at(name);
    if name.ends_with('/') {
        fs::create_dir_all(&path).expect("create a directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode.unwrap_or(0o755))).expect("chmod");
    } else {
        fs::write(&path, body).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        fs::set_permissions(&path, fs::Permissions::from_mode(mode.unwrap_or(0o644))).expect("chmod");
    }
}

fn copy_store(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create");
    fs::set_permissions(to, fs::metadata(from).expect("mode").permissions()).expect("chmod");
    for item in fs::read_dir(from).expect("list the store").map(|e| e.expect("entry")) {
        let (path, name) = (item.path(), item.file_name());
        let kind = item.file_type().expect("kind");
        // Unpacked layers are derivable and may belong to other ids; scratch is temporary.
        if ["layers", "scratch"].contains(&&*name.to_string_lossy()) {
            fs::create_dir(to.join(&name)).expect("create");
            continue;
        }
        if kind.is_dir() {
            copy_store(&path, &to.join(&name));
        } else if from.ends_with("blobs/sha256") {
            fs::hard_link(&path, to.join(&name)).expect("link a blob");
        } else {
            fs::copy(&path, to.join(&name)).expect("copy");
        }
    }
}
