//! The global scope that FROM lines see: platform arguments and the ARGs before the first FROM (F-7, A-7).

use std::collections::{BTreeMap, BTreeSet};

use crate::base::time::Timestamp;
use crate::dockerfile::expand::expand;
use crate::dockerfile::mount::parse_bool;
use crate::dockerfile::{Diagnostic, Dockerfile, Span};
use crate::oci::platform::Platform;

use super::limit::over_variable_limit;
use super::options::Options;
use super::outline::{Parameter, ParameterKind};
use super::unsupported::{Feature, unsupported};

/// The variable that sets image times.
pub(super) const EPOCH: &str = "SOURCE_DATE_EPOCH";

const INLINE_CACHE: &str = "BUILDKIT_INLINE_CACHE";
const MULTI_PLATFORM: &str = "BUILDKIT_MULTI_PLATFORM";

/// The build argument that keeps the `.git` of a context (O-2).
pub(crate) const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// Build arguments without effect: they configure attestations (provenance, SBOMs), which kiln does not create.
pub(crate) const IGNORED_ARGS: [&str; 3] =
    ["BUILDKIT_BUILD_NAME", "BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// The proxy variables in upper case; each also exists in lower case.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Build arguments that need no ARG, so giving one is never reported as unused.
const PREDEFINED: [&str; 11] = [
    "BUILDKIT_BUILD_NAME",
    "BUILDKIT_CACHE_MOUNT_NS",
    KEEP_GIT_DIR,
    "BUILDKIT_DOCKERFILE_CHECK",
    INLINE_CACHE,
    MULTI_PLATFORM,
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_SBOM_SCAN_CONTEXT",
    "BUILDKIT_SBOM_SCAN_STAGE",
    "BUILDKIT_SYNTAX",
    EPOCH,
];

/// The global scope, evaluated.
#[derive(Debug, Default)]
pub(super) struct Globals {
    /// Names with a value.
    values: BTreeMap<String, String>,
    /// Names that are predefined or declared by an ARG, with or without a value, and the names that this value uses.
    declared: BTreeMap<String, BTreeSet<String>>,
    /// SOURCE_DATE_EPOCH.
    pub(super) epoch: Option<Timestamp>,
}

impl Globals {
    /// Evaluates the ARGs before the first FROM. Errors are added to `problems`.
    pub(super) fn new(dockerfile: &Dockerfile, options: &Options, problems: &mut Vec<Diagnostic>) -> Self {
        let mut globals = Self::with(dockerfile, options, &options.build_args, problems);
        match globals.resolve_epoch(dockerfile, options) {
            Ok((epoch, warning)) => {
                globals.epoch = epoch;
                problems.extend(warning);
            }
            Err(problem) => problems.push(*problem),
        }
        // From here on, it is a number or unset.
        if globals.values.contains_key(EPOCH) {
            globals.values.remove(EPOCH);
            globals.values.extend(globals.epoch.map(|epoch| (EPOCH.to_owned(), epoch.secs.to_string())));
        }
        reject_unsupported(options, problems);
        globals
    }

    /// The value of `--build-arg` for a name.
    pub(super) fn given(&self, name: &str, options: &Options) -> Option<String> {
        let given = options.build_args.get(name)?;
        if name == EPOCH { self.epoch.map(|epoch| epoch.secs.to_string()) } else { Some(given.clone()) }
    }

    /// The global scope without build arguments (lint `InvalidDefaultArgInFrom`).
    pub(super) fn defaults(dockerfile: &Dockerfile, options: &Options) -> Self {
        Self::with(dockerfile, options, &BTreeMap::new(), &mut Vec::new())
    }

    /// The global scope with these build arguments, SOURCE_DATE_EPOCH not yet resolved.
    pub(super) fn with(
        dockerfile: &Dockerfile,
        options: &Options,
        build_args: &BTreeMap<String, String>,
        problems: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut globals = Self::default();
        for (name, value) in predefined(dockerfile, options) {
            // A build argument of that name wins, even without an ARG.
            globals.set(name, build_args.get(name).cloned().or(Some(value)), BTreeSet::new());
        }
        let mut spent = 0;
        for statement in &dockerfile.global_args {
            for item in &statement.node.items {
                if spent > options.variable_limit {
                    problems.push(over_variable_limit(statement.span, options));
                    return globals;
                }
                let name = item.name.as_str();
                let mut used = BTreeSet::new();
                let value = match (build_args.get(name), &item.default) {
                    (Some(given), _) => Some(given.clone()),
                    (None, Some(default)) => {
                        match expand(default, dockerfile.escape(), &|n| globals.values.get(n).cloned()) {
                            Ok(expanded) => {
                                used = expanded.used;
                                Some(expanded.text)
                            }
                            Err(problem) => {
                                problems.push(problem.note(format!("in the default of ARG `{name}`")));
                                None
                            }
                        }
                    }
                    (None, None) => None,
                };
                spent += value.as_ref().map_or(0, String::len);
                globals.set(name, value, used);
            }
        }
        globals
    }

    fn set(&mut self, name: &str, value: Option<String>, used: BTreeSet<String>) {
        self.declared.insert(name.to_owned(), used);
        if let Some(value) = value {
            self.values.insert(name.to_owned(), value);
        }
    }

    /// The value of a name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Whether a name is predefined or declared by an ARG.
    pub(super) fn is_declared(&self, name: &str) -> bool {
        self.declared.contains_key(name)
    }

    /// The ARGs with these names, and those that their values use.
    pub(super) fn parameters(&self, dockerfile: &Dockerfile, names: BTreeSet<String>) -> Vec<Parameter> {
        let mut todo: Vec<String> = names.into_iter().collect();
        let mut wanted = BTreeSet::new();
        while let Some(name) = todo.pop() {
            if let Some(used) = self.declared.get(&name)
                && wanted.insert(name)
            {
                todo.extend(used.iter().cloned());
            }
        }
        let mut out = Vec::new();
        for statement in &dockerfile.global_args {
            for item in statement.node.items.iter().filter(|item| wanted.contains(item.name.as_str())) {
                let value = self.values.get(item.name.as_str()).cloned();
                let kind = ParameterKind::Arg { value, description: item.description.clone() };
                out.push(Parameter { kind, name: item.name.text.clone(), span: statement.span, stage: usize::MAX });
            }
        }
        out
    }

    /// Every declared name.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.declared.keys().map(String::as_str)
    }
}

