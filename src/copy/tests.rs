//! COPY, ADD and WORKDIR over trees; the same through the binary is in `tests/it/copy`.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::context::{Dir, DirOptions, IgnoreFile, SourceTree as _};
use crate::fetch::Remote;
use crate::layer::{
    Compression, Entry, EntryKind, LayerWriter, MergedEntry, MergedTree, Meta, RelPath, Tree, WriteOptions,
};
use crate::plan::{ContextName, Copy, CopyFrom, CopySource, Workdir};

/// Makes `path` files (`path`, `path=content`), `dir/` directories, `link -> target` links below `dir`.
fn fill(dir: &Path, lines: &[&str]) {
    for line in lines {
        let (name, target) = line.split_once(" -> ").unwrap_or((line, ""));
        let (name, content) = name.split_once('=').unwrap_or((name, name));
        let path = dir.join(name.trim_end_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if !target.is_empty() {
            symlink(target, &path).unwrap();
        } else if name.ends_with('/') {
            fs::create_dir_all(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        } else {
            crate::base::publish::atomic(&path, content.as_bytes(), 0o600).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        }
    }
}

/// A destination: `f:path`, `d:path`, `l:path=target`.
fn dest_tree(lines: &[&str]) -> MergedTree {
    let entries = lines.iter().map(|line| {
        let (what, rest) = line.split_once(':').unwrap();
        let (name, target) = rest.split_once('=').unwrap_or((rest, ""));
        let kind = match what {
            "f" => EntryKind::File { size: target.len() as u64, content: None },
            "d" => EntryKind::Dir,
            _ => EntryKind::Symlink { target: target.as_bytes().to_vec() },
        };
        Entry::new(RelPath::parse(name.as_bytes()).unwrap(), kind, Meta { uid: 7, gid: 8, ..Meta::with_mode(0o1777) })
    });
    MergedTree::over([Arc::new(Tree::new(entries.collect()))])
}

/// Hands out one text for every file.
struct Text(&'static str);

impl LayerFiles for Text {
    fn open(&self, _found: &MergedEntry<'_>) -> io::Result<fs::File> {
        let dir = tempfile::tempdir()?;
        crate::base::publish::atomic(&dir.path().join("f"), self.0.as_bytes(), 0o600).map_err(io::Error::other)?;
        fs::File::open(dir.path().join("f"))
    }
}

fn plan(sources: &[&str], dest: &str) -> Copy {
    Copy {
        sources: sources.iter().map(|s| CopySource::Path((*s).to_owned())).collect(),
        dest: dest.trim_end_matches('/').to_owned(),
        dest_is_dir: dest.ends_with('/'),
        ..whole(CopyFrom::Context(ContextName::Main))
    }
}

const ETC: &str = "root:x:0:0::/:\napp:x:100:200::/:\n";

fn run(context: &Dir, copy: &Copy, dest: &MergedTree) -> Result<Tree, Error> {
    run_with(ETC, context, copy, dest)
}

fn run_with(etc: &'static str, context: &Dir, copy: &Copy, dest: &MergedTree) -> Result<Tree, Error> {
    let dir = tempfile::tempdir().unwrap();
    let (cache, scratch) = (dir.path().join("cache"), dir.path().to_owned());
    let prepared = prepare(copy, context, &Remote::new(&cache, &scratch))?;
    let options = WriteOptions { compression: Compression::Uncompressed, ..WriteOptions::default() };
    let mut writer = LayerWriter::new(Vec::new(), &options);
    execute(copy, &prepared, &Dest { tree: dest, files: &Text(etc), passed: &[] }, dir.path(), &mut writer)?;
    Ok(writer.finish().unwrap().1.tree)
}

/// `path mode uid:gid`, `path -> target`, `path = link`, `path !` for an opaque marker.
fn shown(tree: &Tree) -> Vec<String> {
    let entry = |e: &Entry| match &e.kind {
        EntryKind::Symlink { target } => format!("{} -> {}", e.path, String::from_utf8_lossy(target)),
        EntryKind::Hardlink { target } => format!("{} = {target}", e.path),
        EntryKind::Opaque => format!("{} !", e.path),
        EntryKind::Dir => format!("{}/ {:o} {}:{}", e.path, e.meta.mode, e.meta.uid, e.meta.gid),
        _ => format!("{} {:o} {}:{}", e.path, e.meta.mode, e.meta.uid, e.meta.gid),
    };
    tree.entries().iter().map(entry).collect()
}

#[test]
fn copy_places_files_by_destination() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), &["f", "d/", "d/x", "d/s/", "d/s/y", "d/l -> nowhere", "w/a1", "w/a2", "link -> f", "e/s=x"]);
    let context = Dir::open(dir.path(), &DirOptions::default()).unwrap();
    let base =
        &["d:there", "d:there/sub", "f:file", "l:to=/there", "l:dangling=/new/place", "d:there/l", "l:there/f=x"];
    let base = dest_tree(base);
    let there = "/there/ 1777 7:8";
    for (sources, dest, want) in [
        // C-5, C-6
        (&["f"][..], "/new", &["/new 640 0:0"][..]),
        (&["f"], "/new/", &["/new/ 755 0:0", "/new/f 640 0:0"]),
        (&["f"], "/a/b", &["/a/ 755 0:0", "/a/b 640 0:0"]),
        (&["f"], "/there", &[there, "/there/f 640 0:0"]),
        (&["f"], "/file", &["/file 640 0:0"]),
        // C-4
        (
            &["d"],
            "/new",
            &["/new/ 755 0:0", "/new/l -> nowhere", "/new/s/ 750 0:0", "/new/s/y 640 0:0", "/new/x 640 0:0"],
        ),
        (&["w/*"], "/t/", &["/t/ 755 0:0", "/t/a1 640 0:0", "/t/a2 640 0:0"]),
        // C-2
        (&["nothing*"], "/t/", &[]),
        // C-8
        (&["f"], "/to", &[there, "/there/f 640 0:0"]),
        (&["f"], "/to/", &[there, "/there/f 640 0:0"]),
        (&["f"], "/dangling", &["/new/ 755 0:0", "/new/place 640 0:0"]),
        // C-10: the named link is followed and keeps its name.
        (&["link"], "/t/", &["/t/ 755 0:0", "/t/link 640 0:0"]),
    ] {
        let got = run(&context, &plan(sources, dest), &base).unwrap();
        assert_eq!(shown(&got), want, "{sources:?} to {dest}");
    }
    for (sources, dest, want) in [
        (&["f"][..], "/there/sub/../sub", None),
        // C-9
        (&["d"], "/file", Some("cannot copy a directory to /file: it is a file")),
        (&["f", "w/a1"], "/new", Some("cannot copy 2 files to /new: it is not a directory")),
        (&["f"], "/file/x", Some("destination /file: not a directory")),
        (&["e", "d"], "/t", Some("cannot copy a directory to /t/s: it is a file")),
        (&["nodir/*"], "/t", Some("nodir/* not found")),
        (&["missing"], "/t", Some("missing not found")),
    ] {
        let got = run(&context, &plan(sources, dest), &base).map_err(|e| e.to_string());
        assert_eq!(got.as_ref().err().map(String::as_str), want.filter(|w| !w.is_empty()), "{sources:?} to {dest}");
    }
}

