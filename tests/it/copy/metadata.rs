//! Test owners, modes and extended attributes of copied files (C-14…C-17).

use super::{check, refuse};
use crate::support::TestEnv;
use crate::support::image::decompress;

const CONTEXT: &str = "
-- base/etc/passwd --
root:x:0:0:root:/root:/bin/sh
app:x:100:200::/app:/bin/sh
broken
-- base/etc/group --
root:x:0:
staff:x:50:
-- f 0640 --
f
-- tool 0755 --
t
-- set 4755 --
s
-- d/ 0700 --
-- d/x 0600 --
x
-- d/run 0711 --
r
-- d/e/ 0500 --
-- d/l -> x --
";

const ETC: [&str; 3] = [
    "etc/ 0755",
    "etc/group 0644 \"root:x:0:\\nstaff:x:50:\"",
    "etc/passwd 0644 \"root:x:0:0:root:/root:/bin/sh\\napp:x:100:200::/app:/bin/sh\\nbroken\"",
];

#[test]
fn chown_accepts_names_and_numbers() {
    // C-15, C-16, A2, A3
    let env = TestEnv::new();
    let context = env.context(CONTEXT);
    for (chown, owner) in [
        ("app", "100:200"),
        ("app:", "100:0"),
        ("5:", "5:0"),
        (":33", "0:33"),
        (":staff", "0:50"),
        ("root:staff", "0:50"),
        ("app:staff", "100:50"),
        ("app:7", "100:7"),
        ("7:staff", "7:50"),
        ("7", "7:7"),
        ("7:8", "7:8"),
        ("4294967294:2097153", "4294967294:2097153"),
    ] {
        let (done, name) = super::build(&env, &context, &format!("COPY base /\nCOPY --chown={chown} f /n/"), &[]);
        assert_eq!(done.code, 0, "{chown}\n{done}");
        let want = ETC.iter().map(|s| (*s).to_owned());
        let more = [format!("n/ 0755 {owner}"), format!("n/f 0640 {owner} \"f\"")];
        assert_eq!(super::list(&env.image(&name)), want.chain(more).collect::<Vec<_>>(), "{chown}");
    }
    refuse(
        CONTEXT,
        &[
            ("C-16 A2", "COPY base /\nCOPY --chown=nobody f /", &["unknown user \"nobody\"", "root, app"]),
            ("C-16", "COPY base /\nCOPY --chown=app:nogroup f /", &["unknown group \"nogroup\"", "root, staff"]),
            ("C-16", "COPY --chown=app f /", &["unknown user \"app\"", "no users in /etc/passwd"]),
            ("C-16", "COPY --chown=1:2:3 f /", &["1:2:3"]),
            ("C-16", "COPY --chown=4294967296 f /", &["4294967296"]),
            ("C-16: means unchanged to the kernel", "COPY --chown=4294967295 f /", &["4294967295"]),
        ],
    );
    check(
        CONTEXT,
        &[
            ("C-15 A15", "COPY set f /", &["f 0640 \"f\"", "set 4755 \"s\""]),
            ("N-23", "COPY --chown= --chmod= --exclude= --from= f /", &["f 0640 \"f\""]),
            ("N-23", "ADD --chown= --chmod= --exclude= --checksum= f /", &["f 0640 \"f\""]),
            ("N-23", "COPY --chown=root f /", &["f 0640 \"f\""]),
            ("N-23", "COPY --link --chown=root:root f /", &["f 0640 \"f\""]),
            ("C-16", "ARG who=3:4\nCOPY --chown=$who f /", &["f 0640 3:4 \"f\""]),
        ],
    );
}

#[test]
fn user_xattrs_survive_copy() {
    // C-14
    requires!(setfattr);
    let env = TestEnv::new();
    let context = env.context("-- d/f --\nf\n");
    let mut command = std::process::Command::new("setfattr");
    if !command
        .args(["-n", "user.mime", "-v", "text", "d/f"])
        .current_dir(&context)
        .status()
        .expect("setfattr")
        .success()
    {
        return eprintln!("skipped: this file system has no attributes");
    }
    let (done, name) = super::build(&env, &context, "COPY d /n\nFROM scratch\nCOPY --from=0 /n /m", &[]);
    assert_eq!(done.code, 0, "{done}");
    assert_eq!(env.image(&name).tree()["m/f"].xattrs.keys().collect::<Vec<_>>(), ["user.mime"]);
}

