mod gc;
mod names;

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use crate::base::digest::{BlobDigest, DiffId, Sha256};
use crate::base::fs;
use crate::oci::blob::{BlobSink, BlobSource};
use crate::oci::config::{History, ImageConfig};
use crate::oci::descriptor::{CONFIG, Descriptor, INDEX, LAYER_TAR, MANIFEST};
use crate::oci::image::{Image, manifests};
use crate::oci::manifest::{Index, Manifest};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Store::open(&dir.path().join("store")).expect("store");
    (dir, store)
}

/// An empty tar archive: two blocks of zeros.
const EMPTY_TAR: [u8; 1024] = [0; 1024];

/// A one-layer image that differs from others by `author`.
fn image(store: &Store, author: &str) -> Descriptor {
    let mut config = ImageConfig::scratch(Platform::host());
    config.author = Some(author.to_owned());
    config.rootfs.diff_ids.push(DiffId(Sha256::of(&EMPTY_TAR)));
    config.history.push(History::default());
    let layer = store.put(LAYER_TAR, &EMPTY_TAR).expect("layer");
    let config = store.put(CONFIG, &config.to_bytes()).expect("config");
    store.put(MANIFEST, &Manifest::new(config, vec![layer]).to_bytes()).expect("manifest")
}

fn name(text: &str) -> Reference {
    text.parse().expect("a name")
}

fn read(store: &Store, blob: &Descriptor) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    store.open(blob).map_err(|e| e.to_string())?.read_to_end(&mut out).map_err(|e| e.to_string())?;
    Ok(out)
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().expect("metadata").permissions().mode() & 0o7777
}

#[test]
fn indexes_that_list_each_other_often_are_read_once_s55() {
    let (_dir, store) = store();
    let mut target = image(&store, "a");
    for _ in 0..4 {
        target = store.put(INDEX, &Index::new(vec![target; 2000]).to_bytes()).expect("index");
    }
    assert_eq!(manifests(&store, &target).expect("manifests").len(), 1);
    let deeper = store.put(INDEX, &Index::new(vec![target]).to_bytes()).expect("index");
    assert!(manifests(&store, &deeper).is_err_and(|e| e.to_string().contains("nested too deep")));
}

#[test]
fn store_is_private_and_reopens() {
    // S-135
    let (dir, store) = store();
    assert_eq!(mode(store.root()), 0o700);
    let target = image(&store, "a");
    store.tag(&[name("app")], &target).expect("tag");
    drop(store);
    let again = Store::open(&dir.path().join("store")).expect("opens again");
    assert_eq!(again.resolve(&name("app:latest")).expect("index"), Some(target));
    // The process's own drafts leave nothing behind.
    assert_eq!(fs::list(&again.scratch_dir()).expect("scratch"), Vec::<std::ffi::OsString>::new());
}

#[test]
fn open_rejects_later_format_naming_both() {
    // S-133
    let (_dir, store) = store();
    crate::base::publish::atomic(&store.root().join("version"), b"9\n", 0o644).expect("write");
    let message = Store::open(store.root()).expect_err("refused").to_string();
    assert!(message.ends_with("has format 9; this kiln knows formats up to 1"), "{message}");
}

#[test]
fn open_repairs_damaged_version_and_reports_it() {
    let (_dir, store) = store();
    let version = store.root().join("version");
    for damage in [&b""[..], b"x\n", b"\0\0", b"-1"] {
        crate::base::publish::atomic(&version, damage, 0o644).expect("write");
        let again = Store::open(store.root()).expect("opened");
        assert_eq!(again.notices().take().len(), 1);
        assert_eq!(fs::read(&version).expect("read"), b"1\n");
        assert!(Store::open(store.root()).expect("quiet").notices().take().is_empty());
    }
    // Nothing is written among foreign files.
    crate::base::publish::atomic(&version, b"", 0o644).expect("write");
    crate::base::publish::atomic(&store.root().join("thesis.tex"), b"", 0o644).expect("write");
    assert!(matches!(Store::open(store.root()), Err(Error::Damaged { .. })));
}

