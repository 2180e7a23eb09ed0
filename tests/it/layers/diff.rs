//! Test `kiln diff` of images, layers and directories.

use std::fs;

use serde_json::Value;

use crate::support::TestEnv;

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

/// Builds two images that differ in a few files.
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
fn diff_compares_images_as_containers_see_them() {
    let env = TestEnv::new();
    two(&env);
    let args = ["diff", "first", "second", "--ignore", "mtime,config"];
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
fn diff_compares_configs_field_by_field() {
    let env = TestEnv::new();
    let build = |name: &str, lines: &str| {
        let context = env.context(&format!("-- Dockerfile --\nFROM scratch\n{lines}COPY f /\n-- f --\nf\n"));
        env.build(&["-t", name, "--build-arg", "SOURCE_DATE_EPOCH=1"], &context).ok();
    };
    build("first", "ENV A=1 B=2\nENTRYPOINT [\"e\"]\nUSER u\nEXPOSE 80\nLABEL l=x\n");
    build("second", "ENV A=2 B=2\nCMD [\"c\"]\nVOLUME /v\nSTOPSIGNAL 9\nWORKDIR /w\nHEALTHCHECK NONE\nONBUILD RUN x\n");
    let text = env.kiln(&["diff", "first", "second", "--ignore", "mtime"]).ok();
    for line in [
        "changed config Env A: 1 → 2",
        "removed config Entrypoint: [\"e\"]",
        "removed config User: u",
        "removed config ExposedPorts 80/tcp: {}",
        "removed config Label l: x",
        "added   config Cmd: [\"c\"]",
        "added   config Volumes /v: {}",
        "added   config StopSignal: 9",
        "changed config WorkingDir: / → /w",
        "added   config Healthcheck Test: [\"NONE\"]",
        "added   config OnBuild: [\"RUN x\"]",
        "changed config history 1: ENV A=1 B=2 → ENV A=2 B=2",
        "added   /w: directory 0755 0:0",
    ] {
        assert!(lines(&text).contains(&line), "{line}\n{text}");
    }
    assert!(!text.contains("Env B") && !text.contains("layers") && !text.contains("created"), "{text}");
    let all = env.kiln(&["diff", "first", "second"]).ok();
    assert!(all.contains("changed config layers: 1 → 2, 0 in common at the bottom"), "{all}");
    let json: Value =
        serde_json::from_str(&env.kiln(&["diff", "first", "second", "--format=json"]).ok()).expect("JSON");
    let fields = json["config"].as_array().expect("config");
    let changed = serde_json::json!({ "field": "Env A", "a": "1", "b": "2" });
    assert!(fields.contains(&changed), "{json}");
    assert!(fields.contains(&serde_json::json!({ "field": "User", "a": "u", "b": null })), "{json}");
    // A difference only in the config counts too.
    build("third", "ENV A=1 B=2\nENTRYPOINT [\"e\"]\nUSER u\nEXPOSE 80\nLABEL l=y\n");
    env.kiln(&["diff", "--exit-code", "first", "third"]).fails(1).says("changed config Label l: x → y");
    env.kiln(&["diff", "--exit-code", "--ignore", "config", "first", "third"]).ok();
    env.kiln(&["diff", "--exit-code", "first", "first"]).ok();
    // A wrong name has another exit code than a difference.
    env.kiln(&["diff", "--exit-code", "first", "nothing"]).fails(2).says("no image named \"nothing\"");
    env.kiln(&["diff", "first", "nothing"]).fails(1);
}

#[test]
fn diff_reads_files_of_subordinate_ids_like_import() {
    requires!(root, kiln_test);
    let env = TestEnv::of_plain_user();
    let tree = env.context("-- tree/mine --\nm\n-- tree/theirs 0600 --\nt\n");
    let user = fs::read_to_string("/etc/subuid").expect("subuid");
    let line = user.lines().find(|line| line.starts_with("kiln-test:")).expect("subordinate ids");
    let first: u32 = line.split(':').nth(1).expect("a number").parse().expect("a number");
    // Files of ids that are not mapped in a namespace cannot be read there, not even by its root.
    std::os::unix::fs::chown(tree.join("tree/theirs"), Some(first + 6), Some(first + 6)).expect("chown");
    let dir = tree.join("tree");
    let dir = dir.to_str().expect("UTF-8");
    env.kiln(&["import", dir, "imported"]).ok();
    let same = env.kiln(&["diff", "--exit-code", "imported", dir]).ok();
    same.never_says("/");
    fs::write(tree.join("tree/theirs"), "T\n").expect("write");
    env.kiln(&["diff", "--exit-code", "--ignore=mtime", "imported", dir]).fails(1).says("changed /theirs: content");
    let json = env.kiln(&["diff", "--format=json", env.context("-- x --\n").to_str().expect("UTF-8"), dir]).ok();
    assert!(json.contains("\"uid\":\"7\""), "{json}");
}

#[test]
fn diff_compares_layers_and_directories() {
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
fn diff_names_what_it_cannot_compare() {
    let env = TestEnv::new();
    two(&env);
    env.kiln(&["diff", "first", "secnd"]).fails(1).says("secnd").says("second");
    env.kiln(&["diff", "first", "./nowhere"]).fails(1).says("nowhere");
    env.kiln(&["diff", "first"]).fails(2);
    fs::create_dir(env.dir().join("plain")).expect("create");
    env.kiln(&["diff", "first", "plain"]).dir(env.dir()).fails(1).says("./plain");
}
