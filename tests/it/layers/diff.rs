//! `kiln diff`: two images, layers or directories, by path and attribute.

use std::fs;

use serde_json::Value;

use crate::support::TestEnv;

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

/// Two images of the same files but for a few.
fn two(env: &TestEnv) {
    let base = "-- Dockerfile --\nFROM scratch\nCOPY tree /\n-- tree/same --\nsame\n-- tree/edited --\none\n\
                -- tree/gone --\nx\n-- tree/mode --\nm\n-- tree/link -> same --\n";
    let first = env.context(base);
    env.build(&["-t", "first"], &first).ok();
    let second = env.context("-- none --\n");
    fs::remove_dir_all(&second).expect("remove");
    let status = std::process::Command::new("cp").arg("-a").arg(&first).arg(&second).status();
    assert!(status.expect("cp").success());
    env.add(&second, "-- Dockerfile --\nFROM first\nCOPY over /\n-- over/edited --\ntwo\n-- over/mode 0755 --\nm\n-- over/new --\nn\n");
    env.build(&["-t", "second"], &second).ok();
}

#[test]
fn images_are_compared_as_their_containers_see_them() {
    let env = TestEnv::new();
    two(&env);
    let args = ["diff", "first", "second", "--ignore", "mtime"];
    let text = env.kiln(&args).ok();
    let want = ["changed /edited: content", "changed /mode: mode 0644 → 0755", "added   /new: file 0644 0:0 2 bytes"];
    assert_eq!(lines(&text), want);
    env.kiln(&[&args[..], &["--exit-code"]].concat()).fails(1);
    assert_eq!(env.kiln(&["diff", "first", "first", "--exit-code"]).ok().trim(), "");
    let json: Value = serde_json::from_str(&env.kiln(&[&args[..], &["--format", "json"]].concat()).ok()).expect("JSON");
    let all = json["differences"].as_array().expect("differences");
    assert_eq!(all.len(), 3);
    assert_eq!(all[1]["path"], "/mode");
    assert_eq!((&all[1]["a"]["mode"], &all[1]["b"]["mode"]), (&"0644".into(), &"0755".into()));
    assert_eq!(all[0]["attributes"], serde_json::json!(["content"]));
    assert_eq!(all[2]["change"], "added");
}

#[test]
fn layers_and_directories_are_compared_too() {
    let env = TestEnv::new();
    two(&env);
    let image = env.image("second");
    let (lower, upper) = (image.diff_ids()[0].to_owned(), image.diff_ids()[1].to_owned());
    let text = env.kiln(&["diff", &lower, &upper[..19], "--ignore", "mtime"]).ok();
    assert_eq!(lines(&text).iter().filter(|l| l.starts_with("removed")).count(), 3, "{text}");
    let dir = env.dir().join("unpacked");
    fs::create_dir(&dir).expect("create");
    fs::write(dir.join("same"), "same\n").expect("write");
    fs::write(dir.join("edited"), "ten\n").expect("write");
    let text = env.kiln(&["diff", &lower, dir.to_str().expect("UTF-8"), "--ignore=mtime,owner,mode"]).ok();
    let edited = "changed /edited: content";
    assert!(text.contains(edited) && !text.contains("/same:"), "{text}");
    assert_eq!(env.kiln(&["diff", dir.to_str().expect("UTF-8"), dir.to_str().expect("UTF-8")]).ok().trim(), "");
}

#[test]
fn what_cannot_be_compared_is_named() {
    let env = TestEnv::new();
    two(&env);
    env.kiln(&["diff", "first", "secnd"]).fails(1).says("secnd").says("second");
    env.kiln(&["diff", "first", "./nowhere"]).fails(1).says("nowhere");
    env.kiln(&["diff", "first"]).fails(2);
    fs::create_dir(env.dir().join("plain")).expect("create");
    env.kiln(&["diff", "first", "plain"]).dir(env.dir()).fails(1).says("./plain");
}
