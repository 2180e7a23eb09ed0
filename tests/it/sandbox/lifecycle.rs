//! Test how commands start and end, and what is reported.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use kiln::sandbox::{Cancel, Error, ExecObstacle, Exit, Hint, Stage};

use super::{TestRoot, root_only};

#[test]
fn command_output_keeps_its_order() {
    root_only!();
    let root = TestRoot::new();
    assert_eq!(root.says("echo one; echo two >&2; echo three"), "one\ntwo\nthree\n");
    assert_eq!(root.changed(), [""; 0]);
}

#[test]
fn exit_codes_and_signals_are_passed_on() {
    //
    root_only!();
    let root = TestRoot::new();
    let exit = |script: &str| root.run(&root.sh(script)).map(|ran| ran.outcome.exit).unwrap();
    assert_eq!(exit("exit 0"), Exit::Code(0));
    assert_eq!(exit("exit 42"), Exit::Code(42));
    // A child killed by a signal, as reported by its shell.
    assert_eq!(exit("sh -c 'kill -9 $$'; exit $?"), Exit::Code(137));
    assert_eq!(Exit::Signal(9).code(), 137);
}

#[test]
fn failed_exec_says_why() {
    root_only!();
    let root = TestRoot::new();
    let error = |argv: &[&str]| match root.run(&root.spec(argv)) {
        Err(Error::Setup(failure)) => failure,
        Err(e) => panic!("{e}"),
        Ok(ran) => panic!("ran: {}", ran.output),
    };
    let missing = error(&["nosuch"]);
    assert_eq!((missing.to_string().as_str(), missing.code), ("nosuch: not found in PATH", 127));
    assert_eq!(missing.stage, Stage::Exec);
    let missing = error(&["/nosuch"]);
    assert_eq!(
        (missing.to_string().as_str(), missing.code),
        ("cannot execute /nosuch: No such file or directory", 127)
    );
    std::fs::write(root.lower("bin/script"), "#!/nosuch/interpreter\n").unwrap();
    chmod(&root.lower("bin/script"), 0o755);
    let missing = error(&["script"]);
    assert_eq!(missing.code, 127);
    let obstacle = Some(ExecObstacle::NoInterpreter("/nosuch/interpreter".to_owned()));
    assert_eq!(missing.hint, Some(Hint::CannotStart { file: "/bin/script".to_owned(), obstacle }));
    std::fs::write(root.lower("bin/data"), "no program").unwrap();
    let denied = error(&["data"]);
    assert_eq!((denied.to_string().as_str(), denied.code), ("cannot execute data: Permission denied", 126));
    chmod(&root.lower("bin/data"), 0o755);
    let format = error(&["data"]);
    assert_eq!((format.to_string().as_str(), format.code), ("cannot execute data: Exec format error", 126));
}

fn chmod(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn background_processes_end_with_the_command() {
    // R-11, S-75
    root_only!();
    let root = TestRoot::new();
    let began = Instant::now();
    root.says("(sleep 1; echo x > /late) & setsid sh -c 'sleep 1; echo x > /later' & exit 0");
    assert!(began.elapsed() < Duration::from_millis(900));
    std::thread::sleep(Duration::from_millis(1300));
    assert_eq!(root.changed(), [""; 0]);
}

#[test]
fn cancel_kills_all_processes_within_a_second() {
    root_only!();
    let root = TestRoot::new();
    let cancel = Cancel::new().unwrap();
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            cancel.cancel();
        });
        let script = "trap '' TERM INT HUP; (sleep 3; echo x > /late) & sleep 60";
        assert!(matches!(root.run_until(&root.sh(script), &cancel), Err(Error::Cancelled)));
    });
    assert!(began.elapsed() < Duration::from_millis(1300), "{:?}", began.elapsed());
    assert!(matches!(root.run_until(&root.sh("true"), &cancel), Err(Error::Cancelled)), "it stays set");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(root.changed(), [""; 0]);
}

#[test]
fn command_ends_when_warden_is_killed() {
    // S-82: the helper process of kiln is killed, by a user or by the out-of-memory killer.
    root_only!();
    let root = TestRoot::new();
    let time = format!("3{}", std::process::id());
    let command = || pid_of(&["sleep", &time]);
    for user in ["", "app"] {
        let mut spec = root.spec(&["sleep", &time]);
        spec.user = user.to_owned();
        std::thread::scope(|scope| {
            let run = scope.spawn(|| root.run(&spec).map(|ran| ran.outcome.exit.success()));
            let warden = parent(parent(started(&["sleep", &time])));
            kill("kiln:warden", warden);
            assert!(!matches!(run.join().unwrap(), Ok(true)), "its exit status is lost");
            let began = Instant::now();
            while command().is_some() {
                assert!(began.elapsed() < Duration::from_secs(1), "the command outlived the warden");
                std::thread::sleep(Duration::from_millis(10));
            }
        });
    }
}

#[test]
fn commands_run_on_when_starter_is_killed() {
    // S-82
    root_only!();
    let root = TestRoot::new();
    let time = format!("2.{}", std::process::id());
    std::thread::scope(|scope| {
        let run = scope.spawn(|| root.run(&root.spec(&["sleep", &time])).unwrap().outcome.exit.success());
        let starter = parent(parent(parent(started(&["sleep", &time]))));
        kill("kiln:starter", starter);
        assert!(run.join().unwrap(), "the running command ends by itself");
    });
    assert_eq!(TestRoot::new().says("echo next"), "next\n");
}

