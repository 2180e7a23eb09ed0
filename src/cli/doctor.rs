//! `kiln doctor`: what works on this host, and what prevents the rest.
//!
//! **Order.** For a plain user it continues inside a user namespace, as a build does, and reports from outside only if it
//! cannot create one. It runs a command; it concludes nothing from version numbers.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::device;
use crate::engine::{Throwaway, Unpacker};
use crate::sandbox::userns::{self, Privilege};
use crate::sandbox::{Cancel, Feature, Io, Launcher, Limit, Mount, Resources, Source, Spec, private_network};
use crate::ui::sanitize;

use super::args::{DoctorArgs, Format};
use super::failure::{Done, Failure, Kind, SUCCESS, no_private_network, sandbox_hint, single_id};
use super::session::Session;

/// Directories of the host that its `/bin/true` needs.
const PROGRAMS: [&str; 5] = ["/bin", "/lib", "/lib64", "/usr", "/nix"];

/// The state of one feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// Works, and builds use it.
    Used,
    /// Works.
    Works,
    /// Not tried: not needed, or useless without a missing feature.
    Untried,
    /// Does not work.
    Missing,
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    state: State,
    /// The reason, or the consequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// How to enable it.
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
}

impl Finding {
    fn new(name: &'static str, state: State) -> Self {
        Self { name, state, why: None, help: None }
    }

    fn missing(name: &'static str, why: impl Into<String>) -> Self {
        Self::new(name, State::Missing).why(why)
    }

    fn of(name: &'static str, result: Result<(), String>) -> Self {
        match result {
            Ok(()) => Self::new(name, State::Works),
            Err(why) => Self::missing(name, why),
        }
    }

    fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(sanitize::plain(&why.into()));
        self
    }

    fn help(mut self, help: Option<&str>) -> Self {
        self.help = help.map(str::to_owned);
        self
    }
}

/// The whole report.
#[derive(Debug, Serialize)]
struct Report {
    /// RUN works.
    run: bool,
    /// The modes, best first.
    ladder: Vec<Finding>,
    /// Features of RUN steps.
    commands: Vec<Finding>,
}

/// Reports. The code is 0 if RUN works here, else 3.
pub(super) fn run(args: &DoctorArgs, session: &mut Session<'_>) -> Done {
    let privilege = userns::privilege().map_err(|e| Failure::from_error(Kind::Host, &e))?;
    let refused = match privilege {
        Privilege::Plain => match session.enter_namespace()? {
            Ok(code) => return Ok(code),
            Err(refused) => Some(refused),
        },
        Privilege::Namespace { .. } => {
            // If it is refused, the command below reports what is missing.
            userns::own_mounts().ok();
            None
        }
        Privilege::Root => None,
    };
    let mut report = Report { run: false, ladder: ladder(privilege, refused.as_ref()), commands: Vec::new() };
    if refused.is_none() {
        report.commands = commands(session)?;
        report.run = report.commands.first().is_some_and(|first| first.state != State::Missing);
    }
    match args.format {
        Format::Json => session.console.data(format_args!("{}", serde_json::json!(report)))?,
        Format::Text => {
            for line in text(&report) {
                session.console.data(format_args!("{line}"))?;
            }
        }
    }
    Ok(if report.run { SUCCESS } else { Kind::Host.code() })
}

/// The modes, best first; the first that works is used.
fn ladder(privilege: Privilege, refused: Option<&userns::Error>) -> Vec<Finding> {
    let (root, many, one, none) = (
        "root",
        "user namespace with subordinate ids",
        "user namespace with a single id",
        "files and metadata only (COPY, ADD, ENV, …)",
    );
    let not_root = || {
        let user = userns::outer_uid()
            .or_else(|| (privilege == Privilege::Plain).then(|| rustix::process::geteuid().as_raw()));
        let why = match user {
            None => "kiln was started inside a user namespace",
            Some(0) => "root lacks CAP_SYS_ADMIN here: the container around kiln withholds it",
            Some(_) => "kiln was started by a plain user",
        };
        Finding::missing(root, why)
    };
    let rungs = match (privilege, refused) {
        (Privilege::Root, _) => {
            vec![Finding::new(root, State::Used), Finding::new(many, State::Untried), Finding::new(one, State::Untried)]
        }
        (Privilege::Namespace { ids }, _) if ids > 1 => {
            vec![not_root(), Finding::new(many, State::Used), Finding::new(one, State::Works)]
        }
        (Privilege::Namespace { .. }, _) => {
            let why = userns::single_id_reason().as_ref().map(single_id).unwrap_or_default();
            let one = Finding::new(one, State::Used).why("chown to other users fails, and so does su");
            vec![not_root(), Finding::missing(many, why), one]
        }
        (Privilege::Plain, refused) => {
            let said = refused.map_or_else(|| "no user namespace".to_owned(), |refused| super::failure::chain(refused));
            let help = refused.and_then(userns::Error::hint).as_ref().map(sandbox_hint);
            let help = help.as_deref();
            let also = userns::subordinate_problem().map(|also| format!("{said}; and {}", single_id(&also)));
            vec![
                not_root(),
                Finding::missing(many, also.unwrap_or_else(|| said.clone())).help(help),
                Finding::missing(one, said).help(help),
            ]
        }
    };
    let last = if refused.is_some() { State::Used } else { State::Works };
    rungs.into_iter().chain([Finding::new(none, last)]).collect()
}

