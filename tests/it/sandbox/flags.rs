//! Test the options of `kiln build` and `kiln run` for hosts, limits, ports and devices.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::groups::{CPU, MEMORY, PIDS, can_limit};
use crate::support::TestEnv;
use crate::support::env::each_user;

#[test]
fn host_resolver_and_limit_options_reach_commands_not_layers() {
    // O-20, O-23, O-24, O-30, R-6, R-16
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(
        "
-- Dockerfile --
FROM busybox
RUN grep example /etc/hosts; cat /etc/resolv.conf; ulimit -n; df -k /dev/shm | tail -1
",
    );
    let around = [
        "--add-host",
        "one.example:192.0.2.1",
        "--add-host",
        "six.example=[2001:db8::1]",
        "--dns",
        "192.0.2.53",
        "--dns-search",
        "corp.example",
        "--ulimit",
        "nofile=77:99",
        "--shm-size",
        "1m",
        "-t",
        "app",
    ];
    let done = env.build(&around, &context).ok();
    for line in ["192.0.2.1\tone.example", "2001:db8::1\tsix.example", "nameserver 192.0.2.53", "search corp.example"] {
        done.says(line);
    }
    done.says("| 77");
    done.says("1024");
    let tree = env.image("app").tree();
    assert!(!tree.to_string().contains("resolv.conf"), "{tree}");
    // Not part of the key.
    env.build(&["-t", "app"], &context).ok().says("CACHED [2/2]");
    let run = ["run", "--add-host", "a.example:192.0.2.9", "--dns", "192.0.2.53", "--ulimit", "nofile=66", "busybox"];
    let script = ["sh", "-c", "grep -c a.example /etc/hosts; grep -c 192.0.2.53 /etc/resolv.conf; ulimit -n"];
    let out = env.kiln(&[&run[..], &script[..]].concat()).ok();
    assert_eq!(out.stdout, "1\n1\n66\n");
}

#[test]
fn control_group_limits_apply_or_are_reported() {
    // O-25, R-16, S-79
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context("\n-- Dockerfile --\nFROM busybox\nRUN cat /proc/self/cgroup; true\n");
    let done = env.build(&["--memory", "64m", "--cpus", "0.5", "--pids-limit", "50"], &context).ok();
    for (what, limit) in [("the memory limit", MEMORY), ("the CPU limit", CPU), ("the process limit", PIDS)] {
        let without = format!("without {what} (");
        match can_limit(limit) {
            true => drop(done.never_says(&without)),
            false => drop(done.says(&without).says("cgroup")),
        }
    }
}

#[test]
fn limits_apply_to_plain_user_with_delegated_groups() {
    // R-16, S-79: with delegated control groups, here of version 1 and made by the test.
    requires!(root, kiln_test, userns, overlay);
    let env = TestEnv::of_plain_user();
    env.import("busybox");
    let groups: Vec<_> = ["memory", "pids"]
        .iter()
        .map(|controller| Path::new("/sys/fs/cgroup").join(controller).join(format!("it-{}", std::process::id())))
        .collect();
    if groups.iter().any(|group| std::fs::create_dir(group).is_err() || !group.join("tasks").exists()) {
        groups.iter().for_each(|group| drop(std::fs::remove_dir(group)));
        // Without delegated groups, the missing limits are reported.
        let done = env.kiln(&["run", "--memory", "32m", "--pids-limit", "20", "busybox", "true"]).ok();
        done.says("without the memory limit").says("without the process limit");
        return;
    }
    let script =
        "store=$1 kiln=$2; shift 2; for group; do chown -R kiln-test $group; echo $$ > $group/cgroup.procs; done
        limited() {
            setpriv --reuid kiln-test --regid kiln-test --init-groups --inh-caps=-all env HOME=/tmp KILN_ROOT=$store \
                $kiln run --memory 32m --memory-swap 32m --pids-limit 20 busybox sh -c \"$1\"
        }
        limited 'head -c 200000000 /dev/zero | tail -c 199999999 | wc -c'
        limited 'i=0; while [ $i -lt 100 ]; do sleep 2 & i=$((i+1)); done; echo all'
        echo left: $(ls -d $1/kiln-* $2/kiln-* 2>/dev/null)";
    let out = Command::new("sh")
        .args(["-c", script, "sh"])
        .args([env.store(), env.dir().join("kiln")].iter().chain(&groups))
        .output()
        .unwrap();
    let said = [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    groups.iter().for_each(|group| drop(std::fs::remove_dir(group)));
    assert!(!said.contains("without the") && !said.contains("199999999") && !said.contains("all\n"), "{said}");
    assert!(said.contains("fork") && said.contains("left:\n"), "{said}");
}

const SERVE: &str = "mkdir -p /w && echo served > /w/index.html && exec httpd -f -p 8080 -h /w";

/// The response of a web server, once there is one.
fn answer(at: impl ToSocketAddrs) -> String {
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < Duration::from_secs(20), "nobody answers");
        std::thread::sleep(Duration::from_millis(20));
        let Ok(mut stream) = TcpStream::connect(&at) else { continue };
        let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
        let mut answer = String::new();
        if stream.read_to_string(&mut answer).is_ok() && !answer.is_empty() {
            return answer;
        }
    }
}