#[test]
fn copy_rejects_occupied_paths_and_replaces_links() {
    // C-7, C-8, C-9, A6
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), &["r/bin/", "r/bin/tool", "q/tmp/", "q/f", "z/f/", "z/f/x"]);
    let context = Dir::open(dir.path(), &DirOptions::default()).unwrap();
    let base = dest_tree(&["d:usr", "d:usr/bin", "l:bin=usr/bin", "d:tmp", "d:d", "l:d/f=/tmp", "d:g", "d:g/f"]);
    let error = run(&context, &plan(&["r"], "/"), &base).unwrap_err();
    assert_eq!(error.to_string(), "cannot copy a directory to /bin: it is a symlink to usr/bin");
    assert!(matches!(error, Error::NotADirectory { occupant: Occupant::Symlink { .. }, .. }));
    let got = run(&context, &plan(&["q"], "/"), &base).unwrap();
    assert_eq!(shown(&got), ["/f 640 0:0", "/tmp/ 750 0:0"]);
    let got = run(&context, &plan(&["q/f"], "/d/"), &base).unwrap();
    assert_eq!(shown(&got), ["/d/ 1777 7:8", "/d/f 640 0:0"]);
    let error = run(&context, &plan(&["q/f"], "/g/"), &base).unwrap_err();
    assert_eq!(error.to_string(), "cannot copy a file to /g/f: it is a directory");
    let error = run(&context, &plan(&["z"], "/d/"), &base).unwrap_err();
    assert_eq!(error.to_string(), "cannot copy a directory to /d/f: it is a symlink to /tmp");
}

