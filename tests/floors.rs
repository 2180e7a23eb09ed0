//! Checks of the sources as a whole: the dependency table of modules, sizes, declared tests, citations and links.
//!
//! Each row of [`FLOORS`] lists the modules that a module may name. The check reads text: `crate::x`, `crate::{x, y}`
//! and `super` chains that leave a module. It therefore also forbids renaming the crate root, which would hide names.
#![expect(clippy::disallowed_methods, reason = "a test reads the sources as they are")]

#[path = "floors/circles.rs"]
mod circles;
#[path = "floors/citations.rs"]
mod citations;
#[path = "floors/functions.rs"]
mod functions;
#[path = "floors/reader.rs"]
mod reader;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use citations::{cited, links, paths};
use reader::{code, files, line_of, named, read, root, sources, words};

/// The modules that each module may name; every row names only rows above it.
const FLOORS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("oci", &["base"]),
    ("dockerfile", &["base"]),
    ("context", &["base"]),
    ("layer", &["base"]),
    ("sandbox", &["base"]),
    ("transport", &["base"]),
    ("store", &["base", "oci"]),
    ("registry", &["base", "oci", "transport"]),
    ("plan", &["base", "oci", "dockerfile"]),
    ("snapshot", &["base", "oci", "layer"]),
    ("cache", &["base", "oci", "plan", "registry", "transport"]),
    ("fetch", &["base", "transport"]),
    ("device", &["base", "sandbox", "plan"]),
    ("copy", &["base", "context", "layer", "plan", "cache", "fetch"]),
    ("export", &["base", "oci", "layer", "store"]),
    (
        "engine",
        &[
            "base",
            "oci",
            "context",
            "layer",
            "sandbox",
            "transport",
            "store",
            "registry",
            "plan",
            "snapshot",
            "cache",
            "fetch",
            "device",
            "copy",
        ],
    ),
    ("ui", &["base", "dockerfile", "plan", "cache", "engine"]),
    (
        "cli",
        &[
            "base",
            "oci",
            "dockerfile",
            "context",
            "layer",
            "sandbox",
            "transport",
            "store",
            "registry",
            "plan",
            "snapshot",
            "cache",
            "fetch",
            "device",
            "copy",
            "export",
            "engine",
            "ui",
        ],
    ),
];

/// A longer file usually holds a second concept.
const MAX_LINES: usize = 500;

/// A longer function usually does more than its name says.
const MAX_FUNCTION: usize = 60;
/// How many may be longer: tables and linear procedures.
const MAX_LONG_FUNCTIONS: usize = 10;

fn floor(name: &str) -> Option<&'static [&'static str]> {
    FLOORS.iter().find(|(n, _)| *n == name).map(|(_, may)| *may)
}

/// `src/layer/deep/add.rs` → (`layer`, 3).
fn place(path: &Path) -> (String, usize) {
    let parts: Vec<String> = path.components().skip(1).map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
    let top = parts[0].trim_end_matches(".rs").to_owned();
    let depth = parts.len() - usize::from(parts.last().is_some_and(|p| p == "mod.rs"));
    (top, depth)
}