fn end(mut run: Child) {
    let told = Command::new("kill").arg(run.id().to_string()).status();
    assert!(told.expect("run kill").success());
    run.wait().expect("wait");
}

#[test]
fn published_port_reaches_server_in_isolated_network() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let publish = format!("127.0.0.1:{port}:8080");
    let run = env.kiln(&["run", "--network", "none", "-p", &publish, "busybox", "sh", "-c", SERVE]).spawn();
    assert!(answer(("127.0.0.1", port)).contains("served"));
    assert!(TcpStream::connect(("127.0.0.2", port)).is_err(), "another address than the one asked for");
    end(run);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the port is still open");
}

#[test]
fn tutorial_port_serves_on_loopback() {
    // As tutorials have it: the server listens on the port that is published, in the network that a run has by default.
    requires!(userns, overlay);
    for env in each_user() {
        let context = env.context(
            "-- Dockerfile --\nFROM busybox\nWORKDIR /www\nCOPY index.html .\nCMD exec httpd -f -p $PORT\n-- index.html --\nhello\n",
        );
        env.build(&["--rm", "-t", "app"], &context).ok();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (set, publish) = (format!("PORT={port}"), format!("{port}:{port}"));
        let run = env.kiln(&["run", "--rm", "-e", &set, "-p", &publish, "app"]).spawn();
        assert!(answer(("127.0.0.1", port)).contains("hello"));
        end(run);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the port is still open");
    }
}

#[test]
fn publish_without_host_port_chooses_and_prints_one() {
    requires!(userns, overlay);
    for env in each_user() {
        let mut run = env.kiln(&["run", "--network", "none", "-p", "8080", "busybox", "sh", "-c", SERVE]).spawn();
        let mut said = BufReader::new(run.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let note = said.find(|line| line.starts_with("note: port 8080 is published on 0.0.0.0:")).expect("says which");
        let port = note.split_whitespace().find_map(|word| word.strip_prefix("0.0.0.0:")).expect("a port");
        let port: u16 = port.parse().expect("a number");
        assert_ne!(port, 8080);
        assert!(answer(("127.0.0.1", port)).contains("served"));
        if TcpListener::bind("[::1]:0").is_ok() {
            assert!(note.ends_with(&format!(" and [::]:{port}")), "{note}");
            assert!(answer(("::1", port)).contains("served"));
        }
        end(run);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the port is still open");
    }
}

#[test]
fn run_device_option_adds_the_device() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let look = ["busybox", "sh", "-c", "ls /dev | grep -c mem0; head -c 3 /dev/mem0 | wc -c"];
    let out = env.kiln(&[&["run", "--device", "/dev/zero:/dev/mem0"][..], &look[..]].concat()).ok();
    assert_eq!(out.stdout, "1\n3\n");
    env.kiln(&["run", "--device", "/dev/nosuch", "busybox", "true"]).fails(125).says("/dev/nosuch");
    env.kiln(&["run", "--device", "/etc/passwd:/dev/x", "busybox", "true"]).fails(125).says("is not a device");
}
