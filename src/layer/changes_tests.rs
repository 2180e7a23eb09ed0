//! Promises about what a step's changes are, against real overlay mounts where the host allows them.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::*;
use crate::base::rooted::Root;

/// Lower files from one directory that holds the only layer.
struct Below<'a>(&'a Path);

impl LowerFiles for Below<'_> {
    fn open(&self, _: usize, path: &RelPath) -> Option<File> {
        File::open(self.0.join(path.as_os_str())).ok()
    }
}

/// The changes in an overlay's upper directory over `lower`.
pub(super) fn overlay_changes(
    upper: &Root,
    attributes: OverlayAttributes,
    lower: &MergedTree,
    files: &dyn LowerFiles,
) -> Result<Changes, Error> {
    Walked::upper(upper, attributes)?.changes(upper, lower, files, None, None)
}

fn sh(dir: &Path, script: &str) -> bool {
    let output = Command::new("sh").arg("-euc").arg(script).current_dir(dir).output().unwrap();
    if !output.status.success() {
        // Seen only when a test fails.
        std::io::Write::write_all(&mut std::io::stderr(), &output.stderr).unwrap();
    }
    output.status.success()
}

fn root(dir: &Path) -> Root {
    Root::open(dir).unwrap()
}

fn merged(dir: &Path) -> MergedTree {
    let all = tree_changes(&root(dir), &MergedTree::new(), &(), None, None).unwrap();
    MergedTree::over([Arc::new(Tree::new(all.entries().to_vec()))])
}

fn layer(changes: &Changes) -> (Vec<u8>, Written) {
    let options = WriteOptions { compression: Compression::Uncompressed, ..WriteOptions::default() };
    let mut writer = LayerWriter::new(Vec::new(), &options);
    changes.write_to(&mut writer).unwrap();
    writer.finish().unwrap()
}

