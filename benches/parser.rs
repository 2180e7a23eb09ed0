//! How fast Dockerfiles are read, and words expanded. `cargo bench --bench parser`.

use std::fmt::Write as _;

use divan::Bencher;
use divan::counter::BytesCount;
use kiln::dockerfile::expand::expand;
use kiln::dockerfile::{Escape, Source, Span, Word, parse, to_text};

fn main() {
    divan::main();
}

/// What people write: stages, continuations, mounts, JSON, a heredoc.
fn usual() -> String {
    let mut text = "# syntax=docker/dockerfile:1\nARG VERSION=20\n".to_owned();
    for stage in 0..10 {
        let _ = write!(
            text,
            "\n# stage{stage} does its part\nFROM node:${{VERSION}}-slim AS stage{stage}\nWORKDIR /app\n\
             ENV NODE_ENV=production PATH=\"/opt/bin:$PATH\"\nCOPY --chown=node:node package.json package-lock.json ./\n\
             RUN --mount=type=cache,target=/root/.npm,id=npm-$TARGETARCH \\\n    npm ci --omit=dev \\\n    # quietly\n    \
             && npm cache clean --force\nCOPY <<EOF /etc/app.conf\nname = ${{NAME:-app}}\nport = 8080\nEOF\n\
             LABEL org.example.version=\"1.${{VERSION}}\" a=b\nEXPOSE 8080/tcp\nUSER node\n\
             HEALTHCHECK --interval=30s CMD curl -f http://localhost/ || exit 1\nCMD [\"node\", \"server.js\"]\n"
        );
    }
    text
}

/// `line` until there are ten million bytes.
fn ten_megabytes(line: &str) -> String {
    format!("FROM scratch\n{}", line.repeat(10_000_000 / line.len()))
}

const LINES: [(&str, &str); 8] = [
    ("run", "RUN apt-get update && apt-get install -y curl\n"),
    ("stages", "FROM scratch AS a\nCOPY --from=x /a /b\n"),
    ("env", "ENV A=b C=\"d e\" F=$G\n"),
    ("json", "CMD [\"sh\", \"-c\", \"echo \\u00e9 \\\"x\\\"\"]\n"),
    ("mounts", "RUN --mount=type=cache,target=/c,id=x --mount=type=secret,id=y make\n"),
    ("comments", "# nothing but a comment, line after line\n"),
    ("heredocs", "COPY <<EOF /x\nline one $A\nline two\nEOF\n"),
    ("short", "RUN a\n"),
];

#[divan::bench]
fn ten_stages(bencher: Bencher<'_, '_>) {
    let source = Source::new("Dockerfile", usual());
    bencher.counter(BytesCount::new(source.text().len())).bench(|| parse(&source).expect("a Dockerfile"));
}

#[divan::bench(args = LINES.map(|(name, _)| name), sample_count = 5, sample_size = 1)]
fn ten_megabytes_of(bencher: Bencher<'_, '_>, name: &str) {
    let (_, line) = LINES.into_iter().find(|(known, _)| *known == name).expect("a line");
    let text = ten_megabytes(line);
    bencher
        .counter(BytesCount::new(text.len()))
        .bench(|| parse(&Source::new("Dockerfile", &text)).expect("a Dockerfile"));
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn ten_megabytes_in_one_instruction(bencher: Bencher<'_, '_>) {
    let text = format!("FROM scratch\nRUN {}true\n", "echo some words here && \\\n".repeat(400_000));
    bencher
        .counter(BytesCount::new(text.len()))
        .bench(|| parse(&Source::new("Dockerfile", &text)).expect("a Dockerfile"));
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn ten_megabytes_in_one_heredoc(bencher: Bencher<'_, '_>) {
    let text =
        format!("FROM scratch\nCOPY <<EOF /x\n{}EOF\n", "a line of some data, with $VAR in it\n".repeat(270_000));
    bencher
        .counter(BytesCount::new(text.len()))
        .bench(|| parse(&Source::new("Dockerfile", &text)).expect("a Dockerfile"));
}

#[divan::bench]
fn written_out(bencher: Bencher<'_, '_>) {
    let file = parse(&Source::new("Dockerfile", usual())).expect("a Dockerfile");
    bencher.bench(|| to_text(&file));
}

#[divan::bench(args = ["$A/${B:-x}/${C%%.*}", "plain words and nothing else", "${V//a/bc} \"${A}\" 'x' \\$y"])]
fn expanded(bencher: Bencher<'_, '_>, text: &str) {
    let word = Word::new(text, Span::new(0, text.len()));
    let lookup = |name: &str| (name != "B").then(|| "banana.tar.gz".to_owned());
    bencher.bench(|| expand(&word, Escape::Backslash, &lookup).expect("expands"));
}
