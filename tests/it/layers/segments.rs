//! Test that unchanged compressed segments are copied from the previous layer instead of being compressed again.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use kiln::layer::{Segment, SegmentIndex};

use crate::support::TestEnv;

/// The gzip members of a blob.
fn members(blob: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut members) = (blob, Vec::new());
    while !rest.is_empty() {
        let mut decoder = flate2::bufread::GzDecoder::new(rest);
        std::io::copy(&mut decoder, &mut std::io::sink()).expect("a gzip member");
        let after = decoder.into_inner();
        members.push(&rest[..rest.len() - after.len()]);
        rest = after;
    }
    members
}

/// Writes 1,000 different files of 16 kB, which make about fifteen segments.
fn fill(context: &Path) {
    let mut state = 7u64;
    for i in 0..1000 {
        let dir = context.join(format!("src/d{:02}", i / 20));
        fs::create_dir_all(&dir).expect("create");
        let mut text = String::new();
        while text.len() < 16_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text += &format!("{:x} ", state >> 44);
        }
        fs::write(dir.join(format!("f{i:03}")), text).expect("write");
    }
}

fn build(env: &TestEnv, context: &Path) -> (Vec<u8>, String) {
    env.build(&["-t", "app"], context).ok();
    let image = env.image("app");
    (fs::read(&image.layers[0]).expect("read the blob"), image.diff_ids()[0].trim_start_matches("sha256:").to_owned())
}

#[test]
fn edit_changes_only_its_own_gzip_members() {
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY src /src\n");
    fill(&context);
    let (before, _) = build(&env, &context);
    fs::write(context.join("src/d11/f233"), "edited").expect("write");
    let (after, _) = build(&env, &context);
    let (before, after) = (members(&before), members(&after));
    assert!(before.len() >= 10, "{} members", before.len());
    let new = after.iter().filter(|member| !before.contains(member)).count();
    // If a segment has its maximum size, the boundaries agree again only after the next one.
    assert!((1..=3).contains(&new), "{new} of {} members are new", after.len());
}

/// Replaces the members of the previous layer by marked ones, which must appear in the next layer.
#[test]
fn unchanged_segments_are_copied_not_recompressed() {
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY src /src\n");
    fill(&context);
    let (before, diff_id) = build(&env, &context);
    let blob = env.image("app").layers[0].clone();
    let index = env.store().join(format!("layers/sha256/{diff_id}/segments"));
    let index = if index.exists() { index } else { env.store().join(format!("layers/{diff_id}/segments")) };
    let sealed = fs::read(&index).expect("the segment index");
    // It ends with its BLAKE3.
    let (content, _) = sealed.split_last_chunk::<32>().expect("a sealed file");
    let segments = SegmentIndex::from_bytes(content).expect("an index");
    let (mut marked, mut marks) = (Vec::new(), Vec::new());
    for (segment, member) in segments.0.iter().zip(members(&before)) {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(member).read_to_end(&mut plain).expect("gzip");
        let mut again = flate2::GzBuilder::new().comment("marked").write(Vec::new(), flate2::Compression::none());
        again.write_all(&plain).expect("memory");
        let again = again.finish().expect("memory");
        let (offset, len) = (marked.len() as u64, again.len() as u32);
        marks.push(Segment { offset, len, check: *blake3::hash(&again).as_bytes(), ..*segment });
        marked.extend(again);
    }
    // Blobs are read-only, and may be hard links.
    fs::remove_file(&blob).expect("remove");
    fs::write(&blob, marked).expect("write");
    let content = SegmentIndex(marks).to_bytes();
    fs::write(&index, [&content[..], blake3::hash(&content).as_bytes()].concat()).expect("write");
    fs::write(context.join("src/d11/f233"), "edited").expect("write");
    let (after, _) = build(&env, &context);
    let after = members(&after);
    let copied = after.iter().filter(|member| member.windows(6).take(40).any(|w| w == b"marked")).count();
    assert!(copied + 3 >= after.len() && copied < after.len(), "{copied} of {} members were copied", after.len());
}