/// The process with these arguments.
fn pid_of(argv: &[&str]) -> Option<i32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    let wanted: String = argv.iter().flat_map(|argument| [argument, "\0"]).collect();
    pids.into_iter()
        .find(|pid: &i32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default() == wanted.as_bytes())
}

/// Waits for the process with these arguments.
fn started(argv: &[&str]) -> i32 {
    let began = Instant::now();
    loop {
        match pid_of(argv) {
            Some(pid) => return pid,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
        assert!(began.elapsed() < Duration::from_secs(20), "it did not start");
    }
}

fn parent(pid: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

/// Kills a process that must have this name.
fn kill(name: &str, pid: i32) {
    assert!(std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().starts_with(name));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[test]
fn large_output_is_complete() {
    //
    root_only!();
    let root = TestRoot::new();
    let output = root.says("dd if=/dev/zero bs=1024 count=8192 2>/dev/null | tr '\\0' 'x'");
    assert_eq!(output.len(), 8 << 20);
}

#[test]
fn standard_input_is_empty_and_there_is_no_terminal() {
    // R-3, S-73
    root_only!();
    let root = TestRoot::new();
    assert_eq!(root.says("cat; tty; (: > /dev/tty) 2>/dev/null || echo none"), "not a tty\nnone\n");
}

#[test]
fn user_is_looked_up_in_root() {
    // R-5, S-7
    root_only!();
    let root = TestRoot::new();
    let id = |user: &str| {
        let mut spec = root.sh("echo $(id -u) $(id -g) $(id -G) $HOME");
        spec.user = user.to_owned();
        root.succeeds(&spec)
    };
    assert_eq!(id(""), "0 0 0 10 /root\n");
    assert_eq!(id("app"), "1000 1001 1001 10 /home/app\n");
    assert_eq!(id("1000"), "1000 1001 1001 10 /home/app\n");
    assert_eq!(id("app:0"), "1000 0 0 /home/app\n");
    assert_eq!(id("4321"), "4321 0 0 /\n");
    assert_eq!(id("4321:77"), "4321 77 77 /\n");
    let mut spec = root.sh("id");
    spec.user = "nosuch".to_owned();
    let error = root.run(&spec).err().unwrap();
    assert_eq!(error.to_string(), "no user \"nosuch\" in /etc/passwd of the root");
    assert!(!error.is_host());
    let Some(Hint::KnownNames { names, .. }) = error.hint() else { panic!("{error}: {:?}", error.hint()) };
    assert_eq!(names[..2], ["root", "app"]);
}

#[test]
fn hostile_user_databases_do_not_hang() {
    // S-12, S-22
    root_only!();
    let root = TestRoot::new();
    let passwd = root.lower("etc/passwd");
    let mut spec = root.sh("id");
    spec.user = "app".to_owned();
    let fails = |what: &str| {
        let cancel = Cancel::new().unwrap();
        let error = std::thread::scope(|scope| {
            let (done, waiting) = std::sync::mpsc::channel::<()>();
            let watch = &cancel;
            scope.spawn(move || {
                if waiting.recv_timeout(Duration::from_secs(20)).is_err_and(|e| e == RecvTimeoutError::Timeout) {
                    watch.cancel();
                }
            });
            let error = root.run_until(&spec, &cancel).err().unwrap_or_else(|| panic!("{what}: it ran"));
            drop(done);
            error
        });
        assert!(error.to_string().starts_with("cannot read /etc/passwd of the root"), "{what}: {error}");
    };
    std::fs::remove_file(&passwd).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &passwd, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    fails("fifo");
    std::fs::remove_file(&passwd).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &passwd).unwrap();
    fails("zero");
    std::fs::remove_file(&passwd).unwrap();
    std::fs::File::create(&passwd).unwrap().set_len(1 << 30).unwrap();
    fails("huge");
    std::fs::remove_file(&passwd).unwrap();
    // A symlink that points out of the root is resolved inside, where the target does not exist.
    std::os::unix::fs::symlink("../../../../etc/shadow", &passwd).unwrap();
    assert!(root.run(&spec).err().unwrap().to_string().contains("no user"));
}

#[test]
fn working_directory_is_created_and_stays_inside_root() {
    // R-4, S-1
    root_only!();
    let root = TestRoot::new();
    let mut spec = root.sh("pwd; ls -a ../../../../.. | grep -c stub");
    spec.cwd = "/srv/new/dir".into();
    let ran = root.run(&spec).unwrap();
    assert_eq!(ran.output, "/srv/new/dir\n0\n");
    assert_eq!(root.changed(), ["srv", "srv/new", "srv/new/dir"]);
    for n in 0..40 {
        spec.cwd = format!("/proc/self/fd/{n}").into();
        match root.run(&spec) {
            Err(Error::Setup(failure)) => assert!(failure.what.contains("working directory"), "{failure}"),
            Err(e) => panic!("{e}"),
            Ok(ran) => panic!("/proc/self/fd/{n}: {}", ran.output),
        }
    }
    std::os::unix::fs::symlink("/proc/self/fd/5", root.lower("link")).unwrap();
    spec.cwd = "/link".into();
    assert!(root.run(&spec).is_err());
}
