//! Unpacking: what archives hold arrives, and nothing else happens.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use super::entry::{Entry, EntryKind, Meta, RelPath};
use super::*;
use crate::base::digest::{ContentDigest, DiffId, Sha256};
use crate::base::time::Timestamp;

fn path(p: &str) -> RelPath {
    RelPath::parse(p.as_bytes()).unwrap()
}

/// One raw tar entry.
fn raw(kind: u8, name: &str, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    let block = header.as_mut_bytes();
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[156] = kind;
    header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
    header.set_uid(u64::from(rustix::process::geteuid().as_raw()));
    header.set_gid(u64::from(rustix::process::getegid().as_raw()));
    header.set_mtime(7);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

/// `f:name=content`, `d:name`, `l:name=target`, `h:name=target`, `p:name`; whiteouts by their names.
fn archive(lines: &[&str]) -> Vec<u8> {
    let mut tar = Vec::new();
    for line in lines {
        let (what, rest) = line.split_once(':').unwrap();
        let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
        tar.extend(match what {
            "f" => raw(b'0', name, "", value.as_bytes()),
            "d" => raw(b'5', name, "", b""),
            "l" => raw(b'2', name, value, b""),
            "h" => raw(b'1', name, value, b""),
            "p" => raw(b'6', name, "", b""),
            other => panic!("{other}"),
        });
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

fn unpacked(tar: &[u8], form: Form) -> Result<(tempfile::TempDir, Tree), Error> {
    let dir = tempfile::tempdir().unwrap();
    let diff_id = DiffId(Sha256::of(tar));
    let tree = unpack(tar, dir.path(), diff_id, form)?;
    assert_eq!(read_tree(tar, diff_id).unwrap(), tree);
    Ok((dir, tree))
}

fn listing(dir: &Path) -> String {
    let mut out = String::new();
    list(dir, dir, &mut out);
    out
}

fn list(top: &Path, dir: &Path, out: &mut String) {
    let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    for at in names {
        let name = at.strip_prefix(top).unwrap().display();
        let meta = at.symlink_metadata().unwrap();
        if meta.is_dir() {
            writeln!(out, "{name}/").unwrap();
            list(top, &at, out);
        } else if meta.is_symlink() {
            writeln!(out, "{name} -> {}", at.read_link().unwrap().display()).unwrap();
        } else if meta.is_file() {
            writeln!(out, "{name}={}", String::from_utf8_lossy(&crate::base::fs::read(&at).unwrap())).unwrap();
        } else if meta.file_type().is_char_device() && meta.rdev() == 0 {
            writeln!(out, "{name} gone").unwrap();
        } else {
            writeln!(out, "{name} special").unwrap();
        }
    }
}

fn shown(tree: &Tree) -> String {
    let mut out = String::new();
    for entry in tree.entries() {
        let path = entry.path.to_string();
        let path = &path[1..];
        match &entry.kind {
            EntryKind::File { .. } => writeln!(out, "f:{path}"),
            EntryKind::Dir => writeln!(out, "d:{path}"),
            EntryKind::Symlink { target } => writeln!(out, "l:{path}={}", String::from_utf8_lossy(target)),
            EntryKind::Hardlink { target } => writeln!(out, "h:{path}={}", &target.to_string()[1..]),
            EntryKind::Whiteout => writeln!(out, "w:{path}"),
            EntryKind::Opaque => writeln!(out, "o:{path}"),
            EntryKind::Char { .. } | EntryKind::Block { .. } | EntryKind::Fifo => writeln!(out, "s:{path}"),
        }
        .unwrap();
    }
    out
}

#[test]
fn names_and_links_stay_inside_the_root() {
    let many: Vec<String> = (0..50).map(|i| format!("l:l{i}=l{}", i + 1)).chain(["f:l0/x=".to_owned()]).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (what, lines, want) in [
        ("S-30", &["f:./a/../b=1"][..], Ok("b=1\n")),
        ("S-30 escape", &["f:../b=1"], Err("leaves the root")),
        ("S-30 absolute", &["f:/etc/x=1"], Ok("etc/\netc/x=1\n")),
        ("S-30 absolute escape", &["f:/a/../../x=1"], Err("leaves the root")),
        ("S-30 empty", &["f:=1"], Err("only a directory can be the root")),
        ("S-30 root", &["d:./", "f:x=1"], Ok("x=1\n")),
        ("S-31", &["l:a=/etc", "f:a/x=1"], Ok("a -> /etc\netc/\netc/x=1\n")),
        ("S-31 relative", &["d:d", "l:d/a=b/c", "f:d/a/x=1"], Ok("d/\nd/a -> b/c\nd/b/\nd/b/c/\nd/b/c/x=1\n")),
        ("S-32 up", &["l:a=../../..", "f:a/x=1"], Ok("a -> ../../..\nx=1\n")),
        ("S-32 loop", &["l:a=b", "l:b=a", "f:a/x=1"], Err("too many levels")),
        ("S-32 long chain", &many, Err("too many levels")),
        ("S-33", &["f:a=1", "h:b=a"], Ok("a=1\nb=1\n")),
        ("S-33 outside", &["h:b=../../etc/passwd"], Err("leaves the root")),
        ("S-33 host", &["h:b=/etc/passwd"], Err("not in the archive before it")),
        ("S-33 through a link", &["l:e=/etc", "h:b=e/passwd"], Err("not in the archive before it")),
        ("S-33 to a symlink", &["l:a=/etc/passwd", "h:b=a"], Ok("a -> /etc/passwd\nb -> /etc/passwd\n")),
        ("S-33 later", &["h:b=a", "f:a=1"], Err("not in the archive before it")),
        ("S-33 directory", &["d:a", "h:b=a"], Err("hard link to a directory")),
        ("S-33 implied directory", &["f:a/x=1", "h:b=a"], Err("hard link to a directory")),
        ("S-33 root", &["h:b=/"], Err("not in the archive before it")),
        ("S-33 itself", &["f:a=1", "h:a=a"], Err("itself")),
        ("S-33 inside", &["f:a/b=1", "h:a=a/b"], Err("inside what it replaces")),
        ("S-33 below a file", &["f:a=1", "h:a/b=a"], Err("not a directory")),
        ("S-33 whiteout", &["f:.wh.a=", "h:b=a"], Err("not in the archive before it")),
        ("S-34 file over link", &["l:a=/etc/passwd", "f:a=1"], Ok("a=1\n")),
        ("S-34 dir over link", &["l:a=/etc", "d:a", "f:a/x=1"], Ok("a/\na/x=1\n")),
        ("S-34 link over dir", &["d:a", "f:a/x=1", "l:a=b", "f:a/y=2"], Ok("a -> b\nb/\nb/y=2\n")),
        ("S-34 file over full dir", &["f:a/b/c=1", "f:a=2"], Ok("a=2\n")),
        ("S-34 dir over file", &["f:a=1", "d:a", "f:a/x=2"], Ok("a/\na/x=2\n")),
        ("S-34 implied over file", &["f:a=1", "f:a/x=2"], Err("not a directory")),
        ("S-34 dir again", &["d:a", "f:a/x=1", "d:a"], Ok("a/\na/x=1\n")),
        ("S-35", &["f:a=1", "f:a=2", "f:a=3"], Ok("a=3\n")),
        ("S-35 linked", &["f:a=1", "h:b=a", "f:a=2"], Ok("a=2\nb=1\n")),
        ("S-35 linked back", &["f:a=1", "h:b=a", "h:a=b"], Ok("a=1\nb=1\n")),
        ("S-36", &["p:a"], Ok("a special\n")),
    ] {
        match (unpacked(&archive(lines), Form::Plain), want) {
            (Ok((dir, _)), Ok(want)) => assert_eq!(listing(dir.path()), want, "{what}"),
            (Err(error), Err(want)) => assert!(error.to_string().contains(want), "{what}: {error}"),
            (got, want) => panic!("{what}: {:?}, want {want:?}", got.map(|(_, tree)| shown(&tree))),
        }
    }
}

#[test]
fn deletions_apply_to_lower_layers_only() {
    // S-38
    for (lines, tree, disk) in [
        (&["f:.wh.a="][..], Ok("w:a\n"), "a gone\n"),
        (&["f:d/.wh.a="], Ok("w:d/a\n"), "d/\nd/a gone\n"),
        (&["f:.wh.a=", "f:a=1"], Ok("f:a\n"), "a=1\n"),
        (&["f:a=1", "f:.wh.a="], Ok("f:a\n"), "a=1\n"),
        (&["f:.wh.a=", "d:a", "f:a/x=1"], Ok("d:a\no:a\nf:a/x\n"), "a/ opaque\na/x=1\n"),
        (&["d:a", "f:a/x=1", "f:.wh.a="], Ok("d:a\no:a\nf:a/x\n"), "a/ opaque\na/x=1\n"),
        (&["f:.wh.a=", "f:a/x=1"], Ok("d:a\no:a\nf:a/x\n"), "a/ opaque\na/x=1\n"),
        (&["f:a/x=1", "f:.wh.a="], Ok("d:a\no:a\nf:a/x\n"), "a/ opaque\na/x=1\n"),
        (&["f:a/.wh..wh..opq=", "f:a/x=1"], Ok("o:a\nf:a/x\n"), "a/ opaque\na/x=1\n"),
        (&["f:a/.wh..wh..opq=", "f:.wh.a="], Ok("d:a\no:a\n"), "a/ opaque\n"),
        (&["f:.wh.a=", "f:a=1", "d:a"], Ok("d:a\no:a\n"), "a/ opaque\n"),
        (
            &["d:a", "f:a/x=1", "f:a/.wh..wh..opq=", "f:a/y=2"],
            Ok("d:a\no:a\nf:a/x\nf:a/y\n"),
            "a/ opaque\na/x=1\na/y=2\n",
        ),
        (&["f:.wh..wh..opq=", "f:x=1"], Ok("o:\nf:x\n"), "x=1\n"),
        (&["l:a=b", "f:a/.wh.x="], Ok("l:a=b\nw:b/x\n"), "a -> b\nb/\nb/x gone\n"),
        (&["f:a=1", "h:b=a", "f:.wh.a="], Ok("f:a\nh:b=a\n"), "a=1\nb=1\n"),
        (&["f:.wh..wh.aufs=", "d:.wh..wh.plnk", "f:.wh..wh.plnk/1.2=", "f:x=1"], Ok("f:x\n"), "x=1\n"),
        (&["f:.wh.="], Err("not a whiteout"), ""),
        (&["f:.wh.."], Err("not a whiteout"), ""),
        (&["f:d/.wh...="], Err("not a whiteout"), ""),
        (&["f:.wh.a/b="], Err("holds nothing"), ""),
        (&["d:.wh.a", "f:.wh.a/b="], Err("holds nothing"), ""),
    ] {
        let form = Form::Overlay { userxattr: true };
        match (unpacked(&archive(lines), form), tree) {
            (Ok((dir, got)), Ok(want)) => {
                assert_eq!(shown(&got), want, "{lines:?}");
                let mut seen = String::new();
                for line in listing(dir.path()).lines() {
                    let mut value = [0; 8];
                    let at = dir.path().join(line.trim_end_matches('/'));
                    let opaque = line.ends_with('/')
                        && rustix::fs::lgetxattr(&at, "user.overlay.opaque", &mut value).is_ok_and(|n| n == 1);
                    writeln!(seen, "{line}{}", if opaque { " opaque" } else { "" }).unwrap();
                }
                assert_eq!(seen, disk, "{lines:?}");
            }
            (Err(error), Err(want)) => assert!(error.to_string().contains(want), "{lines:?}: {error}"),
            (got, want) => panic!("{lines:?}: {:?}, want {want:?}", got.map(|(_, tree)| shown(&tree))),
        }
    }
}

#[test]
fn unpacked_layer_equals_written_one() {
    let entry = |name: &str, kind: EntryKind| {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let mtime = Timestamp::from_secs(1_000_000_000);
        Entry::new(path(name), kind, Meta { mode: 0o754, uid, gid, mtime, ..Meta::default() })
    };
    let mut attributed =
        entry("d/file", EntryKind::File { size: 5, content: Some(ContentDigest(Sha256::of(b"hello"))) });
    attributed.meta.xattrs.insert(b"user.k".to_vec(), b"v\n".to_vec());
    attributed.meta.mode = 0o6555;
    let mut writer = LayerWriter::new(Vec::new(), &WriteOptions::default());
    writer.append_empty(entry("", EntryKind::Dir)).unwrap();
    writer.append_empty(entry("d", EntryKind::Dir)).unwrap();
    writer.append(attributed, &mut &b"hello"[..]).unwrap();
    writer.append_empty(entry("d/link", EntryKind::Symlink { target: b"file".to_vec() })).unwrap();
    writer.append_empty(entry("d/second", EntryKind::Hardlink { target: path("d/file") })).unwrap();
    writer.append_empty(entry("pipe", EntryKind::Fifo)).unwrap();
    writer.append_empty(Entry::whiteout(path("z"))).unwrap();
    let (blob, written) = writer.finish().unwrap();
    let first = tempfile::tempdir().unwrap();
    let tree = unpack(&blob[..], first.path(), written.diff_id, Form::Overlay { userxattr: true }).unwrap();
    assert_eq!(tree.get(&path("d/second")).unwrap().meta.mode, 0o6555);
    let wrong = unpack(&blob[..], tempfile::tempdir().unwrap().path(), DiffId(Sha256::of(b"")), Form::Plain);
    assert!(matches!(wrong, Err(Error::DiffId { .. })), "{wrong:?}");

    let merged = MergedTree::over([Arc::new(tree.clone())]);
    let second = tempfile::tempdir().unwrap();
    copy_tree(&merged, &[first.path().to_owned()], second.path()).unwrap();
    let want = "d/\nd/file=hello\nd/link -> file\nd/second=hello\npipe special\n";
    assert_eq!(listing(second.path()), want);
    // Where owners cannot be told apart, whoever unpacks can read and replace everything.
    let on_disk = if rustix::process::geteuid().is_root() { 0o6555 } else { 0o6755 };
    for dir in [first.path(), second.path()] {
        let file = dir.join("d/file").symlink_metadata().unwrap();
        assert_eq!((file.mode() & 0o7777, file.mtime(), file.nlink()), (on_disk, 1_000_000_000, 2));
        assert_eq!(dir.join("d").metadata().unwrap().mtime(), 1_000_000_000);
        assert_eq!(dir.join("d/link").symlink_metadata().unwrap().mtime(), 1_000_000_000);
        assert_eq!(dir.metadata().unwrap().mode() & 0o7777, 0o754);
        let mut value = [0; 8];
        let at = dir.join("d/file");
        let got = rustix::fs::lgetxattr(at.as_os_str().as_bytes(), "user.k", &mut value);
        // Not every file system has user attributes.
        assert!(matches!(got, Ok(2) | Err(rustix::io::Errno::NOTSUP)), "{got:?}");
    }
    if on_disk == 0o6555 {
        let root = crate::base::rooted::Root::open(second.path()).unwrap();
        let changes = tree_changes(&root, &merged, &(), None, None).unwrap();
        assert!(changes.entries().is_empty(), "{:?}", changes.entries());
    }
}

#[test]
fn implied_directories_keep_lower_metadata() {
    let lower = archive(&["d:a", "d:a/b", "d:a/b/c", "d:o", "d:o/p", "d:gone"]);
    let upper = archive(&["f:a/b/new=1", "f:z/.wh.gone=", "f:o/p/.wh..wh..opq=", "f:.wh.gone=", "f:gone/x=1"]);
    let trees = [lower, upper].map(|tar| Arc::new(unpacked(&tar, Form::Plain).unwrap().1));
    let merged = MergedTree::over(trees);
    let dir = tempfile::tempdir().unwrap();
    prepare_upper(&merged, dir.path()).unwrap();
    // And where a deletion has nothing to delete from, overlayfs has to be made to look.
    assert_eq!(listing(dir.path()), "a/\na/b/\no/\no/p/\nz/\n");
    for name in ["a", "a/b", "o", "o/p"] {
        assert_eq!(dir.path().join(name).metadata().unwrap().mtime(), 7, "{name}");
    }
    let root = crate::base::rooted::Root::open(dir.path()).unwrap();
    let changes = super::changes_tests::overlay_changes(&root, OverlayAttributes::User, &merged, &()).unwrap();
    assert!(changes.entries().is_empty(), "{:?}", changes.entries());
}
