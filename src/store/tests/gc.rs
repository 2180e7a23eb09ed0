//! What goes and what stays: decided in data, then done.

use std::path::PathBuf;

use crate::base::digest::{BlobDigest, DiffId, Sha256};
use crate::base::lock::Patience;
use crate::base::time::Timestamp;
use crate::oci::blob::BlobSink as _;
use crate::store::survey::{CacheFile, Step, StoredImage, Survey, Unpacked};
use crate::store::{Policy, Sweep, plan};

use super::{image, name, store};

const DEFAULT: Policy = Policy { unnamed: true, named_cache: false, mounts: false, keep: None, unused_since: None };
const ALL: Policy = Policy { unnamed: true, named_cache: true, mounts: true, keep: None, unused_since: None };

fn blob(n: u8) -> BlobDigest {
    BlobDigest(Sha256([n; 32]))
}

fn layer(n: u8) -> DiffId {
    DiffId(Sha256([n; 32]))
}

fn stored(names: &[&str], blobs: &[u8], layers: &[u8]) -> StoredImage {
    StoredImage {
        names: names.iter().map(|n| name(n)).collect(),
        blobs: blobs.iter().map(|n| blob(*n)).collect(),
        layers: layers.iter().map(|n| layer(*n)).collect(),
        used: Timestamp::EPOCH,
    }
}

fn step(record: &str, n: u8, used: i64) -> Step {
    Step { record: PathBuf::from(record), layer: layer(n), blobs: vec![blob(n)], used: Timestamp::from_secs(used) }
}

/// A named image of layers 1 and 2, an unnamed one of 2 and 3; steps that made 2, 3, 4 and (twice) 5; a blob of nobody.
fn survey() -> Survey {
    let mut survey = Survey::default();
    for n in [1, 2, 3, 4, 5, 9, 11, 13] {
        survey.blobs.insert(blob(n), 100);
    }
    survey.images.insert(blob(11), stored(&["app"], &[11, 1, 2], &[1, 2]));
    survey.images.insert(blob(13), stored(&[], &[13, 2, 3], &[2, 3]));
    survey.steps =
        vec![step("r2", 2, 50), step("r3", 3, 10), step("r4", 4, 30), step("r5", 5, 5), step("r5-again", 5, 60)];
    for n in [1, 2, 4, 8] {
        let path = PathBuf::from(format!("layers/{n}"));
        let forms = vec![path.join("fs")];
        let unpacked = Unpacked { path, forms, files: 1000, beside: 10, used: Timestamp::from_secs(20) };
        survey.unpacked.insert(layer(n), unpacked);
    }
    survey.cache_files = vec![CacheFile { path: PathBuf::from("note"), bytes: 1, used: Timestamp::from_secs(1) }];
    survey
}

