//! `index.json` is changed where it has to be and nowhere else (N-64).

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{EMPTY_TAR, image, name, store};
use crate::base::{fs, publish};
use crate::oci::descriptor::{Descriptor, INDEX, LAYER_TAR};
use crate::oci::manifest::Index;
use crate::oci::reference::Reference;
use crate::store::{Entry, Sources, Store};

#[test]
fn holders_are_few_and_those_of_lists_come_first_n_64() {
    let (_dir, store) = store();
    let (a, b) = (image(&store, "a"), image(&store, "b"));
    let layer = Descriptor::of(LAYER_TAR, &EMPTY_TAR).digest;
    let holders = |of: &str| store.holders(&name(of), None).expect("holders").remove(&layer).unwrap_or_default();
    for at in 0..10 {
        store.tag(&[name(&format!("r.example/app{at}:1")), name(&format!("r.example/app{at}:2"))], &a).expect("tag");
    }
    store.tag(&[name("other.example/app:1")], &b).expect("tag");
    assert_eq!(holders("r.example/new:1").len(), 3);
    assert!(holders("other.example/app:3").is_empty(), "the repository itself");
    assert_eq!(holders("other.example/new:3"), ["app"]);
    assert!(holders("third.example/new").is_empty());
    let mut list = store.put(INDEX, &Index::new(vec![b.clone()]).to_bytes()).expect("index");
    let mut sources = Sources::default();
    sources.add(b.digest, name("r.example/zzz:1"));
    sources.keep(&mut list);
    store.tag(&[name("list")], &list).expect("tag");
    assert_eq!(holders("r.example/new:1")[0], "zzz");
}

fn read_index(store: &Store) -> String {
    String::from_utf8(fs::read(&store.root().join("index.json")).expect("read")).expect("UTF-8")
}

#[derive(Clone, Debug)]
enum Act {
    Tag(Vec<usize>, usize),
    Untag(usize),
    Forget(usize),
}

const NAMES: [&str; 6] = ["app", "app:1", "an/app:1", "localhost:5000/app", "app-2:latest", "x.io/b:app"];

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (proptest::collection::vec(0..NAMES.len(), 0..3), 0..3usize).prop_map(|(names, to)| Act::Tag(names, to)),
        1 => (0..NAMES.len()).prop_map(Act::Untag),
        1 => (0..3usize).prop_map(Act::Forget),
    ]
}

/// What names mean, without a file.
fn expected(before: Vec<Entry>, act: &Act, images: &[Descriptor]) -> Vec<Entry> {
    let mut after = before.clone();
    match act {
        Act::Tag(names, to) => {
            for at in names {
                let name = Some(name(NAMES[*at]));
                after.retain(|e| e.name != name);
                after.push(Entry { name, target: images[*to].clone() });
            }
            after.push(Entry { name: None, target: images[*to].clone() });
            after.extend(before.into_iter().map(|e| Entry { name: None, ..e }));
        }
        Act::Untag(at) => after.retain(|e| e.name != Some(name(NAMES[*at]))),
        Act::Forget(at) => after.retain(|e| e.target.digest != images[*at].digest),
    }
    let named: BTreeSet<_> = after.iter().filter(|e| e.name.is_some()).map(|e| e.target.digest).collect();
    after.retain(|e| e.name.is_some() || !named.contains(&e.target.digest));
    after.sort_by_key(|e| (e.name.is_none(), e.name.clone(), e.target.digest));
    after.dedup();
    after
}

fn write_index(store: &Store, text: &str) {
    publish::atomic(&store.index_path(), text.as_bytes(), 0o644).expect("write");
}

