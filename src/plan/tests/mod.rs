//! Plans the cases in `testdata/plan/<case>/` and compares the results.
//!
//! Input: `Dockerfile`, `ids` (behaviour ids, one per line), optionally `options` (see [`read_options`]) and
//! `bases.json` (image configs by name). Expected: `plan` and, if the file exists, `outline` and `targets` (JSON).
//! `BLESS=1` updates them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::dockerfile::{Diagnostic, Severity, Source, parse};
use crate::oci::config::{ImageConfig, RootFs};
use crate::oci::platform::Platform;

use super::*;

mod properties;

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/plan");
    let mut names = crate::base::fs::list(&root).expect("testdata/plan");
    names.sort();
    names.into_iter().map(|name| root.join(name)).collect()
}

fn read(path: &Path) -> Option<String> {
    let bytes = crate::base::fs::read_opt(path).expect("readable");
    bytes.map(|bytes| String::from_utf8(bytes).expect("UTF-8"))
}

/// Reads one option per line: `arg K=V`, `target T`, `platform P`, `build-platform P`,
/// `context N=local|image REF|layout AT|scratch`, `time N=SECS|unknown`, `label K=V`, `no-cache`, `no-cache-filter S`,
/// `network default|none|host`, `allow network.host|security.insecure`, `all-stages`, `assume-bases`.
fn read_options(text: &str) -> Options {
    let mut options = Options::new(Platform::new("linux", "amd64"));
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let pair = || rest.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).expect("K=V");
        let platform = || rest.parse::<Platform>().expect("platform");
        match word {
            "arg" => options.build_args.extend([pair()]),
            "label" => options.labels.extend([pair()]),
            "target" => options.target = Some(rest.to_owned()),
            "platform" => (options.platform, options.platform_given) = (platform(), true),
            "build-platform" => options.build_platform = platform(),
            "context" => {
                let (name, value) = pair();
                let context = match value.split_once(' ') {
                    Some(("image", image)) => NamedContext::Image(image.parse().expect("image")),
                    None if value == "scratch" => NamedContext::Scratch,
                    Some(("layout", at)) => NamedContext::Layout(at.to_owned()),
                    _ => NamedContext::Local,
                };
                options.contexts.insert(name, context);
            }
            "time" => {
                let (name, secs) = pair();
                let time = secs.parse().ok().map(crate::base::time::Timestamp::from_secs);
                match name.as_str() {
                    "context" => options.context_time = time,
                    _ => _ = options.context_times.insert(name, time),
                }
            }
            "no-cache" => options.no_cache = true,
            "no-cache-filter" => options.no_cache_filter.extend([rest.to_owned()]),
            "max-age" => {
                let (pattern, secs) = pair();
                let age = std::time::Duration::from_secs(secs.parse().expect("seconds"));
                options.max_age.push(crate::plan::MaxAge::new(&pattern, age).expect("a pattern"));
            }
            "network" if rest == "none" => options.network = Network::None,
            "network" if rest == "host" => options.network = Network::Host,
            "allow" if rest == "network.host" => options.allow_host_network = true,
            "allow" if rest == "security.insecure" => options.allow_insecure = true,
            "all-stages" => options.all_stages = true,
            "assume-bases" => options.assume_bases = true,
            other => panic!("unknown option {other}"),
        }
    }
    options
}

/// A typical base image: one layer, a PATH, a command.
pub(super) fn typical_base(platform: &Platform) -> ImageConfig {
    let mut config = ImageConfig::scratch(platform.clone());
    config.config.env = vec!["PATH=/usr/bin:/bin".to_owned()];
    config.config.cmd = Some(vec!["bash".to_owned()]);
    let layer = format!("sha256:{}", "a".repeat(64)).parse().expect("digest");
    config.rootfs = RootFs { kind: "layers".to_owned(), diff_ids: vec![layer] };
    config
}

/// The results of a case as text.
#[derive(Default)]
struct Rendered {
    plan: String,
    outline: String,
    targets: String,
}

fn plan_text(text: &str, options: &Options, bases: &BTreeMap<String, ImageConfig>) -> String {
    render(text, options, bases).plan
}

/// An object as text, without `sources`: one line per entry, and per element of a list.
fn json(value: &impl serde::Serialize) -> String {
    let json = serde_json::to_value(value).expect("JSON");
    let mut out = String::new();
    for (key, value) in json.as_object().expect("an object").iter().filter(|(key, _)| *key != "sources") {
        match value.as_array() {
            Some(list) => list.iter().for_each(|item| writeln!(out, "{key}[] {item}").expect("string")),
            None => writeln!(out, "{key} {value}").expect("string"),
        }
    }
    out
}

