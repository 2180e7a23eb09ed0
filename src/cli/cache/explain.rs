//! `kiln cache explain`: which steps a build would run, and why.

use serde_json::{Value, json};

use crate::cli::args::{CacheExplainArgs, Format};
use crate::cli::build::{self, Asked};
use crate::cli::failure::{Done, SUCCESS};
use crate::cli::session::Session;
use crate::engine::Verdict;
use crate::ui::explain;

pub(super) fn run(args: &CacheExplainArgs, session: &mut Session<'_>) -> Done {
    let (plan, steps) = match build::explain(args, session)? {
        Asked::Here(plan, steps) => (plan, steps),
        Asked::Inside(code) => return Ok(code),
    };
    let count = |verdict: &Verdict| steps.iter().filter(|step| step.verdict == *verdict).count();
    let (runs, depends) = (count(&Verdict::Runs), count(&Verdict::Depends));
    if args.format == Format::Json {
        let list: Vec<Value> = steps.iter().map(|step| explain::object(&plan, step)).collect();
        session.console.data(format_args!("{}", json!({ "steps": list, "runs": runs, "depends": depends })))?;
        return Ok(SUCCESS);
    }
    for line in steps.iter().flat_map(|step| explain::lines(&plan, step)) {
        session.console.data(format_args!("{line}"))?;
    }
    let open = if depends > 0 { format!(", {depends} more may") } else { String::new() };
    session.console.data(format_args!("{runs} of {} steps would run{open}", steps.len()))?;
    Ok(SUCCESS)
}
