//! Properties of every text.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;

use super::reference;
use crate::dockerfile::expand::{expand, expand_body, expand_words};
use crate::dockerfile::{
    Dockerfile, Escape, Source, Span, Word, dump, dump_instruction, parse, parse_trigger, to_text,
};

/// Pieces that are special to the parser, and some that are not.
const PIECES: [&str; 88] = [
    "FROM ",
    "RUN ",
    "COPY ",
    "ADD ",
    "ENV ",
    "ARG ",
    "LABEL ",
    "CMD ",
    "ENTRYPOINT ",
    "SHELL ",
    "EXPOSE ",
    "VOLUME ",
    "USER ",
    "WORKDIR ",
    "STOPSIGNAL ",
    "HEALTHCHECK ",
    "ONBUILD ",
    "MAINTAINER ",
    "NONE",
    "CMD",
    " AS ",
    "scratch",
    "--from=",
    "--chown=",
    "--mount=",
    "--link",
    "--exclude=",
    "--interval=5s",
    "--device=",
    "-- ",
    "--",
    "type=",
    "target=/x",
    "cache",
    "bind",
    "from=",
    "required",
    "<<EOF",
    "<<-EOF",
    "<<'E'",
    "3<<EOF",
    "<<",
    "<",
    "EOF\n",
    "E\n",
    "\tEOF\n",
    "\n",
    "\n",
    "\n",
    "\r\n",
    " ",
    " ",
    "\t",
    "\\\n",
    "\\ \n",
    "`\n",
    "\\",
    "`",
    "\"",
    "'",
    "[",
    "]",
    "[\"a\", \"b\"]",
    "[]",
    "[\"",
    ",",
    "=",
    "$",
    "${",
    "}",
    "$A",
    "${A:-b}",
    "#",
    "# ",
    "# escape=`\n",
    "# syntax=docker/dockerfile:1\n",
    "# check=skip=all\n",
    "a",
    "b c",
    "/d/",
    "A=1",
    "é",
    "東",
    "\u{a0}",
    "\u{b}",
    "\u{fffd}",
    "0",
    "x y z",
];

fn pieces() -> impl Strategy<Value = String> {
    prop::collection::vec(select(&PIECES[..]), 0..40).prop_map(|pieces| pieces.concat())
}

/// An argument: a usual one, or random pieces.
fn word() -> impl Strategy<Value = String> {
    let usual = select(
        &[
            "a",
            "b.txt",
            "/c/",
            "$A",
            "${A:-b}",
            "\"d e\"",
            "'f'",
            "g\\ h",
            "é",
            ".",
            "a=b",
            "x,y",
            "[z]",
            "--",
            "#h",
            "it's",
            "\\",
            "\"",
            "`",
            "\\\\",
            "<<a",
            "<<-b",
            "<<\"c d\"",
            "2<<e",
            "<<",
            "[\"j\", \"k\"]",
            "[\"j\"",
            "AS",
            "=",
            "${",
        ][..],
    );
    prop_oneof![6 => usual.prop_map(str::to_owned), 1 => "[ -~é]{0,6}"]
}

/// A heredoc's opening and its lines.
fn heredoc() -> impl Strategy<Value = (String, String)> {
    let opening =
        select(&[("<<a", "a"), ("<<-b", "b"), ("<<'c d'", "c d"), ("2<<e", "e"), ("<<\\$f", "$f"), ("<<é", "é")][..]);
    let body = select(&["", "x\n", "$x \"y\n\n", "\tz\n  \n", "#!/bin/sh\n", "# c\n\\\n", "RUN <<a\r\n"][..]);
    (opening, body).prop_map(|((opening, name), body)| {
        let tab = if opening.contains('-') { "\t" } else { "" };
        (opening.to_owned(), format!("{body}{tab}{name}\n"))
    })
}

