//! Test what the parser accepts.

use std::fmt::Write as _;

use kiln::dockerfile::ast::CopySource;
use kiln::dockerfile::expand::{Expanded, expand, expand_body, expand_words};
use kiln::dockerfile::{Diagnostic, Dockerfile, Instruction, Source, Word, dump, parse, to_text};
use kiln::ui::excerpt;

use super::{Case, cases, compare_cases};

fn parsed(source: &Source, case: &Case) -> Dockerfile {
    parse(source).unwrap_or_else(|problems| panic!("{}: {problems:#?}", case.name()))
}

#[test]
fn accepted_cases_parse_to_expected_tree() {
    compare_cases("dockerfile", "ast", |case| {
        let source = case.source();
        let file = parse(&source).map_err(|problems| excerpt::render(&source, &problems))?;
        let mut out = dump(&file, true);
        if let Some(env) = case.read("env") {
            out.push_str(&expansions(&file, &env));
        }
        Ok(out)
    });
}

/// The expandable words of ENV, WORKDIR, EXPOSE and heredocs, with their expansions.
fn expansions(file: &Dockerfile, env: &str) -> String {
    let pairs: Vec<(&str, &str)> = env.lines().filter_map(|line| line.split_once('=')).collect();
    let lookup = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let mut out = String::new();
    let mut tell = |word: &Word, result: Result<Expanded, Box<Diagnostic>>, split: bool| {
        let at = file.source.position(word.span.start);
        let _ = write!(out, "expand {}:{} {:?}", at.line, at.column, word.text);
        let _ = match result {
            Ok(found) if split => write!(out, " = {:?}", found.words),
            Ok(found) => write!(out, " = {:?}", found.text),
            Err(problem) => write!(out, " ! {problem} `{}`", file.source.slice(problem.span)),
        };
        out.push('\n');
    };
    let escape = file.escape();
    for statement in file.stages.iter().flat_map(|stage| &stage.instructions) {
        match &statement.node {
            Instruction::Env(node) => {
                for (key, value) in &node.pairs {
                    if !key.is_plain() {
                        tell(key, expand(key, escape, &lookup), false);
                    }
                    tell(value, expand(value, escape, &lookup), false);
                }
            }
            Instruction::Workdir(word) => tell(word, expand(word, escape, &lookup), false),
            Instruction::Expose(words) => {
                words.iter().for_each(|word| tell(word, expand_words(word, escape, &lookup), true));
            }
            Instruction::Copy(copy) | Instruction::Add(copy) => {
                for source in &copy.sources {
                    if let CopySource::Heredoc(doc) = source
                        && doc.expand
                    {
                        tell(&doc.body(), expand_body(&doc.body(), &lookup), false);
                    }
                }
            }
            _ => {}
        }
    }
    out
}

#[test]
fn formatted_dockerfiles_parse_to_the_same_tree() {
    for case in cases("dockerfile") {
        let file = parsed(&case.source(), &case);
        let text = to_text(&file);
        let again = parsed(&Source::new("again", &text), &case);
        assert_eq!(dump(&again, false), dump(&file, false), "{}\n{text}", case.name());
        assert_eq!(to_text(&again), text, "{}", case.name());
    }
}

#[test]
fn crlf_bom_and_missing_final_newline_change_nothing() {
    // P-1
    for case in cases("dockerfile") {
        let bytes = case.bytes();
        let want = dump(&parsed(&case.source(), &case), false);
        let same = |bytes: &[u8], what: &str| {
            let got = dump(&parsed(&Source::new("Dockerfile", bytes), &case), false);
            assert_eq!(got, want, "{} {what}", case.name());
        };
        if !bytes.contains(&b'\r') {
            let windows = String::from_utf8_lossy(&bytes).replace('\n', "\r\n");
            same(windows.as_bytes(), "with CRLF");
        }
        if !bytes.starts_with(b"\xef\xbb\xbf") {
            same(&[b"\xef\xbb\xbf", bytes.as_slice()].concat(), "with a mark");
        }
        if let Some(short) = bytes.strip_suffix(b"\n") {
            same(short, "without the last newline");
        }
    }
}

#[test]
fn keyword_spans_match_source_text() {
    for case in cases("dockerfile") {
        let file = parsed(&case.source(), &case);
        for statement in file.stages.iter().flat_map(|stage| &stage.instructions) {
            let written = file.source.slice(statement.keyword.span);
            // A continuation may split even the keyword.
            assert_eq!(written.replace("\\\n", ""), statement.keyword.text, "{}", case.name());
            assert!(statement.span.start <= statement.keyword.span.start, "{}", case.name());
            assert!(statement.keyword.span.end <= statement.span.end, "{}", case.name());
        }
    }
}