#[test]
fn damaged_index_is_set_aside_and_previous_names_used() {
    for damage in [&b""[..], b"{\"sch", b"[]"] {
        let (_dir, store) = store();
        let (first, second) = (image(&store, "a"), image(&store, "b"));
        store.tag(&[name("a")], &first).expect("tag");
        store.tag(&[name("b")], &second).expect("tag");
        crate::base::publish::atomic(&store.index_path(), damage, 0o644).expect("write");
        let again = Store::open(store.root()).expect("opens");
        assert_eq!(again.resolve(&name("a")).expect("recovered"), Some(first));
        // The last name is lost, its image is not.
        assert!(again.entries().expect("entries").iter().any(|entry| entry.target.digest == second.digest));
        assert_eq!(again.notices().take().len(), 1);
        assert_eq!(fs::read(&store.root().join("index.json.damaged-1")).expect("kept"), damage);
        assert!(Store::open(store.root()).expect("opens").entries().is_ok());
    }
}

#[test]
fn blob_is_marked_once_it_is_synced() {
    let (_dir, store) = store();
    let target = image(&store, "a");
    assert_eq!(mode(&store.blob_path(target.digest)), 0o400);
    store.tag(&[name("a")], &target).expect("tag");
    assert_eq!(mode(&store.blob_path(target.digest)), 0o444);
    // A blob of an earlier process is synced when it is named.
    let target = image(&store, "b");
    let again = Store::open(store.root()).expect("opens");
    again.tag(&[name("b")], &target).expect("tag");
    assert_eq!(mode(&store.blob_path(target.digest)), 0o444);
}

#[test]
fn open_rejects_directory_with_foreign_files() {
    let dir = tempfile::tempdir().expect("temp dir");
    crate::base::publish::atomic(&dir.path().join("thesis.tex"), b"", 0o644).expect("write");
    let message = Store::open(dir.path()).expect_err("refused").to_string();
    assert!(message.contains("thesis.tex"), "{message}");
    assert_eq!(fs::list(dir.path()).expect("list").len(), 1);
    let file = dir.path().join("thesis.tex");
    assert!(matches!(Store::open(&file), Err(Error::Unusable { .. })));
}

#[test]
fn open_completes_interrupted_creation() {
    let dir = tempfile::tempdir().expect("temp dir");
    let root = dir.path().join("store");
    fs::ensure_dir(&root.join("blobs/sha256")).expect("half a store");
    let store = Store::open(&root).expect("completed");
    store.tag(&[name("a")], &image(&store, "a")).expect("usable");
}

#[test]
fn accept_rejects_content_with_wrong_digest() {
    // S-50
    let (_dir, store) = store();
    let blob = Descriptor::of("x", b"hello");
    for bad in [&b"hell"[..], b"hello!", b"jello", b""] {
        assert!(store.accept(&blob, &mut &*bad).is_err());
        assert!(!store.has(&blob).expect("has"));
    }
    store.accept(&blob, &mut &b"hello"[..]).expect("accepted");
    store.accept(&blob, &mut &b"hello"[..]).expect("accepted again");
    assert_eq!(read(&store, &blob), Ok(b"hello".to_vec()));
    assert_eq!(mode(&store.blob_path(blob.digest)), 0o400);
    let scratch = store.scratch_dir();
    for own in fs::list(&scratch).expect("scratch") {
        assert!(fs::list(&scratch.join(own)).expect("drafts").is_empty(), "a draft was left");
    }
}

#[test]
fn reading_damaged_blob_removes_it() {
    // S-130
    let (_dir, store) = store();
    let blob = store.put("x", b"hello").expect("put");
    crate::base::publish::atomic(&store.blob_path(blob.digest), b"hellp", 0o444).expect("write");
    let message = read(&store, &blob).expect_err("noticed");
    assert!(message.contains("digest mismatch"), "{message}");
    assert!(!store.has(&blob).expect("has"));
    store.put("x", b"hello").expect("put again");
    assert_eq!(read(&store, &blob), Ok(b"hello".to_vec()));
    // A truncated one counts as not there.
    crate::base::publish::atomic(&store.blob_path(blob.digest), b"hel", 0o444).expect("write");
    assert!(!store.has(&blob).expect("has"));
    // A descriptor that lies about the size does not cost us a good blob.
    store.put("x", b"hello").expect("put again");
    assert!(read(&store, &Descriptor { size: 4, ..blob.clone() }).is_err());
    assert_eq!(read(&store, &blob), Ok(b"hello".to_vec()));
}