/// Rejects unsupported and malformed BuildKit arguments, which would silently do nothing (N-8).
fn reject_unsupported(options: &Options, problems: &mut Vec<Diagnostic>) {
    for (name, feature) in [
        (INLINE_CACHE, Some(Feature::InlineCache)),
        (MULTI_PLATFORM, Some(Feature::SinglePlatformIndex)),
        (KEEP_GIT_DIR, None),
    ] {
        let Some(text) = options.build_args.get(name).filter(|text| !text.is_empty()) else { continue };
        match (parse_bool(text), feature) {
            (Some(true), Some(feature)) => problems.push(unsupported(feature, Span::default())),
            (Some(_), _) => {}
            (None, _) => {
                let message = format!("invalid build argument {name}={text}: want true or false");
                problems.push(Diagnostic::error(Span::default(), message));
            }
        }
    }
}

/// The platform arguments and TARGETSTAGE (A-7, F-14).
fn predefined(dockerfile: &Dockerfile, options: &Options) -> Vec<(&'static str, String)> {
    let stage = match &options.target {
        Some(target) => target.clone(),
        None => dockerfile.stages.last().and_then(|s| s.name.as_ref()).map_or("default".to_owned(), |n| n.node.clone()),
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let Options { platform: target, build_platform: build, .. } = options;
    let full = |p: &Platform| p.to_string();
    vec![
        ("BUILDPLATFORM", full(build)),
        ("BUILDOS", build.os.clone()),
        ("BUILDOSVERSION", text(&build.os_version)),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", text(&build.variant)),
        ("TARGETPLATFORM", full(target)),
        ("TARGETOS", target.os.clone()),
        ("TARGETOSVERSION", text(&target.os_version)),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", text(&target.variant)),
        ("TARGETSTAGE", stage),
    ]
}

/// Whether a build argument needs no ARG.
pub(super) fn is_predefined(name: &str) -> bool {
    PREDEFINED.contains(&name)
        || PROXIES.contains(&name.to_ascii_uppercase().as_str())
        || ["BUILD", "TARGET"].iter().any(|side| {
            name.strip_prefix(side)
                .is_some_and(|rest| ["PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT", "STAGE"].contains(&rest))
        })
}

/// The proxy variables among the build arguments, in upper and lower case.
pub(super) fn proxies(build_args: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for name in PROXIES {
        // Upper or lower case wins over mixed case.
        let exact = build_args.get(name).or_else(|| build_args.get(&name.to_ascii_lowercase()));
        let any = || build_args.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        if let Some(value) = exact.or_else(any) {
            out.push((name.to_owned(), build_args.get(name).unwrap_or(value).clone()));
            let lower = name.to_ascii_lowercase();
            let value = build_args.get(&lower).unwrap_or(value).clone();
            out.push((lower, value));
        }
    }
    out
}
