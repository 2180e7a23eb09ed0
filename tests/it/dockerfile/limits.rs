//! Test extreme Dockerfiles: very long, deeply nested or broken ones give a result or an error in time.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use kiln::dockerfile::{Source, dump, parse};

/// The messages of the parser; none if it accepts the text. Fails if parsing is slow. The limit allows for debug builds
/// on busy machines, so that it catches only quadratic run time.
fn said(text: impl AsRef<[u8]>) -> Vec<String> {
    let start = Instant::now();
    let source = Source::new("Dockerfile", text);
    let words = match parse(&source) {
        Ok(file) => {
            assert!(!dump(&file, true).is_empty());
            Vec::new()
        }
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    };
    assert!(start.elapsed() < Duration::from_secs(20), "took {:?}", start.elapsed());
    words
}

#[test]
fn line_limit_applies_to_physical_lines_only() {
    // P-7
    let line = |length: usize| format!("FROM scratch\nRUN {}\n", "x".repeat(length - 4));
    assert_eq!(said(line(65_535)), [""; 0]);
    assert_eq!(said(line(65_536)), ["line longer than 65535 bytes"]);
    // Without a line feed at the end, with a carriage return, in a comment, in a heredoc, in a continuation.
    assert_eq!(said(line(65_536).trim_end()).len(), 1);
    assert_eq!(said(line(65_535).replace('\n', "\r\n")).len(), 1);
    assert_eq!(said(format!("# {}\nFROM scratch\n", "x".repeat(70_000))).len(), 1);
    assert_eq!(said(format!("FROM scratch\nRUN <<E\n{}\nE\n", "x".repeat(70_000))).len(), 1);
    let parts = format!("FROM scratch\nRUN a {}\n", format!("{}\\\n", "x".repeat(60_000)).repeat(20) + "y");
    assert_eq!(said(parts), [""; 0]);
}

#[test]
fn parser_accepts_ten_thousand_stages() {
    let mut text = String::new();
    for i in 0..10_000u32 {
        let _ = write!(text, "FROM s{} AS s{i}\nCOPY --from=s{} /a /b\n", i.saturating_sub(1), i / 2);
    }
    assert_eq!(said(text), [""; 0]);
}

#[test]
fn parser_accepts_instructions_with_many_words() {
    let many = |word: &str| format!("{word} \\\n").repeat(50_000);
    assert_eq!(said(format!("FROM scratch\nRUN {}x\n", many("a"))), [""; 0]);
    assert_eq!(said(format!("FROM scratch\nENV {}A=1\n", many("A=\"b c\""))), [""; 0]);
    assert_eq!(said(format!("FROM scratch\nCOPY {}/d/\n", many("f"))), [""; 0]);
    assert_eq!(said(format!("FROM scratch\nCMD [ {}\"x\" ]\n", many("\"a\","))), [""; 0]);
    assert_eq!(said(format!("FROM scratch\nRUN {}x\n", many("--mount=type=tmpfs,target=/a"))), [""; 0]);
    let comments = "\\\n# comment\n\n".repeat(50_000);
    assert_eq!(said(format!("FROM scratch\nRUN a {comments}x\n")), [""; 0]);
}

#[test]
fn parser_accepts_many_heredocs_on_one_line() {
    let mut text = "FROM scratch\nCOPY ".to_owned();
    (0..30_000).for_each(|i| _ = writeln!(text, "<<f{i} \\"));
    text.push_str("/d/\n");
    (0..30_000).for_each(|i| _ = writeln!(text, "text {i}\nf{i}"));
    assert_eq!(said(text), [""; 0]);
}

#[test]
fn long_heredoc_used_too_often_is_refused() {
    let many = format!("FROM scratch\nCOPY {}/d/\n{}", "<<f ".repeat(1_000), "f\n".repeat(999));
    assert_eq!(said(format!("{many}short\nf\n")), [""; 0]);
    let long = "a line of the long body\n".repeat(5_000);
    assert_eq!(said(format!("{many}{long}f\n")), ["the long heredoc `f` is used too often"]);
}

#[test]
fn parser_reports_at_most_fifty_problems() {
    let problems = said("what is this\n".repeat(100_000));
    assert_eq!(problems.len(), 51);
    assert_eq!(problems[50], "more than 50 problems; the rest is not shown");
}

#[test]
fn parser_is_fast_on_unclosed_constructs() {
    let open = |text: &str| format!("FROM scratch\n{}", text.repeat(20_000));
    assert_eq!(said(open("RUN <<EOF\n")).len(), 1);
    assert_eq!(said(open("COPY <<A <<B /d/\n")).len(), 1);
    assert_eq!(said(open("RUN echo \"${a <<EOF\n")), [""; 0]);
    assert_eq!(said(open("RUN [\"a\", [[[[\n")), [""; 0]);
    assert_eq!(said(format!("FROM scratch\nRUN {}\n", "${a:-".repeat(12_000))), [""; 0]);
    assert_eq!(said(format!("FROM scratch\nRUN <<E {}\n", "${a:-".repeat(12_000))), [""; 0]);
    assert_eq!(said(format!("FROM scratch\nCMD {}\n", "[".repeat(60_000))), [""; 0]);
    assert_eq!(said(format!("FROM scratch\nRUN --mount={}\n", "'\"\"'".repeat(15_000))).len(), 1);
}

#[test]
fn parser_handles_arbitrary_bytes() {
    // P-1
    for first in 0..=255u8 {
        for rest in [&b""[..], b"\n", b"ROM scratch\nRUN a\n", b"\xff\xfe\n", b"\0\0"] {
            said([&[first], rest].concat());
        }
    }
    let noise: Vec<u8> = (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    assert_eq!(said(noise).len(), 1);
}
