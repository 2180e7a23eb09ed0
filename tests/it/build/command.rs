//! Test RUN as root and as a plain user: the command itself, its environment, and the layer that it leaves.

use serde_json::Value;

use crate::support::TestEnv;
use crate::support::env::{Done, each_user};

/// Builds `lines` on busybox as `app`.
fn built(env: &TestEnv, args: &[&str], lines: &str) -> Done {
    let all: Vec<&str> = ["--progress", "plain", "-t", "app"].into_iter().chain(args.iter().copied()).collect();
    env.build(&all, &env.context(&format!("-- Dockerfile --\nFROM busybox\n{lines}\n"))).ok()
}

fn content(env: &TestEnv, path: &str) -> String {
    String::from_utf8(env.image("app").content(path)).expect("UTF-8")
}

#[test]
fn run_executes_command_as_written() {
    // R-1, R-15
    requires!(userns, overlay);
    for env in each_user() {
        built(
            &env,
            &[],
            r#"ENTRYPOINT ["/bin/false"]
ENV A=expanded
WORKDIR /w
RUN printf '%s|' "$0" "a  b" '$A' "$A" \
    end > shell
RUN ["/bin/sh", "-c", "echo \"$0\" \"$A\" > exec", "x  y"]
RUN ["touch", "$A *"]
RUN printf '#!/bin/sh\necho here > found\n' > tool && chmod +x tool
RUN ["./tool"]
ENV PATH=/w:/bin
RUN ["tool"]
RUN <<X
echo heredoc > heredoc
X
RUN <<X
#!/bin/cat
not a command
X
SHELL ["/bin/sh", "-x", "-c"]
RUN echo $- > flags"#,
        );
        assert_eq!(content(&env, "w/shell"), "/bin/sh|a  b|$A|expanded|end|");
        assert_eq!(content(&env, "w/exec"), "x  y expanded\n");
        assert!(env.image("app").tree().has("w/$A *"));
        assert_eq!((content(&env, "w/found"), content(&env, "w/heredoc")), ("here\n".into(), "heredoc\n".into()));
        assert!(content(&env, "w/flags").contains('x'));
        let fails =
            |line: &str| env.build(&[], &env.context(&format!("-- Dockerfile --\nFROM busybox\n{line}\n"))).fails(1);
        // As with BuildKit, the shell gets an empty script (N-34).
        env.build(&[], &env.context("-- Dockerfile --\nFROM busybox\nRUN\n")).ok();
        fails("RUN []").says("RUN");
        fails("RUN [\"nosuch\"]").says("nosuch: not found in PATH");
        fails("WORKDIR /w\nRUN [\"./nosuch\"]").says("./nosuch");
    }
}

#[test]
fn run_environment_is_image_variables_and_build_args() {
    // R-2
    requires!(userns, overlay);
    for env in each_user() {
        built(
            &env,
            &["--build-arg", "GIVEN=one", "--build-arg", "HTTP_PROXY=http://p:1", "--build-arg", "NOT_ASKED=x"],
            "ARG GIVEN=default\nARG EMPTY\nENV E=env\nWORKDIR /w\nRUN [\"/bin/sh\", \"-c\", \"env | sort > environment\"]\n\
             USER app\nRUN echo $HOME > /tmp/home\nUSER 4321\nRUN echo $HOME > /tmp/other\nENV HOME=/mine\n\
             RUN echo $HOME > /tmp/mine",
        );
        let environment = content(&env, "w/environment");
        let want = "E=env\nGIVEN=one\nHOME=/root\nHTTP_PROXY=http://p:1\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:\
                    /usr/bin:/sbin:/bin\nPWD=/w\nSHLVL=1\nhttp_proxy=http://p:1\n";
        assert_eq!(environment, want);
        assert_eq!(
            content(&env, "tmp/home") + &content(&env, "tmp/other") + &content(&env, "tmp/mine"),
            "/home/app\n/\n/mine\n"
        );
        assert!(!env.image("app").config.to_string().contains("http://p:1"), "proxies are not recorded (S-113)");
    }
}

#[test]
fn run_has_empty_stdin_and_no_terminal() {
    // R-3
    requires!(userns, overlay);
    for env in each_user() {
        let lines = "RUN cat > /stdin; read x; echo \"$? $x\" > /answer; ! tty && ! (: < /dev/tty) 2>/dev/null && \
                     test ! -t 0 && test ! -t 1 && test ! -t 2";
        let context = env.context(&format!("-- Dockerfile --\nFROM busybox\n{lines}\n"));
        let done = env.build(&["-t", "app"], &context).stdin(b"typed\n").ok();
        assert_eq!((content(&env, "stdin"), content(&env, "answer")), (String::new(), "1 \n".into()), "{done}");
    }
}

