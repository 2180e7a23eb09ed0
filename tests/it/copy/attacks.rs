//! Test attacks by archives, contexts and images (S-30…S-44, S-90…S-95): a canary next to the store is never touched.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::list;
use crate::support::TestEnv;

/// One member of a hand-made tar.
#[derive(Clone, Default)]
pub(super) struct Member {
    name: Vec<u8>,
    kind: u8,
    link: String,
    size: Option<u64>,
    body: Vec<u8>,
    /// Offsets and bytes that overwrite the header.
    patch: Vec<(usize, Vec<u8>)>,
}

impl Member {
    /// Replaces the content.
    pub(super) fn set_body(&mut self, body: Vec<u8>) {
        self.body = body;
    }

    /// Overwrites bytes of the header at `at`.
    pub(super) fn with(mut self, at: usize, bytes: impl Into<Vec<u8>>) -> Self {
        self.patch.push((at, bytes.into()));
        self
    }
}

pub(super) fn member(name: &str, kind: u8, link: &str) -> Member {
    Member { name: name.into(), kind, link: link.to_owned(), ..Member::default() }
}

pub(super) fn file(name: &str, body: &str) -> Member {
    Member { body: body.into(), ..member(name, b'0', "") }
}

/// Writes a tar archive without any checks.
pub(super) fn tar(members: &[Member]) -> Vec<u8> {
    let mut tar = Vec::new();
    for m in members {
        let mut head = [0u8; 512];
        head[..m.name.len()].copy_from_slice(&m.name);
        head[100..108].copy_from_slice(b"0000644\0");
        head[108..116].copy_from_slice(b"0000000\0");
        head[116..124].copy_from_slice(b"0000000\0");
        head[124..136].copy_from_slice(format!("{:011o}\0", m.size.unwrap_or(m.body.len() as u64)).as_bytes());
        head[136..148].copy_from_slice(b"00000000000\0");
        head[148..156].fill(b' ');
        head[156] = m.kind;
        head[157..157 + m.link.len()].copy_from_slice(m.link.as_bytes());
        for (at, bytes) in &m.patch {
            head[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        let sum: u32 = head.iter().map(|&b| u32::from(b)).sum();
        head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar.extend_from_slice(&head);
        tar.extend_from_slice(&m.body);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// A directory of the host that nothing may touch.
struct Canary(PathBuf);

impl Canary {
    fn new(env: &TestEnv) -> Self {
        let dir = env.dir().join("host");
        fs::create_dir(&dir).expect("create");
        fs::write(dir.join("secret"), "canary-7f3a").expect("write");
        Canary(dir)
    }

    #[track_caller]
    fn assert_untouched(&self, what: &str) {
        let names: Vec<_> = fs::read_dir(&self.0).expect("list").map(|e| e.expect("entry").file_name()).collect();
        assert_eq!(names, ["secret"], "{what}: HOST PATH WAS CHANGED");
        assert_eq!(
            fs::read_to_string(self.0.join("secret")).expect("read"),
            "canary-7f3a",
            "{what}: HOST FILE WAS CHANGED"
        );
    }
}

/// Ids, the archive, and the resulting tree or error.
type Attempt = (&'static str, Vec<Member>, Result<Vec<&'static str>, &'static str>);

/// Attacks on a directory of the host, each with the resulting tree or error.
fn attempts(host: &Path) -> Vec<Attempt> {
    let host = host.display().to_string();
    let up = format!("../../../../../../../..{host}");
    let (f, l, h, d) = (
        file,
        |n: &str, t: &str| member(n, b'2', t),
        |n: &str, t: &str| member(n, b'1', t),
        |n: &str| member(n, b'5', ""),
    );
    vec![
        ("S-30", vec![f("../x", "x")], Err("leaves the root")),
        ("S-30", vec![f("a/../../x", "x")], Err("leaves the root")),
        ("S-30", vec![f("/abs", "x")], Ok(vec!["abs 0644 \"x\""])),
        ("S-30", vec![f("./a/./b", "x"), d("."), d("/")], Ok(vec!["a/ 0755", "a/b 0644 \"x\""])),
        ("S-31", vec![l("a", &host), f("a/secret", "x")], Err("")),
        ("S-31", vec![l("a", &up), f("a/new", "x")], Err("")),
        ("S-31", vec![l("a", "/etc"), f("a/passwd", "x")], Ok(vec!["a -> /etc", "etc/ 0755", "etc/passwd 0644 \"x\""])),
        ("S-31", vec![l("a", "."), l("a/b", ".."), f("a/b/c", "x")], Ok(vec!["a -> .", "b -> ..", "c 0644 \"x\""])),
        ("S-32", vec![l("a", "b"), l("b", "a"), f("a/x", "x")], Err("symbolic links")),
        ("S-32", vec![l("a", "../../../.."), f("a/x", "x")], Ok(vec!["a -> ../../../..", "x 0644 \"x\""])),
        ("S-33", vec![h("a", &format!("{host}/secret"))], Err("hard link")),
        ("S-33", vec![l("d", &host), h("a", "d/secret")], Err("hard link")),
        ("S-33", vec![h("a", "later"), f("later", "x")], Err("hard link")),
        ("S-33", vec![d("d"), h("a", "d")], Err("hard link")),
        (
            "S-33",
            vec![f("d/f", "x"), l("l", "d"), h("h", "l/f")],
            Ok(vec!["d/ 0755", "d/f 0644 \"x\"", "h 0644 \"x\"", "l -> d"]),
        ),
        ("S-33", vec![h("a", "../x")], Err("leaves the root")),
        ("S-34", vec![l("a", &host), d("a"), f("a/new", "x")], Ok(vec!["a/ 0644", "a/new 0644 \"x\""])),
        ("S-34", vec![d("a"), f("a/x", "x"), f("a", "y")], Ok(vec!["a 0644 \"y\""])),
        ("S-34", vec![d("a"), f("a/x", "x"), l("a", &host), f("a/new", "y")], Err("")),
        ("S-34", vec![f("a", "x"), d("a"), f("a/b", "y")], Ok(vec!["a/ 0644", "a/b 0644 \"y\""])),
        ("S-34", vec![l("a", &format!("{host}/secret")), f("a", "x")], Ok(vec!["a 0644 \"x\""])),
        ("S-35", vec![f("a", "x"), f("a", "y"), f("a", "z")], Ok(vec!["a 0644 \"z\""])),
        ("S-36", vec![member("p", b'6', "")], Ok(vec!["p fifo 0644"])),
        ("S-38", vec![f(".wh.x", "")], Err("--unpack=false")),
        ("S-38", vec![f("d/.wh..wh..opq", "")], Err(".wh.")),
        ("S-39", vec![Member { size: Some(0o77777777777), ..f("a", "short") }], Err("")),
        ("S-40", vec![Member { size: Some(5000), ..f("a", "short") }], Err("unpack")),
        ("S-41", vec![member("a", b'Z', "")], Err("not supported")),
    ]
}

#[test]
fn hostile_added_archives_stay_inside_root() {
    // S-30, S-31, S-32, S-33, S-34, S-35, S-36, S-38, S-39, S-40, S-41
    let env = TestEnv::new();
    let canary = Canary::new(&env);
    let context = env.context("-- x --\n");
    for (number, (ids, members, want)) in attempts(&canary.0).into_iter().enumerate() {
        let what = format!("{ids} #{number}");
        fs::write(context.join("a.tar"), tar(&members)).expect("write");
        let (done, name) = super::build(&env, &context, "ADD a.tar /", &[]);
        canary.assert_untouched(&what);
        match want {
            Ok(want) => {
                assert_eq!(done.code, 0, "{what}\n{done}");
                assert_eq!(list(&env.image(&name)), want, "{what}");
            }
            Err("") if done.code == 0 => {
                // The link target does not exist inside the root, so the path was created there.
                let tree = env.image(&name).tree();
                assert!(tree.0.values().all(|n| n.content != crate::support::image::sha256(b"canary-7f3a")), "{what}");
            }
            Err(says) => {
                assert_eq!(done.code, 1, "{what}\n{done}");
                done.says(says);
            }
        }
    }
}

#[test]
fn archive_entries_replace_existing_files() {
    // S-34
    let env = TestEnv::new();
    let context = env.context("-- old/deep/f --\nold\n");
    let (dir, new) = (member("d", b'5', ""), file("d/new", "new"));
    for (members, want) in [
        (
            vec![dir.clone(), new.clone()],
            vec!["d/ 0644", "d/deep/ 0755", "d/deep/f 0644 \"old\"", "d/new 0644 \"new\""],
        ),
        (vec![file("d", "x"), dir.clone(), new.clone()], vec!["d/ 0644", "d/new 0644 \"new\""]),
        (vec![member("d", b'2', "/etc"), dir, file("d/new", "new")], vec!["d/ 0644", "d/new 0644 \"new\""]),
        (vec![file("d", "x")], vec!["d 0644 \"x\""]),
    ] {
        fs::write(context.join("a.tar"), tar(&members)).expect("write");
        let (done, name) = super::build(&env, &context, "COPY old /d\nADD a.tar /", &[]);
        assert_eq!(done.code, 0, "{done}");
        assert_eq!(list(&env.image(&name)), want);
        super::umoci_agrees(&env.image(&name), "S-34");
    }
}

#[test]
fn hostile_context_archives_stay_inside_root() {
    // S-24, S-25, S-30…S-36
    let env = TestEnv::new();
    let canary = Canary::new(&env);
    for (number, (ids, mut members, want)) in attempts(&canary.0).into_iter().enumerate() {
        let what = format!("{ids} #{number}");
        members.push(file("Dockerfile", "FROM scratch\nCOPY . /\n"));
        let done = env.kiln(&["build", "-t", "x", "-"]).stdin(&tar(&members)).output();
        canary.assert_untouched(&what);
        assert!(crate::support::canary::leaks(&env.store(), "canary-7f3a").is_empty(), "{what}: HOST FILE WAS READ");
        match (want, done.code) {
            (Ok(_), 0) | (Err(_), 1) => {}
            // A context may hold names that are special in layers; they fail when they are copied.
            (Err(""), 0) => {}
            _ => panic!("{what}\n{done}"),
        }
    }
    // Contexts cannot have devices.
    let device = [member("null", b'3', ""), file("Dockerfile", "FROM scratch\n")];
    env.kiln(&["build", "-"]).stdin(&tar(&device)).fails(1).says("contexts cannot have devices");
}

#[test]
fn fetched_context_cannot_use_dockerfile_outside() {
    // S-24, S-91
    let env = TestEnv::new();
    let canary = Canary::new(&env);
    let secret = canary.0.join("secret").display().to_string();
    for members in [
        vec![member("Dockerfile", b'2', &secret)],
        vec![member("d", b'2', &canary.0.display().to_string()), member("Dockerfile", b'2', "d/secret")],
        vec![member("Dockerfile", b'6', "")],
        vec![member("Dockerfile", b'5', "")],
        vec![member("Dockerfile", b'2', "Dockerfile")],
    ] {
        let done = env.kiln(&["build", "-"]).stdin(&tar(&members)).fails(1);
        done.never_says("canary");
    }
    let members = [file("sub/D", "FROM scratch\nLABEL ok=1\n"), member("l", b'2', "sub")];
    env.kiln(&["build", "-t", "ok", "-f", "l/D", "-"]).stdin(&tar(&members)).ok();
    env.kiln(&["build", "-f", "../D", "-"]).stdin(&tar(&members)).fails(1);
}

#[test]
fn context_symlinks_do_not_escape() {
    // S-90
    let env = TestEnv::new();
    let canary = Canary::new(&env);
    let context = env.context("-- d/x --\n");
    let host = canary.0.display().to_string();
    for (name, target) in [
        ("abs", format!("{host}/secret")),
        ("up", format!("../../../../../../../../../..{host}/secret")),
        ("dir", host.clone()),
        ("proc", format!("/proc/self/root{host}/secret")),
        ("cwd", "/proc/self/cwd".to_owned()),
    ] {
        symlink(&target, context.join(name)).expect("symlink");
        for line in [format!("COPY {name} /"), format!("COPY {name}/secret /"), format!("COPY {name}/* /")] {
            let (done, image) = super::build(&env, &context, &line, &[]);
            assert_ne!(done.code, 101, "{done}");
            if done.code == 0 {
                assert!(
                    crate::support::canary::leaks(&env.store(), "canary-7f3a").is_empty(),
                    "{line}: HOST FILE WAS READ"
                );
                drop(image);
            }
        }
    }
    // Inside a copied directory, symlinks stay symlinks.
    let (done, name) = super::build(&env, &context, "COPY . /c", &[]);
    assert_eq!(done.code, 0, "{done}");
    assert_eq!(env.image(&name).tree()["c/abs"].link, format!("{host}/secret"));
    canary.assert_untouched("S-90");
}

#[test]
fn image_symlinks_do_not_escape_in_source_or_target() {
    // S-94, S-95
    let env = TestEnv::new();
    let canary = Canary::new(&env);
    let host = canary.0.display().to_string();
    let links = [
        member("app", b'2', &format!("/proc/self/root/..{host}")),
        member("dev", b'2', "/dev"),
        member("up", b'2', &format!("../../../../..{host}")),
        member("abs", b'2', &host),
        file("f", "f"),
    ];
    let context = env.context("-- f --\nf\n");
    fs::write(context.join("links.tar"), tar(&links)).expect("write");
    for line in [
        "COPY f /app/",
        "COPY f /app/secret",
        "COPY f /up/secret",
        "COPY f /abs/new",
        "WORKDIR /abs/w",
        "ADD links.tar /abs/",
    ] {
        let (done, name) = super::build(&env, &context, &format!("ADD links.tar /\n{line}"), &[]);
        canary.assert_untouched(line);
        assert_eq!(done.code, 0, "{line}\n{done}");
        super::umoci_agrees(&env.image(&name), line);
    }
    for line in ["COPY --from=0 /abs/secret /x", "COPY --from=0 /up/secret /x", "COPY --from=0 /app/secret /x"] {
        let (done, _) = super::build(&env, &context, &format!("ADD links.tar /\nFROM scratch\n{line}"), &[]);
        assert_eq!(done.code, 1, "{line}\n{done}");
        done.says("not found").never_says("canary");
    }
    // S-12, S-22: users are looked up in regular files of bounded size, and in the image.
    let passwd = |kind: u8, target: &str| member("etc/passwd", kind, target);
    let own = fs::read_to_string("/etc/passwd").expect("read").lines().last().expect("a line").to_owned();
    let own = own.split(':').next().expect("a name");
    let mut huge = file("etc/passwd", "");
    huge.set_body([b"app:x:7:7::/:/x\n".to_vec(), vec![b'#'; 11 << 20]].concat());
    for (what, name, says) in [
        (passwd(b'6', ""), "app", "not a regular file"),
        (passwd(b'3', ""), "app", "not a regular file"),
        (passwd(b'5', ""), "app", "not a regular file"),
        (huge, "app", "larger than 10 MiB"),
        (passwd(b'2', "/dev/zero"), "app", "no user"),
        (passwd(b'2', "passwd"), "app", "symbolic links"),
        (passwd(b'2', &"../".repeat(12)), "app", "not a regular file"),
        (passwd(b'2', &format!("{}etc/../../../../etc/passwd", "../".repeat(12))), own, "symbolic links"),
        (passwd(b'2', &format!("{host}/secret")), own, "no user"),
    ] {
        fs::write(context.join("links.tar"), tar(&[member("etc", b'5', ""), what])).expect("write");
        let line = format!("ADD links.tar /\nCOPY --chown={name} f /");
        let (done, _) = super::build(&env, &context, &line, &[]);
        assert_eq!(done.code, 1, "{says}\n{done}");
        done.says(says).never_says("canary");
    }
}

#[test]
fn decompression_bombs_fail_and_leave_nothing() {
    // S-39
    requires!(zstd);
    let env = TestEnv::new();
    let context = env.context("-- x --\n");
    let run = |line: &str| {
        let done = std::process::Command::new("sh").args(["-c", line]).current_dir(&context).status().expect("run sh");
        assert!(done.success(), "{line}");
    };
    // An implausible compression ratio is refused long before the archive is unpacked.
    let mut head = tar(&[Member { size: Some(0o77777777777), ..file("zeros", "") }]);
    head.truncate(512);
    fs::write(context.join("head"), head).expect("write");
    run(
        "(cat head; head -c 2G /dev/zero) | zstd -q --long=27 -19 --single-thread -o bomb.tar.zst 2>/dev/null || (cat head; head -c 2G /dev/zero) | zstd -q -o bomb.tar.zst",
    );
    let (done, _) = super::build(&env, &context, "ADD bomb.tar.zst /", &[]);
    assert_eq!(done.code, 1, "{done}");
    // Deep and long names.
    let deep = "d/".repeat(1500) + "f";
    let mut long = Member { size: None, body: deep.clone().into_bytes(), ..member("././@LongLink", b'L', "") };
    long.body.push(0);
    fs::write(context.join("deep.tar"), tar(&[long, file("x", "x")])).expect("write");
    let (done, _) = super::build(&env, &context, "ADD deep.tar /", &[]);
    assert_eq!(done.code, 1, "{done}");
    let scratch = env.store().join("scratch");
    let left = fs::read_dir(scratch).map_or(0, |dir| dir.count());
    assert_eq!(left, 0, "scratch is swept");
}
