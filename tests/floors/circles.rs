//! Finds circular dependencies between the files of the crate.
//!
//! **Order.** Every `use` and every path that starts with `crate`, `self` or `super` is followed to the file that
//! defines the name. A re-exported name leads to the file that defines it. A re-export alone is no dependency: a
//! `mod.rs` may re-export what the files of its directory define.
//! **Not here.** Unit tests, which may name whatever they test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::reader::words;

/// `["layer", "tar_write"]`; empty for `lib.rs`.
type Module = Vec<String>;

/// A name that a `use` brings into a module.
#[derive(Debug, PartialEq)]
struct Import {
    path: Vec<String>,
    name: String,
    /// `pub use`: a use of the name depends on the file that defines it.
    exported: bool,
}

struct Source {
    path: PathBuf,
    imports: Vec<Import>,
    /// Paths outside of `use`.
    paths: Vec<Vec<String>>,
}

struct Crate(BTreeMap<Module, Source>);

/// The circular dependencies between files: for each, its edges with the names that cause them. `sources` are paths
/// relative to the crate's directory, with code without comments.
pub(crate) fn circles(sources: &[(PathBuf, String)]) -> Vec<Vec<String>> {
    let mut files = BTreeMap::new();
    for (path, code) in sources {
        let Some(module) = module_of(path) else { continue };
        let code = without_tests(code);
        let (imports, rest) = imports(code);
        let leads = path.ends_with("mod.rs");
        files.insert(module, Source { path: path.clone(), imports, paths: paths(&rest, leads) });
    }
    let files = Crate(files);
    let edges = files.edges();
    let reach: BTreeMap<&Module, BTreeSet<&Module>> =
        edges.keys().map(|from| (from, reachable(&edges, from))).collect();
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for from in edges.keys() {
        let circle: BTreeSet<&Module> =
            reach[from].iter().copied().filter(|to| reach.get(to).is_some_and(|back| back.contains(from))).collect();
        if circle.contains(from) && seen.insert(circle.clone()) {
            found.push(files.describe(&edges, &circle));
        }
    }
    found
}

type Edges = BTreeMap<Module, BTreeMap<Module, String>>;

impl Crate {
    fn edges(&self) -> Edges {
        let mut edges = Edges::new();
        for (module, source) in self.0.iter().filter(|(module, _)| !is_test(module)) {
            let imported = source.imports.iter().filter(|import| !import.exported).map(|import| &import.path);
            for path in imported.chain(&source.paths) {
                let Some(to) = self.file_of(module, path, 0) else { continue };
                if to != *module && !to.is_empty() && !is_test(&to) {
                    edges.entry(module.clone()).or_default().entry(to).or_insert_with(|| path.join("::"));
                }
            }
        }
        edges
    }

    /// The file that defines what `path` means in `module`; `None` if it is not a path of the crate.
    fn file_of(&self, module: &Module, path: &[String], depth: usize) -> Option<Module> {
        let supers = path.iter().take_while(|part| *part == "super").count();
        let (mut at, mut rest) = match path.first()?.as_str() {
            "crate" => (Module::new(), &path[1..]),
            "self" => (module.clone(), &path[1..]),
            "super" => (module[..module.len().checked_sub(supers)?].to_vec(), &path[supers..]),
            child => {
                let child = [module.as_slice(), &[child.to_owned()]].concat();
                self.0.contains_key(&child).then(|| (module.clone(), path))?
            }
        };
        while let Some((next, after)) = rest.split_first() {
            let child = [at.as_slice(), std::slice::from_ref(next)].concat();
            if !self.0.contains_key(&child) {
                break;
            }
            (at, rest) = (child, after);
        }
        let source = self.0.get(&at)?;
        let exported = rest.first().and_then(|name| source.imports.iter().find(|i| i.exported && i.name == *name));
        match exported {
            Some(import) if depth < 16 => self.file_of(&at, &import.path, depth + 1).or(Some(at)),
            _ => Some(at),
        }
    }

    fn describe(&self, edges: &Edges, circle: &BTreeSet<&Module>) -> Vec<String> {
        let inner = |from: &&Module| edges[*from].iter().filter(|(to, _)| circle.contains(to)).collect::<Vec<_>>();
        let show = |module: &Module| self.0[module].path.display().to_string();
        let of = |from: &&Module| {
            let from_path = show(from);
            inner(from).into_iter().map(move |(to, name)| format!("{from_path} names {}: {name}", show(to)))
        };
        circle.iter().flat_map(of).collect()
    }
}

fn reachable<'e>(edges: &'e Edges, from: &Module) -> BTreeSet<&'e Module> {
    let mut found = BTreeSet::new();
    let mut todo: Vec<&Module> = edges.get(from).into_iter().flat_map(BTreeMap::keys).collect();
    while let Some(module) = todo.pop() {
        if found.insert(module) {
            todo.extend(edges.get(module).into_iter().flat_map(BTreeMap::keys));
        }
    }
    found
}