/// Runs a command as a build would, and reports what it got.
fn commands(session: &Session<'_>) -> Result<Vec<Finding>, Failure> {
    let (sandbox, overlay) = ("a sandbox for RUN", "layers stacked by overlayfs");
    let store = session.store()?;
    let unpacker = Unpacker::new(&store, session.in_user_namespace()?, None, |_, _| ())?;
    let root = Throwaway::new(&[], unpacker).map_err(|e| Failure::of_step(&e))?;
    let mut spec = Spec::new(root.rootfs(), vec!["/bin/true".into()]);
    for dir in PROGRAMS.into_iter().filter(|dir| Path::new(dir).exists()) {
        let source = Source::Path(dir.into());
        spec.mounts.push(Mount { source, target: dir.into(), readonly: true });
    }
    spec.resources = Resources { memory: Some(1 << 30), pids: Some(1000), ..Resources::default() };
    let cancel = Cancel::new().map_err(|e| Failure::new(Kind::Host, format!("make an event: {e}")))?;
    let mut findings = Vec::new();
    let mut without = Vec::new();
    match Launcher::new().run(&spec, Io::Captured(&mut |_| {}), &cancel) {
        Ok(outcome) => {
            findings.push(Finding::new(sandbox, State::Works));
            without = outcome.fallbacks;
        }
        // The sandbox works; only /bin/true is missing on this host.
        Err(error) if error.code() == 127 => findings.push(Finding::new(sandbox, State::Works)),
        Err(error) => {
            findings.push(
                Finding::missing(sandbox, super::failure::chain(&error))
                    .help(error.hint().map(sandbox_hint).as_deref()),
            );
        }
    }
    findings.push(match root.fallback() {
        None => Finding::new(overlay, State::Works),
        Some((what, why)) => Finding::missing(overlay, format!("{why}; {what}")),
    });
    let lacks = |feature: Feature| match without.iter().find(|fallback| fallback.feature == feature) {
        Some(fallback) => Err(fallback.cause.clone()),
        None => Ok(()),
    };
    let ran = findings[0].state == State::Works;
    for (name, feature) in [
        ("a /proc of their own", Feature::Proc),
        ("--memory", Feature::Limit(Limit::Memory)),
        ("--pids-limit", Feature::Limit(Limit::Processes)),
    ] {
        findings.push(if ran { Finding::of(name, lacks(feature)) } else { Finding::new(name, State::Untried) });
    }
    findings
        .push(Finding::of("--network private", private_network().map(drop).map_err(|lack| no_private_network(&lack))));
    findings.extend(devices());
    Ok(findings)
}

/// The names that `RUN --device` can use; none: no CDI file describes a device.
fn devices() -> Option<Finding> {
    let (devices, unread) = device::described(&device::SPEC_DIRS.map(PathBuf::from));
    let (names, wrong): (Vec<_>, Vec<_>) = devices.into_iter().partition(Result::is_ok);
    let said: Vec<String> = names.iter().chain(&wrong).map(|either| either.clone().unwrap_or_else(|why| why)).collect();
    let why = said.into_iter().chain(unread).collect::<Vec<_>>().join("; ");
    let state = if names.is_empty() { State::Missing } else { State::Works };
    (!why.is_empty()).then(|| Finding::new("RUN --device", state).why(why))
}

fn text(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for (title, findings) in [("Modes, best first", &report.ladder), ("Commands get", &report.commands)] {
        if findings.is_empty() {
            continue;
        }
        lines.push(title.to_owned());
        for Finding { name, state, why, help } in findings {
            let state = match state {
                State::Used => "used",
                State::Works => "works",
                State::Untried => "-",
                State::Missing => "missing",
            };
            lines.push(format!("  {state:<8} {name}"));
            lines.extend(why.iter().map(|why| format!("           {why}")));
            lines.extend(help.iter().map(|help| format!("           help: {help}")));
        }
    }
    lines.push(match report.run {
        true => "RUN works here.".to_owned(),
        false => "RUN does not work here.".to_owned(),
    });
    lines
}
