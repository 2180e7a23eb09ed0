//! Test ignore files (G-1…G-12).

use std::fs;
use std::path::Path;

use super::sh;
use crate::support::TestEnv;

const TREE: &str = "
-- Dockerfile --
FROM scratch
COPY . /
-- a --
-- ab --
-- a.md --
-- b.md --
-- foo/bar/baz --
-- foo/x --
-- sub/foo/y --
-- sub/a --
-- sub/deep/a --
-- docs/README.md --
-- docs/keep/this/z --
-- docs/other/q --
-- node_modules/m/index.js --
-- [odd] --
-- #indented --
";

/// The files of the image, sorted, with directories only if they are empty.
fn kept(env: &TestEnv, context: &Path, args: &[&str]) -> Vec<String> {
    env.build(&[&["-t", "kept"], args].concat(), context).ok();
    let tree = env.image("kept").tree();
    let has_more = |path: &str| tree.0.keys().any(|other| other.starts_with(&format!("{path}/")));
    let line = |(path, node): (&String, &crate::support::tree::Node)| match node.kind {
        "dir" if has_more(path) => None,
        "dir" => Some(format!("{path}/")),
        _ => Some(path.clone()),
    };
    tree.0.iter().filter_map(line).collect()
}

#[test]
fn ignore_rules_match_like_docker() {
    // Each row: ids, the ignore file, and what is left of TREE besides the Dockerfile and the ignore file.
    let all = [
        "#indented",
        "[odd]",
        "a",
        "a.md",
        "ab",
        "b.md",
        "docs/README.md",
        "docs/keep/this/z",
        "docs/other/q",
        "foo/bar/baz",
        "foo/x",
        "node_modules/m/index.js",
        "sub/a",
        "sub/deep/a",
        "sub/foo/y",
    ];
    let without = |gone: &[&str]| -> Vec<String> {
        let is_gone = |path: &str| gone.iter().any(|g| path == *g || path.starts_with(&format!("{g}/")));
        all.iter().filter(|path| !is_gone(path)).map(|s| (*s).to_owned()).collect()
    };
    let emptied = |gone: &[&str], dir: &str| -> Vec<String> {
        let mut left = without(gone);
        left.push(dir.to_owned());
        left.sort();
        left
    };
    let only = |kept: &[&str]| kept.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let rows: &[(&str, &str, Vec<String>)] = &[
        ("G-3: none", "", without(&[])),
        ("G-3: comments, blanks, white space, BOM", "\u{feff}# foo\n\n  a  \n#a.md\n\t\n", without(&["a"])),
        ("G-3: a # that is not first is a name", " #\nfoo#\n", without(&[])),
        ("G-3: an indented one too", "  #indented\n", without(&["#indented"])),
        ("G-3: one and the same", "/foo\n", without(&["foo"])),
        ("G-3", "foo/\n", without(&["foo"])),
        ("G-3", "./foo\n", without(&["foo"])),
        ("G-3", "foo/../foo/.\n", without(&["foo"])),
        ("G-3: nothing", ".\n/\n..\n../foo\n", without(&[])),
        ("G-3: no line feed at the end, and CR LF", "foo\r\nsub", without(&["foo", "sub"])),
        ("G-5: anchored", "a\n", without(&["a"])),
        ("G-5", "*\n", only(&[])),
        ("G-5", "*.md\n", without(&["a.md", "b.md"])),
        ("G-5", "a?\n", without(&["ab"])),
        ("G-5", "*/a\n", without(&["sub/a"])),
        ("G-5: directories stay", "**/a\n", emptied(&["a", "sub/a", "sub/deep/a"], "sub/deep/")),
        ("G-5", "sub/**\n", emptied(&["sub"], "sub/")),
        ("G-5", "sub/**/a\n", emptied(&["sub/a", "sub/deep/a"], "sub/deep/")),
        ("G-5", "**/*.md\n", without(&["a.md", "b.md", "docs/README.md"])),
        ("G-5", "**/foo\n", without(&["foo", "sub/foo"])),
        ("G-5", "[ab].md\n", without(&["a.md", "b.md"])),
        ("G-5", "[^a].md\n", without(&["b.md"])),
        ("G-5: escapes", "\\[odd\\]\n", without(&["[odd]"])),
        ("G-6: parents", "foo/bar\n", without(&["foo/bar"])),
        ("G-4: the last line wins", "*.md\n!b.md\n", without(&["a.md"])),
        ("G-4", "!b.md\n*.md\n", without(&["a.md", "b.md"])),
        ("G-4", "*.md\n! b.md\n", without(&["a.md"])),
        ("G-4: into hidden directories", "*\n!docs/keep/this\n", only(&["docs/keep/this/z"])),
        ("G-4", "*\n!docs\ndocs/other\n", only(&["docs/README.md", "docs/keep/this/z"])),
        ("G-4", "**\n!**/a\n", only(&["a", "sub/a", "sub/deep/a"])),
        ("G-4 G-6", "docs\n!docs/*.md\n", without(&["docs/keep", "docs/other"])),
        ("G-11", "FOO\nA.MD\n", without(&[])),
    ];
    let env = TestEnv::new();
    let context = env.context(TREE);
    let mut wrong = String::new();
    for (ids, ignore, want) in rows {
        fs::write(context.join(".dockerignore"), ignore).expect("write");
        let mut got = kept(&env, &context, &[]);
        got.retain(|path| !matches!(path.as_str(), "Dockerfile" | ".dockerignore"));
        if got != *want {
            wrong += &format!("{ids}: {ignore:?}\n  want {want:?}\n  got  {got:?}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn dockerfile_specific_ignore_file_takes_precedence() {
    // G-1, G-2, A22
    let env = TestEnv::new();
    let context = env.context(
        "
-- build/My.Dockerfile --
FROM scratch
COPY . /
COPY --from=other . /other/
-- Dockerfile --
FROM scratch
COPY . /
-- .dockerignore --
a
-- .containerignore --
b
-- a --
-- b --
",
    );
    let other = env.context("-- .dockerignore --\nx\n.dockerignore\n-- x --\n-- y --\n");
    let named = format!("other={}", other.display());
    let file = context.join("build/My.Dockerfile");
    let args = ["--build-context", &named, "-f", file.to_str().expect("UTF-8")];
    let all = [".containerignore", ".dockerignore", "Dockerfile", "b", "build/My.Dockerfile", "other/y"];
    assert_eq!(kept(&env, &context, &args), all);
    // The specific file replaces the general one; nothing is merged.
    fs::write(context.join("build/My.Dockerfile.dockerignore"), "*ignore\nDockerfile\nbuild\n").expect("write");
    assert_eq!(kept(&env, &context, &args), ["a", "b", "other/y"]);
    fs::remove_file(context.join(".dockerignore")).expect("remove");
    assert_eq!(
        kept(&env, &context, &[]),
        [".containerignore", "Dockerfile", "a", "build/My.Dockerfile", "build/My.Dockerfile.dockerignore"]
    );
}

#[test]
fn ignored_files_cannot_be_copied_or_mounted() {
    // G-7, G-9
    let env = TestEnv::new();
    let context = env.context("-- .dockerignore --\n*\n!d\nd/hidden\n-- Dockerfile --\nFROM scratch\nCOPY . /\n-- d/open --\n-- d/hidden --\n");
    assert_eq!(kept(&env, &context, &[]), ["d/open"]);
    env.add(&context, "-- Dockerfile --\nFROM scratch\nCOPY Dockerfile /\n");
    env.build(&[], &context).fails(1).says("excluded by .dockerignore:1 (`*`)");
    requires!(userns, overlay);
    env.import("busybox");
    env.add(&context, "-- Dockerfile --\nFROM busybox\nRUN --mount=type=bind,target=/m find /m -mindepth 1 | sort | tr '\\n' ' ' >/seen\n");
    env.build(&["-t", "m"], &context).ok();
    assert_eq!(String::from_utf8_lossy(&env.image("m").content("seen")), "/m/d /m/d/open ");
    // Ignored files are not in the key (G-9).
    fs::write(context.join("d/hidden"), "changed").expect("write");
    env.build(&["-t", "m"], &context).ok().says("CACHED [2/2] RUN");
}

#[test]
fn ignored_directories_are_not_walked() {
    // G-10
    requires!(strace);
    let env = TestEnv::new();
    let context =
        env.context("-- .dockerignore --\nnode_modules\n.git\n-- Dockerfile --\nFROM scratch\nCOPY . /\n-- a --\n");
    for dir in ["node_modules", ".git"] {
        sh(&context, &format!("mkdir -p {dir}/inside/deeper; touch {dir}/inside/f"));
    }
    let log = env.dir().join("trace");
    let kiln = crate::support::env::binary();
    let root = env.store();
    let line = format!(
        "strace -f -qq -e trace=open,openat,openat2,statx,newfstatat -o {} {} --root {} build -q {}",
        log.display(),
        kiln.display(),
        root.display(),
        context.display()
    );
    sh(env.dir(), &line);
    let trace = fs::read_to_string(log).expect("read the trace");
    assert!(!trace.contains("inside"), "a hidden directory was entered");
}

#[test]
fn random_ignore_rules_match_reference_matcher() {
    // G-4…G-6, G-8, S-11: random files of special characters.
    let mut state = 7u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let marks =
        ["a", "b", "*", "**", "?", "/", "!", "\n", ".", "..", "**/", "a/b", "[", "]", "\\", " ", "#", "é", "\u{feff}"];
    for _ in 0..20_000 {
        let text: String = (0..1 + next(8)).map(|_| marks[next(marks.len())]).collect();
        let path: Vec<&str> = (0..1 + next(4)).map(|_| ["a", "b", "ab", "é"][next(4)]).collect();
        super::oracle::ignore(format!("{text}\0{}", path.join("/")).as_bytes());
    }
    for bad in ["[", "[a", "a[]", "[!a]", "\\", "[a-", "[^]", "**[", "!", "!!", "!\u{feff}"] {
        super::oracle::ignore(format!("{bad}\0a/b").as_bytes());
    }
    super::oracle::ignore(format!("{}\0{}", "**/".repeat(200) + "x", "a/".repeat(200)).as_bytes());
    super::oracle::ignore(format!("{}b\0{}", "*a".repeat(200), "a".repeat(400)).as_bytes());
}
