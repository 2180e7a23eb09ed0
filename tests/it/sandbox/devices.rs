//! Test `RUN --device` with CDI files for devices that every host has (R-10, O-22).

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::TestEnv;
use crate::support::env::each_user;

/// A directory with one file: kind `test.example/dev`, devices `zero` (a node, a variable, two mounts, a group) and
/// `plain` (a variable only).
fn specs(env: &TestEnv) -> PathBuf {
    let dir = env.context("-- driver/lib.so --\nlibrary\n-- tool 0755 --\n#!/bin/sh\necho tool\n-- cdi/ --\n");
    let at = |name: &str| dir.join(name).display().to_string();
    let text = format!(
        r#"{{"cdiVersion": "0.6.0", "kind": "test.example/dev", "containerEdits": {{"env": ["OF_ALL=yes"]}}, "devices": [
        {{"name": "zero", "containerEdits": {{
            "env": ["KILN_DEVICE=zero", "OVER=device"],
            "deviceNodes": [{{"path": "/dev/kilntest", "hostPath": "/dev/zero", "type": "c", "major": 1, "minor": 5}}],
            "mounts": [{{"hostPath": "{}", "containerPath": "/acme/driver", "options": ["ro", "nosuid", "nodev", "rbind"]}},
                {{"hostPath": "{}", "containerPath": "/acme/tool", "options": ["ro", "noexec"]}}],
            "additionalGids": [0, 44]}}}},
        {{"name": "plain", "containerEdits": {{"env": ["KILN_DEVICE=plain"]}}}}]}}"#,
        at("driver"),
        at("tool"),
    );
    env.add(&dir, &format!("-- cdi/test.json --\n{text}\n"));
    dir.join("cdi")
}

fn build(env: &TestEnv, dir: &Path, args: &[&str], text: &str) -> crate::support::env::Done {
    let context = env.context(&format!("-- Dockerfile --\n{text}\n"));
    let all = [&["-t", "app", "--progress", "plain", "--cdi-spec-dir", dir.to_str().expect("UTF-8")], args].concat();
    env.build(&all, &context).output()
}

#[test]
fn device_and_its_edits_are_limited_to_one_run() {
    // R-10
    requires!(userns, overlay);
    for env in each_user() {
        let dir = specs(&env);
        let look = "echo \"$KILN_DEVICE $OVER $OF_ALL\" > /seen; head -c 3 /dev/kilntest | wc -c >> /seen; \
                    cat /acme/driver/lib.so >> /seen; (echo x > /acme/driver/new) 2>/dev/null || echo kept >> /seen; \
                    /acme/tool 2>/dev/null || echo not run >> /seen; id -G >> /seen";
        let text = format!(
            "FROM busybox\nENV OVER=image\nRUN --device=test.example/dev=zero,required {look}\n\
             RUN test ! -e /dev/kilntest && test -z \"$KILN_DEVICE$OF_ALL\" && test $OVER = image && id -G > /without"
        );
        let done = build(&env, &dir, &["--allow", "device"], &text);
        assert!(done.code == 0, "{done}");
        let seen = String::from_utf8(env.image("app").content("seen")).expect("UTF-8");
        let without = String::from_utf8(env.image("app").content("without")).expect("UTF-8");
        assert!(seen.starts_with("zero device yes\n3\nlibrary\nkept\nnot run\n"), "{seen}");
        let groups = seen.lines().last().expect("groups");
        assert!(groups.ends_with(" 44") && !without.contains("44"), "{seen}{without}");
        // The layer has no trace of the device.
        let tree = env.image("app").tree();
        assert!(!tree.has("acme") && !tree.has("dev/kilntest"), "{tree}");
        env.assert_swept();
        // The key covers the names of devices, not the CDI files.
        let text = text.replace("FROM busybox", "FROM busybox ");
        fs::write(dir.join("test.json"), fs::read_to_string(dir.join("test.json")).unwrap().replace("=zero", "=more"))
            .expect("write");
        let again = build(&env, &dir, &["--allow", "device=test.example/dev=zero"], &text);
        assert!(
            again.code == 0 && !again.stdout.contains("why") && again.stderr.matches("CACHED").count() >= 2,
            "{again}"
        );
    }
}