#[test]
fn resolver_and_hosts_are_mounted_but_not_in_image() {
    // R-6
    requires!(userns, overlay);
    for env in each_user() {
        built(
            &env,
            &[],
            "COPY <<X /etc/hosts\nthe image's own\nX\n\
             RUN grep -q localhost /etc/hosts && grep -q buildkitsandbox /etc/hosts && grep -q nameserver /etc/resolv.conf && \
             ! (echo x > /etc/resolv.conf) && ! (echo x >> /etc/hosts) && hostname > /name && ls /etc > /listing",
        );
        let tree = env.image("app").tree();
        assert_eq!(content(&env, "etc/hosts"), "the image's own\n");
        assert!(!tree.has("etc/resolv.conf"), "{tree}");
        assert_eq!(content(&env, "name"), "buildkitsandbox\n");
        built(&env, &["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=mine"], "RUN hostname > /name; grep mine /etc/hosts");
        assert_eq!(content(&env, "name"), "mine\n");
    }
}

#[test]
fn run_has_its_own_proc_sys_and_dev() {
    // R-7
    requires!(userns, overlay);
    for env in each_user() {
        built(
            &env,
            &[],
            "RUN grep -q ' /proc proc ' /proc/mounts && grep -q ' /sys sysfs ro' /proc/mounts && \
             for m in pts:devpts shm:tmpfs mqueue:mqueue; do grep -q \" /dev/${m%:*} ${m#*:} \" /proc/mounts || exit 1; done && \
             test -c /dev/null && test ! -e /dev/console && test ! -e /dev/kmsg && test ! -e /dev/mem && \
             echo x > /dev/shm/x && echo x > /dev/null && ls -A /proc/self/ns > /dev/null && ! touch /sys/x && \
             test \"$(cat /proc/1/comm)\" = kiln:init",
        );
        let image = env.image("app");
        assert_eq!(image.layer_tree(image.layers.len() - 1).names().len(), 0);
    }
}

#[test]
fn run_uses_selected_network() {
    // R-8
    requires!(userns, overlay);
    for env in each_user() {
        let list =
            "ls /sys/class/net > /seen; cat /sys/class/net/lo/flags >> /seen; readlink /proc/self/ns/net >> /seen";
        let own = std::fs::read_link("/proc/self/ns/net").expect("a link").display().to_string();
        let seen = |args: &[&str], flag: &str| {
            let done = built(&env, args, &format!("RUN {flag} {list}"));
            let seen = content(&env, "seen");
            let alone = seen.starts_with("lo\n0x9\n");
            assert_eq!(alone, !seen.contains(&own), "{args:?} {flag}: {seen}");
            // The host network is reported if it was not chosen explicitly (S-76).
            let said = done.stderr.matches("RUN steps use the host network").count();
            assert!(said == 0 || !alone, "{done}");
            (alone, said)
        };
        assert_eq!(seen(&[], ""), (false, 1));
        assert!(seen(&[], "--network=none").0);
        assert!(!seen(&["--no-cache"], "--network=default").0);
        assert!(seen(&["--network", "none"], "").0);
        assert!(seen(&["--network", "none", "--no-cache"], "--network=default").0);
        assert!(!seen(&["--network", "host"], "").0);
        // Part of the key.
        let context = env.context("-- Dockerfile --\nFROM busybox\nRUN true\n");
        env.build(&[], &context).ok();
        assert!(env.build(&[], &context).ok().progress().ran().is_empty());
        assert!(!env.build(&["--network", "none"], &context).ok().progress().ran().is_empty());
    }
}

#[test]
fn required_device_missing_on_host_is_named() {
    // R-10
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM busybox\nRUN --device=vendor.example/gpu=0,required true\n");
    env.build(&[], &context).fails(3).says("vendor.example/gpu=0").says("Dockerfile:2");
}

#[test]
fn run_reports_exit_status_and_kills_leftover_processes() {
    // R-11, S-75
    requires!(userns, overlay);
    for env in each_user() {
        let fails = |script: &str| {
            env.build(&[], &env.context(&format!("-- Dockerfile --\nFROM busybox\nRUN {script}\n"))).fails(1)
        };
        fails("exit 42").says("status 42");
        fails("sh -c 'kill -TERM $$'; exit $?").says("status 143");
        fails("sh -c 'kill -KILL $$'; exit $?").says("status 137").says("memory limit");
        // Background processes cannot write into the layer after the command ended.
        let late = "(sleep 0.5; echo x > /late) & setsid sh -c 'trap \"\" HUP TERM; sleep 0.5; echo x > /later' & \
                    (trap '' HUP TERM; while :; do echo x >> /ever; done) & \
                    until [ -s /ever ]; do :; done; echo done > /done";
        built(&env, &[], &format!("RUN {late}\nRUN sleep 1; ls / > /listing; wc -c < /ever > /size"));
        let tree = env.image("app").tree();
        assert!(tree.has("done") && !tree.has("late") && !tree.has("later"), "{tree}");
        let size: u64 = content(&env, "size").trim().parse().expect("a number");
        assert_eq!(tree["ever"].size, size, "the file grew after its command had ended");
    }
}