#[test]
fn copy_ignores_host_owners() {
    // C-15
    requires!(root);
    let env = TestEnv::new();
    let context = env.context("-- d/f --\nf\n");
    for path in ["d", "d/f"] {
        std::os::unix::fs::chown(context.join(path), Some(1234), Some(2345)).expect("chown");
    }
    for line in ["COPY d /n", "COPY d/f /n/", "COPY --parents d/f /"] {
        let (done, name) = super::build(&env, &context, line, &[]);
        assert_eq!(done.code, 0, "{done}");
        let tree = env.image(&name).tree();
        assert!(tree.0.values().all(|node| (node.uid, node.gid) == (0, 0)), "{line}: {tree}");
    }
}

#[test]
fn chmod_accepts_octal_and_symbolic_modes() {
    // C-17
    check(
        CONTEXT,
        &[
            ("C-17", "COPY --chmod=0604 f /n", &["n 0604 \"f\""]),
            ("C-17", "COPY --chmod=6755 f /n", &["n 6755 \"f\""]),
            (
                "C-17: directories too",
                "COPY --chmod=755 d /n",
                &["n/ 0755", "n/e/ 0755", "n/l -> x", "n/run 0755 \"r\"", "n/x 0755 \"x\""],
            ),
            (
                "C-17",
                "COPY --chmod=u=rwX,go=rX d /n",
                &["n/ 0755", "n/e/ 0755", "n/l -> x", "n/run 0755 \"r\"", "n/x 0644 \"x\""],
            ),
            ("C-17", "COPY --chmod=+x f /n", &["n 0751 \"f\""]),
            ("C-17", "COPY --chmod=g=u,o= tool /n", &["n 0770 \"t\""]),
            ("C-17", "COPY --chmod=u-s set /n", &["n 0755 \"s\""]),
        ],
    );
    let env = TestEnv::new();
    let (done, name) = super::build(&env, &env.context(CONTEXT), "COPY --chmod=700 d /n", &[]);
    assert_eq!(done.code, 0, "{done}");
    // A symlink has no mode to change. Readers ignore the mode in its header, but it is part of the layer digest.
    let layer = decompress(&std::fs::read(&env.image(&name).layers[0]).expect("read")).expect("a layer");
    let link = tar::Archive::new(&layer[..])
        .entries()
        .expect("a tar")
        .map(|entry| entry.expect("a member").header().clone())
        .find(|header| header.entry_type().is_symlink());
    assert_eq!(link.expect("the link").mode().expect("a mode"), 0o777, "C-17");
    refuse(CONTEXT, &[("C-17", "COPY --chmod=999 f /", &["999"]), ("C-17", "COPY --chmod=u+z f /", &["u+z"])]);
}

#[test]
fn copy_keeps_file_xattrs_and_drops_host_xattrs() {
    // C-14
    requires!(root, setfattr, setfacl, umoci, attributes);
    let env = TestEnv::new();
    let context = env.context("-- d/f 0755 --\nf\n-- d/acl --\na\n");
    let run = |program: &str, args: &[&str]| {
        let done = std::process::Command::new(program).args(args).current_dir(&context).output().expect(program);
        assert!(done.status.success(), "{program} {args:?}: {done:?}");
    };
    let capability = "0x0100000200040000000000000a00000000000000";
    run("setfattr", &["-n", "security.capability", "-v", capability, "d/f"]);
    run("setfattr", &["-n", "user.mime", "-v", "text", "d/f"]);
    run("setfattr", &["-n", "user.overlay.opaque", "-v", "y", "d"]);
    run("setfattr", &["-n", "trusted.overlay.opaque", "-v", "y", "d"]);
    run("setfacl", &["-m", "u:1234:r", "d/acl"]);
    let (done, name) = super::build(&env, &context, "COPY d /n\nFROM scratch\nCOPY --from=0 /n /m", &[]);
    assert_eq!(done.code, 0, "{done}");
    // Read with umoci: the tar reader of the tests cannot parse the line feed in the capability value.
    let tree = env.image(&name).umoci_tree();
    let names = |path: &str| tree[path].xattrs.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names("m/f"), ["security.capability", "user.mime"]);
    assert_eq!(tree["m/f"].xattrs["security.capability"], capability[2..]);
    assert!(names("m").is_empty() && names("m/acl").is_empty(), "{tree}");
}
