//! Test the sources of COPY and ADD (C-1…C-4, C-10…C-12, C-18, C-20…C-22, C-28, C-30).

use super::{check, refuse};
use crate::support::TestEnv;

const CONTEXT: &str = "
-- a.txt --
a
-- b.txt 0600 --
b
-- [x].txt --
brackets
-- two words --
space
-- d/ 0750 --
-- d/x --
x
-- d/e/ 0700 --
-- d/e/y 0755 --
y
-- d/l -> e/y --
-- d/broken -> ../nowhere --
-- w/one/1 --
1
-- w/two/2 --
2
-- w/file --
f
-- abs -> /a.txt --
-- up -> ../../../a.txt --
-- dirlink -> d --
-- hop -> abs --
-- loop -> loop --
-- deep/p/q/r.txt --
r
-- deep/p/s.md --
s
-- deep/t.txt --
t
";

#[test]
fn copy_sources_are_confined_to_context() {
    check(
        CONTEXT,
        &[
            ("C-1", "COPY ../a.txt /", &["a.txt 0644 \"a\""]),
            ("C-1", "COPY /a.txt ./d/../../b.txt /", &["a.txt 0644 \"a\"", "b.txt 0600 \"b\""]),
            ("C-2", "COPY a.txt nothin[g] /", &["a.txt 0644 \"a\""]),
            ("C-2", "COPY nothin[g] /new/", &[]),
            ("C-3", "COPY ?.txt /", &["a.txt 0644 \"a\"", "b.txt 0600 \"b\""]),
            ("C-3", "COPY [^b]*.txt /", &["[x].txt 0644 \"brackets\"", "a.txt 0644 \"a\""]),
            ("C-3", "COPY [[]x].txt /", &["[x].txt 0644 \"brackets\""]),
            ("C-3", "COPY w/*/[0-9] /", &["1 0644 \"1\"", "2 0644 \"2\""]),
            ("C-3: * stays within a name", "COPY deep/*.txt /", &["t.txt 0644 \"t\""]),
            (
                "C-3 C-4: matched directories",
                "COPY w/* /o/",
                &["o/ 0755", "o/1 0644 \"1\"", "o/2 0644 \"2\"", "o/file 0644 \"f\""],
            ),
            (
                "C-4 C-6 C-10",
                "COPY d /n",
                &["n/ 0755", "n/broken -> ../nowhere", "n/e/ 0700", "n/e/y 0755 \"y\"", "n/l -> e/y", "n/x 0644 \"x\""],
            ),
            (
                "C-4",
                "COPY d/. /n/\nCOPY d/e/ n/e2",
                &[
                    "n/ 0755",
                    "n/broken -> ../nowhere",
                    "n/e/ 0700",
                    "n/e/y 0755 \"y\"",
                    "n/e2/ 0755",
                    "n/e2/y 0755 \"y\"",
                    "n/l -> e/y",
                    "n/x 0644 \"x\"",
                ],
            ),
            (
                "C-10: followed inside the context",
                "COPY abs up hop /",
                &["abs 0644 \"a\"", "hop 0644 \"a\"", "up 0644 \"a\""],
            ),
            ("C-10", "COPY dirlink/e /n/", &["n/ 0755", "n/y 0755 \"y\""]),
            ("C-30", "COPY [\"two words\", \"/to dir/\"]", &["to dir/ 0755", "to dir/two words 0644 \"space\""]),
            ("C-28 P-19", "COPY <<one <<two /h/\n1\none\n2\ntwo", &["h/ 0755", "h/one 0644 \"1\"", "h/two 0644 \"2\""]),
            ("C-28", "COPY <<E /f\nx\nE", &["f 0644 \"x\""]),
            (
                "C-28 C-17",
                "COPY --chmod=755 --chown=1:2 <<E a.txt /h/\nx\nE",
                &["h/ 0755 1:2", "h/E 0755 1:2 \"x\"", "h/a.txt 0755 1:2 \"a\""],
            ),
        ],
    );
    refuse(
        CONTEXT,
        &[
            ("C-2", "COPY a.txt missing /", &["missing", "not found"]),
            ("C-2", "COPY nodir/* /", &["nodir/*", "not found"]),
            ("C-3", "COPY a[ /", &["bad pattern"]),
            ("C-10", "COPY loop /", &["too many levels of symbolic links"]),
            ("C-10", "COPY d/broken /", &["not found", "d/broken leads through a symlink to nowhere"]),
            ("C-3 C-10", "COPY d/b* /", &["d/b* not found", "d/broken leads through a symlink to nowhere"]),
            ("C-30", "COPY \"two words\" /to", &["unterminated quote", "write names with spaces in the JSON form"]),
            ("C-22", "COPY https://example.org/x /", &["replace COPY with ADD"]),
            ("C-22", "COPY git@example.org:x/y /", &["replace COPY with ADD"]),
        ],
    );
}