/// Segments may be damaged in the store, and are valid for one compression level only.
#[test]
fn damaged_or_differently_compressed_segments_are_redone() {
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY src /src\n");
    fill(&context);
    let (before, _) = build(&env, &context);
    let blob = env.image("app").layers[0].clone();
    let mut damaged = before.clone();
    let first = members(&before)[0].len();
    damaged[first / 2] ^= 1;
    fs::remove_file(&blob).expect("remove");
    fs::write(&blob, &damaged).expect("write");
    fs::write(context.join("src/d49/f999"), "edited").expect("write");
    let (after, _) = build(&env, &context);
    assert_eq!(members(&after)[0], members(&before)[0], "the damage was copied");
    let with_level = |env: &TestEnv, level: &str| {
        env.build(&["-t", "app", "--no-cache", "--compression-level", level], &context).ok();
        fs::read(&env.image("app").layers[0]).expect("read the blob")
    };
    let fresh = with_level(&TestEnv::new(), "9");
    assert!(with_level(&env, "9") == fresh, "members of another level were copied");
}

/// The layer of the first image in `env` as it is stored, and its diff-id.
fn layer(env: &TestEnv, context: &Path, compression: &str) -> (Vec<u8>, String) {
    env.build(&["-t", "app", "--compression", compression], context).ok();
    let image = env.image("app");
    (fs::read(&image.layers[0]).expect("read the blob"), image.diff_ids()[0].to_owned())
}

/// A layer that continues from the first difference to the previous one equals the layer of an empty store (S-93).
#[test]
fn edited_layer_equals_layer_of_fresh_store() {
    for compression in ["gzip", "zstd", "uncompressed"] {
        let env = TestEnv::new();
        let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY src /src\n");
        fill(&context);
        layer(&env, &context, compression);
        let edits: [&dyn Fn(&Path); 6] = [
            &|src| fs::write(src.join("d49/f999"), "edited").expect("write"),
            &|src| fs::write(src.join("d30/f615-new"), "more").expect("write"),
            &|src| fs::remove_file(src.join("d30/f610")).expect("remove"),
            &|src| fs::write(src.join("d49/f999-large"), vec![b'x'; 3 << 20]).expect("write"),
            &|src| fs::write(src.join("d00/f000"), "edited").expect("write"),
            &|src| fs::remove_dir_all(src.join("d00")).expect("remove"),
        ];
        for (number, edit) in edits.iter().enumerate() {
            edit(&context.join("src"));
            let (went_on, diff_id) = layer(&env, &context, compression);
            let (fresh, whole) = layer(&TestEnv::new(), &context, compression);
            assert_eq!(diff_id, whole, "edit {number}, {compression}");
            assert!(went_on == fresh, "edit {number}, {compression}");
        }
    }
}

/// Marks of the previous layer may be lost, damaged or from another version: the layer stays the same.
#[test]
fn damaged_marks_of_previous_layer_change_nothing() {
    let damages: [&dyn Fn(&Path); 4] = [
        &|marks| fs::remove_file(marks).expect("remove"),
        &|marks| {
            let mut bytes = fs::read(marks).expect("read");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(marks, bytes).expect("write");
        },
        &|marks| fs::write(marks, &fs::read(marks).expect("read")[..500]).expect("write"),
        &|marks| fs::write(marks, "kilnmarks\x02 of later days").expect("write"),
    ];
    for damage in damages {
        let env = TestEnv::new();
        let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY src /src\n");
        fill(&context);
        let (_, diff_id) = build(&env, &context);
        let marks = env.store().join(format!("layers/{diff_id}/marks"));
        assert!(marks.exists(), "nothing was kept");
        damage(&marks);
        fs::write(context.join("src/d49/f999"), "edited").expect("write");
        let (after, _) = build(&env, &context);
        let (fresh, _) = build(&TestEnv::new(), &context);
        assert!(after == fresh);
    }
}
