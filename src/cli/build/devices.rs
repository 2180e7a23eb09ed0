//! The devices of the host that a plan asks for, before any step.

use crate::cli::failure::{Failure, Kind, word};
use crate::cli::request::BuildRequest;
use crate::device::{Devices, Refusal, Refused};
use crate::dockerfile::{Diagnostic, Source};
use crate::plan::Plan;

/// Ok: every command can have the devices it asks for, and may.
pub(super) fn find(plan: &Plan, dockerfile: &Source, request: &BuildRequest) -> Result<Devices, Failure> {
    Devices::find(plan, &request.spec_dirs, &request.grants).map_err(|refused| {
        // The Dockerfile asks for what is not allowed; everything else is how this host is.
        let forbidden = refused.iter().any(|refused| matches!(refused.why, Refusal::Forbidden { .. }));
        let problems = refused.iter().map(|refused| diagnostic(refused, plan, dockerfile)).collect();
        let mut failure = Failure::diagnostics(dockerfile, problems);
        failure.kind = if forbidden { Kind::Build } else { Kind::Host };
        failure
    })
}

fn diagnostic(refused: &Refused, plan: &Plan, dockerfile: &Source) -> Diagnostic {
    let meta = &plan.step(refused.step).meta;
    let span = word(dockerfile, meta.span, &format!("--device={}", refused.device), "");
    let mut problem = Diagnostic::error(span, refused.why.to_string());
    if let Some(origin) = &meta.origin {
        problem = problem.note(format!("this is an ONBUILD trigger: {origin}"));
    }
    match &refused.why {
        Refusal::Missing { unread, .. } => {
            let problem = unread.iter().fold(problem, |problem, file| problem.note(format!("not read: {file}")));
            problem.hint(match unread.is_empty() {
                true => {
                    "name the directory of its description with --cdi-spec-dir, or write the flag without `required`"
                }
                false => "if one of the files that were not read describes it, mend that one",
            })
        }
        Refusal::Forbidden { device, .. } => problem.hint(format!("allow it with --allow device={device}")),
        Refusal::Ambiguous { .. } => problem.hint("remove one of the files"),
        Refusal::Unusable { .. } => problem,
    }
}