#[test]
fn draft_is_visible_only_after_finish() {
    let (_dir, store) = store();
    let digest = BlobDigest(Sha256::of(b"abc"));
    let mut draft = store.draft_blob().expect("draft");
    draft.write_all(b"abc").expect("write");
    assert_eq!(store.blob_size(digest).expect("stat"), None);
    draft.finish(digest, 3).expect("finish");
    assert_eq!(store.blob_size(digest).expect("stat"), Some(3));
    let mut short = store.draft_blob().expect("draft");
    short.write_all(b"ab").expect("write");
    assert!(short.finish(digest, 3).is_err());
}

#[test]
fn image_that_loses_its_name_stays_listed() {
    let (_dir, store) = store();
    let (a, b) = (image(&store, "a"), image(&store, "b"));
    store.tag(&[name("app"), name("localhost:5000/app:1")], &a).expect("tag");
    store.tag(&[], &b).expect("keep");
    let list = || {
        let entries = store.entries().expect("entries");
        entries.iter().map(|e| (e.familiar(), e.target.digest)).collect::<Vec<_>>()
    };
    let entry = |n: &str, d: &Descriptor| (n.to_owned(), d.digest);
    assert_eq!(list(), [entry("app:latest", &a), entry("localhost:5000/app:1", &a), entry("<none>", &b)]);
    store.tag(&[name("app"), name("localhost:5000/app:1")], &b).expect("move");
    assert_eq!(list(), [entry("app:latest", &b), entry("localhost:5000/app:1", &b), entry("<none>", &a)]);
    assert_eq!(store.untag(&[name("app")]).expect("untag"), []);
    assert_eq!(store.untag(&[name("localhost:5000/app:1")]).expect("untag"), [b]);
    assert_eq!(list(), [entry("<none>", &a)]);
    assert_eq!(store.forget(a.digest).expect("forget"), []);
    assert_eq!(list(), []);
}

#[test]
fn repeated_tag_writes_nothing() {
    use std::os::unix::fs::MetadataExt;
    let (_dir, store) = store();
    let a = image(&store, "a");
    store.tag(&[name("app")], &a).expect("tag");
    let inode = store.index_path().metadata().expect("index").ino();
    store.tag(&[name("app")], &a).expect("tag");
    assert_eq!(store.index_path().metadata().expect("index").ino(), inode);
}

#[test]
fn parallel_tags_lose_no_name() {
    // S-131
    let (_dir, store) = store();
    let a = image(&store, "a");
    std::thread::scope(|scope| {
        for t in 0..4 {
            let (store, a) = (&store, &a);
            scope.spawn(move || {
                let own = Store::open(store.root()).expect("store");
                for i in 0..10 {
                    own.tag(&[name(&format!("app:{t}-{i}"))], a).expect("tag");
                }
            });
        }
    });
    assert_eq!(store.entries().expect("entries").len(), 40);
}

#[test]
fn find_accepts_name_digest_and_short_id() {
    let (_dir, store) = store();
    let (a, b) = (image(&store, "a"), image(&store, "b"));
    store.tag(&[name("app:1")], &a).expect("tag");
    store.tag(&[name("beef")], &b).expect("tag");
    let hex = a.digest.hex();
    for text in ["app:1", "docker.io/library/app:1", &hex, &hex[..12], &a.digest.to_string(), &hex[..4]] {
        assert_eq!(store.find(text).expect("found").target, a, "{text}");
    }
    assert_eq!(store.find(&format!("app@{}", a.digest)).expect("found").target, a);
    assert_eq!(store.find("beef").expect("names win over ids").target, b);
    let config = Image::read(&store, &a, &Platform::host()).expect("image").manifest.config.digest;
    assert_eq!(store.find(&config.hex()[..12]).expect("by config").target, a);
    let error = |text: &str| store.find(text).expect_err("not found").to_string();
    assert_eq!(error("app"), "no image named \"app\", did you mean \"app:1\"?");
    assert_eq!(error("ap:1"), "no image named \"ap:1\", did you mean \"app:1\"?");
    assert_eq!(error("nothing"), "no image named \"nothing\"");
    assert!(error("App").contains("lower-case"));
}