#[test]
fn copy_parents_keeps_source_directories() {
    // C-20
    check(
        CONTEXT,
        &[
            (
                "C-20",
                "COPY --parents deep/p/q/r.txt /n/",
                &["n/ 0755", "n/deep/ 0755", "n/deep/p/ 0755", "n/deep/p/q/ 0755", "n/deep/p/q/r.txt 0644 \"r\""],
            ),
            (
                "C-20: the pivot",
                "COPY --parents deep/./p/q/r.txt /n/",
                &["n/ 0755", "n/p/ 0755", "n/p/q/ 0755", "n/p/q/r.txt 0644 \"r\""],
            ),
            (
                "C-20: **",
                "COPY --parents deep/**/*.txt /n/",
                &[
                    "n/ 0755",
                    "n/deep/ 0755",
                    "n/deep/p/ 0755",
                    "n/deep/p/q/ 0755",
                    "n/deep/p/q/r.txt 0644 \"r\"",
                    "n/deep/t.txt 0644 \"t\"",
                ],
            ),
            (
                "C-20: the parents' metadata",
                "COPY --parents d/e/y /n/",
                &["n/ 0755", "n/d/ 0750", "n/d/e/ 0700", "n/d/e/y 0755 \"y\""],
            ),
            (
                "C-20 C-21",
                "COPY --parents --exclude=**/q deep /n/",
                &["n/ 0755", "n/deep/ 0755", "n/deep/p/ 0755", "n/deep/p/s.md 0644 \"s\"", "n/deep/t.txt 0644 \"t\""],
            ),
        ],
    );
    check(
        CONTEXT,
        &[
            ("N-25", "COPY --parents deep/*/none /n/", &["n/ 0755"]),
            ("N-25", "COPY --parents --chown=5 deep/./n* /n/m", &["n/ 0755 5:5", "n/m/ 0755 5:5"]),
            ("N-25", "COPY --parents --exclude=** deep/t.txt /n", &["n/ 0755"]),
            ("N-25: where the pattern begins there is nothing", "COPY --parents no*/./x /n", &[]),
            ("C-20: a heredoc has no parents", "COPY --parents <<E /n/f\nh\nE", &["n/ 0755", "n/f 0644 \"h\""]),
        ],
    );
    refuse(CONTEXT, &[("C-20", "COPY --parents deep/gone/x /n/", &["deep/gone/x", "not found"])]);
}

#[test]
fn copy_exclude_is_relative_to_source() {
    // C-21, G-12
    check(
        CONTEXT,
        &[
            ("C-21", "COPY --exclude=e --exclude=l --exclude=broken d /n", &["n/ 0755", "n/x 0644 \"x\""]),
            (
                "C-21: ! re-includes",
                "COPY --exclude=* --exclude=!e/y d /n",
                &["n/ 0755", "n/e/ 0700", "n/e/y 0755 \"y\""],
            ),
            (
                "C-21: a directory that holds nothing more",
                "COPY --exclude=*/y --exclude=x --exclude=l --exclude=broken d /n",
                &["n/ 0755", "n/e/ 0700"],
            ),
            ("C-21: with wildcards", "COPY --exclude=1 w/* /n/", &["n/ 0755", "n/2 0644 \"2\"", "n/file 0644 \"f\""]),
            ("C-21: files that are named", "COPY --exclude=b.* ?.txt /n/", &["n/ 0755", "n/a.txt 0644 \"a\""]),
        ],
    );
}

#[test]
fn copy_keeps_hard_links_and_never_opens_special_files() {
    // C-11, C-12, S-92
    let env = TestEnv::new();
    let context = env.context("-- d/a --\nsame\n-- d/b = d/a --\n-- other = d/a --\n");
    nix::unistd::mkfifo(&context.join("d/fifo"), nix::sys::stat::Mode::from_bits_truncate(0o640)).expect("mkfifo");
    let _socket = std::os::unix::net::UnixListener::bind(context.join("d/socket")).expect("bind");
    let (done, name) = super::build(&env, &context, "COPY d /n", &[]);
    assert_eq!(done.code, 0, "{done}");
    let layer = env.image(&name).layer_tree(0);
    assert_eq!((layer["n/b"].kind, layer["n/b"].link.as_str()), ("hard", "n/a"));
    assert_eq!((layer["n/fifo"].kind, layer["n/fifo"].mode), ("fifo", 0o640));
    assert_eq!(layer["n/socket"].kind, "file", "layers cannot hold sockets (N-26)");
    done.says("d/socket is a socket, which no layer can hold; it becomes an empty file");
    // Given as the source itself, a fifo is copied and a socket is reported.
    let (done, name) = super::build(&env, &context, "COPY d/fifo /f\nADD d/fifo /g\nCOPY --chmod=604 d/socket /s", &[]);
    assert_eq!(done.code, 0, "{done}");
    done.says("d/socket is a socket");
    assert_eq!(super::list(&env.image(&name)), ["f fifo 0640", "g fifo 0640", "s 0604 \"\""]);
    // Hard links are also kept between sources of one instruction.
    let (_, name) = super::build(&env, &context, "COPY d/a other /n/", &[]);
    assert_eq!(env.image(&name).layer_tree(0)["n/other"].link, "n/a");
}

#[test]
fn copy_from_accepts_stages_images_and_contexts() {
    // C-18
    let env = TestEnv::new();
    let context = env.context(
        "
-- f --
f
-- Dockerfile --
FROM scratch AS one
COPY --chown=7:8 --chmod=4755 f /d/f
COPY <<E /d/big
0123456789
E
FROM scratch AS base
COPY --from=0 /d /x
COPY --from=one /d/f /y
COPY --from=other f /z
",
    );
    let other = env.context("-- f 0600 --\nother\n");
    let named = format!("other={}", other.display());
    let build = |name: &str| {
        env.build(&["-t", name, "--build-context", &named], &context).ok();
        super::list(&env.image(name))
    };
    let want = ["x/ 0755", "x/big 0644 \"0123456789\"", "x/f 4755 7:8 \"f\"", "y 4755 7:8 \"f\"", "z 0600 \"other\""];
    assert_eq!(build("first"), want);
    // From an image in the store whose layers are not unpacked.
    env.add(&context, "-- Dockerfile --\nFROM scratch\nCOPY --from=first /x/f /y /\n");
    assert_eq!(build("second"), ["f 4755 7:8 \"f\"", "y 4755 7:8 \"f\""]);
    env.add(&context, "-- Dockerfile --\nFROM other\nCOPY f /more\n");
    assert_eq!(build("third"), ["f 0600 \"other\"", "more 0644 \"f\""]);
}
