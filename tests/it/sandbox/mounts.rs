//! Test mounts in the root, and that they leave no trace.

use std::fs;
use std::os::unix::fs::symlink;

use kiln::sandbox::{Hint, Mount, Source};

use super::{TestRoot, root_only};

fn data(target: &str, text: &str) -> Mount {
    let source = Source::Data { bytes: text.into(), mode: 0o400, uid: 0, gid: 0 };
    Mount { source, target: target.into(), readonly: true }
}

fn bind(root: &TestRoot, from: &str, target: &str, readonly: bool) -> Mount {
    let source = Source::Inside { root: root.path(from), subpath: "".into(), no_symlinks: false };
    Mount { source, target: target.into(), readonly }
}

fn tmpfs(target: &str, size: Option<u64>) -> Mount {
    Mount { source: Source::Tmpfs { size, mode: 0o1777 }, target: target.into(), readonly: false }
}

#[test]
fn resolver_and_hosts_are_read_only_and_not_in_layer() {
    //
    root_only!();
    let root = TestRoot::new();
    fs::write(root.lower("etc/hosts"), "the image's own\n").unwrap();
    let mut spec = root.sh(
        "cat /etc/hosts /etc/resolv.conf; (echo x > /etc/hosts) 2>/dev/null || (echo x > /etc/resolv.conf) 2>&1; echo y > /etc/other",
    );
    spec.hosts = Some(b"127.0.0.1 localhost\n".to_vec());
    spec.resolv_conf = Some(b"nameserver 192.0.2.1\n".to_vec());
    let said = root.succeeds(&spec);
    assert!(said.starts_with("127.0.0.1 localhost\nnameserver 192.0.2.1\n"), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    assert_eq!(root.changed(), ["etc", "etc/other"]);
    assert_eq!(fs::read_to_string(root.lower("etc/hosts")).unwrap(), "the image's own\n");
}

#[test]
fn mount_target_behind_dangling_symlink_is_created() {
    // R-6, S-18, S-22
    root_only!();
    let root = TestRoot::new();
    symlink("/run/systemd/resolve/stub.conf", root.lower("etc/resolv.conf")).unwrap();
    symlink("/run", root.lower("var-run")).unwrap();
    let mut spec = root.sh("cat /etc/resolv.conf /run/systemd/resolve/stub.conf; cat /var-run/secrets/x; echo y > /z");
    spec.resolv_conf = Some(b"nameserver 192.0.2.1\n".to_vec());
    spec.mounts = vec![data("/var-run/secrets/x", "secret\n")];
    assert_eq!(root.succeeds(&spec), "nameserver 192.0.2.1\nnameserver 192.0.2.1\nsecret\n");
    assert_eq!(root.changed(), ["z"]);
}

#[test]
fn image_symlinks_do_not_lead_mounts_out() {
    // S-18, S-22: mount targets stay inside the root, whatever symlinks say.
    root_only!();
    let root = TestRoot::new();
    fs::create_dir(root.path("host")).unwrap();
    fs::write(root.path("host/canary"), "untouched").unwrap();
    let out = format!("../../../../../../..{}", root.path("host").display());
    symlink(&out, root.lower("out")).unwrap();
    symlink("/proc/1/root", root.lower("magic")).unwrap();
    fs::remove_dir(root.lower("root")).unwrap();
    let mut spec = root.sh("cat /out/canary");
    spec.mounts = vec![data("/out/canary", "inside\n")];
    assert_eq!(root.succeeds(&spec), "inside\n");
    assert_eq!(fs::read_to_string(root.path("host/canary")).unwrap(), "untouched");
    spec.mounts = vec![data("/magic/etc/x", "inside\n")];
    assert!(root.run(&spec).is_err());
    // As a source.
    symlink(&out, root.path("lower/source")).unwrap();
    let source = Source::Inside { root: root.path("lower"), subpath: "source/canary".into(), no_symlinks: false };
    spec.mounts = vec![Mount { source, target: "/m".into(), readonly: true }];
    assert!(root.run(&spec).err().unwrap().to_string().contains("source/canary"));
    let source = Source::Inside { root: root.path("lower"), subpath: "bin/sh".into(), no_symlinks: true };
    spec.mounts = vec![Mount { source, target: "/m".into(), readonly: true }];
    let error = root.run(&spec).err().unwrap();
    assert_eq!(error.hint(), Some(&Hint::SymlinkInSource), "{error}");
}

#[test]
fn mounts_nest_and_the_last_on_a_target_wins() {
    // M-2, M-21
    root_only!();
    let root = TestRoot::new();
    for dir in ["a", "b", "c"] {
        fs::create_dir(root.path(dir)).unwrap();
        fs::write(root.path(dir).join("name"), dir).unwrap();
    }
    let mut spec = root.sh("cat /m/name /m/sub/dir/name; echo; ls /m; echo new > /m/sub/dir/new");
    spec.mounts =
        vec![bind(&root, "a", "/m", false), bind(&root, "b", "/m", false), bind(&root, "c", "/m/sub/dir", false)];
    assert_eq!(root.succeeds(&spec), "bc\nname\nsub\n");
    assert_eq!(fs::read_to_string(root.path("c/new")).unwrap(), "new\n");
    assert_eq!(root.changed(), [""; 0]);
}

#[test]
fn read_only_mounts_refuse_writes_and_types_must_match() {
    // M-5
    root_only!();
    let root = TestRoot::new();
    fs::create_dir(root.path("a")).unwrap();
    fs::write(root.path("a/f"), "f").unwrap();
    let mut spec = root.sh("(echo x > /m/f) 2>&1; (rm /m/f) 2>&1; true");
    spec.mounts = vec![bind(&root, "a", "/m", true)];
    assert_eq!(root.succeeds(&spec).matches("Read-only").count(), 2);
    spec.mounts = vec![bind(&root, "a", "/etc/passwd", true)];
    let error = root.run(&spec).err().unwrap();
    assert_eq!(error.to_string(), "cannot mount a directory over the file /etc/passwd");
    spec.mounts = vec![data("/m/deep/f", "x")];
    spec.mounts.insert(0, bind(&root, "a", "/m", true));
    let error = root.run(&spec).err().unwrap();
    assert!(error.to_string().contains("/m/deep"), "{error}");
    for bad in ["/", "/.", "relative", "/x/.."] {
        spec.mounts = vec![tmpfs(bad, None)];
        assert!(root.run(&spec).is_err(), "{bad}");
    }
}

#[test]
fn tmpfs_mounts_are_empty_and_bounded() {
    // M-11
    root_only!();
    let root = TestRoot::new();
    let mut spec = root.sh("ls /etc; dd if=/dev/zero of=/etc/x bs=1024 count=200 2>&1 | grep -c 'No space'");
    spec.mounts = vec![tmpfs("/etc", Some(64 << 10))];
    spec.user = "0:0".to_owned();
    let said = root.succeeds(&spec);
    assert_eq!(said, "1\n");
    let mut spec = root.sh("df -k /dev/shm | tail -1 | awk '{print $2}'");
    spec.shm_size = 1 << 20;
    assert_eq!(root.succeeds(&spec), "1024\n");
}

#[test]
fn secrets_have_their_mode_and_owner_and_leave_nothing() {
    // M-13, M-16, S-110, S-111
    root_only!();
    let root = TestRoot::new();
    let mut spec = root.sh("stat -c '%a %u %g' /run/secrets/k; cat /run/secrets/k");
    let source = Source::Data { bytes: b"k\0\xff\n".to_vec(), mode: 0o440, uid: 1000, gid: 1001 };
    spec.mounts = vec![Mount { source, target: "/run/secrets/k".into(), readonly: true }];
    spec.user = "app".to_owned();
    assert!(root.succeeds(&spec).starts_with("440 1000 1001\nk\0"));
    spec.user = "4321".to_owned();
    assert!(!root.run(&spec).unwrap().outcome.exit.success());
    assert_eq!(root.changed(), [""; 0]);
    assert!(!root.says("ls /run 2>&1; true").contains("secrets\n") || root.path("stub/run").exists());
}

#[test]
fn mount_targets_do_not_change_parents() {
    // M-2, R-13: not even a time changes.
    root_only!();
    let root = TestRoot::new();
    let before = fs::metadata(root.lower("etc")).unwrap().modified().unwrap();
    let mut spec = root.sh("stat -c %Y /etc");
    spec.mounts = vec![data("/etc/deep/er/file", "x"), tmpfs("/etc/t", None)];
    let said: u64 = root.succeeds(&spec).trim().parse().unwrap();
    assert_eq!(said, before.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs());
    assert_eq!(root.changed(), [""; 0]);
}