#[test]
fn ambiguous_id_error_names_candidates() {
    let (_dir, store) = store();
    // Enough images that two begin with the same hexadecimal digits.
    let mut seen = std::collections::BTreeMap::new();
    for i in 0..2000 {
        let target = image(&store, &i.to_string());
        if let Some(other) = seen.insert(target.digest.hex()[..4].to_owned(), target.clone()) {
            store.tag(&[], &target).expect("keep");
            store.tag(&[], &other).expect("keep");
            let message = store.find(&target.digest.hex()[..4]).expect_err("ambiguous").to_string();
            assert!(message.contains("ambiguous") && message.contains(&other.digest.hex()[..12]), "{message}");
            return;
        }
    }
    panic!("no two of 2000 digests share four digits");
}

#[test]
fn open_sweeps_scratch_of_dead_processes_only() {
    // S-132
    let (_dir, store) = store();
    let mine = store.scratch().expect("scratch");
    let dead = store.scratch_dir().join("1-0");
    fs::ensure_dir(&dead.join("work/work")).expect("dead scratch");
    {
        use std::os::unix::fs::PermissionsExt;
        let denied = std::fs::Permissions::from_mode(0o0);
        std::fs::set_permissions(dead.join("work/work"), denied.clone()).expect("chmod");
        std::fs::set_permissions(&dead, denied).expect("chmod");
    }
    Store::open(store.root()).expect("opens");
    assert!(mine.path().is_dir());
    assert!(!dead.exists());
    let path = mine.path().to_owned();
    drop(mine);
    assert!(!path.exists());
}

#[test]
fn full_disk_is_an_error_and_keeps_old_content() {
    // Stands in for a full disk: a limit no blob of this size can cross would need a signal handler, /dev/full needs none.
    let (_dir, store) = store();
    let a = image(&store, "a");
    store.tag(&[name("app")], &a).expect("tag");
    let blob = Descriptor::of("x", b"hello");
    let mut failing = std::io::Read::chain(&b"he"[..], FailingRead);
    let message = store.accept(&blob, &mut failing).expect_err("fails").to_string();
    assert!(message.starts_with("cannot store blob sha256:") && message.contains("no space left"), "{message}");
    assert!(!store.has(&blob).expect("has"));
    assert_eq!(store.resolve(&name("app")).expect("index"), Some(a));
}

struct FailingRead;

impl Read for FailingRead {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("no space left on device"))
    }
}

#[test]
fn skopeo_and_umoci_read_the_store() {
    let (_dir, store) = store();
    let a = image(&store, "a");
    let names = ["app:1", "localhost:5000/team/app:1.2-x", "ghcr.io/a/b:latest"];
    store.tag(&names.map(name), &a).expect("tag");
    for (i, image) in names.iter().enumerate() {
        let at = format!("{}:{image}", store.root().display());
        let skopeo = Command::new("skopeo").args(["inspect", &format!("oci:{at}")]).output();
        let Ok(skopeo) = skopeo else { return };
        let text = String::from_utf8_lossy(&skopeo.stdout).into_owned();
        assert!(text.contains(&a.digest.to_string()), "{text}{}", String::from_utf8_lossy(&skopeo.stderr));
        let to = store.root().join(format!("scratch/unpacked-{i}"));
        let umoci = Command::new("umoci").args(["unpack", "--rootless", "--image", &at]).arg(&to).output();
        let Ok(umoci) = umoci else { return };
        assert!(umoci.status.success(), "{}", String::from_utf8_lossy(&umoci.stderr));
    }
}

#[test]
fn layout_finds_image_by_tag_digest_or_alone() {
    // O-5
    let (_dir, store) = store();
    let (a, b) = (image(&store, "a"), image(&store, "b"));
    store.tag(&[name("app:1")], &a).expect("tag");
    let layout = Layout::open(store.root()).expect("layout");
    assert_eq!(layout.find(None, None).expect("only one").digest, a.digest);
    store.tag(&[name("app:latest"), name("ghcr.io/x/y:2")], &b).expect("tag");
    let layout = Layout::open(store.root()).expect("layout");
    assert_eq!(layout.find(Some("app:1"), None).expect("name").digest, a.digest);
    assert_eq!(layout.find(Some("2"), None).expect("tag of a full name").digest, b.digest);
    assert_eq!(layout.find(None, Some(a.digest)).expect("digest").digest, a.digest);
    let message = layout.find(Some("nope"), None).expect_err("missing").to_string();
    assert!(message.contains(" holds no image nope; it holds app:1"), "{message}");
    let image = Image::read(&layout, layout.find(Some("app:1"), None).expect("name"), &Platform::host());
    assert_eq!(image.expect("image").config.author.as_deref(), Some("a"));
    assert!(matches!(Layout::open(&store.root().join("blobs")), Err(Error::NotALayout { .. })));
}

