#![expect(clippy::disallowed_methods, reason = "tests write what the host would have")]

use std::fs::{create_dir, write};
use std::path::PathBuf;

use tempfile::TempDir;

use crate::plan::DeviceName;
use crate::sandbox::{Rootfs, Source, Spec};

use super::Refusal;
use super::host::{Host, files};
use super::spec::{self, Edits};

/// A file of one device `one` of kind `v.com/c`, which does what `edits` says.
fn one(edits: &str) -> String {
    format!(
        r#"{{"cdiVersion": "0.6.0", "kind": "v.com/c", "devices": [{{"name": "one", "containerEdits": {edits}}}]}}"#
    )
}

fn host(given: &[(&str, &str)]) -> (TempDir, Host) {
    let dir = tempfile::tempdir().expect("a directory");
    let dirs: Vec<PathBuf> = ["low", "high"].iter().map(|name| dir.path().join(name)).collect();
    dirs.iter().for_each(|dir| create_dir(dir).expect("create"));
    for (name, text) in given {
        write(dir.path().join(name), text).expect("write");
    }
    let host = Host::read(&dirs);
    (dir, host)
}

fn named(text: &str) -> DeviceName {
    DeviceName::parse(text).expect("a name")
}

#[test]
fn invalid_file_is_reported_with_path_and_reason() {
    let whole = |head: &str| format!(r#"{{{head}, "devices": [{{"name": "one", "containerEdits": {{}}}}]}}"#);
    let cases: &[(String, &str)] = &[
        ("{".to_owned(), "EOF while parsing an object at line 1 column 1"),
        ("[]".to_owned(), "invalid length 0"),
        (whole(r#""kind": "v.com/c""#), "missing field `cdiVersion`"),
        (whole(r#""cdiVersion": "0.6.0""#), "missing field `kind`"),
        (
            whole(r#""cdiVersion": "2.0.0", "kind": "v.com/c""#),
            "cdiVersion \"2.0.0\" is not known: want 0.x.y or 1.x.y",
        ),
        (whole(r#""cdiVersion": "1", "kind": "v.com/c""#), "cdiVersion \"1\" is not known"),
        (whole(r#""cdiVersion": "0.6.0", "kind": "gpu""#), "kind: \"gpu\" is not a device kind: want VENDOR/CLASS"),
        (whole(r#""cdiVersion": "0.6.0", "kind": "v.com/c", "mounts": []"#), "unknown field `mounts`"),
        (r#"{"cdiVersion": "0.6.0", "kind": "v.com/c", "devices": []}"#.to_owned(), "it describes no device"),
        (one("{}").replace("\"one\"", "\"a b\""), "\"a b\" is not a device name"),
        (one(r#"{"env": "A=b"}"#), "invalid type: string"),
        (one(r#"{"device_nodes": []}"#), "unknown field `device_nodes`"),
    ];
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("x.json");
    for (text, why) in cases {
        write(&file, text).expect("write");
        let said = spec::read(&file).expect_err(text).to_string();
        assert!(said.starts_with(&format!("{}: ", file.display())) && said.contains(why), "{said}: want {why}");
    }
    // Neither a fifo, which would block, nor YAML.
    let told = |name: &str| spec::read(&dir.path().join(name)).expect_err(name).to_string();
    std::process::Command::new("mkfifo").arg(dir.path().join("fifo.json")).status().expect("mkfifo");
    assert!(told("fifo.json").contains("it is not a regular file"));
    assert!(told("nvidia.yaml").contains("not a JSON file (kiln does not read CDI files in YAML)"));
    assert!(told("nosuch.json").contains("No such file"));
    // Only files of these names count; a directory that is not there has none.
    let found = files(dir.path(), &mut Vec::new());
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(files(&dir.path().join("nosuch"), &mut Vec::new()).is_empty());
}

#[test]
fn unsupported_device_is_refused_with_reason() {
    let cases = [
        (r#"{"hooks": [{"hookName": "createContainer", "path": "/bin/x", "args": []}]}"#, "a createContainer hook"),
        (r#"{"intelRdt": {"closID": "a"}}"#, "intelRdt"),
        (r#"{"netDevices": [{"hostInterfaceName": "a", "name": "b"}]}"#, "netDevices"),
        (r#"{"env": ["A"]}"#, "env \"A\" is not NAME=VALUE"),
        (r#"{"deviceNodes": [{"path": "/etc/x"}]}"#, "\"/etc/x\" is not a path below /dev"),
        (r#"{"deviceNodes": [{"path": "/dev/../x"}]}"#, "\"/dev/../x\" is not a path below /dev"),
        (r#"{"deviceNodes": [{"path": "/dev/x", "hostPath": "y"}]}"#, "hostPath \"y\" is not absolute"),
        (r#"{"deviceNodes": [{"path": "/dev/x", "type": "p"}]}"#, "unsupported type \"p\""),
        (r#"{"deviceNodes": [{"path": "/dev/x", "permissions": "r"}]}"#, "permissions \"r\": kiln gives"),
        (r#"{"deviceNodes": [{"path": "/dev/x", "permissions": "x"}]}"#, "want letters of rwm"),
        (r#"{"deviceNodes": [{"path": "/dev/null", "type": "b"}]}"#, "is c 1:3, not the device described"),
        (r#"{"deviceNodes": [{"path": "/dev/null", "major": 1, "minor": 5}]}"#, "is c 1:3, not the device"),
        (r#"{"mounts": [{"hostPath": "/a", "containerPath": "b"}]}"#, "containerPath is not an absolute path"),
        (r#"{"mounts": [{"hostPath": "a", "containerPath": "/b"}]}"#, "hostPath \"a\" is not absolute"),
        (r#"{"mounts": [{"hostPath": "/a", "containerPath": "/b", "type": "tmpfs"}]}"#, "unsupported type \"tmpfs\""),
        (
            r#"{"mounts": [{"hostPath": "/a", "containerPath": "/b", "options": ["rshared"]}]}"#,
            "unsupported option \"rshared\"",
        ),
    ];
    for (edits, want) in cases {
        // Said by its own device or by its file, it is the same.
        let common = one("{}").replacen('{', &format!("{{\"containerEdits\": {edits}, "), 1);
        for text in [one(edits), common] {
            let (_dir, host) = host(&[("low/x.json", &text)]);
            let name = named("v.com/c=one");
            let refused = host.check(&name, &host.find(&name), false, |_| true).expect_err(want);
            let said = refused.to_string();
            assert!(said.contains("device v.com/c=one, described by ") && said.contains(want), "{said}: want {want}");
        }
    }
}

#[test]
fn device_names_resolve_as_in_buildkit() {
    // R-10
    let two = r#"{"cdiVersion": "1.1.0", "kind": "v.com/c", "annotations": {"org.mobyproject.buildkit.device.class": "fast"},
        "devices": [{"name": "b", "containerEdits": {}}, {"name": "a", "containerEdits": {},
        "annotations": {"org.mobyproject.buildkit.device.class": "slow"}}, {"name": "c", "containerEdits": {}}]}"#;
    let (_dir, host) = host(&[("low/x.json", two), ("low/y.json", &one("{}").replace("v.com/c", "v.com/other"))]);
    for (asked, want) in [
        ("v.com/c", &["a"][..]),
        ("v.com/c=*", &["a", "b", "c"]),
        ("v.com/c=b", &["b"]),
        ("v.com/c=fast", &["b", "c"]),
        ("v.com/c=slow", &["a"]),
        ("v.com/c=d", &[]),
        ("v.com/d", &[]),
    ] {
        let found: Vec<&str> = host.find(&named(asked)).iter().map(|d| d.name.trim_start_matches("v.com/c=")).collect();
        assert_eq!(found, want, "{asked}");
    }
}

#[test]
fn later_directory_overrides_and_duplicates_are_refused() {
    let of = |value: &str| one(&format!(r#"{{"env": ["A={value}"]}}"#));
    let name = named("v.com/c=one");
    let (_dir, both) = host(&[("low/z.json", &of("low")), ("high/a.json", &of("high"))]);
    let found = both.find(&name);
    assert_eq!(found.len(), 1);
    assert!(found[0].file.ends_with("high/a.json"), "{:?}", found[0].file);
    let (_dir, twice) = host(&[("high/a.json", &of("1")), ("high/b.json", &of("2"))]);
    let refused = twice.check(&name, &twice.find(&name), false, |_| true).expect_err("ambiguous");
    let said = refused.to_string();
    assert!(
        said.contains("described twice: by ") && said.contains("a.json and ") && said.ends_with("b.json"),
        "{said}"
    );
    // What is broken hides nothing of what is not.
    let (_dir, broken) = host(&[("low/a.json", &of("1")), ("low/b.json", "{")]);
    assert!(broken.check(&name, &broken.find(&name), true, |_| true).is_ok());
    let missing = named("v.com/c=two");
    let Err(Refusal::Missing { unread, .. }) = broken.check(&missing, &[], true, |_| true) else { panic!("found") };
    assert!(unread[0].contains("b.json: EOF"), "{unread:?}");
    assert!(broken.check(&missing, &[], false, |_| true).is_ok() && broken.reason_missing().contains("b.json: EOF"));
}

#[test]
fn autoallow_annotation_grants_device() {
    // O-22
    let name = named("v.com/c=one");
    for (value, allowed) in [("true", true), ("1", true), ("false", false), ("yes", false)] {
        let note = format!(r#"{{"annotations": {{"org.mobyproject.buildkit.device.autoallow": "{value}"}}, "#);
        let (_dir, host) = host(&[("low/x.json", &one("{}").replacen('{', &note, 1))]);
        assert_eq!(host.check(&name, &host.find(&name), true, |_| false).is_ok(), allowed, "{value}");
        assert!(host.check(&name, &host.find(&name), true, |device| device == "v.com/c=one").is_ok());
    }
}

#[test]
fn edits_replace_existing_values_in_order() {
    let text = one(r#"{"env": ["A=new", "B=b=c"], "additionalGids": [0, 44, 44],
        "deviceNodes": [{"path": "/dev/d/one", "hostPath": "/dev/null", "type": "c", "major": 1, "minor": 3,
            "permissions": "rwm"}],
        "mounts": [{"hostPath": "/h/lib", "containerPath": "/opt/lib/deep", "options": ["ro", "nosuid", "rbind"]},
            {"hostPath": "/h", "containerPath": "/opt"}]}"#);
    let (_dir, host) = host(&[("low/x.json", &text)]);
    let found = host.find(&named("v.com/c"));
    let own: &Edits = &found[0].edits.as_ref().expect("can be done")[1];
    let mut spec = Spec::new(Rootfs::Dir("/r".into()), vec!["x".into()]);
    spec.env = vec![("A".into(), "old".into())];
    let mount = |target: &str| crate::sandbox::Mount {
        source: Source::Tmpfs { size: None, mode: 0o755 },
        target: target.into(),
        readonly: false,
    };
    spec.mounts = vec![mount("/first"), mount("/opt/cache"), mount("/opt/lib/deep")];
    own.apply(&mut spec);
    own.apply(&mut spec);
    assert_eq!(spec.env, [("A".into(), "new".into()), ("B".into(), "b=c".into())]);
    assert_eq!(spec.extra_groups, [44]);
    assert_eq!(spec.devices.len(), 1);
    assert_eq!((spec.devices[0].host.to_str(), spec.devices[0].name.to_str()), (Some("/dev/null"), Some("d/one")));
    let targets: Vec<_> = spec.mounts.iter().map(|mount| mount.target.to_str().expect("UTF-8")).collect();
    assert_eq!(targets, ["/first", "/opt", "/opt/cache", "/opt/lib/deep"]);
    assert!(
        matches!(spec.mounts[3].source, Source::Driver { nosuid: true, noexec: false, .. }) && spec.mounts[3].readonly
    );
}

#[test]
fn node_keeps_host_mode_and_owner_with_note() {
    for (node, noted) in [
        (r#"{"path": "/dev/null"}"#, false),
        (r#"{"path": "/dev/null", "fileMode": 438}"#, false),
        (r#"{"path": "/dev/null", "fileMode": 384}"#, true),
        (r#"{"path": "/dev/null", "gid": 4242}"#, true),
        (r#"{"path": "/dev/nosuch", "fileMode": 384, "type": "c", "major": 9, "minor": 9}"#, false),
    ] {
        let (_dir, host) = host(&[("low/x.json", &one(&format!(r#"{{"deviceNodes": [{node}]}}"#)))]);
        let found = host.find(&named("v.com/c"));
        let edits = found[0].edits.as_ref().expect("can be done");
        assert_eq!(edits[1].notes.len(), usize::from(noted), "{node}: {:?}", edits[1].notes);
    }
}
