//! Test the sandbox with a busybox root, mostly without store and Dockerfile: as root, or inside a user namespace if
//! the test process was started in one.

mod confinement;
mod devices;
mod doctor;
mod escape;
mod first;
mod flags;
pub(crate) mod groups;
mod lifecycle;
mod limits;
mod missing;
mod mounts;
mod network;
mod private;
mod privileges;
mod rungs;
mod ssh;
mod surroundings;

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use kiln::sandbox::{Cancel, Error, Exit, Io, Launcher, Outcome, Ports, Rootfs, RunOptions, Spec};

pub(crate) use escape::swapping;

use crate::support::dir::Dir;

/// A busybox root: one lower directory and an upper directory.
pub(crate) struct TestRoot {
    dir: Dir,
    userxattr: bool,
}

/// The outcome and output of a command.
pub(crate) struct Ran {
    pub(crate) outcome: Outcome,
    pub(crate) output: String,
}

impl TestRoot {
    pub(crate) fn new() -> TestRoot {
        let dir = Dir::new();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        for sub in ["lower/bin", "lower/etc", "lower/tmp", "lower/root", "upper", "work"] {
            fs::create_dir_all(dir.path().join(sub)).expect("create");
        }
        fs::set_permissions(dir.path().join("lower/tmp"), fs::Permissions::from_mode(0o1777)).expect("chmod");
        let lower = dir.path().join("lower");
        let (busybox, applets) = busybox();
        put(busybox, &lower.join("bin/busybox"));
        for applet in applets.lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", lower.join("bin").join(applet)).expect("link");
        }
        fs::write(lower.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n").unwrap();
        fs::write(lower.join("etc/group"), "root:x:0:\napp:x:1001:\nwheel:x:10:root,app\n").unwrap();
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let userxattr = !map.split_whitespace().eq(["0", "0", "4294967295"]);
        TestRoot { dir, userxattr }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn lower(&self, name: &str) -> PathBuf {
        self.dir.path().join("lower").join(name)
    }

    /// A spec for `sh -c script`.
    pub(crate) fn sh(&self, script: &str) -> Spec {
        self.spec(&["/bin/sh", "-c", script])
    }

    pub(crate) fn spec(&self, argv: &[&str]) -> Spec {
        let rootfs = Rootfs::Overlay {
            lowers: vec![self.path("lower")],
            upper: self.path("upper"),
            work: self.path("work"),
            stub: self.path("stub"),
            userxattr: self.userxattr,
            volatile: true,
        };
        let mut spec = Spec::new(rootfs, argv.iter().map(OsString::from).collect());
        spec.env = vec![("PATH".into(), "/bin:/usr/bin".into())];
        spec
    }

    pub(crate) fn run(&self, spec: &Spec) -> Result<Ran, Error> {
        self.run_until(spec, &Cancel::new().expect("a flag"))
    }

    pub(crate) fn run_until(&self, spec: &Spec, cancel: &Cancel) -> Result<Ran, Error> {
        self.run_with_ports(spec, Ports::default(), cancel)
    }

    pub(crate) fn run_with_ports(&self, spec: &Spec, ports: Ports, cancel: &Cancel) -> Result<Ran, Error> {
        // A volatile work directory can be used once only, and so can the directory for mount targets.
        let _ = fs::remove_dir_all(self.path("work"));
        let _ = fs::remove_dir_all(self.path("stub"));
        fs::create_dir(self.path("work")).expect("create");
        let mut bytes = Vec::new();
        let options = RunOptions { ports, watch: None };
        let io = Io::Captured(&mut |piece| bytes.extend_from_slice(piece));
        let outcome = launcher().run_with(spec, options, io, cancel)?;
        Ok(Ran { outcome, output: String::from_utf8_lossy(&bytes).into_owned() })
    }

    /// Runs a script that must succeed; returns its output.
    pub(crate) fn says(&self, script: &str) -> String {
        self.succeeds(&self.sh(script))
    }

    pub(crate) fn succeeds(&self, spec: &Spec) -> String {
        match self.run(spec) {
            Ok(ran) => {
                assert_eq!(ran.outcome.exit, Exit::Code(0), "output: {}", ran.output);
                ran.output
            }
            Err(e) => panic!("{e}{}", e.hint().map(|h| format!(" ({h:?})")).unwrap_or_default()),
        }
    }

    /// Everything in the upper directory, sorted.
    pub(crate) fn changed(&self) -> Vec<String> {
        let upper = self.path("upper");
        let mut out: Vec<String> = walkdir::WalkDir::new(&upper)
            .min_depth(1)
            .into_iter()
            .map(|e| e.expect("walk").path().strip_prefix(&upper).expect("below").display().to_string())
            .collect();
        out.sort();
        out
    }
}

fn launcher() -> &'static Launcher {
    static LAUNCHER: OnceLock<Launcher> = OnceLock::new();
    LAUNCHER.get_or_init(|| Launcher::of(Path::new(&crate::support::env::binary())))
}

/// Installs a program in a root. A separate process writes it: otherwise a process that another test forks at the same
/// time could inherit the open file, and executing it would fail with ETXTBSY.
fn put(program: &[u8], at: &Path) {
    let mut install = Command::new("install");
    let mut install = install.args(["-m", "755", "/dev/stdin"]).arg(at).stdin(Stdio::piped()).spawn().expect("install");
    install.stdin.take().expect("a pipe").write_all(program).expect("write");
    assert!(install.wait().expect("wait").success(), "install {}", at.display());
}

/// Busybox and the names of its applets.
fn busybox() -> &'static (Vec<u8>, String) {
    static READ: OnceLock<(Vec<u8>, String)> = OnceLock::new();
    READ.get_or_init(|| {
        let applets = Command::new("/bin/busybox").arg("--list").output().expect("busybox-static");
        (fs::read("/bin/busybox").expect("read"), String::from_utf8_lossy(&applets.stdout).into_owned())
    })
}

/// Installs the probe program as `/bin/probe` in the root; returns its path outside.
pub(crate) fn probe(root: &TestRoot) -> PathBuf {
    let inside = root.lower("bin/probe");
    put_probe(&inside);
    inside
}

/// Installs the probe program at a path. It is compiled once.
pub(crate) fn put_probe(at: &Path) {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let dir = Dir::new();
        let (source, program) = (dir.path().join("probe.c"), dir.path().join("probe"));
        fs::write(&source, include_str!("probe.c")).expect("write");
        let cc = Command::new("cc").args(["-static", "-O1", "-Wall", "-o"]).arg(&program).arg(&source).status();
        assert!(cc.expect("run cc").success(), "cc probe.c");
        fs::read(program).expect("read")
    });
    put(built, at);
}

#[test]
fn sandbox_tests_pass_for_plain_user() {
    // The tests of this module need root: for a plain user, root of a user namespace with subordinate ids.
    requires!(plain_user, userns, overlay);
    let program = std::env::current_exe().expect("this program");
    let out = Command::new("unshare")
        .args(["--user", "--map-root-user", "--map-auto", "--mount"])
        .arg(program)
        .args(["sandbox::", "--test-threads=2"])
        .output()
        .expect("run unshare");
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}\n{}", String::from_utf8_lossy(&out.stderr));
    assert!(said.contains(" passed; 0 failed; 0 ignored"), "{said}");
}

/// Skips the test unless it runs as root, possibly of a user namespace.
macro_rules! root_only {
    () => {
        if !crate::support::requires::is_root() {
            return;
        }
    };
}
use root_only;
