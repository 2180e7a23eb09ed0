//! Test the command of `kiln run`, its environment, mounts and exit codes.

use crate::support::TestEnv;
use crate::support::env::each_user;

#[test]
fn run_passes_on_output_and_exit_status() {
    requires!(userns, overlay);
    for env in each_user() {
        let run = |args: &[&str]| env.kiln(&[&["run", "--rm", "busybox"], args].concat());
        let done = run(&["sh", "-c", "echo out; echo err >&2; exit 42"]).fails(42);
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("out\n", "err\n"), "{done}");
        run(&["sh", "-c", "sh -c 'kill -9 $$'; exit $?"]).fails(137);
        run(&["true"]).ok();
        run(&["nosuch"])
            .fails(127)
            .says("error: nosuch: not found in PATH")
            .says("hint: install it, or give its path; PATH is ");
        run(&["/etc"]).fails(126).says("error: cannot execute /etc: Permission denied");
        env.assert_swept();
    }
}

#[test]
fn run_discards_changes_of_command() {
    requires!(userns, overlay);
    for env in each_user() {
        let script = "echo changed > /etc/passwd; rm -rf /bin/true; mkdir /new; chown 33:33 /new; ls -ldn /new";
        env.kiln(&["run", "busybox", "sh", "-c", script]).ok().says("33       33");
        env.assert_swept();
        let script = "cat /etc/passwd; ls /bin/true; ls -d /new";
        let done = env.kiln(&["run", "busybox", "sh", "-c", script]).fails(1);
        done.says("root:x:0:0").says("/bin/true").never_says("changed");
    }
}

#[test]
fn run_options_override_image_config() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(
        "
-- Dockerfile --
FROM busybox
ENV A=image B=image
WORKDIR /srv
USER 1000:1001
ENTRYPOINT [\"sh\", \"-c\"]
CMD [\"echo $A $B $(pwd) $(id -u):$(id -g)\"]
-- vars --
# comment
B=file
",
    );
    env.build(&["-t", "app"], &context).ok();
    let says = |args: &[&str], want: &str| {
        let line = [&["run"], args].concat();
        assert_eq!(&*env.kiln(&line).dir(&context).env("HERE", "here").ok(), want, "{args:?}");
    };
    says(&["app"], "image image /srv 1000:1001");
    says(&["-e", "A=line", "--env-file", "vars", "app"], "line file /srv 1000:1001");
    says(&["-w", "/made/here", "-u", "0", "app"], "image image /made/here 0:0");
    says(&["-e", "HERE", "-e", "A", "app", "echo $HERE-$A-"], "here--");
    says(&["--entrypoint", "echo", "app"], "");
    says(&["--entrypoint", "echo", "app", "-n", "x"], "x");
    says(&["--hostname", "box", "--add-host", "db:10.1.2.3", "app", "hostname; grep -c box /etc/hosts"], "box\n1");
    says(&["--hostname", "box", "app", "cat /etc/hostname; stat -c '%a %u:%g' /etc/hostname"], "box\n644 0:0");
    says(&["--add-host", "db:10.1.2.3", "app", "grep db /etc/hosts"], "10.1.2.3\tdb");
    says(&["--ulimit", "nofile=100", "app", "ulimit -n"], "100");
    says(&["--shm-size", "1m", "app", "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2"], "1024");
    says(&["--network", "none", "app", "ls /sys/class/net"], "lo");
    // The environment of kiln is not passed on.
    says(&["app", "echo $KILN_ROOT$HERE$TMPDIR"], "");
}

#[test]
fn run_mounts_host_files_at_requested_paths() {
    requires!(userns, overlay);
    for env in each_user() {
        let dir = env.context("-- data/file --\nfrom the host\n");
        let shell = std::process::Command::new("chmod").args(["-R", "a+rwX"]).arg(&dir).status();
        assert!(shell.expect("run chmod").success());
        let volume = format!("{}:/mnt", dir.join("data").display());
        let done = env.kiln(&["run", "-v", &volume, "busybox", "sh", "-c", "cat /mnt/file; echo new > /mnt/new"]).ok();
        assert_eq!(&*done, "from the host");
        assert_eq!(std::fs::read_to_string(dir.join("data/new")).expect("written through"), "new\n");
        let readonly = format!("{volume}:ro");
        env.kiln(&["run", "-v", &readonly, "busybox", "touch", "/mnt/x"]).fails(1).says("Read-only file system");
        let long = format!("type=bind,src={},dst=/deep/er/file,ro", dir.join("data/file").display());
        assert_eq!(&*env.kiln(&["run", "--mount", &long, "busybox", "cat", "/deep/er/file"]).ok(), "from the host");
        // Relative to the working directory.
        let done = env.kiln(&["run", "-v", "./data:/mnt:ro", "busybox", "ls", "/mnt"]).dir(&dir).ok();
        assert_eq!(&*done, "file\nnew");
        env.kiln(&["run", "--tmpfs", "/t:size=4k", "busybox", "dd", "if=/dev/zero", "of=/t/x", "bs=8k", "count=1"])
            .fails(1)
            .says("No space left on device");
        env.assert_swept();
    }
}

#[test]
fn run_failure_is_one_message_with_hint() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY Dockerfile /\n");
    env.build(&["-t", "bare"], &context).ok();
    env.kiln(&["run", "busybos"]).fails(125).says("busybos").says("did you mean busybox:latest?");
    env.kiln(&["run", "bare"]).fails(125).says("error: bare has no command").says("kiln run bare COMMAND");
    env.kiln(&["run", "bare", "/x"]).fails(127).says("error: cannot execute /x: No such file or directory");
    env.kiln(&["run", "-u", "nobody-here", "busybox", "true"]).fails(125).says("nobody-here");
    env.kiln(&["run", "-t", "busybox", "true"]).fails(125).says("error: --tty: standard input is not a terminal");
    env.assert_swept();
}

#[test]
fn run_start_failures_use_exit_codes_of_docker() {
    requires!(userns, overlay);
    for env in each_user() {
        for (code, args) in [
            (125, &["nope"][..]),
            (125, &["--bogus", "busybox", "true"]),
            (125, &["--memory", "lots", "busybox", "true"]),
            (125, &["-v", "/nonexistent-here:/mnt:ro", "busybox", "true"]),
            (125, &["-w", "/etc/passwd", "busybox", "true"]),
            (126, &["busybox", "/etc"]),
            (126, &["busybox", "/etc/passwd"]),
            (127, &["busybox", "nosuch"]),
            (127, &["busybox", "/nosuch"]),
            (0, &["--help"]),
            (2, &["busybox", "sh", "-c", "exit 2"]),
        ] {
            env.kiln(&[&["run"], args].concat()).fails(code);
        }
        let root = env.store();
        env.kiln(&["--root", root.to_str().expect("UTF-8"), "run", "--bogus"]).fails(125);
        env.kiln(&["images", "--bogus"]).fails(2);
        env.assert_swept();
    }
}