#[test]
fn chown_and_chmod_set_owner_and_mode() {
    // C-15, C-16, C-17
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), &["d/", "d/x", "d/l -> x"]);
    let context = Dir::open(dir.path(), &DirOptions::default()).unwrap();
    let base = dest_tree(&["d:etc", "f:etc/passwd=.", "f:etc/group=."]);
    for (chown, chmod, want) in [
        (Some("app"), None, Ok(["/n/ 755 100:200", "/n/l -> x", "/n/x 640 100:200"])),
        (Some("app:"), None, Ok(["/n/ 755 100:0", "/n/l -> x", "/n/x 640 100:0"])),
        (Some(":33"), None, Ok(["/n/ 755 0:33", "/n/l -> x", "/n/x 640 0:33"])),
        (Some("5:"), None, Ok(["/n/ 755 5:0", "/n/l -> x", "/n/x 640 5:0"])),
        (Some(":"), None, Ok(["/n/ 755 0:0", "/n/l -> x", "/n/x 640 0:0"])),
        (Some(":app"), None, Ok(["/n/ 755 0:100", "/n/l -> x", "/n/x 640 0:100"])),
        (Some("app:root"), None, Ok(["/n/ 755 100:0", "/n/l -> x", "/n/x 640 100:0"])),
        (Some("5"), None, Ok(["/n/ 755 5:5", "/n/l -> x", "/n/x 640 5:5"])),
        (Some("5:6"), Some("0600"), Ok(["/n/ 600 5:6", "/n/l -> x", "/n/x 600 5:6"])),
        (None, Some("1777"), Ok(["/n/ 1777 0:0", "/n/l -> x", "/n/x 1777 0:0"])),
        (None, Some("u=rwx,go=rX"), Ok(["/n/ 755 0:0", "/n/l -> x", "/n/x 744 0:0"])),
        (None, Some("u=rwX,go=rX"), Ok(["/n/ 755 0:0", "/n/l -> x", "/n/x 644 0:0"])),
        (Some("nobody"), None, Err("unknown user \"nobody\": /etc/passwd has root, app")),
        (Some("0:staff"), None, Err("unknown group \"staff\": /etc/group has root, app")),
        (Some("5:6:7"), None, Err("owner \"5:6:7\": want USER, USER:GROUP, :GROUP or numbers")),
        (Some("-1"), None, Err("unknown user \"-1\": /etc/passwd has root, app")),
    ] {
        let copy = Copy { chown: chown.map(str::to_owned), chmod: chmod.map(str::to_owned), ..plan(&["d"], "/n") };
        let got = run(&context, &copy, &base).map(|tree| shown(&tree)).map_err(|e| e.to_string());
        assert_eq!(got, want.map(|w| w.map(str::to_owned).to_vec()).map_err(str::to_owned), "{chown:?} {chmod:?}");
    }
}

/// What GNU chmod makes of `text`, where both readings agree: no `X` after another change, no set-id or sticky
/// bits, no copied class beside other letters.
fn gnu(text: &str, mode: u32, dir: &Path) -> u32 {
    let file = dir.join("f");
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    let done = std::process::Command::new("chmod").arg("--").arg(text).arg(&file).status().unwrap();
    assert!(done.success(), "{text}");
    fs::metadata(&file).unwrap().permissions().mode() & 0o7777
}

#[test]
fn chmod_agrees_with_gnu_chmod() {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};
    let dir = tempfile::tempdir().unwrap();
    fs::File::create_new(dir.path().join("f")).unwrap();
    let permissions = prop_oneof!["[rwx]{0,3}", "[ugo]"];
    let clause = ("[ugoa]{1,2}", prop::collection::vec(("[-+=]", permissions), 1..3));
    let text = prop::collection::vec(clause, 1..4).prop_map(|clauses| {
        let clause = |(who, ops): (String, Vec<(String, String)>)| {
            who + &ops.into_iter().map(|(op, letters)| op + &letters).collect::<String>()
        };
        clauses.into_iter().map(clause).collect::<Vec<_>>().join(",")
    });
    let mut runner = TestRunner::new(Config { cases: 150, failure_persistence: None, ..Config::default() });
    runner
        .run(&(text, 0u32..0o1000), |(text, mode)| {
            prop_assert_eq!(
                crate::plan::Mode::parse(&text).unwrap().apply(mode, false),
                gnu(&text, mode, dir.path()),
                "{}",
                text
            );
            Ok(())
        })
        .unwrap();
}