#[test]
fn kiln_run_accepts_device_by_cdi_name() {
    requires!(userns, overlay);
    for env in each_user() {
        let dir = specs(&env).display().to_string();
        env.add(Path::new(&dir), "-- broken.json --\n{\n");
        let run = |device: &str, look: &str| {
            env.kiln(&["run", "--cdi-spec-dir", &dir, "--device", device, "busybox", "sh", "-c", look])
        };
        let look = "echo $KILN_DEVICE $OF_ALL; head -c 3 /dev/kilntest | wc -c; cat /acme/driver/lib.so";
        assert_eq!(run("test.example/dev=zero", look).ok().stdout, "zero yes\n3\nlibrary\n");
        run("test.example/dev=none", "true")
            .fails(125)
            .says("this host has no device")
            .says("not read: ")
            .says("broken.json");
        run("zero", "true").fails(125).says("--device \"zero\": want a path that begins with /, or VENDOR/CLASS=NAME");
    }
}

#[test]
fn onbuild_trigger_gets_its_device_only_if_allowed() {
    requires!(userns, overlay);
    for env in each_user() {
        let dir = specs(&env);
        let parent = "FROM busybox\nONBUILD RUN --device=test.example/dev=plain echo got $KILN_DEVICE";
        assert_eq!(build(&env, &dir, &["-t", "parent"], parent).code, 0);
        let done = build(&env, &dir, &["--allow", "device=test.example/dev=plain"], "FROM parent");
        assert!(done.code == 0, "{done}");
        done.says("got plain");
        let refused = build(&env, &dir, &["--no-cache"], "FROM parent");
        assert_eq!(refused.code, 1, "{refused}");
        refused.says("Dockerfile:1").says("this is an ONBUILD trigger").says("--allow device=test.example/dev=plain");
    }
}

#[test]
fn device_without_allow_fails_before_any_step() {
    // O-22
    requires!(userns, overlay);
    for env in each_user() {
        let dir = specs(&env);
        let text = "FROM busybox\nRUN echo has run\nRUN --device=test.example/dev=zero,required true\n\
                    RUN --device=test.example/dev true";
        for (allowed, code) in [
            (&[][..], 1),
            (&["--allow", "network.host,security.insecure"], 1),
            (&["--allow", "device=test.example/dev=zero"], 1),
            (&["--allow", "device=test.example/other=zero"], 1),
            (&["--allow", "device=test.example/dev=*"], 0),
            (&["--allow", "device=test.example/dev=zero,device=test.example/dev"], 0),
            (&["--allow", "device"], 0),
        ] {
            let done = build(&env, &dir, &[&["--no-cache"], allowed].concat(), text);
            assert_eq!(done.code, code, "{allowed:?}: {done}");
            if code != 0 {
                done.says("is not allowed in this build")
                    .says("--allow device=test.example/dev=")
                    .never_says("has run\n");
            }
        }
        let all = build(&env, &dir, &[], text);
        all.says("RUN --device=test.example/dev=zero is not allowed").says("Dockerfile:3:5");
        // The kind alone stands for its first device by name.
        all.says("Dockerfile:4:5").says("allow it with --allow device=test.example/dev=plain");
        for wrong in ["device=gpu", "device=", "devices", "device=a/b,alias=c/d"] {
            build(&env, &dir, &["--allow", wrong], "FROM busybox").says("--allow");
            assert_eq!(build(&env, &dir, &["--allow", wrong], "FROM busybox").code, 2, "{wrong}");
        }
    }
}

