//! The dependency table, executed; and what else holds for the sources as a whole.
//!
//! Each row of [`FLOORS`] says what a module may name. The check reads text: `crate::x`, `crate::{x, y}` and `super`
//! chains that leave a module. It therefore also forbids renaming the crate root, which would hide a name from it.
#![expect(clippy::disallowed_methods, reason = "a test reads the sources as they are")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may name whom; every row names only rows above it.
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
    ("cache", &["base", "oci", "plan"]),
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

/// Longer than this, a file has a second noun in it.
const MAX_LINES: usize = 600;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All `.rs` files below `dir`, relative to the repository, sorted.
fn sources(dir: &str) -> Vec<PathBuf> {
    files(dir, "rs")
}

/// All files below `dir` with that extension, relative to the repository, sorted. Hidden and build directories are not
/// looked into.
fn files(dir: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![root().join(dir)];
    while let Some(dir) = todo.pop() {
        for item in fs::read_dir(&dir).into_iter().flatten() {
            let path = item.expect("read a directory entry").path();
            let skipped = |name: &OsStr| name == "target" || name.as_encoded_bytes().starts_with(b".");
            if path.is_symlink() || path.file_name().is_some_and(skipped) {
                continue;
            }
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path.strip_prefix(root()).expect("below the root").to_owned());
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

/// `text` with comments and the insides of string literals blanked, so that only code is left to read. Line numbers
/// stay. Raw strings are understood as far as `r#"…"#`.
fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    let blank = |b: u8| if b == b'\n' { b'\n' } else { b' ' };
    while i < bytes.len() {
        let rest = &bytes[i..];
        let end = if rest.starts_with(b"//") {
            i + rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            i + find(rest, b"*/").map_or(rest.len(), |n| n + 2)
        } else if let Some(hashes) = raw_string(rest, i.checked_sub(1).map(|p| bytes[p])) {
            let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
            let open = rest.iter().position(|&b| b == b'"').expect("raw_string saw a quote") + 1;
            i + open + find(&rest[open..], &close).map_or(rest.len() - open, |n| n + close.len())
        } else if rest[0] == b'"' {
            i + quoted(rest)
        } else if rest.starts_with(b"'\"'") {
            i + 3
        } else if rest.starts_with(b"'\\") {
            i + 2 + rest[3..].iter().position(|&b| b == b'\'').map_or(0, |n| n + 2)
        } else {
            out.push(rest[0]);
            i += 1;
            continue;
        };
        out.extend(bytes[i..end.min(bytes.len())].iter().map(|&b| blank(b)));
        i = end;
    }
    String::from_utf8(out).expect("blanking keeps UTF-8: whole literals are replaced")
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// The number of `#` if a raw string starts here.
fn raw_string(rest: &[u8], before: Option<u8>) -> Option<usize> {
    if before.is_some_and(|b| b.is_ascii_alphanumeric() && b != b'b' || b == b'_') || rest[0] != b'r' {
        return None;
    }
    let hashes = rest[1..].iter().take_while(|&&b| b == b'#').count();
    (rest.get(1 + hashes) == Some(&b'"')).then_some(hashes)
}

/// The length of a string literal, both quotes included.
fn quoted(rest: &[u8]) -> usize {
    let mut i = 1;
    while i < rest.len() && rest[i] != b'"' {
        i += if rest[i] == b'\\' { 2 } else { 1 };
    }
    i + 1
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// The words of `code` with the byte they start at.
fn words(code: &str) -> Vec<(usize, &str)> {
    let bytes = code.as_bytes();
    let mut out = Vec::new();
    let mut i = 0;
    while i < bytes.len() {
        let len = bytes[i..].iter().take_while(|&&b| is_word(b)).count();
        if len > 0 {
            out.push((i, &code[i..i + len]));
        }
        i += len.max(1);
    }
    out
}

/// The first names after `at`, which follows a `crate` or the last `super`: `::x` gives `x`, `::{x::y, z}` gives both.
fn heads(code: &str, at: usize) -> Vec<String> {
    let Some(rest) = code[at..].trim_start().strip_prefix("::") else { return Vec::new() };
    let rest = rest.trim_start();
    let Some(group) = rest.strip_prefix('{') else {
        return vec![rest.chars().take_while(|&c| c.is_alphanumeric() || c == '_' || c == '*').collect()];
    };
    let (mut depth, mut start, mut names) = (0, true, Vec::new());
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            c if start && (c.is_alphanumeric() || c == '_' || c == '*') => {
                start = false;
                names.push(group[i..].chars().take_while(|&c| c.is_alphanumeric() || c == '_' || c == '*').collect());
            }
            _ => {}
        }
    }
    names
}

/// The top-level modules that `code`, at `depth` modules below the crate root, names.
fn named(code: &str, depth: usize) -> Vec<(usize, String)> {
    let words = words(code);
    let mut out = Vec::new();
    let mut i = 0;
    while i < words.len() {
        let (at, word) = words[i];
        let mut end = at + word.len();
        let mut supers = usize::from(word == "super");
        while supers > 0 && words.get(i + 1).is_some_and(|&(a, w)| w == "super" && code[end..a].trim() == "::") {
            i += 1;
            supers += 1;
            end = words[i].0 + "super".len();
        }
        if word == "crate" || supers >= depth.max(1) {
            // Inside an inline `mod tests` a chain counts one more; its next word is then no floor, and harmless.
            out.extend(heads(code, end).into_iter().map(|name| (at, name)));
        }
        i += 1;
    }
    out
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

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

/// The letters of the ids in `docs/behaviour.md`.
const AREAS: &str = "ACFGIMNOPRSV";

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Area and number of the id that begins with word `i` of `text`, if one does: `C-8`.
fn id_at<'t>(text: &str, words: &[(usize, &'t str)], i: usize) -> Option<(&'t str, u32)> {
    let (&(at, area), &(number_at, number)) = (words.get(i)?, words.get(i + 1)?);
    let is_id = area.len() == 1
        && AREAS.contains(area)
        && is_number(number)
        && text.get(at + 1..number_at) == Some("-")
        && !text[..at].ends_with('-');
    if is_id { Some((area, number.parse().ok()?)) } else { None }
}

