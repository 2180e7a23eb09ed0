//! Properties of planning that hold for any Dockerfile that the parser accepts.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;

use super::{cases, plan_text, read, read_options};
use crate::dockerfile::{Source, parse};
use crate::oci::platform::Platform;
use crate::plan::{Configs, Options, Planned, plan};

fn options() -> Options {
    let mut options = Options::new(Platform::new("linux", "amd64"));
    options.build_args =
        BTreeMap::from([("A".to_owned(), "x y".to_owned()), ("http_proxy".to_owned(), "p".to_owned())]);
    options
}

/// Almost valid lines whose names and variables refer to each other.
fn line() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("a"),
        Just("b"),
        Just("0"),
        Just("1"),
        Just("scratch"),
        Just("$A"),
        Just("${B:-a}"),
        Just("${A%x}"),
        Just("/"),
        Just("."),
        Just("../x/"),
        Just("\"$A b\""),
        Just("80-82/udp"),
        Just("''"),
        Just("$"),
        Just("${A:?no}"),
    ];
    let instruction = prop_oneof![
        Just("FROM @"),
        Just("FROM @ AS @"),
        Just("FROM --platform=@ @"),
        Just("ARG @"),
        Just("ARG A=@ B=@"),
        Just("ENV A=@ B=@"),
        Just("ENV @ @"),
        Just("LABEL @=@"),
        Just("RUN @"),
        Just("RUN [\"@\"]"),
        Just("RUN --mount=type=cache,target=@,id=@ @"),
        Just("RUN --mount=from=@,target=@ @"),
        Just("RUN --mount=type=secret,id=@,env=B @"),
        Just("COPY @ @"),
        Just("COPY --from=@ --chown=@ @ @"),
        Just("COPY <<E @\n$A @\nE"),
        Just("ADD --checksum=@ https://h/@ @"),
        Just("WORKDIR @"),
        Just("USER @"),
        Just("EXPOSE @ @"),
        Just("VOLUME @"),
        Just("CMD @"),
        Just("ENTRYPOINT [\"@\"]"),
        Just("ONBUILD RUN @"),
        Just("ONBUILD COPY --from=@ @ @"),
        Just("SHELL [\"@\"]"),
        Just("STOPSIGNAL @"),
        Just("MAINTAINER @"),
        Just("HEALTHCHECK --interval=1s CMD @"),
        Just("RUN <<E\n@\nE"),
        Just("RUN <<E\n#!@\nE"),
    ];
    (instruction, proptest::collection::vec(word, 4)).prop_map(|(text, words)| {
        let mut words = words.into_iter();
        text.split('@').enumerate().fold(String::new(), |out, (at, piece)| match at {
            0 => piece.to_owned(),
            _ => out + words.next().unwrap_or("a") + piece,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn planning_is_deterministic_and_never_panics(lines in proptest::collection::vec(line(), 1..16)) {
        let text = format!("FROM a\n{}\n", lines.join("\n"));
        let once = plan_text(&text, &options(), &BTreeMap::new());
        prop_assert_eq!(once, plan_text(&text, &options(), &BTreeMap::new()));
    }

    #[test]
    fn planning_any_text_never_panics(text in "(FROM |RUN |COPY |\\$|\\{|A|:|-|\\n|\"|<<E|=|/|[ -~]){0,60}") {
        plan_text(&text, &options(), &BTreeMap::new());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Joins the start of one case and the end of another, with the options of the latter. The result is a valid plan
    /// (`plan_text` checks the invariants) or an error message.
    #[test]
    fn planning_accepts_or_rejects_spliced_cases(
        (one, other) in (any::<Index>(), any::<Index>()),
        (first, rest) in (0usize..40, 0usize..40),
        all_stages in any::<bool>(),
    ) {
        let cases = cases();
        let (one, other) = (one.get(&cases), other.get(&cases));
        let text = |case: &Path| read(&case.join("Dockerfile")).unwrap_or_default();
        let (head, tail) = (text(one), text(other));
        let lines: Vec<&str> = head.lines().take(first).chain(tail.lines().skip(rest)).collect();
        let mut options = read_options(&read(&other.join("options")).unwrap_or_default());
        options.all_stages |= all_stages;
        let planned = plan_text(&lines.join("\n"), &options, &BTreeMap::new());
        prop_assert!(!planned.is_empty());
    }
}

fn planned(text: &str) -> usize {
    let dockerfile = parse(&Source::new("Dockerfile", text)).expect("valid");
    match plan(&dockerfile, &options(), &Configs::new()) {
        Ok(Planned::Done(plan)) => plan.steps.len(),
        other => panic!("not planned: {other:?}"),
    }
}

#[test]
fn planning_ten_thousand_stages_is_fast() {
    let chain: String = (0..10_000)
        .map(|i| format!("FROM {} AS s{i}\nRUN a{i}\n", if i == 0 { "scratch".into() } else { format!("s{}", i - 1) }))
        .collect();
    let fan: String = (0..10_000).map(|i| format!("FROM scratch AS s{i}\nENV A=1\nRUN a{i}\n")).collect();
    let copies: String = (0..10_000).map(|i| format!("COPY --from=s{i} a b\n")).collect();
    let started = cpu_time();
    assert_eq!(planned(&chain), 10_001);
    assert_eq!(planned(&(fan + "FROM scratch\n" + &copies)), 20_001);
    // Generous for a debug build, but planning must not be quadratic.
    let took = cpu_time() - started;
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// The errors of planning a file.
fn errors(text: &str) -> Vec<String> {
    let dockerfile = parse(&Source::new("Dockerfile", text)).expect("valid");
    let options = Options { variable_limit: 1 << 20, ..options() };
    match plan(&dockerfile, &options, &Configs::new()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(|p| p.message.clone()).collect(),
    }
}

#[test]
fn planning_rejects_variables_over_the_limit() {
    const ALL: &str = "the expanded variables of this file exceed 1 MiB";
    let doubled = |keyword: &str| format!("{keyword} a=xxxxxxxxxxxxxxxx\n{}", format!("{keyword} a=$a$a\n").repeat(12));
    // 64 KiB each: no word is too long, but together they exceed the limit.
    for text in [
        format!("FROM scratch\n{}", doubled("ENV").replace("$a$a", "$a$a$a$a")),
        format!("FROM scratch\n{}{}", doubled("ENV"), "ENV b$a=$a\n".repeat(20)),
        format!("FROM scratch\n{}LABEL {}\n", doubled("ARG"), "l=$a ".repeat(20)),
        format!("FROM scratch\n{}{}", doubled("ARG"), "RUN x\n".repeat(20)),
        format!("FROM scratch\n{}COPY {} /d/\n", doubled("ARG"), "$a ".repeat(20)),
        format!("FROM scratch\n{}{}", doubled("ARG"), "COPY <<E /\n$a\nE\n".repeat(20)),
        format!("FROM scratch\n{}EXPOSE {}\n", doubled("ARG"), "${a:+80} ".repeat(20) + &"${a%x}/$a ".repeat(20)),
        format!("{}ARG {}\nFROM scratch\n", doubled("ARG"), "b=$a ".repeat(20)),
    ] {
        let problems = errors(&text);
        assert!(problems.iter().any(|problem| problem == ALL), "{problems:.200?}");
    }
}

#[test]
fn planning_rejects_deeply_nested_variables() {
    let nested = "${a:-".repeat(1_000);
    assert_eq!(errors(&format!("FROM scratch\nENV a={nested}{}\n", "}".repeat(1_000))).len(), 1);
    assert_eq!(errors(&format!("FROM scratch\nENV a={}x{}\n", "${a:-".repeat(90), "}".repeat(90))), [""; 0]);
}

/// The CPU time of this thread, so that a busy machine fails no test.
fn cpu_time() -> Duration {
    let text = crate::base::fs::read_opt(Path::new("/proc/thread-self/schedstat")).expect("readable").expect("there");
    let text = String::from_utf8(text).expect("ASCII");
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds"))
}
