//! What goes and what stays: decided in data, then done.

use std::path::PathBuf;

use crate::base::digest::{BlobDigest, DiffId, Sha256};
use crate::base::lock::Patience;
use crate::base::time::Timestamp;
use crate::store::survey::{Held, Kept, Step, Survey, Unpacked};
use crate::store::{Policy, Sweep, plan};

use super::{image, name, store};

const DEFAULT: Policy = Policy { unnamed: true, named_cache: false, mounts: false, keep: None };
const ALL: Policy = Policy { unnamed: true, named_cache: true, mounts: true, keep: None };

fn blob(n: u8) -> BlobDigest {
    BlobDigest(Sha256([n; 32]))
}

fn layer(n: u8) -> DiffId {
    DiffId(Sha256([n; 32]))
}

fn held(names: &[&str], blobs: &[u8], layers: &[u8]) -> Held {
    Held {
        names: names.iter().map(|n| name(n)).collect(),
        blobs: blobs.iter().map(|n| blob(*n)).collect(),
        layers: layers.iter().map(|n| layer(*n)).collect(),
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
    survey.images.insert(blob(11), held(&["app"], &[11, 1, 2], &[1, 2]));
    survey.images.insert(blob(13), held(&[], &[13, 2, 3], &[2, 3]));
    survey.steps =
        vec![step("r2", 2, 50), step("r3", 3, 10), step("r4", 4, 30), step("r5", 5, 5), step("r5-again", 5, 60)];
    for n in [1, 2, 4, 8] {
        let path = PathBuf::from(format!("layers/{n}"));
        let forms = vec![path.join("fs")];
        let unpacked = Unpacked { path, forms, files: 1000, about: 10, used: Timestamp::from_secs(20) };
        survey.unpacked.insert(layer(n), unpacked);
    }
    survey.notes = vec![Kept { path: PathBuf::from("note"), bytes: 1, used: Timestamp::from_secs(1) }];
    survey
}

fn records(sweep: &Sweep) -> Vec<&str> {
    let mut names: Vec<&str> = sweep.records.iter().filter_map(|p| p.to_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn by_default_what_no_named_image_needs_goes() {
    let sweep = plan(&survey(), &DEFAULT);
    assert_eq!(sweep.images, [blob(13)]);
    assert_eq!(records(&sweep), ["r3", "r4", "r5", "r5-again"]);
    let mut blobs = sweep.blobs.clone();
    blobs.sort();
    assert_eq!(blobs, [blob(3), blob(4), blob(5), blob(9), blob(13)]);
    let mut unpacked = sweep.unpacked.clone();
    unpacked.sort();
    assert_eq!(unpacked, [PathBuf::from("layers/4"), PathBuf::from("layers/8")]);
    assert_eq!((sweep.freed, sweep.notes.len()), (5 * 100 + 2 * 1010, 0));
}

#[test]
fn everything_but_the_named_image_goes_when_asked() {
    let survey = survey();
    let sweep = plan(&survey, &ALL);
    assert_eq!(records(&sweep).len(), 5);
    assert_eq!(sweep.unpacked.len(), 4);
    assert_eq!(sweep.notes.len(), 1);
    assert_eq!(survey.total() - sweep.freed, survey.named());
    assert_eq!(survey.named(), 300);
}

#[test]
fn the_cache_alone_leaves_unnamed_images_whole() {
    let sweep = plan(&survey(), &Policy { unnamed: false, ..DEFAULT });
    assert!(sweep.images.is_empty());
    assert!(!sweep.blobs.contains(&blob(3)) && !sweep.blobs.contains(&blob(13)));
    assert_eq!(records(&sweep), ["r3", "r4", "r5", "r5-again"]);
}

#[test]
fn a_bound_takes_the_longest_unused_first_and_no_more_than_needed() {
    let survey = survey();
    let garbage = 100 + 1010;
    let keep = |bytes| plan(&survey, &Policy { keep: Some(bytes), ..DEFAULT });
    // Only what nobody needs: that goes whatever the bound.
    let sweep = keep(u64::MAX);
    assert_eq!((sweep.freed, records(&sweep).len()), (garbage, 0));
    // One byte less: the note (1), unused since 1.
    let left = survey.total() - garbage;
    assert_eq!(keep(left - 1).notes.len(), 1);
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
fn a_sweep_removes_what_was_decided_and_nothing_else_s131() {
    let (_dir, store) = store();
    let (a, b) = (image(&store, "a"), image(&store, "b"));
    store.tag(&[name("a")], &a).expect("tag");
    store.tag(&[], &b).expect("keep");
    let stray = store.put("x", b"stray").expect("put");
    crate::base::fs::ensure_dir(&store.layers_dir().join(layer(7).hex()).join("fs")).expect("a layer of nobody");
    let sweep = plan(&store.survey(Vec::new()).expect("survey"), &DEFAULT);
    let alone = store.try_exclude().expect("lock").expect("nobody builds");
    store.sweep(&sweep, &alone).expect("swept");
    store.sweep(&sweep, &alone).expect("swept again");
    assert_eq!(store.entries().expect("entries").len(), 1);
    assert_eq!(store.blob_size(stray.digest).expect("stat"), None);
    assert_eq!(store.blob_size(b.digest).expect("stat"), None);
    store.find("a").expect("the named image is whole");
    assert!(crate::base::fs::list(&store.layers_dir()).expect("layers").is_empty());
    drop(alone);
    // Somebody builds: nobody sweeps.
    let _share = store.share(&mut Patience::new(&mut |_| ())).expect("share");
    assert!(store.try_exclude().expect("lock").is_none());
}