/// The ids that the name of a test ends in: `_s_31_m7` gives `M-7` and `S-31`.
fn ids_of_name(name: &str) -> Vec<String> {
    let mut parts: Vec<&str> = name.split('_').collect();
    let mut ids = Vec::new();
    while let Some(last) = parts.pop() {
        let number = last.trim_start_matches(|c: char| c.is_ascii_lowercase());
        let area = match &last[..last.len() - number.len()] {
            "" => parts.pop().unwrap_or_default(),
            area => area,
        };
        let area = area.to_ascii_uppercase();
        if area.len() != 1 || !AREAS.contains(&area) || !is_number(number) {
            break;
        }
        ids.push(format!("{area}-{number}"));
    }
    ids
}

/// The ids that `text` cites, with the byte they start at: `C-8`, `C-8…C-10` (all three), the decision `A4`, and those
/// at the end of a test's name.
fn cited(text: &str) -> Vec<(usize, String)> {
    let words = words(text);
    let mut ids = Vec::new();
    for (i, &(at, word)) in words.iter().enumerate() {
        if let Some((area, first)) = id_at(text, &words, i) {
            let (number_at, number) = words[i + 1];
            let is_range = text[number_at + number.len()..].starts_with('…');
            let last = id_at(text, &words, i + 2).filter(|&(other, _)| is_range && other == area);
            let last = last.map_or(first, |(_, last)| last);
            // The end of a range is an id of its own.
            ids.extend((first..last.max(first + 1)).map(|number| (at, format!("{area}-{number}"))));
        }
        if word.strip_prefix('A').is_some_and(is_number) {
            ids.push((at, word.to_owned()));
        }
        if word == "fn" && text[..at].trim_end().ends_with("#[test]") {
            let name = words.get(i + 1).map_or("", |&(_, name)| name);
            ids.extend(ids_of_name(name).into_iter().map(|id| (at, id)));
        }
    }
    ids
}

