//! Test layers that only a loaded or pulled image can have (S-36…S-42): unusual whiteouts, overlayfs attributes, large
//! owners. Nothing outside the store is touched, and no layer controls the overlay mount.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::{member, with_mode};
use crate::support::TestEnv;
use crate::support::image::sha256;

const ROOT: (u32, u32) = (0, 0);

/// A member preceded by an extended header.
fn with_attribute(key: &str, value: &str, member: Vec<u8>) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let len = (rest..).find(|n| *n == rest + n.to_string().len()).expect("a length");
    [super::member(ROOT, b'x', "pax", "", format!("{len} {key}={value}\n").as_bytes()), member].concat()
}

/// Loads busybox with one more layer, in the format of `docker save`.
fn load(env: &TestEnv, layer: &[u8]) {
    let base = fs::read(crate::support::env::fixture("busybox").join("rootfs.tar")).expect("fixture");
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let diff_ids = [&base[..], layer].map(|tar| format!("sha256:{}", sha256(tar).trim_start_matches("sha256:")));
    let config = json!({
        "architecture": architecture, "os": "linux", "config": {"Env": ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": [{"created_by": "a"}, {"created_by": "b"}],
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": ["evil:1"], "Layers": ["base.tar", "top.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in [
        ("base.tar", &base[..]),
        ("top.tar", layer),
        ("config.json", config.to_string().as_bytes()),
        ("manifest.json", manifest.to_string().as_bytes()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content).expect("append");
    }
    env.kiln(&["load"]).stdin(&archive.into_inner().expect("archive")).ok().says("evil:1");
}

fn attack(env: &TestEnv) {
    let canary = env.dir().join("canary");
    fs::create_dir(&canary).expect("create");
    fs::write(canary.join("secret"), "precious").expect("write");
    let at = canary.to_str().expect("UTF-8");
    let file = |name: &str| member(ROOT, b'0', name, "", b"");
    let dir = |name: &str| member(ROOT, b'5', name, "", b"");
    let opaque = |key: &str| with_attribute(&format!("SCHILY.xattr.{key}"), "y", dir("etc"));
    let cases: Vec<(&str, Vec<u8>, Result<&str, &str>)> = vec![
        ("S-37", opaque("trusted.overlay.opaque"), Ok("[ -f /etc/passwd ]")),
        ("S-37", opaque("user.overlay.opaque"), Ok("[ -f /etc/passwd ]")),
        (
            "S-37",
            with_attribute("SCHILY.xattr.user.overlay.redirect", "/etc", dir("elsewhere")),
            Ok("[ ! -e /elsewhere/passwd ]"),
        ),
        ("S-38", file("etc/.wh.passwd"), Ok("[ ! -e /etc/passwd -a -d /etc ]")),
        ("S-38", [file("etc/.wh..wh..opq"), file("etc/own")].concat(), Ok("[ ! -e /etc/passwd -a -f /etc/own ]")),
        ("S-38", file("etc/.wh.resolv.conf"), Ok("[ -f /etc/resolv.conf -a -f /etc/passwd ]")),
        // In a directory that it does not merge, overlayfs would list the whiteout itself.
        ("S-38", file("new/.wh.passwd"), Ok("[ -d /new ] && ! echo /new/* | grep -q passwd")),
        ("S-38", file("etc/shadow/.wh.x"), Ok("[ -d /etc/shadow ] && ! echo /etc/shadow/* | grep -q x$")),
        (
            "S-38",
            [file("etc/.wh..wh..opq"), file("etc/.wh.passwd"), file("etc/own")].concat(),
            Ok("! echo /etc/* | grep -q passwd && [ -f /etc/own ]"),
        ),
        ("S-37", with_mode(b"0006755\0", member(ROOT, b'0', "su", "", b"x")), Ok("[ $(stat -c %a /su) = 6755 ]")),
        ("S-37", with_mode(b"0003777\0", dir("all")), Ok("[ $(stat -c %a /all) = 3777 ]")),
        ("S-38", file("etc/.wh.gone/x"), Err("is a whiteout and holds nothing")),
        ("S-38", file("etc/.wh.gone/.wh.x"), Err("is a whiteout and holds nothing")),
        ("S-38", file("etc/.wh."), Err("not a whiteout")),
        ("S-38", file("etc/.wh.."), Err("not a whiteout")),
        ("S-38", file("etc/.wh..."), Err("not a whiteout")),
        ("S-38", [member(ROOT, b'2', "a", at, b""), file("a/.wh.secret")].concat(), Ok("[ -L /a ]")),
        ("S-38", [member(ROOT, b'2', "a", at, b""), file("a/.wh..wh..opq")].concat(), Ok("[ -L /a ]")),
        ("S-38", file("../canary/.wh.secret"), Err("leaves the root")),
        // A device that cannot be made becomes an empty file, which still hides the file below.
        ("S-36", member(ROOT, b'3', "etc/passwd", "", b""), Ok("[ ! -s /etc/passwd ]")),
        ("S-40", file("f")[..300].to_vec(), Err("archive")),
        // Zeros are stored as holes, with the size unchanged.
        ("S-39", member(ROOT, b'0', "zeros", "", &vec![0; 1 << 20]), Ok("[ $(stat -c %s /zeros) = 1048576 ]")),
        ("S-39", member(ROOT, b'0', "holes", "", &vec![0; 1 << 20]), Ok("[ $(stat -c %b /holes) -lt 64 ]")),
        ("S-42", member((33, 44), b'0', "own", "", b"x"), Ok("[ $(stat -c %u:%g /own) = 33:44 ]")),
        ("S-42", member((2_000_000, 2_000_001), b'0', "far", "", b"x"), Ok("[ -f /far ]")),
    ];
    for (id, members, want) in cases {
        let what = format!("{id} {want:?}");
        let end = if id == "S-40" { Vec::new() } else { vec![0; 1024] };
        load(env, &[members, end].concat());
        let context = env.context(&format!("-- Dockerfile --\nFROM evil:1\nRUN {}\n", want.unwrap_or("true")));
        let built = env.build(&["--no-cache", "-t", "app"], &context);
        match want {
            Ok(_) => {
                built.ok();
                // Mounts of kiln must not appear as changes of the command.
                let left = env.image("app").layer_tree(2);
                assert!(left.0.is_empty(), "{what}: {:?}", left.names());
            }
            Err(why) => drop(built.fails(1).says(why)),
        }
        assert_untouched(&canary, &what);
        env.assert_swept();
    }
}

/// Whiteouts also apply to COPY --from, which reads layers without overlayfs.
fn check_copy_from(env: &TestEnv) {
    let file = |name: &str| member(ROOT, b'0', name, "", b"");
    for (layer, want) in [
        (file("etc/.wh.passwd"), &["group"][..]),
        ([file("etc/.wh..wh..opq"), file("etc/own")].concat(), &["own"]),
        // In any order.
        ([file("etc/own"), file("etc/.wh..wh..opq")].concat(), &["own"]),
        ([member(ROOT, b'5', "etc", "", b""), file(".wh.etc"), file("etc/own")].concat(), &["own"]),
        (file(".wh.etc"), &[]),
    ] {
        load(env, &[layer, vec![0; 1024]].concat());
        let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY --from=evil:1 / /all/\n");
        env.build(&["-t", "app"], &context).ok();
        let tree = env.image("app").tree();
        for name in ["group", "own", "passwd"] {
            assert_eq!(tree.has(&format!("all/etc/{name}")), want.contains(&name), "{name} of {want:?}");
        }
    }
}

#[track_caller]
fn assert_untouched(canary: &Path, what: &str) {
    let names: Vec<_> = fs::read_dir(canary).expect("list").map(|e| e.expect("entry").file_name()).collect();
    assert_eq!(names, ["secret"], "{what}");
    assert_eq!(fs::read(canary.join("secret")).expect("read"), b"precious", "{what}");
}

#[test]
fn hostile_layer_stays_inside_and_cannot_control_overlay() {
    requires!(userns, overlay);
    attack(&TestEnv::new());
    check_copy_from(&TestEnv::new());
}