/// Plans as a build does: until the plan needs no more image configs.
fn render(text: &str, options: &Options, bases: &BTreeMap<String, ImageConfig>) -> Rendered {
    let source = Source::new("Dockerfile", text);
    let mut rendered = Rendered::default();
    let dockerfile = match parse(&source) {
        Ok(dockerfile) => dockerfile,
        Err(problems) => return Rendered { plan: diagnostics(&problems, &source), ..rendered },
    };
    let targets = outline::targets(&dockerfile);
    rendered.targets = json(&targets);
    let mut out = String::new();
    let mut configs = Configs::new();
    loop {
        match plan(&dockerfile, options, &configs) {
            Ok(Planned::Needs(needs)) => {
                for request in needs {
                    writeln!(out, "needs {} for {}", request.image, request.platform).expect("string");
                    let name = request.image.to_string();
                    let config = bases.get(&name).cloned().unwrap_or_else(|| typical_base(&request.platform));
                    configs.insert(request, config);
                }
            }
            Ok(Planned::Done(plan)) => {
                check(&plan);
                for (name, meant) in &plan.unused_args {
                    writeln!(out, "unused argument {name}, meant {meant:?}").expect("string");
                }
                rendered.outline = json(&plan.outline);
                rendered.plan = out + &diagnostics(&plan.warnings, &source) + &plan.to_string();
                return rendered;
            }
            Err(problems) => return Rendered { plan: out + &diagnostics(&problems, &source), ..rendered },
        }
    }
}

/// Checks the invariants of every plan.
fn check(plan: &Plan) {
    for (at, step) in plan.steps.iter().enumerate() {
        assert_eq!(step.id.index(), at);
        assert!(step.inputs.iter().all(|input| input.index() < at), "inputs come first");
        let unique: BTreeSet<_> = step.inputs.iter().collect();
        assert_eq!(unique.len(), step.inputs.len(), "each input once");
        assert_eq!(step.inputs.is_empty(), matches!(step.kind, StepKind::Base(_)));
        if let StepKind::Run(run) = &step.kind {
            let names: BTreeSet<_> = run.environment().map(|(name, _)| name).collect();
            assert_eq!(names.len(), run.environment().count(), "no variable twice");
        }
    }
    let image = plan.target_stage();
    let layers = image.config.history.iter().filter(|h| !h.empty_layer).count();
    assert_eq!(layers, image.config.rootfs.diff_ids.len(), "the base's history matches its layers");
    // The layers in the history are the chain of steps from the target down (I-14).
    let mut chain = Vec::new();
    let mut at = image.last;
    while let Some(&below) = plan.step(at).inputs.first() {
        chain.push(at);
        at = below;
    }
    // A base that is a context is a layer too.
    chain.extend(matches!(plan.step(at).kind, StepKind::Base(Base::Context(_))).then_some(at));
    chain.reverse();
    let listed: Vec<StepId> = image.history.iter().filter_map(|h| h.layer).collect();
    assert_eq!(listed, chain, "history and layers agree");
}

fn diagnostics(problems: &[Diagnostic], source: &Source) -> String {
    let mut out = String::new();
    for problem in problems {
        let source = problem.source.as_ref().unwrap_or(source);
        let at = source.position(problem.span.start);
        let place = match problem.span.is_empty() {
            true => "-".to_owned(),
            false => format!("{}:{}:{} `{}`", source.name(), at.line, at.column, source.slice(problem.span)),
        };
        let severity = if problem.severity == Severity::Error { "error" } else { "warning" };
        writeln!(out, "{severity} {place} {problem}").expect("string");
        for label in &problem.labels {
            let at = source.position(label.span.start);
            writeln!(out, "  also {}:{} {}", at.line, at.column, label.text).expect("string");
        }
        for note in &problem.notes {
            writeln!(out, "  note {note}").expect("string");
        }
        for hint in &problem.hints {
            writeln!(out, "  hint {hint}").expect("string");
        }
        if let Some(entitlement) = problem.needs {
            writeln!(out, "  needs {entitlement:?}").expect("string");
        }
    }
    out
}

#[test]
fn every_case_has_the_expected_plan() {
    let bless = option_env!("BLESS").is_some();
    let mut failed = Vec::new();
    for case in cases() {
        let text = read(&case.join("Dockerfile")).expect("a case has a Dockerfile");
        let options = read_options(&read(&case.join("options")).unwrap_or_default());
        let bases = read(&case.join("bases.json"))
            .map(|json| serde_json::from_str(&json).unwrap_or_else(|e| panic!("{}: {e}", case.display())))
            .unwrap_or_default();
        let rendered = render(&text, &options, &bases);
        for (name, got) in [("plan", rendered.plan), ("outline", rendered.outline), ("targets", rendered.targets)] {
            let path = case.join(name);
            let want = read(&path);
            if (want.is_none() && name != "plan") || want.as_deref() == Some(&got) {
                continue;
            }
            if bless {
                crate::base::publish::atomic(&path, got.as_bytes(), 0o644).expect("written");
            } else {
                let want = want.unwrap_or_default();
                failed.push(format!("{}\n--- want\n{want}\n--- got\n{got}", path.display()));
            }
        }
        assert!(read(&case.join("ids")).is_some_and(|ids| !ids.trim().is_empty()), "{} has ids", case.display());
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}