fn records(sweep: &Sweep) -> Vec<&str> {
    let mut names: Vec<&str> = sweep.records.iter().filter_map(|p| p.to_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn prune_removes_what_no_named_image_needs() {
    let sweep = plan(&survey(), &DEFAULT);
    assert_eq!(sweep.images, [blob(13)]);
    assert_eq!(records(&sweep), ["r3", "r4", "r5", "r5-again"]);
    let mut blobs = sweep.blobs.clone();
    blobs.sort();
    assert_eq!(blobs, [blob(3), blob(4), blob(5), blob(9), blob(13)]);
    let mut unpacked = sweep.unpacked.clone();
    unpacked.sort();
    assert_eq!(unpacked, [PathBuf::from("layers/4"), PathBuf::from("layers/8")]);
    assert_eq!((sweep.freed, sweep.cache_files.len()), (5 * 100 + 2 * 1010, 0));
}

#[test]
fn prune_all_keeps_named_images() {
    let survey = survey();
    let sweep = plan(&survey, &ALL);
    assert_eq!(records(&sweep).len(), 5);
    assert_eq!(sweep.unpacked.len(), 4);
    assert_eq!(sweep.cache_files.len(), 1);
    assert_eq!(survey.total() - sweep.freed, survey.named());
    assert_eq!(survey.named(), 300);
}

#[test]
fn cache_prune_keeps_unnamed_images() {
    let sweep = plan(&survey(), &Policy { unnamed: false, ..DEFAULT });
    assert!(sweep.images.is_empty());
    assert!(!sweep.blobs.contains(&blob(3)) && !sweep.blobs.contains(&blob(13)));
    assert_eq!(records(&sweep), ["r3", "r4", "r5", "r5-again"]);
}

#[test]
fn size_bound_removes_least_recently_used_first() {
    let survey = survey();
    let garbage = 100 + 1010;
    let keep = |bytes| plan(&survey, &Policy { keep: Some(bytes), ..DEFAULT });
    // Only what nobody needs: that goes whatever the bound.
    let sweep = keep(u64::MAX);
    assert_eq!((sweep.freed, records(&sweep).len()), (garbage, 0));
    // One byte less: the note (1), unused since 1.
    let left = survey.total() - garbage;
    assert_eq!(keep(left - 1).cache_files.len(), 1);
    assert!(keep(left - 1).unpacked.len() == 1 && keep(left - 1).images.is_empty());
    // Then the unnamed image (last used at 50, by its layer 2's step) comes after layer 1's files (20).
    let sweep = keep(left - 2);
    assert_eq!(sweep.unpacked, [PathBuf::from("layers/8"), PathBuf::from("layers/1/fs")]);
    assert!(sweep.images.is_empty());
    // A bound nobody can meet takes all but the named image and what is in it.
    let sweep = keep(0);
    assert_eq!(sweep.images, [blob(13)]);
    assert!(!sweep.blobs.contains(&blob(1)) && !sweep.blobs.contains(&blob(2)) && !sweep.blobs.contains(&blob(11)));
    assert!(!records(&sweep).contains(&"r2"), "a record that frees nothing stays");
}

#[test]
fn bound_in_time_keeps_what_was_used_since() {
    let survey = survey();
    let until = |secs, policy| plan(&survey, &Policy { unused_since: Some(Timestamp::from_secs(secs)), ..policy });
    // What nobody needs goes at any age.
    assert_eq!((until(0, ALL).blobs, records(&until(0, ALL)).len()), (vec![blob(9)], 0));
    assert_eq!(records(&until(31, DEFAULT)), ["r3", "r4"]);
    assert!(until(50, DEFAULT).images.is_empty(), "its layer 2 was used at 50");
    assert_eq!(until(51, DEFAULT).images, [blob(13)]);
    // Both bounds hold. The unnamed image still needs what r3 made.
    assert_eq!(records(&until(31, Policy { keep: Some(0), ..DEFAULT })), ["r4"]);
}

#[test]
fn sweep_removes_exactly_what_was_planned() {
    // S-131
    let (_dir, store) = store();
    let (a, b) = (image(&store, "a"), image(&store, "b"));
    store.tag(&[name("a")], &a).expect("tag");
    store.tag(&[], &b).expect("keep");
    let stray = store.put("x", b"stray").expect("put");
    crate::base::fs::ensure_dir(&store.layers_dir().join(layer(7).hex()).join("fs")).expect("a layer of nobody");
    let sweep = plan(&store.survey(Vec::new(), Vec::new()).expect("survey"), &DEFAULT);
    let alone = store.exclude(&mut Patience::new(&mut |_| ())).expect("nobody builds");
    let trash = store.scratch().expect("scratch");
    store.sweep(&sweep, &trash, &alone).expect("swept");
    store.sweep(&sweep, &trash, &alone).expect("swept again");
    assert_eq!(store.entries().expect("entries").len(), 1);
    assert_eq!(store.blob_size(stray.digest).expect("stat"), None);
    assert_eq!(store.blob_size(b.digest).expect("stat"), None);
    store.find("a").expect("the named image is whole");
    assert!(crate::base::fs::list(&store.layers_dir()).expect("layers").is_empty());
    drop(alone);
    // While the store is shared, nothing is swept.
    let lock = || crate::base::fs::open_lock(&store.root().join("lock")).expect("open").try_lock();
    store.share(&mut Patience::new(&mut |_| ())).expect("share");
    assert!(lock().is_err());
    drop(store.lease().expect("a lease"));
    lock().expect("the store is free");
}

#[test]
fn sweep_beside_lease_keeps_what_was_used_since() {
    // N-63
    let (_dir, store) = store();
    let put = |text: &str| store.put("x", text.as_bytes()).expect("put");
    let old = ["unused", "found", "looked at", "opened"].map(put);
    for blob in &old {
        let past = std::fs::File::open(store.blob_path(blob.digest)).expect("open");
        past.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).expect("age it");
    }
    let builder = crate::store::Store::open(store.root()).expect("open");
    let moment = builder.lease().expect("a lease");
    assert!(builder.has(&old[1]).expect("stat"));
    drop(moment);
    builder.put("x", b"looked at").expect("put again");
    builder.get(&old[3]).expect("get");
    let new = builder.put("x", b"made").expect("put");
    let gone = |store: &crate::store::Store| {
        let trash = store.scratch().expect("scratch");
        let began = crate::base::fs::modified(trash.path()).expect("its time");
        let mut survey = store.survey(Vec::new(), Vec::new()).expect("survey");
        let alone = store.exclude(&mut Patience::new(&mut |_| ())).expect("nobody only looks");
        store.refresh(&mut survey, began, &alone).expect("renewed");
        let sweep = plan(&survey, &ALL);
        store.sweep(&sweep, &trash, &alone).expect("swept");
        sweep.blobs
    };
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(gone(&store), [old[0].digest]);
    for blob in old[1..].iter().chain([&new]) {
        assert!(builder.has(blob).expect("stat"));
    }
    // A lease ends with its holder.
    std::thread::sleep(std::time::Duration::from_millis(20));
    drop(builder);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(gone(&store).len(), 4);
}

#[test]
fn record_that_a_build_is_writing_stays() {
    let (_dir, store) = store();
    let dir = store.root().join("cache/v1/aa");
    std::fs::create_dir_all(&dir).expect("create");
    let [left, writing] = ["left", "writing"].map(|name| dir.join(name));
    let file = std::fs::File::create(&left).expect("create");
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).expect("age it");
    let builder = crate::store::Store::open(store.root()).expect("open");
    drop(builder.lease().expect("a lease"));
    std::fs::File::create(&writing).expect("create");
    std::thread::sleep(std::time::Duration::from_millis(20));
    let began = crate::base::fs::modified(store.scratch().expect("scratch").path()).expect("its time");
    let mut survey = store.survey(Vec::new(), vec![left.clone(), writing]).expect("survey");
    let alone = store.exclude(&mut Patience::new(&mut |_| ())).expect("nobody only looks");
    store.refresh(&mut survey, began, &alone).expect("renewed");
    assert_eq!(plan(&survey, &ALL).records, [left]);
}

#[test]
fn index_is_reread_only_after_a_change() {
    // N-64
    let (_dir, store) = store();
    let a = image(&store, "a");
    store.tag(&[name("a")], &a).expect("tag");
    let first = store.known_index().expect("read");
    for _ in 0..3 {
        store.resolve(&name("a")).expect("resolve");
    }
    assert!(std::sync::Arc::ptr_eq(&first, &store.known_index().expect("read")));
    let other = crate::store::Store::open(store.root()).expect("open");
    other.tag(&[name("b")], &a).expect("tag");
    assert!(store.resolve(&name("b")).expect("resolve").is_some());
    assert_eq!(store.entries().expect("entries").len(), 2);
}
