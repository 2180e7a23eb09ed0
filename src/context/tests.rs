//! Trees on disk, selected from and digested.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::error::Shown;
use super::*;

/// A context directory that is removed at the end.
struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    /// Names ending in `/` are directories, `a -> b` are links, the rest are files that hold their own name.
    fn new(names: &[&str]) -> Self {
        let scene = Self { dir: tempfile::tempdir().unwrap() };
        for name in names {
            scene.add(name);
        }
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn add(&self, name: &str) {
        if let Some((link, target)) = name.split_once(" -> ") {
            std::fs::create_dir_all(self.path(link).parent().unwrap()).unwrap();
            symlink(target, self.path(link)).unwrap();
        } else if name.ends_with('/') {
            std::fs::create_dir_all(self.path(name)).unwrap();
        } else {
            self.write(name, name);
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a test writes what it likes")]
    fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), text).unwrap();
    }

    fn open(&self, ignore: &str) -> Dir {
        let ignore = IgnoreFile { name: ".dockerignore".into(), text: ignore.into() };
        Dir::open(self.dir.path(), &DirOptions { ignore: Some(ignore), ..DirOptions::default() }).unwrap()
    }

    fn indexed(&self, index: &Path) -> Dir {
        Dir::open(self.dir.path(), &DirOptions { index: Some(index.into()), ..DirOptions::default() }).unwrap()
    }
}

fn paths(nodes: &[Node]) -> Vec<String> {
    nodes.iter().map(|n| String::from_utf8_lossy(&n.path).into_owned()).collect()
}

fn walked(scene: &Scene, ignore: &str) -> Vec<String> {
    paths(&scene.open(ignore).walk(b"", &[]).unwrap())
}

#[test]
fn ignore_rules_agree_with_moby() {
    let scene = Scene::new(&["a/b/c", "a/b/d", "a/x", "foo", "sub/foo", "#name", "keep/this/f", "keep/that", "empty/"]);
    let rows: &[(&str, &str, &[&str])] = &[
        // G-5: anchored at the root
        ("foo", "foo", &["sub/foo", "sub"]),
        // G-3: these are the same
        ("/foo", "foo", &["sub/foo"]),
        ("foo/", "foo", &["sub/foo"]),
        ("./foo", "foo", &["sub/foo"]),
        ("  foo  ", "foo", &["sub/foo"]),
        ("x/../foo", "foo", &["sub/foo"]),
        ("\u{feff}foo", "foo", &["sub/foo"]),
        ("foo\r", "foo", &["sub/foo"]),
        // G-3: a comment in the first column only
        ("#name", "", &["#name"]),
        (" #name", "#name", &["foo"]),
        // G-3: these match nothing
        (".", "", &["foo", "a/b/c"]),
        ("/", "", &["foo", "a/b/c"]),
        ("../foo", "", &["foo", "a/b/c"]),
        // G-6: what is below a match
        ("a", "a a/b a/b/c a/x", &["foo"]),
        ("a\n!a/b/c", "a/b/d a/x", &["a", "a/b", "a/b/c"]),
        // G-4: the last match wins
        ("a\n!a\na/x", "a/x", &["a", "a/b/c"]),
        ("!a/b\na", "a a/b a/b/c", &["foo"]),
        ("*\n!keep/this", "foo a a/b/c keep/that", &["keep", "keep/this", "keep/this/f"]),
        ("*\n! keep/this", "foo keep/that", &["keep/this/f"]),
        ("**/foo", "foo sub/foo", &["sub"]),
        ("**\n!**/foo", "a a/x empty", &["foo", "sub", "sub/foo"]),
        ("a\n!a/b/c\na/b", "a a/b a/b/c", &["foo"]),
        // a directory that is left out does not come back empty
        ("*\n!empty/x", "empty", &[]),
    ];
    for (rules, out, kept) in rows {
        let got = walked(&scene, rules);
        for path in out.split_whitespace() {
            assert!(!got.iter().any(|p| p == path), "{rules:?} keeps {path}: {got:?}");
            assert!(scene.open(rules).lookup(path.as_bytes()).unwrap().is_none(), "{rules:?} finds {path}");
        }
        for path in *kept {
            assert!(got.iter().any(|p| p == path), "{rules:?} loses {path}: {got:?}");
            assert!(scene.open(rules).lookup(path.as_bytes()).unwrap().is_some(), "{rules:?} hides {path}");
        }
    }
}

