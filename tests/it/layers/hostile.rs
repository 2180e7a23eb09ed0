//! Test hostile base images (S-30…S-44): import, unpacking and a RUN on top do not read, write or remove anything
//! outside the store.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::TestEnv;

/// A raw member with any name and target.
fn member(kind: u8, name: &str, link: &str, content: &[u8]) -> Vec<u8> {
    super::member((0, 0), kind, name, link, content)
}

/// A directory that attacks aim at; it must stay unchanged.
struct Canary(PathBuf);

impl Canary {
    fn new(env: &TestEnv) -> Canary {
        let dir = env.dir().join("canary");
        fs::create_dir(&dir).expect("create");
        fs::write(dir.join("secret"), "precious").expect("write");
        Canary(dir)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }

    #[track_caller]
    fn assert_untouched(&self, what: &str) {
        let names: Vec<_> = fs::read_dir(&self.0).expect("list").map(|e| e.expect("entry").file_name()).collect();
        assert_eq!(names, ["secret"], "{what}");
        assert_eq!(fs::read(self.0.join("secret")).expect("read"), b"precious", "{what}");
    }
}

/// busybox with `members` appended, imported as `evil`.
fn import(env: &TestEnv, members: &[Vec<u8>]) -> Result<(), String> {
    let busybox = crate::support::env::fixture("busybox").join("rootfs.tar");
    let mut tar = fs::read(busybox).expect("fixture");
    while tar.len() >= 512 && tar[tar.len() - 512..].iter().all(|&b| b == 0) {
        tar.truncate(tar.len() - 512);
    }
    tar.extend(members.concat());
    tar.resize(tar.len() + 1024, 0);
    fs::write(env.dir().join("evil.tar"), tar).expect("write");
    let done = env.kiln(&["import", "evil.tar", "evil"]).output();
    if done.code == 0 { Ok(()) } else { Err(format!("{}{}", done.stdout, done.stderr)) }
}

/// The id, the members added to busybox, and a check that a RUN makes or the error.
type Case<'c> = (&'c str, Vec<Vec<u8>>, Result<&'c str, &'c str>);

