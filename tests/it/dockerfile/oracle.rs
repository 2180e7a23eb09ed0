//! The fuzzing oracle for the parser: properties that hold for any input. Shared with `fuzz/`.

use kiln::dockerfile::expand::{expand as expand_word, expand_body, expand_words};
use kiln::dockerfile::{Escape, Source, Span, Word, dump, lint, parse as parse_source, parse_trigger, to_text};

/// Any bytes either parse or give problems with valid positions; a parsed Dockerfile survives formatting and parsing.
pub fn parse(bytes: &[u8]) {
    let source = Source::new("Dockerfile", bytes);
    let inside = |span: Span| span.is_empty() || source.text().get(span.range()).is_some();
    match parse_source(&source) {
        Ok(file) => {
            assert!(lint::check(&file).iter().all(|warning| inside(warning.span)));
            let text = to_text(&file);
            let again = parse_source(&Source::new("again", &text)).unwrap_or_else(|p| panic!("{p:#?}\n{text}"));
            assert_eq!(dump(&again, false), dump(&file, false), "{text}");
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(inside(problem.span), "{problem:?}");
                assert!(problem.labels.iter().all(|label| inside(label.span)), "{problem:?}");
            }
        }
    }
    let _ = parse_trigger(&Source::new("trigger", bytes));
}

/// Any text either expands or gives a problem with a valid position. The first line holds the values of the variables.
pub fn expand(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (values, text) = text.split_once('\n').unwrap_or(("", &text));
    let values: Vec<&str> = values.split(',').collect();
    let lookup = |name: &str| {
        let index = ["A", "B", "C", "D"].iter().position(|known| *known == name)?;
        values.get(index).map(|value| (*value).to_owned())
    };
    let word = Word::new(text, Span::new(0, text.len()));
    for escape in [Escape::Backslash, Escape::Backtick] {
        match expand_word(&word, escape, &lookup) {
            Ok(found) => {
                let words = expand_words(&word, escape, &lookup).expect("the same word");
                assert_eq!(words.text, found.text);
                let unset = found.unset.iter().all(|unset| text.get(unset.span.range()).is_some());
                assert!(unset, "{:?}", found.unset);
            }
            Err(problem) => assert!(text.get(problem.span.range()).is_some(), "{problem:?}"),
        }
    }
    let _ = expand_body(&word, &lookup);
}
