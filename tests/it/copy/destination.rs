//! Test the destinations of COPY and WORKDIR (C-5…C-9, C-19, A4, A6, I-7).

use super::{check, refuse};
use crate::support::TestEnv;

/// `COPY base/ /` creates a root with symlinks.
const CONTEXT: &str = "
-- f --
f
-- g --
g
-- d/x --
x
-- base/there/ 1777 --
-- base/there/old --
old
-- base/there/sub/ 0700 --
-- base/file --
file
-- base/to -> /there --
-- base/rel -> there/sub --
-- base/dangling -> /new/place --
-- base/out -> ../../../there --
-- base/there/flink -> ../file --
-- base/there/dlink -> sub --
-- usr/bin/ 0755 --
-- usr/bin/tool --
t
-- merged/usr/bin/ 0755 --
-- merged/bin -> usr/bin --
-- rootfs/bin/ 0755 --
-- rootfs/bin/new --
n
-- tmp/there/ 0750 --
-- tmp/there/deep --
d
-- clash/file/x --
x
-- clash2/there --
x
-- clash3/there/dlink/x --
x
-- over/there/flink --
new
";

const BASE: [&str; 10] = [
    "dangling -> /new/place",
    "file 0644 \"file\"",
    "out -> ../../../there",
    "rel -> there/sub",
    "there/ 1777",
    "there/dlink -> sub",
    "there/flink -> ../file",
    "there/old 0644 \"old\"",
    "there/sub/ 0700",
    "to -> /there",
];

/// The tree of the base with `lines` added or replaced, sorted.
fn base_and(lines: &[&str]) -> Vec<String> {
    let path = |line: &str| line.split(' ').next().unwrap_or_default().trim_end_matches('/').to_owned();
    let mut all: Vec<&str> = BASE.to_vec();
    all.retain(|line| !lines.iter().any(|new| path(new) == path(line)));
    all.extend(lines);
    all.sort_by_key(|line| path(line));
    all.into_iter().map(str::to_owned).collect()
}

#[test]
fn copy_destination_decides_path() {
    check(
        CONTEXT,
        &[
            ("C-5", "COPY f /new", &["new 0644 \"f\""]),
            ("C-5 C-6", "COPY f /new/", &["new/ 0755", "new/f 0644 \"f\""]),
            ("C-5", "COPY f g /n/m/", &["n/ 0755", "n/m/ 0755", "n/m/f 0644 \"f\"", "n/m/g 0644 \"g\""]),
            ("C-5", "WORKDIR /w\nCOPY f .", &["w/ 0755", "w/f 0644 \"f\""]),
            ("C-5", "WORKDIR /w\nCOPY f ./x/.", &["w/ 0755", "w/x/ 0755", "w/x/f 0644 \"f\""]),
            ("C-5", "WORKDIR /w\nCOPY f x/y", &["w/ 0755", "w/x/ 0755", "w/x/y 0644 \"f\""]),
            ("C-6", "COPY --chown=5:6 f /a/b/c", &["a/ 0755 5:6", "a/b/ 0755 5:6", "a/b/c 0644 5:6 \"f\""]),
            ("C-9: file over file", "COPY f /x\nCOPY g /x", &["x 0644 \"g\""]),
            (
                "C-4: merged",
                "COPY d /n\nCOPY f /n/x\nCOPY usr /n",
                &["n/ 0755", "n/bin/ 0755", "n/bin/tool 0644 \"t\"", "n/x 0644 \"f\""],
            ),
            ("I-7", "WORKDIR /a/b\nWORKDIR c\nWORKDIR /a", &["a/ 0755", "a/b/ 0755", "a/b/c/ 0755"]),
        ],
    );
    refuse(
        CONTEXT,
        &[
            ("A4", "COPY f g /new", &["cannot copy 2 files to /new", "write /new/"]),
            ("C-9", "COPY f /x\nCOPY f /x/y", &["/x: not a directory"]),
            ("C-9", "COPY f /x\nCOPY d /x", &["cannot copy a directory to /x", "a file"]),
            ("C-9", "COPY clash2 /\nCOPY clash3 /", &["cannot copy a directory to /there"]),
            ("C-9", "COPY d /there\nCOPY clash2 /", &["cannot copy a file to /there", "a directory"]),
            ("I-7", "COPY f /x\nWORKDIR /x/y", &["/x is a file, not a directory"]),
        ],
    );
}