#[test]
fn copy_keeps_hard_links_within_instruction() {
    // C-12
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), &["d/a"]);
    fs::hard_link(dir.path().join("d/a"), dir.path().join("d/b")).unwrap();
    let context = Dir::open(dir.path(), &DirOptions::default()).unwrap();
    let got = run(&context, &plan(&["d"], "/n"), &MergedTree::new()).unwrap();
    assert_eq!(shown(&got), ["/n/ 755 0:0", "/n/a 640 0:0", "/n/b = /n/a"]);
}

#[test]
fn missing_source_names_ignore_rule() {
    // C-2, G-9
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), &["dist/x"]);
    let ignore = IgnoreFile { name: ".dockerignore".into(), text: b"# built\ndist\n".to_vec() };
    let context = Dir::open(dir.path(), &DirOptions { ignore: Some(ignore), ..DirOptions::default() }).unwrap();
    let error = run(&context, &plan(&["dist/x"], "/"), &MergedTree::new()).unwrap_err();
    assert_eq!(error.to_string(), "dist/x not found");
    let Error::Source(crate::context::Error::NotFound { excluded: Some(rule), .. }) = error else { panic!("{error}") };
    assert_eq!(rule.to_string(), "excluded by .dockerignore:2 (`dist`)");
    // The same rules hold for bind mounts.
    fill(dir.path(), &["kept"]);
    let into = tempfile::tempdir().unwrap();
    assert_eq!(context.hidden(b"").unwrap(), [b"dist".to_vec()]);
    assert!(hide_ignored(&context, dir.path(), "/", into.path()).unwrap());
    use std::os::unix::fs::FileTypeExt;
    assert!(fs::symlink_metadata(into.path().join("dist")).unwrap().file_type().is_char_device());
}

#[test]
fn workdir_creates_missing_directories_only() {
    // I-6, I-7
    let base = dest_tree(&["d:etc", "f:etc/passwd=.", "d:there", "l:to=there"]);
    for (path, user, want, notes) in [
        ("/a/b", "", &["/a/ 755 0:0", "/a/b/ 755 0:0"][..], 0),
        ("/a", "app", &["/a/ 755 100:200"], 0),
        ("/there", "app", &[], 0),
        ("/to", "", &[], 0),
        ("/to/x", "", &["/there/ 1777 7:8", "/there/x/ 755 0:0"], 0),
        ("/a", "nobody", &["/a/ 755 0:0"], 1),
    ] {
        let step = Workdir { path: path.to_owned(), user: user.to_owned() };
        let mut writer = LayerWriter::new(Vec::new(), &WriteOptions::default());
        let told = workdir(&step, &Dest { tree: &base, files: &Text(ETC), passed: &[] }, &mut writer).unwrap();
        assert_eq!(shown(&writer.finish().unwrap().1.tree), want, "{path}");
        assert_eq!(told.len(), notes, "{path}");
    }
}

#[test]
fn created_directories_get_octal_mode_and_owner() {
    // C-6, N-6
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), &["f", "d/", "d/s/", "d/s/x"]);
    let context = Dir::open(dir.path(), &DirOptions::default()).unwrap();
    for (source, dest, chmod, want) in [
        ("f", "/p/q/f", "750", &["/p/ 750 5:5", "/p/q/ 750 5:5", "/p/q/f 750 5:5"][..]),
        ("f", "/p/q/", "750", &["/p/ 750 5:5", "/p/q/ 750 5:5", "/p/q/f 750 5:5"]),
        ("f", "/p/q/f", "4711", &["/p/ 711 5:5", "/p/q/ 711 5:5", "/p/q/f 4711 5:5"]),
        ("f", "/p/q/f", "u+x", &["/p/ 755 5:5", "/p/q/ 755 5:5", "/p/q/f 740 5:5"]),
        ("d", "/p/q", "700", &["/p/ 700 5:5", "/p/q/ 700 5:5", "/p/q/s/ 700 5:5", "/p/q/s/x 700 5:5"]),
        ("d", "/p/q/", "700", &["/p/ 700 5:5", "/p/q/ 700 5:5", "/p/q/s/ 700 5:5", "/p/q/s/x 700 5:5"]),
        ("d", "/p/q", "2750", &["/p/ 750 5:5", "/p/q/ 2750 5:5", "/p/q/s/ 2750 5:5", "/p/q/s/x 2750 5:5"]),
        ("d", "/p", "go=", &["/p/ 755 5:5", "/p/s/ 700 5:5", "/p/s/x 600 5:5"]),
        ("f", "/there/n/f", "700", &["/there/ 1777 7:8", "/there/n/ 700 5:5", "/there/n/f 700 5:5"]),
    ] {
        for link in [false, true] {
            if link && dest.starts_with("/there") {
                continue;
            }
            let (chown, chmod) = (Some("5".to_owned()), Some(chmod.to_owned()));
            let copy = Copy { chown, chmod, link, ..plan(&[source], dest) };
            let base = if link { MergedTree::new() } else { dest_tree(&["d:there"]) };
            assert_eq!(shown(&run(&context, &copy, &base).unwrap()), want, "{copy:?}");
        }
    }
}