#[test]
fn run_layer_holds_exactly_the_changes() {
    // R-13, R-14
    requires!(userns, overlay);
    for env in each_user() {
        built(
            &env,
            &[],
            "RUN mkdir -p /d/sub && echo f > /d/f && echo g > /d/g && ln -s f /d/l && touch -d @1000000000 /d /d/f\n\
             RUN true\nRUN touch -d @5 /d/sub\nRUN chmod 0700 /d/f\nRUN chown 7:8 /d/g\nRUN rm /d/l\n\
             RUN rm /d/g && mkdir /d/g\nRUN ln /d/f /d/hard\nRUN rm -r /d/sub && mkdir /d/sub\n\
             RUN touch \"/d/$(printf 'new\\nline\\377')\" && mkfifo /d/pipe",
        );
        let image = env.image("app");
        let history = image.config["history"].as_array().expect("history");
        let filled = |entry: &&Value| entry["empty_layer"] != Value::Bool(true);
        assert_eq!(history.iter().filter(filled).count(), image.layers.len(), "a layer for every entry (R-14)");
        assert_eq!(image.diff_ids().len(), image.layers.len());
        let first = image.layers.len() - 10;
        let names = |i: usize| image.layer_tree(first + i).names().into_iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(names(1), [""; 0]);
        assert!(names(2).contains(&"d/sub".to_owned()) && image.layer_tree(first + 2)["d/sub"].mtime == Some(5));
        assert_eq!(image.layer_tree(first + 3)["d/f"].mode, 0o700);
        assert_eq!((image.layer_tree(first + 4)["d/g"].uid, image.layer_tree(first + 4)["d/g"].gid), (7, 8));
        assert_eq!(image.layer_tree(first + 5)["d/l"].kind, "whiteout");
        assert_eq!(image.layer_tree(first + 6)["d/g"].kind, "dir");
        let tree = image.tree();
        assert!(tree.has("d/hard") && tree["d/pipe"].kind == "fifo" && !tree.has("d/l"), "{tree}");
        assert_eq!(tree.names().iter().filter(|name| name.starts_with("d/new\nline")).count(), 1);
    }
}

#[test]
fn linked_user_databases_do_not_read_host_files() {
    // R-5, S-22
    requires!(userns, overlay);
    for env in each_user() {
        let host = env.dir().join("host");
        std::fs::write(&host, "app:x:4242:4343::/:/bin/sh\nhostgroup:x:4343:\n").expect("write");
        let out = host.display();
        let up = format!("../../../../../../../..{out}");
        for to in [out.to_string(), up, "/dev/zero".into(), "/proc/self/root/dev/zero".into(), "/proc/1/root/x".into()]
        {
            for file in ["passwd", "group"] {
                let user = if file == "passwd" { "app" } else { "0:hostgroup" };
                let lines = format!("RUN ln -sf {to} /etc/{file}\nUSER {user}\nRUN id");
                let done = env
                    .build(&["--timeout", "60s"], &env.context(&format!("-- Dockerfile --\nFROM busybox\n{lines}\n")))
                    .fails(1);
                assert!(done.took < std::time::Duration::from_secs(20) && !done.stderr.contains("4242"), "{done}");
                done.never_says("4343");
            }
            // Mounts over symlinks: the file is mounted at the target inside the root, or the build fails.
            let image = env.context("-- Dockerfile --\nFROM busybox\nCOPY etc /etc\n");
            std::fs::create_dir(image.join("etc")).expect("create");
            for file in ["hosts", "resolv.conf"] {
                std::os::unix::fs::symlink(&to, image.join("etc").join(file)).expect("link");
            }
            env.build(&["-t", "links"], &image).ok();
            let line = "RUN cat /etc/hosts /etc/resolv.conf | head -c 4000; (echo x >> /etc/hosts) 2>/dev/null; true";
            let context = env.context(&format!("-- Dockerfile --\nFROM links\n{line}\n"));
            let done = env.build(&["--progress", "plain", "--timeout", "60s"], &context).output();
            assert!(done.code < 2 && done.took < std::time::Duration::from_secs(20), "{done}");
            done.never_says("4242");
        }
        assert!(std::fs::read_to_string(&host).expect("read").ends_with("hostgroup:x:4343:\n"));
        for file in ["passwd", "group"] {
            let lines = format!("RUN rm /etc/{file} && mkfifo /etc/{file}\nUSER app\nRUN id");
            let done = env
                .build(&["--timeout", "60s"], &env.context(&format!("-- Dockerfile --\nFROM busybox\n{lines}\n")))
                .fails(1);
            done.says(&format!("/etc/{file}"));
        }
        env.assert_swept();
    }
}