fn perform(store: &Store, act: &Act, images: &[Descriptor]) {
    match act {
        Act::Tag(names, to) => {
            let names: Vec<Reference> = names.iter().map(|at| name(NAMES[*at])).collect();
            store.tag(&names, &images[*to]).expect("tag");
        }
        Act::Untag(at) => drop(store.untag(&[name(NAMES[*at])]).expect("untag")),
        Act::Forget(at) => drop(store.forget(images[*at].digest).expect("forget")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn edits_match_the_reference_model(acts in proptest::collection::vec(act(), 1..12)) {
        let (_dir, store) = store();
        let images = ["a", "b", "c"].map(|content| image(&store, content));
        let mut want = Vec::new();
        for act in &acts {
            want = expected(want, act, &images);
            perform(&store, act, &images);
            prop_assert_eq!(&store.entries().expect("entries"), &want);
            let other = Store::open(store.root()).expect("open");
            prop_assert_eq!(&other.entries().expect("entries"), &want);
            for text in NAMES {
                let target = want.iter().find(|e| e.name == Some(name(text))).map(|e| e.target.clone());
                prop_assert_eq!(other.resolve(&name(text)).expect("resolve"), target, "{}", text);
                let named = |e: &&Entry| e.name.as_ref().is_some_and(|n| n.name() == name(text).name());
                let together: Vec<Entry> = want.iter().filter(named).cloned().collect();
                prop_assert_eq!(other.entries_in(&name(text)).expect("entries"), together, "{}", text);
            }
            for image in &images {
                let named = want.iter().filter(|e| e.target == *image).filter_map(|e| e.name.clone());
                prop_assert_eq!(other.names_of(image.digest).expect("names"), named.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn foreign_entries_survive_byte_for_byte(
        acts in proptest::collection::vec(act(), 1..8),
        space in "[ \n\t]{0,2}",
        at in 0..3usize,
    ) {
        let (_dir, store) = store();
        let images = ["a", "b", "c"].map(|content| image(&store, content));
        let digest = |c: &str| format!("sha256:{}", c.repeat(64));
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let strange = [
            // Fields that kiln does not know, in an order that it would not write; escapes; a name that is none.
            format!(
                r#"{{"x":{{"y":[1.50, 2e3,null]}},"size":7 ,"digest":"{}","mediaType":"{media_type}","annotations":{{"org.opencontainers.image.ref.name":"docker.io\/library\/keep\u003a1","é":"\\"}}}}"#,
                digest("d")
            ),
            format!(
                r#"{{"mediaType":"{media_type}","data":"e30=","digest":"{}","size":8,"annotations":{{"org.opencontainers.image.ref.name":"No Name"}}}}"#,
                digest("e")
            ),
            format!(r#"{{ "digest":"{}","mediaType":"{media_type}","size":9}}"#, digest("f")),
        ];
        let own = acts.iter().flat_map(|act| match act { Act::Forget(_) => None, act => Some(act) });
        let list = strange.join(&format!("{space},{space}"));
        let text = format!(
            r#"{{ "later":[{{}}],"manifests":[{space}{list}{space}],"schemaVersion":2,{space}"annotations":{{"a":"b"}} }}"#
        );
        write_index(&store, &text);
        prop_assert_eq!(store.resolve(&name("keep:1")).expect("resolve").map(|d| d.size), Some(7));
        for act in own {
            perform(&store, act, &images);
            let now = read_index(&store);
            prop_assert!(now.starts_with(r#"{ "later":[{}],"manifests":["#), "{}", now);
            prop_assert!(now.ends_with(&format!(r#"],"schemaVersion":2,{space}"annotations":{{"a":"b"}} }}"#)), "{}", now);
            for entry in &strange {
                prop_assert!(now.contains(entry), "{now} {entry}");
            }
        }
        // What is known of an entry that changes stays as well.
        let moved = store.resolve(&name("keep:1")).expect("resolve").expect("there");
        store.tag(&[name("keep:1")], &images[at]).expect("tag");
        let now = read_index(&store);
        prop_assert!(now.contains(r#""x":{"y":[1.5,2000.0,null]}"#), "{}", now);
        let entry = store.entries().expect("entries").into_iter().find(|e| e.target.digest == moved.digest);
        prop_assert_eq!(entry.expect("kept").name, None);
        prop_assert_eq!(store.resolve(&name("keep:1")).expect("resolve"), Some(images[at].clone()));
    }
}

#[test]
fn index_without_list_gets_one() {
    for text in [
        r#"{"schemaVersion":2}"#,
        r#"{"schemaVersion":2,"manifests":null}"#,
        r#"{"schemaVersion":2,"manifests":[ ],"annotations":null}"#,
    ] {
        let (_dir, store) = store();
        let a = image(&store, "a");
        write_index(&store, text);
        assert_eq!(store.entries().expect("entries"), []);
        store.tag(&[name("app")], &a).expect("tag");
        assert_eq!(store.resolve(&name("app")).expect("resolve"), Some(a), "{text}");
        assert_eq!(store.untag(&[name("app")]).expect("untag").len(), 1);
        assert_eq!(store.entries().expect("entries"), []);
    }
}

#[test]
fn damaged_index_is_repaired_by_any_operation() {
    for text in [
        "",
        "{",
        r#"{"schemaVersion":2,"manifests":[{]}"#,
        r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#,
        r#"{"schemaVersion":2,"manifests":[],"config":{}}"#,
        r#"{"schemaVersion":1,"manifests":[]}"#,
        // The entry that is damaged has to be looked at: it bears the name.
        r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:0","annotations":{"org.opencontainers.image.ref.name":"app:1"}}]}"#,
    ] {
        for reads in [true, false] {
            let (_dir, store) = store();
            let a = image(&store, "a");
            write_index(&store, text);
            if reads {
                assert_eq!(store.entries().expect("mended"), [Entry { name: None, target: a.clone() }], "{text}");
            }
            store.tag(&[name("app:1")], &a).expect("tag");
            assert_eq!(store.entries().expect("entries"), [Entry { name: Some(name("app:1")), target: a }], "{text}");
            assert!(store.root().join("index.json.damaged-1").exists(), "{text}");
        }
    }
}