#[test]
fn linked_layer_has_no_entry_for_passed_directories() {
    // N-7
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), &["f", "d/", "d/x"]);
    let path = dir.path().join("a.tar");
    crate::base::publish::atomic(&path, &tar(&["i/m/p"]), 0o644).unwrap();
    let context = Dir::open(dir.path(), &DirOptions::default()).unwrap();
    for (source, dest, passed, want) in [
        ("f", "/etc/app/f", &["etc"][..], &["/etc/app/ 755 5:5", "/etc/app/f 640 5:5"][..]),
        ("f", "/etc/app/f", &["etc", "etc/app"], &["/etc/app/f 640 5:5"]),
        ("f", "/etc/app/", &["etc", "etc/app"], &["/etc/app/f 640 5:5"]),
        ("f", "/etc/app/f", &[], &["/etc/ 755 5:5", "/etc/app/ 755 5:5", "/etc/app/f 640 5:5"]),
        ("d", "/etc", &["etc"], &["/etc/x 640 5:5"]),
        ("d", "/etc/app", &["etc"], &["/etc/app/ 755 5:5", "/etc/app/x 640 5:5"]),
        ("d", "/tmp/a", &["tmp"], &["/tmp/a/ 755 5:5", "/tmp/a/x 640 5:5"]),
        ("d", "/tmp/a", &[], &["/tmp/ 1777 0:0", "/tmp/a/ 755 5:5", "/tmp/a/x 640 5:5"]),
        ("f", "/etc", &["etc"], &["/etc 640 5:5"]),
        ("a.tar", "/etc", &["etc"], &["/etc/i/m/p 644 5:5"]),
        ("a.tar", "/opt", &[], &["/opt/ 755 5:5", "/opt/i/m/p 644 5:5"]),
    ] {
        let add = source == "a.tar";
        let copy = Copy { add, link: true, chown: Some("5".to_owned()), ..plan(&[source], dest) };
        let passed: Vec<RelPath> = passed.iter().map(|dir| RelPath::parse(dir.as_bytes()).unwrap()).collect();
        let (cache, scratch) = (dir.path().join("cache"), tempfile::tempdir().unwrap());
        let prepared = prepare(&copy, &context, &Remote::new(&cache, scratch.path())).unwrap();
        let mut writer = LayerWriter::new(Vec::new(), &WriteOptions::default());
        let dest = Dest { tree: &MergedTree::new(), files: &Text(ETC), passed: &passed };
        execute(&copy, &prepared, &dest, scratch.path(), &mut writer).unwrap();
        assert_eq!(shown(&writer.finish().unwrap().1.tree), want, "{copy:?}");
    }
}

