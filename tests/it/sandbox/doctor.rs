//! What `kiln doctor` says, held against what the host really does.

use crate::support::TestEnv;

#[test]
fn the_doctor_says_that_commands_work_where_they_do() {
    requires!(userns, overlay);
    let env = TestEnv::new();
    let done = env.kiln(&["doctor"]).ok();
    done.says("RUN works here.").says("a sandbox for RUN");
    let report: serde_json::Value = serde_json::from_str(&env.kiln(&["doctor", "--format", "json"]).ok()).unwrap();
    assert_eq!(report["run"], true);
    let states: Vec<_> = report["ladder"].as_array().unwrap().iter().map(|rung| rung["state"].clone()).collect();
    assert_eq!(states.len(), 4);
    assert_eq!(states.iter().filter(|state| *state == "used").count(), 1, "{report}");
    // Whatever is missing has a reason.
    for finding in report["ladder"].as_array().unwrap().iter().chain(report["commands"].as_array().unwrap()) {
        assert!(finding["state"] != "missing" || finding["why"].as_str().is_some_and(|why| why.len() > 5), "{finding}");
    }
}