/// Beginnings of lines without heredocs.
const HEADS: [&str; 36] = [
    "RUN",
    "run --network=none",
    "RUN --mount=type=cache,target=/c",
    "COPY a",
    "COPY --from=x --link b",
    "ADD --unpack=true c",
    "ENV K=v",
    "ENV K=v",
    "LABEL l=1",
    "ARG",
    "ARG N",
    "CMD",
    "ENTRYPOINT",
    "EXPOSE 80",
    "VOLUME /v",
    "USER u",
    "WORKDIR w",
    "STOPSIGNAL s",
    "HEALTHCHECK CMD h",
    "HEALTHCHECK --retries=3 CMD",
    "ONBUILD RUN r",
    "ONBUILD COPY c",
    "MAINTAINER m",
    "SHELL [\"a\"]",
    "FROM x",
    "FROM y AS z",
    "# a comment",
    "#",
    "",
    "RUN --",
    "CMD --",
    "COPY --exclude=\"q r\" e",
    "ENV",
    "CMD [\"a\",",
    "ARG A=1 B=\"2 3\"",
    "RUN --mount=type=secret,\"id=a,b\"",
];

/// A line that is often valid.
fn line() -> impl Strategy<Value = String> {
    let reading = select(
        &[
            "RUN",
            "run cat",
            "COPY",
            "COPY --chmod=0644",
            "ADD --unpack=true",
            "ONBUILD RUN",
            "ONBUILD COPY x",
            "RUN --network=none",
        ][..],
    );
    let head = select(&HEADS[..]);
    let joint = || select(&[" ", " ", "  ", "\t", " \\\n ", " \\\n# c\n", " \\\n\n"][..]);
    let plain = (head, prop::collection::vec((joint(), word()), 0..4)).prop_map(|(head, words)| {
        let words: String = words.iter().map(|(joint, word)| format!("{joint}{word}")).collect();
        format!("{head}{words}\n")
    });
    let fed = (reading, prop::collection::vec((joint(), heredoc()), 1..4), word()).prop_map(|(head, docs, last)| {
        let openings: String = docs.iter().map(|(joint, (opening, _))| format!("{joint}{opening}")).collect();
        let bodies: String = docs.into_iter().map(|(_, (_, body))| body).collect();
        format!("{head}{openings} {last}\n{bodies}")
    });
    prop_oneof![3 => plain, 2 => fed]
}

fn file() -> impl Strategy<Value = String> {
    let top = select(
        &["", "# escape=`\n", "# escape=\\\n# check=skip=all\n", "# syntax=docker/dockerfile:1\n\n", "ARG G=1\n"][..],
    );
    (top, prop::collection::vec(line(), 0..6)).prop_map(|(top, lines)| format!("{top}FROM scratch\n{}", lines.concat()))
}

fn inside(source: &Source, span: Span) -> bool {
    span.is_empty() || source.text().get(span.range()).is_some()
}

/// Reads `text` and checks what holds of every answer.
fn read(text: &str) -> Option<Dockerfile> {
    let source = Source::new("Dockerfile", text);
    match parse(&source) {
        Ok(file) => {
            let mut last = 0;
            for statement in file.stages.iter().flat_map(|stage| &stage.instructions) {
                assert!(inside(&source, statement.span) && inside(&source, statement.keyword.span));
                assert!(statement.span.start >= last, "in the order of the file");
                last = statement.span.end;
            }
            Some(file)
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(inside(&source, problem.span), "{problem:?} in {text:?}");
                assert!(problem.labels.iter().all(|label| inside(&source, label.span)), "{problem:?} in {text:?}");
            }
            None
        }
    }
}

fn survives_being_written(text: &str) {
    let Some(file) = read(text) else { return };
    let written = to_text(&file);
    match parse(&Source::new("again", &written)) {
        Ok(again) => assert_eq!(dump(&again, false), dump(&file, false), "{text:?}\n{written}"),
        Err(problems) => panic!("{problems:#?}\n{text:?}\n{written}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    #[test]
    fn parser_does_not_panic_on_text(text in pieces(), any in ".{0,60}") {
        read(&text);
        read(&any);
        let _ = parse_trigger(&Source::new("trigger", text));
    }

    #[test]
    fn parser_does_not_panic_on_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&Source::new("Dockerfile", &bytes));
        let _ = parse(&Source::new("Dockerfile", [b"FROM x\nRUN ".as_slice(), &bytes].concat()));
    }

    #[test]
    fn to_text_keeps_meaning(text in file()) {
        survives_being_written(&text);
    }

    #[test]
    fn to_text_keeps_meaning_of_random_pieces(text in pieces()) {
        survives_being_written(&format!("FROM scratch\n{text}\n"));
        survives_being_written(&format!("# escape=`\nFROM scratch\nRUN {text}\nEOF\nE\n"));
    }

    #[test]
    fn stored_trigger_parses_again(text in file()) {
        for statement in read(&text).into_iter().flat_map(|file| file.stages).flat_map(|stage| stage.instructions) {
            if let crate::dockerfile::Instruction::Onbuild(onbuild) = &statement.node
                && !text.contains("escape=`")
            {
                let again = parse_trigger(&Source::new("trigger", onbuild.trigger.as_str()));
                let again = again.unwrap_or_else(|problems| panic!("{problems:#?}\n{text:?}"));
                prop_assert_eq!(dump_instruction(&again), dump_instruction(&onbuild.inner));
            }
        }
    }
}