/// `src/layer/tar_write.rs` → `layer::tar_write`; `None` for `main.rs`, which is a separate crate.
fn module_of(path: &Path) -> Option<Module> {
    let parts = path.strip_prefix("src").ok()?.with_extension("");
    let mut parts: Module = parts.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    match parts.last()?.as_str() {
        "main" => return None,
        "mod" | "lib" => drop(parts.pop()),
        _ => {}
    }
    Some(parts)
}

fn is_test(module: &Module) -> bool {
    module.iter().any(|part| part == "tests" || part.ends_with("_tests"))
}

/// `code` up to the unit tests at its end.
fn without_tests(code: &str) -> &str {
    let starts = code.match_indices("#[cfg(test)]").map(|(at, _)| at);
    let inline = |at: &usize| {
        let item = code[*at..].split_once("mod ").map_or("", |(_, item)| item);
        item.find('{').is_some_and(|open| item.find(';').is_none_or(|end| open < end))
    };
    &code[..starts.into_iter().find(inline).unwrap_or(code.len())]
}

/// All `use` declarations of `code`, and the code without them.
fn imports(code: &str) -> (Vec<Import>, String) {
    let (mut found, mut rest, mut from) = (Vec::new(), String::new(), 0);
    let names = words(code);
    for (i, (at, word)) in names.iter().enumerate() {
        if *word != "use" || *at < from {
            continue;
        }
        let Some(len) = code[*at..].find(';') else { break };
        rest.push_str(&code[from..*at]);
        from = at + len;
        let exported =
            i > 0 && names[..i].iter().rev().take(4).any(|(p, w)| *w == "pub" && !code[*p..*at].contains(';'));
        let mut paths = Vec::new();
        tree(&[], &code[at + 3..from], &mut paths);
        found.extend(paths.into_iter().map(|(path, name)| Import { path, name, exported }));
    }
    rest.push_str(&code[from..]);
    (found, rest)
}

/// The paths of one `use` tree, each with the name that it introduces.
fn tree(prefix: &[String], text: &str, out: &mut Vec<(Vec<String>, String)>) {
    let head = text.split('{').next().unwrap_or_default();
    let (head, alias) = head.split_once(" as ").map_or((head, None), |(head, alias)| (head, Some(alias.trim())));
    let parts = head.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty() && part != "self");
    // `self` at the start of a path is a module; at its end it is the module itself.
    let own = (prefix.is_empty() && head.trim_start().starts_with("self")).then(|| "self".to_owned());
    let path: Vec<String> = prefix.iter().cloned().chain(own).chain(parts).collect();
    let Some((_, group)) = text.split_once('{') else {
        let name = alias.map_or_else(|| path.last().cloned().unwrap_or_default(), str::to_owned);
        out.push((path, name));
        return;
    };
    let (mut depth, mut start) = (0usize, 0);
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                if !group[start..i].trim().is_empty() {
                    tree(&path, &group[start..i], out);
                }
                start = i + 1;
            }
            _ => {}
        }
    }
}

/// The paths in code without `use`: those that start with `crate`, `self` or `super`; in a `mod.rs` (`leads`) also
/// those that start with any other name, which may be a file's.
fn paths(code: &str, leads: bool) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut end = 0;
    for (at, word) in words(code) {
        if path.is_empty() || code[end..at].trim() != "::" {
            found.push(std::mem::take(&mut path));
        }
        path.push(word.to_owned());
        end = at + word.len();
    }
    found.push(path);
    let starts =
        |path: &Vec<String>| path.len() > 1 && (leads || ["crate", "self", "super"].contains(&path[0].as_str()));
    found.into_iter().filter(starts).collect()
}

#[test]
fn circles_are_found_through_groups_and_reexports() {
    let sources = |files: &[(&str, &str)]| -> Vec<(PathBuf, String)> {
        files.iter().map(|(path, code)| (PathBuf::from(path), (*code).to_owned())).collect()
    };
    let room = [
        ("src/lib.rs", "pub mod room; pub mod base;"),
        ("src/base.rs", "pub struct B;"),
        ("src/room/mod.rs", "mod a; mod b; pub use a::A; pub(crate) use self::b::{B as Bee, c};"),
        ("src/room/a.rs", "use crate::base; use super::{Bee, x}; #[cfg(test)] mod tests { use super::super::Bee; }"),
    ];
    let with = |b: &'static str| sources(&[room.as_slice(), &[("src/room/b.rs", b)]].concat());
    assert_eq!(circles(&with("use crate::base::B; pub fn c() {}")), Vec::<Vec<String>>::new());
    let edge = ["src/room/a.rs names src/room/b.rs: super::Bee", "src/room/b.rs names src/room/a.rs: super::A"];
    assert!(
        circles(&with("fn f(a: super::A) {}"))
            .iter()
            .any(|circle| edge.iter().all(|e| circle.contains(&(*e).to_owned())))
    );
    // Using a name that `mod.rs` itself defines is an edge; that `mod.rs` re-exports `a` is none.
    assert_eq!(circles(&with("use super::x;")), Vec::<Vec<String>>::new());
}