#[test]
fn destination_symlinks_are_followed_inside_root() {
    // C-7, C-8, S-95
    for (ids, line, more) in [
        ("C-8", "COPY f /to", &["there/f 0644 \"f\""][..]),
        ("C-8", "COPY f /to/n", &["there/n 0644 \"f\""]),
        ("C-8", "COPY f /rel/", &["there/sub/f 0644 \"f\""]),
        ("C-8", "COPY f /out/n", &["there/n 0644 \"f\""]),
        ("C-8: a dangling link's target is made", "COPY f /dangling", &["new/ 0755", "new/place 0644 \"f\""]),
        ("C-8", "COPY d /to", &["there/x 0644 \"x\""]),
        ("C-8: nothing below is followed", "COPY over /", &["there/ 0755", "there/flink 0644 \"new\""]),
        ("C-8: the named destination is", "COPY f /there/flink", &["file 0644 \"f\""]),
        ("C-7: the destination keeps its metadata", "COPY tmp/there /there", &["there/deep 0644 \"d\""]),
        ("C-7: what is nested does not", "COPY tmp /", &["there/ 0750", "there/deep 0644 \"d\""]),
        ("I-7", "WORKDIR /to", &[]),
        ("I-7", "WORKDIR /to/w", &["there/w/ 0755"]),
    ] {
        let env = TestEnv::new();
        let context = env.context(CONTEXT);
        let (done, name) = super::build(&env, &context, &format!("COPY base/ /\n{line}"), &[]);
        assert_eq!(done.code, 0, "{ids} {line}\n{done}");
        let image = env.image(&name);
        assert_eq!(super::list(&image), base_and(more), "{ids} {line}");
        super::umoci_agrees(&image, ids);
    }
    refuse(
        CONTEXT,
        &[
            (
                "C-8 A6",
                "COPY merged /\nCOPY rootfs /",
                &["cannot copy a directory to /bin", "a symlink to usr/bin", "not followed"],
            ),
            ("C-9", "COPY base /\nCOPY clash /", &["cannot copy a directory to /file"]),
            ("C-9", "COPY base /\nCOPY clash3 /", &["cannot copy a directory to /there/dlink", "symlink"]),
        ],
    );
}

#[test]
fn linked_layers_are_independent_of_base() {
    // C-19
    check(
        CONTEXT,
        &[
            ("C-19", "COPY --link f /n/f", &["n/ 0755", "n/f 0644 \"f\""]),
            ("C-19", "COPY --link d f /n/", &["n/ 0755", "n/f 0644 \"f\"", "n/x 0644 \"x\""]),
            ("C-19: what was there is replaced", "COPY f /x\nCOPY --link d /x", &["x/ 0755", "x/x 0644 \"x\""]),
            ("C-19", "COPY --link --chown=1:2 --chmod=600 f /n", &["n 0600 1:2 \"f\""]),
            ("C-19", "ADD --link f /n", &["n 0644 \"f\""]),
            (
                "C-19: /tmp and /var/tmp stay world-writable",
                "COPY --link --chown=1:1 f /var/tmp/x/f\nCOPY --link d /tmp/",
                &[
                    "tmp/ 1777",
                    "tmp/x 0644 \"x\"",
                    "var/ 0755 1:1",
                    "var/tmp/ 1777",
                    "var/tmp/x/ 0755 1:1",
                    "var/tmp/x/f 0644 1:1 \"f\"",
                ],
            ),
        ],
    );
    refuse(CONTEXT, &[("C-19", "COPY --link --chown=app f /n", &["cannot look up owner \"app\"", "use a numeric id"])]);
    // Existing directories keep mode and owner, and are not in the layer (N-7).
    check(
        CONTEXT,
        &[
            (
                "N-7",
                "COPY --chown=7:8 tmp /\nCOPY --link --chown=1:2 --chmod=700 f /there/app/f",
                &["there/ 0750 7:8", "there/app/ 0700 1:2", "there/app/f 0700 1:2 \"f\"", "there/deep 0644 7:8 \"d\""],
            ),
            (
                "N-7",
                "COPY --chown=7:8 tmp /\nCOPY --link --chown=1:2 d /there",
                &["there/ 0750 7:8", "there/deep 0644 7:8 \"d\"", "there/x 0644 1:2 \"x\""],
            ),
        ],
    );
    // The layer is the same over another base, so it is cached.
    let env = TestEnv::new();
    let context = env.context(CONTEXT);
    let (_, one) = super::build(&env, &context, "COPY g /one\nCOPY --link f /n/f", &[]);
    let (done, two) = super::build(&env, &context, "COPY d /two\nCOPY --link f /n/f", &[]);
    done.says("CACHED");
    assert_eq!(env.image(&one).diff_ids()[1], env.image(&two).diff_ids()[1]);
}
