//! Test the hints for commands that fail because kiln lacks ids or privileges (N-53, N-55).

use std::path::Path;
use std::process::Command;

use crate::support::TestEnv;
use crate::support::env::binary;
use crate::support::requires::is_root;

/// Runs kiln as root of a user namespace with a single id. Returns its exit code and output.
fn with_one_id(env: &TestEnv, args: &[&str]) -> (Option<i32>, String) {
    let out = Command::new("unshare")
        .args(["--user", "--map-root-user"])
        .arg(binary())
        .args(args)
        .env("KILN_ROOT", env.store())
        .env("HOME", env.dir())
        .output()
        .expect("run unshare");
    let said = [&out.stdout[..], &out.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    (out.status.code(), said)
}

#[test]
fn command_needing_more_ids_gets_a_hint() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let cause = "because the user namespace that kiln was started in has a single id";
    for (script, wants) in [
        ("chown 5:5 /etc/passwd", true),
        ("chgrp 7 /etc/passwd", true),
        ("touch /f && ln -s /f /l && chown -h 8 /l", true),
        ("su app -c true", true),
        ("mkdir /d && chown -R 1000:1000 /d", true),
        ("chown 0:0 /etc/passwd && exit 3", false),
        ("exit 3", false),
    ] {
        let context = env.context(&format!("\n-- Dockerfile --\nFROM busybox\nRUN {script}\n"));
        let (code, said) = with_one_id(&env, &["build", context.to_str().expect("UTF-8")]);
        assert_eq!(code, Some(1), "{script}: {said}");
        assert_eq!(said.contains(&format!("not available here, {cause}")), wants, "{script}: {said}");
        let (code, said) = with_one_id(&env, &["run", "busybox", "sh", "-c", script]);
        assert!(!matches!(code, Some(0 | 125..)), "{script}: {said}");
        assert_eq!(said.contains("hint: start kiln outside of that user namespace"), wants, "{script}: {said}");
    }
    // Steps that kiln itself cannot set up without more ids.
    for lines in ["USER 1000\nRUN true", "RUN --mount=type=secret,id=s,uid=5 true"] {
        let context = env.context(&format!("\n-- Dockerfile --\nFROM busybox\n{lines}\n-- s --\nx\n"));
        let secret = format!("id=s,src={}", context.join("s").display());
        let (code, said) = with_one_id(&env, &["build", "--secret", &secret, context.to_str().expect("UTF-8")]);
        assert_eq!(code, Some(3), "{lines}: {said}");
        assert!(said.contains(cause), "{lines}: {said}");
    }
}

#[test]
fn device_nodes_made_by_command_open_or_are_explained() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context("\n-- Dockerfile --\nFROM busybox\nRUN mknod /n c 1 3 && echo hi > /n\n");
    let controller = Path::new("/sys/fs/cgroup/devices/devices.list").exists();
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if !is_root() || !map.split_whitespace().eq(["0", "0", "4294967295"]) {
        env.build(&[], &context).fails(1).says("run kiln as root: only root of the host");
        return;
    }
    if !controller {
        env.build(&[], &context).fails(1).says("cannot be opened here").says("device controller");
        return;
    }
    env.build(&["-t", "nodes"], &context).ok().never_says("without");
    assert!(env.image("nodes").tree()["n"].kind.contains("char"), "the layer has the node");
    // Docker's default devices open, also in running processes; other devices do not.
    let script = "(until [ -e /go ]; do sleep 0.05; done; head -c 2 /z | wc -c) & \
                  mknod /z c 1 5; mknod /dev/u c 1 9; touch /go; wait; head -c 3 /dev/u | wc -c; cat /n";
    let ran = env.kiln(&["run", "nodes", "sh", "-c", script]).ok();
    assert_eq!(&*ran.stdout, "2\n3\n");
    let disks: Vec<String> = std::fs::read_to_string("/proc/partitions")
        .expect("read")
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            Some(format!("b {} {}", fields.next()?.parse::<u32>().ok()?, fields.next()?.parse::<u32>().ok()?))
        })
        .chain(["b 7 0", "c 1 1", "c 1 2", "c 1 4", "c 1 11", "c 10 229", "c 10 237", "c 10 200"].map(str::to_owned))
        .collect();
    let tries: String = disks
        .iter()
        .enumerate()
        .map(|(i, disk)| {
            format!(
                "mknod /x{i} {disk} && chmod 666 /x{i}; (: < /x{i}) 2>/dev/null && echo read {disk}; \
                 (: >> /x{i}) 2>/dev/null && echo wrote {disk}; mkdir -p /tmp/d; \
                 mknod /dev/x{i} {disk}; (: < /dev/x{i}) 2>/dev/null && echo read /dev {disk};"
            )
        })
        .collect();
    for script in [format!("{tries} true"), format!("(setsid sh -c '{tries} true' & wait)")] {
        let ran = env.kiln(&["run", "nodes", "sh", "-c", &script]).ok();
        assert_eq!(&*ran.stdout, "", "{}", ran.stderr);
    }
    // Nodes from the image do not open.
    assert_eq!(env.kiln(&["run", "nodes", "sh", "-c", ": < /n"]).output().code, 1);
    let left = std::fs::read_dir("/sys/fs/cgroup/devices").expect("list").flatten();
    let left: Vec<_> = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("kiln-")).collect();
    assert!(left.len() <= 4, "groups are removed, but for those of other tests: {left:?}");
}

#[test]
fn command_cannot_open_crypto_sockets() {
    // N-54, CVE-2026-31431
    requires!(userns, overlay);
    let env = TestEnv::with("python");
    // Packet and XDP sockets need privileges anyway.
    let script = "import socket\nfor family in set(range(64)) - {17, 44}:\n    try:\n        socket.socket(family, socket.SOCK_SEQPACKET)\n    \
                  except OSError as e:\n        if e.errno == 1: print(family)\n";
    assert_eq!(&*env.kiln(&["run", "python", "python3", "-c", script]).ok().stdout, "38\n40\n");
}