#[test]
fn archive_links_stay_inside_destination() {
    // S-31, S-32
    let dir = tempfile::tempdir().unwrap();
    let base = dest_tree(&["d:etc", "d:a", "l:a/out=/etc", "l:a/up=.."]);
    for (lines, want) in [
        (&["dir -> ..", "dir/f"][..], &["/a/dir -> ..", "/a/f 644 3:4"][..]),
        (&["dir -> ../..", "dir/f"], &["/a/dir -> ../..", "/a/f 644 3:4"]),
        (&["dir -> /", "dir/f"], &["/a/dir -> /", "/a/f 644 3:4"]),
        (&["dir -> /etc", "dir/f"], &["/a/dir -> /etc", "/a/etc/ 755 0:0", "/a/etc/f 644 3:4"]),
        (
            &["x/dir -> ../../../b", "x/dir/f"],
            &["/a/b/ 755 0:0", "/a/b/f 644 3:4", "/a/x/ 755 0:0", "/a/x/dir -> ../../../b"],
        ),
        (&["one -> two", "two -> ../..", "one/f"], &["/a/f 644 3:4", "/a/one -> two", "/a/two -> ../.."]),
        (&["f", "dir -> ..", "h = dir/f"], &["/a/dir -> ..", "/a/f 644 3:4", "/a/h = /a/f"]),
    ] {
        crate::base::publish::atomic(&dir.path().join("a"), &tar(lines), 0o644).unwrap();
        let context = Dir::open(dir.path(), &DirOptions::default()).unwrap();
        let got = run(&context, &Copy { add: true, ..plan(&["a"], "/a") }, &base).unwrap();
        let got: Vec<String> = shown(&got).into_iter().filter(|line| !line.starts_with("/a/ ")).collect();
        assert_eq!(got, want, "{lines:?}");
    }
    // Links that the image has lead where they say, inside the root.
    for (lines, want) in [(&["out/f"][..], "/etc/f 644 3:4"), (&["up/f"], "/f 644 3:4")] {
        crate::base::publish::atomic(&dir.path().join("a"), &tar(lines), 0o644).unwrap();
        let context = Dir::open(dir.path(), &DirOptions::default()).unwrap();
        let got = run(&context, &Copy { add: true, ..plan(&["a"], "/a") }, &base).unwrap();
        assert!(shown(&got).iter().any(|line| line == want), "{:?}", shown(&got));
    }
}

#[test]
fn overridden_metadata_is_not_digested() {
    // N-9, C-29
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), &["d/", "d/f", "d/s/", "d/l -> f"]);
    let digest = |chmod: Option<&str>| {
        let context = Dir::open(dir.path(), &DirOptions::default()).unwrap();
        let copy = Copy { chmod: chmod.map(str::to_owned), ..plan(&["d"], "/n") };
        let prepared = prepare(&copy, &context, &Remote::new(dir.path(), dir.path())).unwrap();
        (prepared.digest(), prepared.listing().clone())
    };
    let chmods = [None, Some("644"), Some("u=rw,go=r"), Some("+x"), Some("go=rX"), Some("a=rX")];
    let before = chmods.map(digest);
    let mode = |path: &str, mode| fs::set_permissions(dir.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    mode("d/f", 0o600);
    assert_eq!(
        chmods.map(|c| digest(c) == before[chmods.iter().position(|x| *x == c).unwrap()]),
        [false, true, true, false, true, true]
    );
    mode("d/f", 0o755);
    assert_eq!(digest(chmods[1]), before[1]);
    assert_ne!(digest(chmods[5]), before[5], "X asks whether somebody can execute it");
    mode("d/f", 0o640);
    mode("d/s", 0o700);
    assert_eq!(digest(chmods[1]), before[1]);
    mode("d/s", 0o750);
    assert_eq!(chmods.map(digest), before);
}