/// A word for the expander: mostly well-formed, at times with a stray character.
fn expandable() -> impl Strategy<Value = String> {
    let literal = select(
        &[
            "a", "b", "ab", " ", "*", "?", "/", "\\", "`", "\\}", "\\/", "\\*", "é", "\n", "$", "{", "}", "'", "\"",
            ".", "-",
        ][..],
    );
    let leaf = prop_oneof![
        4 => literal.prop_map(str::to_owned),
        2 => select(&["$A", "$B", "$E", "$N", "${A}", "${P}", "$1", "$AB", "${é}"][..]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let many = prop::collection::vec(inner, 0..4).prop_map(|parts| parts.concat());
        let operator = select(&[":-", "-", ":+", "+", ":?", "?", "#", "##", "%", "%%", ":#", "^"][..]);
        let name = || select(&["A", "B", "E", "N", "P", "L", ""][..]);
        prop_oneof![
            (name(), operator, many.clone()).prop_map(|(name, op, word)| format!("${{{name}{op}{word}}}")),
            (name(), select(&["/", "//"][..]), many.clone(), many.clone())
                .prop_map(|(name, op, old, new)| format!("${{{name}{op}{old}/{new}}}")),
            many.clone().prop_map(|word| format!("\"{word}\"")),
            many.clone().prop_map(|word| format!("'{word}'")),
            many,
        ]
    })
}

fn vars() -> impl Strategy<Value = reference::Vars> {
    let value = || "[ab*?/.\\\\é\n]{0,7}";
    (value(), value(), value(), value()).prop_map(|(a, b, p, l)| {
        let pairs = [("A", a), ("B", b), ("P", p), ("L", l), ("E", String::new()), ("1", "one".to_owned())];
        BTreeMap::from(pairs.map(|(name, value)| (name.to_owned(), value)))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    #[test]
    fn expand_agrees_with_reference_v_1_to_v_10(text in expandable(), jumble in "[$ab{}:?/*\"'\\\\` A-]{0,12}", vars in vars()) {
        for text in [text, jumble] {
            let word = Word::new(text.as_str(), Span::new(0, text.len()));
            let lookup = |name: &str| vars.get(name).cloned();
            for escape in [Escape::Backslash, Escape::Backtick] {
                let got = expand(&word, escape, &lookup).map(|found| found.text).ok();
                prop_assert_eq!(got, reference::expand(&text, escape.char(), true, &vars), "{:?}", text);
            }
            let got = expand_body(&word, &lookup).map(|found| found.text).ok();
            prop_assert_eq!(got, reference::expand(&text, '\\', false, &vars), "{:?} as a body", text);
        }
    }

    #[test]
    fn expand_words_splits_at_blanks_v_13(text in expandable(), vars in vars()) {
        let word = Word::new(text.as_str(), Span::new(0, text.len()));
        let lookup = |name: &str| vars.get(name).cloned();
        if let Ok(found) = expand_words(&word, Escape::Backslash, &lookup) {
            prop_assert!(found.words.iter().all(|word| !word.is_empty()));
            if !text.contains(['"', '\'', '\\']) {
                prop_assert_eq!(found.words, found.text.split_whitespace().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn expansion_error_points_into_word(text in expandable()) {
        let word = Word::new(text.as_str(), Span::new(0, text.len()));
        if let Err(problem) = expand(&word, Escape::Backslash, &|_| None) {
            prop_assert!(text.get(problem.span.range()).is_some_and(|part| !part.is_empty()), "{:?}", problem);
        }
    }
}
