//! How long it takes to understand a Dockerfile: parsing, linting, planning. All of it runs before anything is looked up,
//! so it is part of every warm build.

use std::fmt::Write as _;

use divan::{Bencher, black_box};
use kiln::dockerfile::{Dockerfile, Source, lint, parse};
use kiln::oci::config::ImageConfig;
use kiln::oci::platform::Platform;
use kiln::plan::{Configs, Options, Plan, Planned, plan};

fn main() {
    divan::main();
}

/// Ten stages of twenty lines as people write them.
fn usual() -> String {
    let mut text = "# syntax=docker/dockerfile:1\nARG DEBIAN=12\n".to_owned();
    for stage in 0..10 {
        let base = if stage == 0 { "debian:${DEBIAN}".to_owned() } else { format!("stage{}", stage / 2) };
        let _ = write!(
            text,
            "FROM {base} AS stage{}\nARG VERSION=1.{stage}\nENV LANG=C.UTF-8 APP_HOME=/srv/app-$VERSION\n\
             WORKDIR $APP_HOME\nLABEL org.opencontainers.image.version=\"${{VERSION:-0}}\" stage={stage}\n\
             # what everything needs\nRUN --mount=type=cache,target=/var/cache/apt,sharing=locked \\\n    \
             apt-get update && \\\n    apt-get install -y --no-install-recommends \\\n        ca-certificates curl git \\\n        \
             make\nCOPY --chown=1000:1000 --chmod=644 package.json package-lock.json ./\n\
             RUN --mount=type=secret,id=npmrc,target=/root/.npmrc npm ci\nCOPY . .\nRUN <<EOF\nset -e\n\
             make -j4 PREFIX=$APP_HOME\nEOF\nUSER 1000:1000\nEXPOSE 8080/tcp\nCMD [\"node\", \"server.js\"]\n",
            stage + 1
        );
    }
    text
}

/// Every stage on the one before it.
fn chain(stages: usize) -> String {
    let from = |i: usize| if i == 0 { "scratch".to_owned() } else { format!("s{}", i - 1) };
    (0..stages).map(|i| format!("FROM {} AS s{i}\nENV A=1\nRUN a{i}\n", from(i))).collect()
}

fn read(text: &str) -> Dockerfile {
    parse(&Source::new("Dockerfile", text)).expect("it parses")
}

fn planned(file: &Dockerfile) -> Box<Plan> {
    let options = Options { all_stages: true, ..Options::new(Platform::new("linux", "amd64")) };
    let mut configs = Configs::new();
    loop {
        match plan(file, &options, &configs).expect("it can be planned") {
            Planned::Done(plan) => return plan,
            Planned::Needs(needs) => configs.extend(needs.into_iter().map(|request| {
                let config = ImageConfig::scratch(request.platform.clone());
                (request, config)
            })),
        }
    }
}

#[divan::bench]
fn parse_and_plan_200_lines_10_stages(bencher: Bencher<'_, '_>) {
    let text = usual();
    assert_eq!(text.lines().count(), 212);
    bencher.bench(|| planned(&read(black_box(&text))));
}

#[divan::bench]
fn parse_200_lines_10_stages(bencher: Bencher<'_, '_>) {
    let text = usual();
    bencher.bench(|| read(black_box(&text)));
}

#[divan::bench]
fn lint_200_lines_10_stages(bencher: Bencher<'_, '_>) {
    let file = read(&usual());
    bencher.bench(|| lint::check(black_box(&file)));
}

#[divan::bench(args = [1_000, 10_000])]
fn parse_and_plan_a_chain_of_stages(bencher: Bencher<'_, '_>, stages: usize) {
    let text = chain(stages);
    bencher.bench(|| planned(&read(black_box(&text))));
}