fn run(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {text}");
    Some(text)
}

#[test]
fn archives_are_reproducible_and_portable() {
    // O-62, O-63
    let (dir, store) = store();
    let a = image(&store, "a");
    let names = ["app:1", "localhost:5000/app:2"].map(name);
    let path = |n: &str| dir.path().join(n);
    for (file, archive) in [("a.tar", Archive::Oci), ("b.tar", Archive::Oci), ("d.tar", Archive::Docker)] {
        store.export_file(&[Named { target: &a, names: &names }], archive, &path(file)).expect("exported");
    }
    assert_eq!(fs::read(&path("a.tar")).expect("a"), fs::read(&path("b.tar")).expect("b"));
    let at = |scheme: &str, file: &str, suffix: &str| format!("{scheme}:{}{suffix}", path(file).display());
    for (scheme, file, suffix) in
        [("oci-archive", "a.tar", ":1"), ("oci-archive", "a.tar", ":2"), ("docker-archive", "d.tar", ":app:1")]
    {
        let Some(text) = run("skopeo", &["inspect", &at(scheme, file, suffix)]) else { return };
        assert!(text.contains("\"Layers\""), "{text}");
    }
    let listing = run("tar", &["-tvf", &path("a.tar").display().to_string()]).expect("tar");
    assert!(listing.contains("1970-01-01"), "{listing}");
}

#[test]
fn export_keeps_other_images_of_layout() {
    // O-62
    let (dir, store) = store();
    let (a, b) = (image(&store, "a"), image(&store, "b"));
    let out = dir.path().join("out");
    let list = || {
        let layout = Layout::open(&out).expect("layout");
        let tag = |d: &Descriptor| d.annotations.get(REF_NAME).cloned().unwrap_or_default();
        layout.index().manifests.iter().map(|d| (tag(d), d.digest)).collect::<Vec<_>>()
    };
    store.export_layout(&a, &[name("app:1")], &out).expect("first");
    store.export_layout(&b, &[name("app:2")], &out).expect("second");
    store.export_layout(&b, &[name("web:2")], &out).expect("same tag, other name");
    assert_eq!(list(), [("1".into(), a.digest), ("2".into(), b.digest), ("web:2".into(), b.digest)]);
    store.export_layout(&a, &[name("app:2")], &out).expect("replaced");
    assert_eq!(list(), [("1".into(), a.digest), ("web:2".into(), b.digest), ("2".into(), a.digest)]);
    assert_eq!(fs::list(&out).expect("list"), ["blobs", "index.json", "oci-layout"]);
    assert_eq!(mode(&out.join("index.json")), 0o644);
    run("skopeo", &["inspect", &format!("oci:{}:2", out.display())]);
    crate::base::publish::atomic(&out.join("index.json"), b"{}", 0o644).expect("write");
    assert!(matches!(store.export_layout(&a, &[], &out), Err(Error::NotALayout { .. })));
}

#[test]
fn export_rejects_damaged_blob() {
    let (dir, store) = store();
    let a = image(&store, "a");
    let layer = Descriptor::of(LAYER_TAR, &EMPTY_TAR);
    crate::base::publish::atomic(&store.blob_path(layer.digest), &[1; 1024], 0o444).expect("write");
    let to = dir.path().join("x.tar");
    let message =
        store.export_file(&[Named { target: &a, names: &[] }], Archive::Oci, &to).expect_err("damaged").to_string();
    assert!(message.contains("digest mismatch"), "{message}");
    assert!(!to.exists());
    let message = store
        .export_file(&[Named { target: &a, names: &[] }], Archive::Oci, Path::new("/dev/full"))
        .expect_err("full")
        .to_string();
    assert!(message.contains("not in the store") || message.contains("write /dev/full"), "{message}");
}
