//! One small build, shown in every form.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::cache::Miss;
use crate::dockerfile::{self, Source};
use crate::engine::{Event, Note, Observer};
use crate::plan::{self, Configs, Options, Plan, Planned, StepId};

use super::json::Json;
use super::plain::Plain;
use super::terminal::Terminal;

const BASE: StepId = StepId(0);
const MAKE: StepId = StepId(1);
const TEST: StepId = StepId(2);

fn plan() -> Arc<Plan> {
    let text = "FROM scratch\nRUN make \\\n  all\nRUN test \x1b[31m\n";
    let dockerfile = dockerfile::parse(&Source::new("Dockerfile", text)).expect("a Dockerfile");
    let options = Options::new("linux/amd64".parse().expect("a platform"));
    let Ok(Planned::Done(plan)) = plan::plan(&dockerfile, &options, &Configs::new()) else { panic!("a plan") };
    Arc::new(*plan)
}

fn events() -> Vec<Event> {
    let output = |step, text: &str| Event::Output { step, bytes: text.as_bytes().to_vec() };
    let changed = Miss::Changed { part: "build argument V".to_owned(), files: None };
    vec![
        Event::Planned(plan()),
        Event::Fetching { step: BASE, bytes: 2_200_000 },
        Event::Fetched { step: BASE, bytes: 1_100_000, of: 2_200_000 },
        Event::Cached(BASE),
        Event::Fallback {
            what: "layers are copied, not mounted".into(),
            why: "overlay: not permitted (os error 1)".into(),
        },
        Event::Started { step: MAKE, why: changed },
        output(MAKE, "cc -o \x1b[32mapp"),
        output(MAKE, "\x1b[0m app.c\nno newline"),
        Event::Finished { step: MAKE, took: Duration::from_millis(1204) },
        Event::Packing { step: MAKE, bytes: 12_300_000_000 },
        Event::Started { step: TEST, why: Miss::Parent },
        output(TEST, "1 of 2 \r2 of 2 \nFAIL: x\n"),
        Event::Packed { step: MAKE, bytes: 20_500_000_000 },
        Event::Failed(TEST),
        Event::Noted { name: "COPY a* /".into(), note: Note::NoMatch { source: "a*".into() } },
    ]
}

fn tell(observer: &mut dyn Observer) {
    for event in events() {
        observer.event(&event);
    }
}

#[test]
fn plain_prints_one_event_per_line() {
    // O-70, R-12, S-99
    let mut out = Vec::new();
    tell(&mut Plain::new(&mut out, None));
    let want = "\
FROM scratch fetching 2.2 MB
FROM scratch fetched 1.1 MB of 2.2 MB
CACHED FROM scratch
note: layers are copied, not mounted (overlay: not permitted)
[1/2] RUN make all
[1/2] why: build argument V changed
[1/2] | cc -o app app.c
[1/2] | no newline
[1/2] done in 1.20s
[1/2] packing: 12.3 GB so far
[2/2] RUN test \\x1b[31m
[2/2] why: parent step changed
[2/2] | 2 of 2
[2/2] | FAIL: x
[1/2] packed 20.5 GB
[2/2] FAILED
warning: COPY a* /: nothing matches a*; nothing was copied for it
";
    assert_eq!(String::from_utf8(out).expect("UTF-8"), want);
}

#[test]
fn plain_truncates_long_step_output() {
    //
    let mut out = Vec::new();
    let mut plain = Plain::new(&mut out, Some(1024));
    plain.event(&Event::Planned(plan()));
    plain.event(&Event::Started { step: MAKE, why: Miss::NoRecord { absent: Vec::new() } });
    for _ in 0..1000 {
        plain.event(&Event::Output { step: MAKE, bytes: b"0123456789\n".to_vec() });
    }
    plain.event(&Event::Finished { step: MAKE, took: Duration::ZERO });
    let text = String::from_utf8(out).expect("UTF-8");
    assert!(text.len() < 3000, "{} bytes", text.len());
    assert_eq!(text.matches("[more than 1 KiB of output: the rest is not shown]").count(), 1);
    assert!(text.ends_with("[1/2] done in 0.00s\n"), "{text}");
}

#[test]
fn json_prints_one_object_per_event() {
    // O-70
    let mut out = Vec::new();
    tell(&mut Json::new(&mut out));
    let text = String::from_utf8(out).expect("UTF-8");
    let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).expect("an object")).collect();
    let kinds: Vec<&str> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
    assert_eq!(
        kinds,
        [
            "planned", "fetching", "fetched", "cached", "fallback", "started", "output", "output", "finished",
            "packing", "started", "output", "output", "packed", "failed", "warning"
        ]
    );
    assert_eq!(lines[0]["steps"][1]["inputs"][0], 0);
    assert_eq!(lines[5]["miss"]["part"], "build argument V");
    assert_eq!(lines[6]["line"], "cc -o app app.c");
    assert_eq!(lines[8]["seconds"], 1.204);
}

/// Keeps what is written, for a reader outside.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("lock").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a terminal shows after `text`, which moves only up and erases only to the end.
fn shown(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some((line, after)) = rest.split_once('\n') {
        let mut line = line;
        while let Some(up) = line.strip_prefix("\x1b[") {
            let (count, after) = up.split_once("A\x1b[J").expect("only up, and erase");
            lines.truncate(lines.len() - count.parse::<usize>().expect("a number"));
            line = after;
        }
        assert!(!line.contains(char::is_control), "{line:?}");
        lines.push(line.to_owned());
        rest = after;
    }
    if let Some(up) = rest.strip_prefix("\x1b[") {
        let (count, _) = up.split_once("A\x1b[J").expect("only up, and erase");
        lines.truncate(lines.len() - count.parse::<usize>().expect("a number"));
    }
    lines
}

#[test]
fn terminal_keeps_finished_and_redraws_running() {
    // O-70, S-99
    let out = Shared::default();
    let read = || String::from_utf8(out.0.lock().expect("lock").clone()).expect("UTF-8");
    let mut terminal = Terminal::new(Box::new(out.clone()), || Some((40, 10)), false);
    let events = events();
    events.iter().take(8).for_each(|event| terminal.event(event));
    let live = shown(&read());
    assert_eq!(live[0..2], ["CACHED FROM scratch", "note: layers are copied, not mounted (overlay: not permitted)"]);
    assert!(live[2].starts_with("1 of 3 steps done, "), "{live:?}");
    assert!(live[3].starts_with("[1/2] RUN make \\ all ") || live[3].contains("RUN make"), "{live:?}");
    assert_eq!(live[4..], ["  why: build argument V changed", "  | cc -o app app.c"]);
    events.iter().skip(8).for_each(|event| terminal.event(event));
    drop(terminal);
    let last = shown(&read());
    assert_eq!(last.len(), 5, "{last:?}");
    assert!(last[2].ends_with(" 1.20s") && last[3].starts_with("FAILED "), "{last:?}");
    assert_eq!(last[4], "warning: COPY a* /: nothing matches a*; nothing was copied for it");
}