fn attack(env: &TestEnv, canary: &Canary, context: &Path) {
    let at = canary.path();
    let inside = at.trim_start_matches('/');
    let cases: Vec<Case<'_>> = vec![
        ("S-30", vec![member(b'0', "../../../../canary/x", "", b"x")], Err("leaves the root")),
        ("S-30", vec![member(b'0', &format!("{at}/abs"), "", b"x")], Ok("[ -f $C/abs ]")),
        ("S-31", vec![member(b'2', "a", at, b""), member(b'0', "a/x", "", b"x")], Ok("[ -f $C/x ]")),
        ("S-31", vec![member(b'2', "a", at, b""), member(b'5', "a/d", "", b"")], Ok("[ -d $C/d ]")),
        (
            "S-32",
            vec![member(b'2', "a", &format!("{}{inside}", "../".repeat(12)), b""), member(b'0', "a/x", "", b"")],
            Ok("[ -f $C/x ]"),
        ),
        (
            "S-32",
            vec![member(b'2', "a", "b", b""), member(b'2', "b", "a", b""), member(b'0', "a/x", "", b"")],
            Err("too many levels"),
        ),
        ("S-33", vec![member(b'1', "h", &format!("{at}/secret"), b"")], Err("not in the archive before it")),
        (
            "S-33",
            vec![member(b'2', "a", at, b""), member(b'1', "h", "a/secret", b"")],
            Err("not in the archive before it"),
        ),
        (
            "S-33",
            vec![member(b'2', "s", &format!("{at}/secret"), b""), member(b'1', "h", "s", b"")],
            Ok("[ -L /h ] && [ $(readlink /h) = $C/secret ]"),
        ),
        ("S-33", vec![member(b'1', "h", "etc/none", b"")], Err("not in the archive before it")),
        (
            "S-33",
            vec![member(b'1', "h", "later", b""), member(b'0', "later", "", b"x")],
            Err("not in the archive before it"),
        ),
        (
            "S-33",
            vec![member(b'0', "d/f", "", b"x"), member(b'2', "l", "d", b""), member(b'1', "h", "l/f", b"")],
            Ok("[ $(stat -c %i /h) = $(stat -c %i /d/f) ]"),
        ),
        ("S-33", vec![member(b'5', "d", "", b""), member(b'1', "h", "d", b"")], Err("hard link to a directory")),
        ("S-33", vec![member(b'0', "d/f", "", b""), member(b'1', "h", "d", b"")], Err("hard link to a directory")),
        ("S-33", vec![member(b'0', "h", "", b"x"), member(b'1', "h", "h", b"")], Err("hard link to itself")),
        ("S-33", vec![member(b'0', "d/f", "", b"x"), member(b'1', "d", "d/f", b"")], Err("inside what it replaces")),
        (
            "S-35",
            vec![member(b'0', "twice", "", b"one"), member(b'0', "twice", "", b"two")],
            Ok("[ $(cat /twice) = two ]"),
        ),
        (
            "S-34",
            vec![member(b'2', "s", &format!("{at}/secret"), b""), member(b'0', "s", "", b"mine")],
            Ok("[ $(cat /s) = mine ]"),
        ),
        (
            "S-34",
            vec![member(b'2', "d", at, b""), member(b'5', "d", "", b""), member(b'0', "d/secret", "", b"")],
            Ok("[ -d /d -a ! -L /d ]"),
        ),
        ("S-36", vec![member(b'6', "pipe", "", b""), member(b'0', "pipe", "", b"file now")], Ok("[ -f /pipe ]")),
    ];
    for (id, members, want) in cases {
        let what = format!("{id} {want:?}");
        // An import stores the archive unchanged; some attacks are found only when it is unpacked.
        let imported = import(env, &members);
        canary.assert_untouched(&what);
        let script = want.unwrap_or("true").replace("$C", at);
        let dockerfile = format!("-- Dockerfile --\nFROM evil\nRUN {script}\n");
        env.add(context, &dockerfile);
        match (want, imported) {
            (Ok(_), imported) => {
                imported.unwrap_or_else(|e| panic!("{what}: {e}"));
                env.build(&["--no-cache"], context).ok();
            }
            (Err(why), Err(said)) => assert!(said.contains(why), "{what}: {said}"),
            (Err(why), Ok(())) => drop(env.build(&["--no-cache"], context).fails(1).says(why)),
        }
        canary.assert_untouched(&what);
        env.assert_swept();
    }
}

#[test]
fn hostile_base_image_stays_inside_root() {
    // S-14, S-25, S-27
    requires!(userns, overlay);
    let env = TestEnv::new();
    let (canary, context) = (Canary::new(&env), env.context("-- x --\n"));
    attack(&env, &canary, &context);
}

#[test]
fn sparse_bombs_fail_and_leave_nothing() {
    // S-39: huge sizes in a few bytes.
    let env = TestEnv::new();
    let sparse = |map: &str, size: &str| {
        let records = [("GNU.sparse.map", map), ("GNU.sparse.size", size)];
        let body: String = records
            .iter()
            .map(|(key, value)| {
                let rest = key.len() + value.len() + 3;
                let len = (rest..).find(|n| *n == rest + n.to_string().len()).expect("a length");
                format!("{len} {key}={value}\n")
            })
            .collect();
        [member(b'x', "pax", "", body.as_bytes()), member(b'0', "disk", "", b"12345678")]
    };
    for (members, why) in [
        (sparse("0,8", "1099511627776").to_vec(), "limit"),
        (sparse("0,8", "9223372036854775807").to_vec(), "limit"),
        (vec![member(b'0', &"d/".repeat(49), "", b""), member(b'Q', "x", "", b"")], "not supported"),
    ] {
        let said = import(&env, &members).expect_err(why);
        assert!(said.contains(why), "{said}");
        assert_eq!(fs::read_dir(env.store().join("blobs/sha256")).expect("blobs").count(), 0);
        env.assert_swept();
    }
}