fn shown(changes: &Changes) -> Vec<String> {
    let word = |e: &Entry| match &e.kind {
        EntryKind::File { .. } => "file".to_owned(),
        EntryKind::Hardlink { target } => format!("link to {target}"),
        EntryKind::Whiteout => "gone".to_owned(),
        EntryKind::Symlink { .. } => "symlink".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    changes.entries().iter().map(|e| format!("{} {}", e.path, word(e))).collect()
}

const BASE: &str = "
    mkdir -p etc/conf.d usr/bin usr/lib empty deep/a/b
    echo root > etc/passwd; echo x > etc/conf.d/x; echo y > etc/conf.d/y
    echo tool > usr/bin/tool; ln usr/bin/tool usr/bin/alias; ln -s tool usr/bin/sym
    echo lib > usr/lib/lib; echo deep > deep/a/b/c; echo f > file; chmod 600 file
    find . -exec touch -h -d @1600000000 {} +
";

/// Runs `script` on an overlay over [`BASE`]; returns changes as the upper shows them and as a copy of the whole
/// result shows them. `None`: this host does not let us mount.
fn both(script: &str, unshare: &str) -> Option<(Changes, Changes, tempfile::TempDir)> {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    assert!(sh(at, &format!("mkdir lower upper work merged; cd lower; {BASE}")));
    let user = unshare.contains('U');
    let options = if user { ",userxattr" } else { "" };
    let mount = format!("mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work{options} merged");
    if !sh(at, &format!("unshare {unshare} sh -c '{mount}'")) {
        return None;
    }
    let body = format!("{mount}; (cd merged; {script}); cp -a merged copy");
    std::fs::create_dir(at.join("script")).unwrap();
    assert!(sh(at, &format!("cat > script/run <<'END'\nset -eu\n{body}\nEND\nunshare {unshare} sh script/run")));
    let lower = merged(&at.join("lower"));
    let files = Below(&at.join("lower"));
    let attributes = if user { OverlayAttributes::User } else { OverlayAttributes::Trusted };
    let overlay = overlay_changes(&root(&at.join("upper")), attributes, &lower, &files).unwrap();
    let copy = tree_changes(&root(&at.join("copy")), &lower, &files, None, None).unwrap();
    Some((overlay, copy, dir))
}

/// What a command does, and the changes that its layer holds.
const CASES: &[(&str, &[&str])] = &[
    ("true", &[]),
    ("echo new > new; touch -d @5 .", &["/new file"]),
    ("rm etc/passwd", &["/etc dir", "/etc/passwd gone"]),
    ("rm -r etc", &["/etc gone"]),
    ("chmod 644 file", &["/file file"]),
    ("chmod 644 file; chmod 600 file", &[]),
    ("chown 7:8 usr/lib/lib", &["/usr dir", "/usr/lib dir", "/usr/lib/lib file"]),
    ("touch -d @99 empty", &["/empty dir"]),
    ("setfattr -n user.note -v hi file", &["/file file"]),
    ("printf g | dd of=file conv=notrunc status=none; touch -d @1600000000 file", &["/file file"]),
    ("rm file; mkdir file; echo z > file/z", &["/file dir", "/file/z file"]),
    ("rm -r deep; echo now > deep", &["/deep file"]),
    ("rm -r deep; ln -s etc deep", &["/deep symlink"]),
    (
        "rm -r etc; mkdir -p etc/conf.d; echo new > etc/new",
        &[
            "/etc dir",
            "/etc/conf.d dir",
            "/etc/conf.d/x gone",
            "/etc/conf.d/y gone",
            "/etc/new file",
            "/etc/passwd gone",
        ],
    ),
    (
        "rm -r etc/conf.d; mkdir etc/conf.d",
        &["/etc dir", "/etc/conf.d dir", "/etc/conf.d/x gone", "/etc/conf.d/y gone"],
    ),
    ("ln file second", &["/file file", "/second link to /file"]),
    ("ln file Zero; ln file zz", &["/Zero file", "/file link to /Zero", "/zz link to /Zero"]),
    ("mkfifo pipe; echo s > 'new\nline'", &["/new\\nline file", "/pipe fifo"]),
    ("touch tmp; rm tmp; touch -d @1600000000 .", &[]),
    ("mv deep/a deep/z", &["/deep dir", "/deep/a gone", "/deep/z dir", "/deep/z/b dir", "/deep/z/b/c file"]),
    ("mv usr/bin/sym usr/bin/other", &["/usr dir", "/usr/bin dir", "/usr/bin/other symlink", "/usr/bin/sym gone"]),
    (
        "rm etc/passwd; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"etc/passwd\")'",
        &["/etc dir", "/etc/passwd gone"],
    ),
    (
        "setfattr -n user.overlay.whiteout -v y usr/lib/lib || true; setfattr -n user.note -v 1 usr/lib/lib",
        &["/usr dir", "/usr/lib dir", "/usr/lib/lib file"],
    ),
];

#[test]
fn overlay_and_copy_give_the_same_layer() {
    // same bytes, overlay or copy
    let mut mounted = 0;
    for unshare in ["-m", "-Urm"] {
        for (script, want) in CASES {
            if unshare == "-Urm" && script.contains("chown") {
                continue; // one id only
            }
            let Some((overlay, copy, _dir)) = both(script, unshare) else { continue };
            mounted += 1;
            assert_eq!(shown(&overlay), *want, "{unshare}: {script}");
            if unshare == "-Urm" && script.contains("ln file") {
                continue; // there cp sees two inodes
            }
            assert_eq!(shown(&copy), *want, "{unshare}: {script} (copy)");
            assert!(layer(&overlay).0 == layer(&copy).0, "{unshare}: {script}");
        }
    }
    assert!(mounted > 0 || !rustix::process::geteuid().is_root(), "root can mount an overlay");
}

#[test]
fn copied_up_file_counts_as_changed_without_lower_content() {
    let dir = tempfile::tempdir().unwrap();
    assert!(sh(
        dir.path(),
        &format!(
            "mkdir lower; cd lower; {BASE}
 cd ..; cp -a lower after; touch after/file -d @1600000000"
        )
    ));
    let lower = merged(&dir.path().join("lower"));
    let after = root(&dir.path().join("after"));
    let none = tree_changes(&after, &lower, &Below(&dir.path().join("lower")), None, None).unwrap();
    assert_eq!(shown(&none), [""; 0]);
    let all = tree_changes(&after, &lower, &(), None, None).unwrap();
    assert!(shown(&all).contains(&"/file file".to_owned()));
}

#[test]
fn baseline_skips_untouched_files() {
    let dir = tempfile::tempdir().unwrap();
    assert!(sh(dir.path(), &format!("mkdir tree; cd tree; {BASE}")));
    let tree = root(&dir.path().join("tree"));
    let lower = merged(&dir.path().join("tree"));
    let baseline = Baseline::take(&tree).unwrap();
    assert!(sh(&dir.path().join("tree"), "echo more >> etc/conf.d/x; rm usr/lib/lib"));
    // No lower content is needed: untouched files are not compared.
    let changes = tree_changes(&tree, &lower, &(), Some(&baseline), None).unwrap();
    assert_eq!(
        shown(&changes),
        ["/etc dir", "/etc/conf.d dir", "/etc/conf.d/x file", "/usr dir", "/usr/lib dir", "/usr/lib/lib gone"]
    );
}

#[test]
fn redirects_and_metacopies_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    for attribute in ["user.overlay.redirect", "user.overlay.metacopy"] {
        let upper = dir.path().join(attribute);
        std::fs::create_dir_all(upper.join("d")).unwrap();
        if !sh(&upper, &format!("setfattr -n {attribute} -v /x d")) {
            continue; // the file system has no attributes
        }
        let result = overlay_changes(&root(&upper), OverlayAttributes::User, &MergedTree::new(), &());
        assert!(matches!(result, Err(Error::Upper { .. })), "{attribute}");
        // In the other namespace it is the step's own attribute, and only left out.
        let changes = overlay_changes(&root(&upper), OverlayAttributes::Trusted, &MergedTree::new(), &()).unwrap();
        assert!(changes.entries()[0].meta.xattrs.is_empty());
    }
}

#[test]
fn file_that_changes_before_write_is_an_error() {
    // S-93
    let dir = tempfile::tempdir().unwrap();
    assert!(sh(dir.path(), "echo long > log"));
    let changes = tree_changes(&root(dir.path()), &MergedTree::new(), &(), None, None).unwrap();
    assert!(sh(dir.path(), "echo longer > log"));
    let result = changes.write_to(&mut LayerWriter::new(std::io::sink(), &WriteOptions::default()));
    assert!(matches!(result, Err(Error::Changed { .. })));
}
