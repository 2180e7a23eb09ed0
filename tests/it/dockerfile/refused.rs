//! Test what parser and planner refuse, with the full message.

use kiln::dockerfile::{Diagnostic, Source, parse};
use kiln::oci::platform::Platform;
use kiln::plan::{Configs, Options, Planned, plan};
use kiln::ui::excerpt;

use super::compare_cases;

/// The problems of a file: those of the parser, or else those of planning its last stage.
fn problems(source: &Source) -> Result<Vec<Diagnostic>, String> {
    let file = match parse(source) {
        Ok(file) => file,
        Err(problems) => return Ok(problems),
    };
    let mut options = Options::new(Platform::new("linux", "amd64"));
    options.assume_bases = true;
    match plan(&file, &options, &Configs::new()) {
        Err(problems) => Ok(problems),
        Ok(Planned::Done(_)) => Err(format!("accepted:\n{}", source.text())),
        Ok(Planned::Needs(needs)) => Err(format!("wants {needs:?}:\n{}", source.text())),
    }
}

#[test]
fn refused_cases_give_expected_message() {
    compare_cases("dockerfile-bad", "errors", |case| {
        let source = case.source();
        let problems = problems(&source)?;
        for problem in &problems {
            let inside = problem.span.end as usize <= problem.source.as_ref().unwrap_or(&source).text().len() + 1;
            assert!(inside, "{}: {problem:?}", case.name());
        }
        Ok(excerpt::render(&source, &problems))
    });
}