/// The targets of the links of a Markdown page that are files, with the byte they start at.
fn links(page: &str) -> Vec<(usize, &str)> {
    let starts = page.match_indices("](").map(|(at, open)| at + open.len());
    let targets = starts.filter_map(|at| page[at..].split_once(')').map(|(target, _)| (at, target)));
    let files = targets.map(|(at, target)| (at, target.split(['#', ' ']).next().unwrap_or_default()));
    files.filter(|(_, file)| !file.is_empty() && !file.contains(':')).collect()
}

#[test]
fn every_module_names_only_the_floors_below_it() {
    let mut wrong = Vec::new();
    for path in sources("src") {
        let (top, depth) = place(&path);
        if top == "lib" || top == "main" {
            continue;
        }
        let Some(may) = floor(&top) else {
            wrong.push(format!("{}: `{top}` is not in the table of floors", path.display()));
            continue;
        };
        let code = code(&read(&path));
        for (at, name) in named(&code, depth) {
            let known = floor(&name).is_some();
            if known && name != top && !may.contains(&name.as_str()) {
                wrong.push(format!("{}:{}: {top} may not name {name}", path.display(), line_of(&code, at)));
            }
            if !known && code[at..].starts_with("crate") {
                wrong.push(format!("{}:{}: `crate::{name}` is no floor", path.display(), line_of(&code, at)));
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
fn only_main_names_the_command_line() {
    let main = code(&read(Path::new("src/main.rs")));
    for (_, word) in words(&main).iter().filter(|(_, w)| floor(w).is_some()) {
        assert!(["cli", "sandbox"].contains(word), "src/main.rs names {word}: it parses nothing and builds nothing");
    }
}

#[test]
fn unsafe_code_lives_in_one_file() {
    for path in sources("src").into_iter().chain(sources("tests")).chain(sources("benches")) {
        let code = code(&read(&path));
        let found = words(&code).iter().any(|(_, w)| *w == "unsafe");
        assert!(!found || path == Path::new("src/sandbox/sys.rs"), "{}: unsafe code", path.display());
    }
}

#[test]
fn files_stay_short() {
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
fn every_integration_test_file_is_declared() {
    for path in sources("tests/it") {
        let (dir, name) = (path.parent().expect("in tests/it"), path.file_stem().expect("named").to_string_lossy());
        // `a/mod.rs` is declared by the file above `a`, and every other file by the one that leads its directory.
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
fn nothing_is_silenced_or_left_for_later() {
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
fn what_tests_require_is_installed_by_setup() {
    let setup = fs::read_to_string(root().join("scripts/setup")).expect("scripts/setup");
    // The host itself, and a program that setup looks at more closely.
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
fn links_of_pages_lead_to_files() {
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
fn ids_and_links_are_found_in_text() {
    let text = "// C-8…C-10, S-31 and A4; no ids are UTF-8, x-S-1, S-1x, AES and Q-7";
    let ids: Vec<String> = cited(text).into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids, ["C-8", "C-9", "C-10", "S-31", "A4"]);
    let ids: Vec<String> = cited("#[test]\n    fn a_test_v_1_to_v_2_s31() {}").into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids, ["S-31", "V-2"]);
    let page = "[a](docs/a.md#part), [b](b.md \"title\"), [c](#here), [d](https://example.org/d)";
    let files: Vec<&str> = links(page).into_iter().map(|(_, file)| file).collect();
    assert_eq!(files, ["docs/a.md", "b.md"]);
}

#[test]
fn the_reader_sees_through_groups_and_not_into_text() {
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