#[test]
fn modules_name_only_modules_in_their_row() {
    let mut wrong = Vec::new();
    for path in sources("src") {
        let (top, depth) = place(&path);
        if top == "lib" || top == "main" {
            continue;
        }
        let Some(may) = floor(&top) else {
            wrong.push(format!("{}: `{top}` is not in the table of modules", path.display()));
            continue;
        };
        let code = code(&read(&path));
        for (at, name) in named(&code, depth) {
            let known = floor(&name).is_some();
            if known && name != top && !may.contains(&name.as_str()) {
                wrong.push(format!("{}:{}: {top} may not name {name}", path.display(), line_of(&code, at)));
            }
            if !known && code[at..].starts_with("crate") {
                wrong.push(format!("{}:{}: `crate::{name}` is not in the table", path.display(), line_of(&code, at)));
            }
        }
        if words(&code).windows(2).any(|w| w[0].1 == "crate" && w[1].1 == "as") {
            wrong.push(format!("{}: renames the crate root", path.display()));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn rows_name_only_rows_above_them() {
    for (i, (name, may)) in FLOORS.iter().enumerate() {
        for other in *may {
            assert!(FLOORS[..i].iter().any(|(above, _)| above == other), "{name} names {other}, which is not above it");
        }
    }
}

#[test]
fn main_names_only_cli_and_sandbox() {
    let main = code(&read(Path::new("src/main.rs")));
    for (_, word) in words(&main).iter().filter(|(_, w)| floor(w).is_some()) {
        assert!(["cli", "sandbox"].contains(word), "src/main.rs names {word}, but may name only cli and sandbox");
    }
}

#[test]
fn unsafe_code_is_in_one_file() {
    for path in sources("src").into_iter().chain(sources("tests")).chain(sources("benches")) {
        let code = code(&read(&path));
        let found = words(&code).iter().any(|(_, w)| *w == "unsafe");
        assert!(!found || path == Path::new("src/sandbox/sys.rs"), "{}: unsafe code", path.display());
    }
}

#[test]
fn files_have_at_most_500_lines() {
    let long: Vec<String> = ["src", "tests", "benches"]
        .into_iter()
        .flat_map(sources)
        .map(|p| (read(&p).lines().count(), p))
        .filter(|(n, _)| *n > MAX_LINES)
        .map(|(n, p)| format!("{}: {n} lines, {MAX_LINES} at most", p.display()))
        .collect();
    assert!(long.is_empty(), "\n{}", long.join("\n"));
}

#[test]
fn few_functions_have_more_than_60_lines() {
    let mut long = Vec::new();
    for path in sources("src") {
        for function in functions::functions(&code(&read(&path))).iter().filter(|f| f.lines > MAX_FUNCTION) {
            long.push(format!("{}:{}: {} has {} lines", path.display(), function.line, function.name, function.lines));
        }
    }
    assert!(long.len() <= MAX_LONG_FUNCTIONS, "\n{}", long.join("\n"));
}

#[test]
fn source_files_have_no_circular_dependencies() {
    let files: Vec<_> = sources("src").into_iter().map(|path| (path.clone(), code(&read(&path)))).collect();
    let circles = circles::circles(&files);
    let shown: Vec<String> = circles.iter().map(|edges| edges.join("\n")).collect();
    assert!(circles.is_empty(), "{} circles:\n\n{}", circles.len(), shown.join("\n\n"));
}

#[test]
fn integration_test_files_are_all_declared() {
    for path in sources("tests/it") {
        let (dir, name) = (path.parent().expect("in tests/it"), path.file_stem().expect("named").to_string_lossy());
        // `a/mod.rs` is declared in the directory above `a`, every other file in the `mod.rs` of its own directory.
        let (above, name) = match (&*name, dir.parent()) {
            ("main", _) => continue,
            ("mod", Some(above)) => (above, dir.file_name().expect("named").to_string_lossy()),
            _ => (dir, name),
        };
        let leader = above.join(if above.ends_with("it") { "main.rs" } else { "mod.rs" });
        let code = code(&read(&leader));
        let declared = words(&code).windows(2).any(|w| w[0].1 == "mod" && w[1].1 == name);
        assert!(declared, "{} is never compiled: declare it in {}", path.display(), leader.display());
    }
}

#[test]
fn sources_have_no_silenced_lints_or_unfinished_code() {
    let marks = ["TO".to_owned() + "DO", "FIX".to_owned() + "ME"];
    let mut wrong = Vec::new();
    for path in sources("src").into_iter().chain(sources("tests")).chain(sources("benches")) {
        let text = read(&path);
        let code = code(&text);
        for (i, (line, code)) in text.lines().zip(code.lines()).enumerate() {
            let dense: String = code.split_whitespace().collect();
            let allow = ["allow(", "ignore"].iter().any(|a| dense.contains(&format!("[{a}")) && dense.starts_with('#'));
            let macros = words(code).iter().any(|(at, w)| {
                ["todo", "unimplemented", "dbg"].contains(w) && code[at + w.len()..].trim_start().starts_with('!')
            });
            if allow || macros || words(line).iter().any(|(_, w)| marks.iter().any(|m| m == w)) {
                wrong.push(format!("{}:{}: {}", path.display(), i + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn setup_installs_every_tool_that_tests_require() {
    let setup = fs::read_to_string(root().join("scripts/setup")).expect("scripts/setup");
    // Properties of the host, and busybox, which setup checks separately.
    let others = ["root", "plain_user", "kiln_test", "userns", "overlay", "tun", "attributes", "busybox"];
    let mut wrong = Vec::new();
    for path in sources("tests") {
        let code = code(&read(&path));
        for list in code.split("requires!(").skip(1).filter_map(|rest| rest.split(')').next()) {
            for tool in list.split(',').map(str::trim).filter(|tool| !tool.is_empty() && !others.contains(tool)) {
                let tool = tool.replace('_', "-");
                if tool.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                    && !setup.contains(&format!("\"{tool} "))
                {
                    wrong.push(format!("{}: {tool}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn reader_expands_use_groups_and_skips_literals() {
    let text = r##"
        use crate::{base::digest::{A, B}, oci};
        use super::super::plan; // crate::cli
        let s = "crate::ui"; let c = '"'; let r = r#"crate::engine"#;
        crate::layer::x();
    "##;
    let names: Vec<String> = named(&code(text), 2).into_iter().map(|(_, n)| n).collect();
    assert_eq!(names, ["base", "oci", "plan", "layer"]);
    assert!(named("use super::store;", 2).is_empty(), "one `super` stays inside a module's own directory");
    assert_eq!(place(Path::new("src/layer/deep/add.rs")), ("layer".to_owned(), 3));
    assert_eq!(place(Path::new("src/engine/mod.rs")), ("engine".to_owned(), 1));
}

#[test]
fn cited_ids_are_in_docs_behaviour() {
    let page = read(Path::new("docs/behaviour.md"));
    let mut wrong = Vec::new();
    let mut defined = BTreeSet::new();
    for (id, _) in page.lines().filter_map(|line| line.strip_prefix("- **")?.split_once("**")) {
        if !defined.insert(id) {
            wrong.push(format!("docs/behaviour.md: {id} is defined twice"));
        }
    }
    for path in sources("src").into_iter().chain(sources("tests")) {
        let text = read(&path);
        for (at, id) in cited(&text) {
            if !defined.contains(id.as_str()) {
                let line = line_of(&text, at);
                wrong.push(format!("{}:{line}: {id} is not in docs/behaviour.md", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn links_in_pages_point_to_existing_files() {
    let mut wrong = Vec::new();
    for path in files("", "md") {
        let page = read(&path);
        let dir = path.parent().expect("in the repository");
        for (at, file) in links(&page) {
            if !root().join(dir).join(file).exists() {
                wrong.push(format!("{}:{}: there is no {file}", path.display(), line_of(&page, at)));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn paths_in_pages_point_to_existing_files() {
    let mut wrong = Vec::new();
    for path in files("", "md") {
        // The changelog names files that may be gone.
        if path.ends_with("CHANGELOG.md") {
            continue;
        }
        let page = read(&path);
        for (at, file) in paths(&page) {
            if !root().join(file).exists() {
                wrong.push(format!("{}:{}: there is no {file}", path.display(), line_of(&page, at)));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn ids_and_links_are_found_in_text() {
    let text = "// C-8…C-10, S-31 and A4; no ids are UTF-8, x-S-1, S-1x, AES and Q-7";
    let ids: Vec<String> = cited(text).into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids, ["C-8", "C-9", "C-10", "S-31", "A4"]);
    let ids: Vec<String> = cited("#[test]\n    fn a_test_v_1_to_v_2_s31() {}").into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids, ["S-31", "V-2"]);
    let page = "[a](docs/a.md#part), [b](b.md \"title\"), [c](#here), [d](https://example.org/d)";
    let files: Vec<&str> = links(page).into_iter().map(|(_, file)| file).collect();
    assert_eq!(files, ["docs/a.md", "b.md"]);
    let page = "see `src/a.rs`, `src/b/*.rs` and\n`testdata/RULE/x`, `tests/it`; not src/c.rs\n";
    assert_eq!(paths(page), [(5, "src/a.rs"), (53, "tests/it")]);
}