/// A tar of what `lines` say, as [`fill`] reads them; `a = b` is a hard link.
fn tar(lines: &[&str]) -> Vec<u8> {
    let mut tar = Vec::new();
    for line in lines {
        let mut head = [0u8; 512];
        let (name, link) = line.split_once(" -> ").or_else(|| line.split_once(" = ")).unwrap_or((line, ""));
        let kind = match () {
            () if line.contains(" -> ") => b'2',
            () if line.contains(" = ") => b'1',
            () if line.ends_with('/') => b'5',
            () => b'0',
        };
        let content = if kind == b'0' { name } else { "" };
        head[..name.len()].copy_from_slice(name.as_bytes());
        head[100..108].copy_from_slice(b"0000644\0");
        head[108..116].copy_from_slice(b"0000003\0");
        head[116..124].copy_from_slice(b"0000004\0");
        head[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        head[136..148].copy_from_slice(b"00000000000\0");
        head[148..156].fill(b' ');
        head[156] = kind;
        head[157..157 + link.len()].copy_from_slice(link.as_bytes());
        let sum: u32 = head.iter().map(|&b| u32::from(b)).sum();
        head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar.extend_from_slice(&head);
        tar.extend_from_slice(content.as_bytes());
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

#[test]
fn archives_are_detected_by_content_and_confined() {
    // C-26, C-27, S-30…S-35
    let dir = tempfile::tempdir().unwrap();
    let base = dest_tree(&["d:etc", "f:etc/passwd=old", "d:full", "d:full/x", "l:out=/etc"]);
    let add = |bytes: &[u8], unpack: Option<bool>| {
        crate::base::publish::atomic(&dir.path().join("a"), bytes, 0o644).unwrap();
        let context = Dir::open(dir.path(), &DirOptions::default()).unwrap();
        let copy = Copy { add: true, unpack, ..plan(&["a"], "/") };
        run_with("old", &context, &copy, &base).map(|tree| shown(&tree)).map_err(|e| e.to_string())
    };
    let etc = "/etc/ 1777 7:8";
    for (lines, want) in [
        (&["d/", "d/f"][..], Ok(&["/d/ 644 3:4", "/d/f 644 3:4"][..])),
        (&["i/m/p"], Ok(&["/i/ 755 0:0", "/i/m/ 755 0:0", "/i/m/p 644 3:4"])),
        (&["./", "./f"], Ok(&["/f 644 3:4"])),
        // S-31: through a link of the archive, of the image.
        (&["l -> /etc", "l/f"], Ok(&[etc, "/etc/f 644 3:4", "/l -> /etc"])),
        (&["l -> ../../../etc", "l/f"], Ok(&[etc, "/etc/f 644 3:4", "/l -> ../../../etc"])),
        (&["out/f"], Ok(&[etc, "/etc/f 644 3:4"])),
        (&["l -> l", "l/f"], Err("cannot unpack a: l: too many levels of symbolic links")),
        // S-34, S-35
        (&["full"], Ok(&["/full 644 3:4"])),
        (&["full", "full/", "full/y"], Ok(&["/full/ 644 3:4", "/full !", "/full/y 644 3:4"])),
        (&["x/", "x/y", "x -> etc", "x/", "x/z"], Ok(&["/x/ 644 3:4", "/x/z 644 3:4"])),
        (&["out/"], Ok(&["/out/ 644 3:4"])),
        (&["f", "f"], Ok(&["/f 644 3:4"])),
        // S-33
        (&["f", "h = f", "f"], Ok(&["/f 644 3:4", "/h 644 3:4"])),
        (&["f", "h = f", "g = h"], Ok(&["/f 644 3:4", "/g = /f", "/h = /f"])),
        (&["h = etc/passwd"], Ok(&[etc, "/etc/passwd 1777 7:8", "/h = /etc/passwd"])),
        (&["h = full"], Err("cannot unpack /h: it is a hard link to /full, which is not a file of the image")),
        (&["h = gone"], Err("cannot unpack /h: it is a hard link to /gone, which is not a file of the image")),
        // S-30
        (&["/abs"], Ok(&["/abs 644 3:4"])),
        (&["f/", "f/../g"], Ok(&["/f/ 644 3:4", "/g 644 3:4"])),
        // S-38: no deletion here, and a layer cannot hold the name.
        (&[".wh.etc"], Err("cannot unpack a: /.wh.etc: a name that begins with .wh. means a deletion in a layer")),
    ] {
        let want = want.map(|w| w.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).map_err(str::to_owned);
        let got = add(&tar(lines), None);
        assert_eq!(got, want, "{lines:?}");
    }
    assert!(add(&tar(&["../f"]), None).unwrap_err().contains("leaves the root"));
    assert_eq!(add(&tar(&["f"]), Some(false)).unwrap(), ["/a 644 0:0"]);
    assert_eq!(add(b"", None).unwrap(), ["/a 644 0:0"]);
    assert_eq!(add(b"\x1f\x8bno gzip, but longer than its header", None).unwrap(), ["/a 644 0:0"]);
    assert!(add(b"\x1f\x8bno gzip", None).unwrap_err().contains("ends early"));
    let packed = zstd::encode_all(&tar(&["f"])[..], 1).unwrap();
    assert_eq!(add(&packed, None).unwrap(), ["/f 644 3:4"]);
    let cut = &tar(&["f", "g"])[..1100];
    assert!(add(cut, None).unwrap_err().starts_with("cannot unpack a: "));
}