#[test]
fn bad_ignore_pattern_error_names_line() {
    // G-8, S-11
    for (text, line) in [("a\n[x", 2), ("!", 1), ("\n\n! \n", 3), ("x\\", 1)] {
        let file = IgnoreFile { name: "my.dockerignore".into(), text: text.into() };
        let error = Matcher::parse(&file).unwrap_err().to_string();
        assert!(error.starts_with(&format!("my.dockerignore:{line}: bad pattern")), "{error}");
    }
}

#[test]
fn excluded_directory_is_not_read() {
    // G-10: not even one that could not be
    let scene = Scene::new(&["node_modules/x", "a", "secret"]);
    std::fs::set_permissions(scene.path("node_modules"), PermissionsExt::from_mode(0o0)).unwrap();
    std::fs::set_permissions(scene.path("secret"), PermissionsExt::from_mode(0o0)).unwrap();
    assert_eq!(walked(&scene, "node_modules\nsecret\n!keep/*"), ["a"]);
    std::fs::set_permissions(scene.path("node_modules"), PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn ignore_file_of_dockerfile_takes_precedence() {
    // G-1
    let scene = Scene::new(&["Dockerfile"]);
    let root = crate::base::rooted::Root::open(scene.dir.path()).unwrap();
    let dockerfile = scene.path("Dockerfile");
    let find = || IgnoreFile::find(&root, Some(&dockerfile)).unwrap().map(|f| f.name);
    assert_eq!(find(), None);
    scene.add(".containerignore");
    assert_eq!(find().as_deref(), Some(".containerignore"));
    scene.add(".dockerignore");
    assert_eq!(find().as_deref(), Some(".dockerignore"));
    scene.add("Dockerfile.dockerignore");
    assert_eq!(find().as_deref(), Some("Dockerfile.dockerignore"));
}

#[test]
fn ignore_file_must_be_a_regular_file() {
    // S-91
    let scene = Scene::new(&["Dockerfile"]);
    let root = crate::base::rooted::Root::open(scene.dir.path()).unwrap();
    rustix::fs::mknodat(&root, ".dockerignore", rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o644), 0)
        .unwrap();
    assert!(IgnoreFile::find(&root, None).unwrap_err().to_string().contains("not a regular file"));
    scene.add("Dockerfile.dockerignore -> /dev/zero");
    assert!(IgnoreFile::find(&root, Some(&scene.path("Dockerfile"))).is_err());
}

fn names(tree: &dyn SourceTree, source: &str, options: Options<'_>) -> Vec<String> {
    let mut out = Vec::new();
    for one in select(tree, source.as_bytes(), options).unwrap() {
        out.push(format!("{}@{}", String::from_utf8_lossy(&one.name), String::from_utf8_lossy(&one.path)));
        out.extend(paths(&one.below).into_iter().map(|p| format!("  {p}")));
    }
    out
}

#[test]
fn sources_select_files_as_copy_does() {
    let scene = Scene::new(&[
        "f",
        "dir/a",
        "dir/sub/b",
        "dir/l -> nowhere",
        "link -> dir/a",
        "dlink -> /dir",
        "up -> ../../dir/a",
        "pkg.json",
        "[x",
        "d1/x",
        "d2/y",
        "d2/sub/x",
    ]);
    let tree = scene.open("");
    for (source, want) in [
        ("f", "f@f"),
        // C-1
        ("/f", "f@f"),
        ("../../f", "f@f"),
        ("dir/../f", "f@f"),
        // C-2
        ("pkg.jso[n] ", ""),
        ("nope*", ""),
        ("yarn.loc[k]", ""),
        // C-3
        ("pk?.json", "pkg.json@pkg.json"),
        ("[[]x", "[x@[x"),
        ("d*/x", "x@d1/x"),
        // C-4
        ("dir", "dir@dir|  a|  l|  sub|  sub/b"),
        ("dir/", "dir@dir|  a|  l|  sub|  sub/b"),
        ("dir/.", "dir@dir|  a|  l|  sub|  sub/b"),
        ("d[12]", "d1@d1|  x|d2@d2|  sub|  sub/x|  y"),
        // C-10, S-90
        ("link", "link@dir/a"),
        ("up", "up@dir/a"),
        ("dlink", "dlink@dir|  a|  l|  sub|  sub/b"),
        ("dlink/sub", "sub@dir/sub|  b"),
        ("dlink/s*", "sub@dir/sub|  b"),
    ] {
        assert_eq!(names(&tree, source, Options::default()).join("|"), want, "{source}");
    }
}

#[test]
fn exclude_and_parents_limit_selection() {
    let scene = Scene::new(&["a/b/x.go", "a/b/y.md", "a/c/z.go", "a/l -> b", "top.go", "e/only.md"]);
    let tree = scene.open("");
    for (source, parents, exclude, want) in [
        // C-21, G-12
        ("a", false, &["**/*.md"][..], "a@a|  b|  b/x.go|  c|  c/z.go|  l"),
        ("a", false, &["b", "!b/x.go"], "a@a|  b|  b/x.go|  c|  c/z.go|  l"),
        ("e", false, &["*.md"], "e@e"),
        ("*.go", false, &["top.*"], ""),
        // C-20
        ("a/b/x.go", true, &[], "@|  a|  a/b|  a/b/x.go"),
        ("a/./b/x.go", true, &[], "@a|  b|  b/x.go"),
        ("a/b", true, &[], "@|  a|  a/b|  a/b/x.go|  a/b/y.md"),
        ("a/**/*.go", true, &[], "@|  a|  a/b|  a/b/x.go|  a/c|  a/c/z.go"),
        ("**/*.go", true, &["a/b"], "@|  a|  a/c|  a/c/z.go|  top.go"),
        ("a/*/*.none", true, &[], "@"),
        ("a/./*/*.none", true, &[], "@a"),
        ("n*/./x", true, &[], ""),
        ("./a/./c", true, &[], "@a|  c|  c/z.go"),
    ] {
        let exclude = Matcher::patterns(exclude).unwrap();
        let options = Options { parents, exclude: Some(&exclude) };
        assert_eq!(names(&tree, source, options).join("|"), want, "{source}");
    }
}

#[test]
fn missing_source_error_gives_reason() {
    let scene = Scene::new(&["dist/app", "loop -> loop", "to -> dist/app", "broken -> nowhere"]);
    let tree = scene.open("# built\ndist\n");
    let text = |source: &str, parents| {
        let options = Options { parents, exclude: None };
        match select(&tree, source.as_bytes(), options).unwrap_err() {
            Error::NotFound { path, excluded, .. } => {
                format!("{} {}", Shown(&path), excluded.map(|e| e.to_string()).unwrap_or_default())
            }
            other => other.to_string(),
        }
    };
    // C-2, G-9
    assert_eq!(text("./nope", false), "./nope ");
    assert_eq!(text("nope/*", false), "nope/* ");
    assert_eq!(text("dist/", false), "dist/ excluded by .dockerignore:2 (`dist`)");
    assert_eq!(text("dist/app", false), "dist/app excluded by .dockerignore:2 (`dist`)");
    assert_eq!(text("dist/app", true), "dist/app excluded by .dockerignore:2 (`dist`)");
    assert_eq!(text("dist/none", false), "dist/none excluded by .dockerignore:2 (`dist`)");
    // C-10
    assert_eq!(text("to", false), "to excluded by .dockerignore:2 (`dist`)");
    assert_eq!(text("broken", false), "broken ");
    assert_eq!(text("loop", false), "loop: too many levels of symbolic links");
    assert_eq!(text("a[", false), "bad pattern a[: `[` is never closed");
}

fn digest_of(tree: &dyn SourceTree, source: &str) -> String {
    let selected = select(tree, source.as_bytes(), Options::default()).unwrap();
    digest(tree, &selected, Given::default()).unwrap().digest.hex()
}

#[test]
fn digest_covers_content_names_and_modes_only() {
    // C-29
    let make = |names: &[&str]| Scene::new(names);
    let base = make(&["d/a", "d/b", "d/l -> a"]);
    let digest = |scene: &Scene, source: &str| digest_of(&scene.open(""), source);
    let was = digest(&base, "d");
    let other = make(&["d/l -> a", "d/b", "d/a"]);
    assert_eq!(digest(&other, "d"), was, "made in another order, at another time and place");
    base.write("unrelated", "x");
    assert_eq!(digest(&base, "d"), was);
    std::fs::set_permissions(base.path("d/a"), PermissionsExt::from_mode(0o600)).unwrap();
    assert_ne!(digest(&base, "d"), was, "chmod");
    std::fs::set_permissions(base.path("d/a"), std::fs::metadata(other.path("d/a")).unwrap().permissions()).unwrap();
    assert_eq!(digest(&base, "d"), was);
    let wild = digest(&base, "d/*");
    #[expect(clippy::disallowed_methods, reason = "a test renames what it likes")]
    std::fs::rename(base.path("d/b"), base.path("d/c")).unwrap();
    assert_ne!(digest(&base, "d"), was, "rename");
    assert_ne!(digest(&base, "d/*"), wild, "rename below a wildcard");
    other.write("d/a", "d/A");
    assert_ne!(digest(&other, "d"), was, "content of equal length");
    let link = make(&["d/a", "d/b", "d/l -> b"]);
    assert_ne!(digest(&link, "d"), was, "link text");
    let hard = make(&["d/a"]);
    let one = digest(&hard, "d");
    hard.write("d/b", "d/a");
    let two = digest(&hard, "d");
    std::fs::remove_file(hard.path("d/b")).unwrap();
    std::fs::hard_link(hard.path("d/a"), hard.path("d/b")).unwrap();
    assert!(digest(&hard, "d") != two && digest(&hard, "d") != one, "hard link");
}

#[test]
fn stat_index_skips_unchanged_files_only() {
    let scene = Scene::new(&["d/a", "d/b"]);
    let store = tempfile::tempdir().unwrap();
    let index = store.path().join("index");
    let settle = || std::thread::sleep(std::time::Duration::from_millis(80));
    settle();
    let first = scene.indexed(&index);
    let was = digest_of(&first, "d");
    first.save().unwrap();
    // Nothing is read: an unreadable file of unchanged stamp has a known digest.
    let node = |tree: &Dir, path: &str| tree.lookup(path.as_bytes()).unwrap().unwrap();
    let second = scene.indexed(&index);
    assert!(second.index().known(b"d/a", &node(&second, "d/a")).is_some());
    assert_eq!(digest_of(&second, "d"), was);
    second.save().unwrap();
    // A change is seen.
    scene.write("d/a", "d/A");
    let third = scene.indexed(&index);
    assert!(third.index().known(b"d/a", &node(&third, "d/a")).is_none());
    assert_ne!(digest_of(&third, "d"), was);
    third.save().unwrap();
    // It was read too soon after it was written to be trusted later; the other file still is.
    let fourth = scene.indexed(&index);
    assert!(fourth.index().known(b"d/a", &node(&fourth, "d/a")).is_none(), "racy");
    assert!(fourth.index().known(b"d/b", &node(&fourth, "d/b")).is_some());
    // Damage is noticed.
    let mut bytes = crate::base::fs::read(&index).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    crate::base::publish::atomic(&index, &bytes, 0o600).unwrap();
    let fifth = scene.indexed(&index);
    assert!(fifth.index().known(b"d/b", &node(&fifth, "d/b")).is_none());
}

#[test]
fn changed_file_is_an_error() {
    // S-93
    use std::io::Read as _;
    let scene = Scene::new(&["f"]);
    let tree = scene.open("");
    let meta = tree.lookup(b"f").unwrap().unwrap();
    tree.content(b"f", &meta).unwrap();
    let read = |scene: &Scene, change: &dyn Fn(&Scene)| {
        let mut reader = tree.open(b"f", &meta).map_err(|e| e.to_string())?;
        change(scene);
        let mut out = Vec::new();
        reader.read_to_end(&mut out).map_err(|e| e.to_string())?;
        Ok::<_, String>(out)
    };
    assert_eq!(read(&scene, &|_| {}), Ok(b"f".to_vec()));
    let want = Err("f changed while it was being read".to_owned());
    assert_eq!(read(&scene, &|s| s.write("f", "longer")), want);
    assert_eq!(read(&scene, &|_| {}), want, "changed before it was opened");
}

#[test]
fn lookup_does_not_leave_the_context() {
    // S-90, S-92
    let outside = Scene::new(&["canary"]);
    let to = outside.path("canary").display().to_string();
    let scene = Scene::new(&[&format!("abs -> {to}"), "up -> ../../../../../../etc/passwd", "proc -> /proc/self/root"]);
    scene.add(&format!("dir -> {}", outside.dir.path().display()));
    let tree = scene.open("");
    for source in ["abs", "up", "proc", "proc/etc", "dir/canary", "dir"] {
        let error = select(&tree, source.as_bytes(), Options::default()).unwrap_err();
        assert!(matches!(error, Error::NotFound { .. } | Error::Loop { .. }), "{source}: {error}");
    }
    assert!(tree.open(b"dir/canary", &tree.lookup(b"abs").unwrap().unwrap()).is_err());
    assert!(tree.children(b"dir").is_err());
}

#[test]
fn file_that_became_a_fifo_does_not_block() {
    // S-92, S-93
    let scene = Scene::new(&["f"]);
    let tree = scene.open("");
    let meta = tree.lookup(b"f").unwrap().unwrap();
    crate::base::fs::remove_file(&scene.path("f")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, scene.path("f"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let (sender, answers) = std::sync::mpsc::channel();
    // Not joined: without O_NONBLOCK it would never end.
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = tree.open(b"f", &meta).unwrap().read_to_end(&mut bytes).is_err();
        sender.send((read, tree.content(b"f", &meta).is_err())).unwrap();
    });
    assert_eq!(answers.recv_timeout(std::time::Duration::from_secs(20)), Ok((true, true)));
}