#[test]
fn missing_device_fails_only_if_required() {
    requires!(userns, overlay);
    for env in each_user() {
        let dir = specs(&env);
        let text = |flag: &str| {
            format!("FROM busybox\nRUN echo has run\nRUN --device=test.example/dev=none{flag} echo \"[$KILN_DEVICE]\"")
        };
        let required = build(&env, &dir, &["--allow", "device"], &text(",required"));
        assert_eq!(required.code, 3, "{required}");
        required.says("this host has no device test.example/dev=none").says("Dockerfile:3:5").never_says("has run\n");
        required.says(&format!("no file in {} describes it", dir.display())).says("--cdi-spec-dir");
        // A missing device needs no --allow.
        let optional = build(&env, &dir, &[], &text(",required=false"));
        assert_eq!(optional.code, 0, "{optional}");
        optional.says("[]").says("note: without device test.example/dev=none (no file in ");
        assert_eq!(optional.stderr.matches("without device").count(), 1, "{optional}");
        // Once the device exists, the step runs again with it.
        let spec = fs::read_to_string(dir.join("test.json")).expect("read").replace("\"plain\"", "\"none\"");
        env.add(&dir, &format!("-- test.json --\n{spec}"));
        let now = build(&env, &dir, &["--allow", "device"], &text(""));
        assert_eq!(now.code, 0, "{now}");
        now.says("[plain]").never_says("without device");
    }
}

#[test]
fn broken_cdi_file_is_named_if_device_is_missing() {
    requires!(userns, overlay);
    for env in each_user() {
        let dir = specs(&env);
        env.add(
            &dir,
            "-- broken.json --\n{\"cdiVersion\": \"0.6.0\",\n \"kinds\": 1}\n-- other.yaml --\ncdiVersion: 0.6.0\n",
        );
        let allow = ["--allow", "device"];
        let done = build(&env, &dir, &allow, "FROM busybox\nRUN --device=test.example/dev=zero,required true");
        assert_eq!(done.code, 0, "a valid file is not affected by others: {done}");
        let done = build(&env, &dir, &allow, "FROM busybox\nRUN --device=other.example/dev,required true");
        assert_eq!(done.code, 3, "{done}");
        done.says("broken.json: unknown field `kinds`").says("at line 2 column").says("fix the files");
        done.says("other.yaml: not a JSON file (kiln does not read CDI files in YAML)");
        let done = build(&env, &dir, &allow, "FROM busybox\nRUN --device=other.example/dev true");
        assert_eq!(done.code, 0, "{done}");
        done.says("broken.json: unknown field");
        // A device that needs an unsupported feature is an error, required or not.
        let hook = r#"{"cdiVersion": "0.6.0", "kind": "hook.example/dev", "devices": [{"name": "a", "containerEdits":
            {"hooks": [{"hookName": "createContainer", "path": "/bin/true"}]}}]}"#;
        env.add(&dir, &format!("-- hook.json --\n{hook}\n"));
        let done = build(&env, &dir, &allow, "FROM busybox\nRUN --device=hook.example/dev=a true");
        assert_eq!(done.code, 3, "{done}");
        done.says("device hook.example/dev=a, described by ").says("hook.json: it needs a createContainer hook");
        // A missing device node is reported with the instruction.
        let gone = r#"{"cdiVersion": "0.6.0", "kind": "gone.example/dev", "devices": [{"name": "a", "containerEdits":
            {"deviceNodes": [{"path": "/dev/gone", "hostPath": "/dev/nosuch"}]}}]}"#;
        env.add(&dir, &format!("-- gone.json --\n{gone}\n"));
        let done = build(&env, &dir, &allow, "FROM busybox\nRUN --device=gone.example/dev=a true");
        assert_eq!(done.code, 3, "{done}");
        done.says("/dev/nosuch").says("Dockerfile:2");
        let nowhere = env.build(&["--cdi-spec-dir", "/nosuch"], &env.context("-- Dockerfile --\nFROM busybox\n"));
        nowhere.fails(2).says("--cdi-spec-dir /nosuch: no such directory");
    }
}
