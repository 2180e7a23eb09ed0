//! Test that `kiln doctor` reports what the host really supports.

use crate::support::TestEnv;

#[test]
fn doctor_reports_no_new_privs() {
    // Behaviour 3.3: pods that forbid privilege escalation, services with NoNewPrivileges=.
    requires!(kiln_test, root);
    let env = TestEnv::of_plain_user();
    let doctor = ["--no-new-privs", "--reuid", "kiln-test", "--regid", "kiln-test", "--init-groups", "--reset-env"];
    let done = std::process::Command::new("setpriv")
        .args(doctor)
        .arg(crate::support::env::binary())
        .args(["--root", env.store().to_str().expect("UTF-8"), "doctor"])
        .output()
        .expect("run setpriv");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(said.contains("no_new_privs is set") && said.contains("allowPrivilegeEscalation"), "{said}");
}

#[test]
fn doctor_reports_that_run_works() {
    requires!(userns, overlay);
    let env = TestEnv::new();
    let done = env.kiln(&["doctor"]).ok();
    done.says("RUN works here.").says("a sandbox for RUN");
    let report: serde_json::Value = serde_json::from_str(&env.kiln(&["doctor", "--format", "json"]).ok()).unwrap();
    assert_eq!(report["run"], true);
    let states: Vec<_> = report["ladder"].as_array().unwrap().iter().map(|rung| rung["state"].clone()).collect();
    assert_eq!(states.len(), 4);
    assert_eq!(states.iter().filter(|state| *state == "used").count(), 1, "{report}");
    // Everything missing has a reason.
    for finding in report["ladder"].as_array().unwrap().iter().chain(report["commands"].as_array().unwrap()) {
        assert!(finding["state"] != "missing" || finding["why"].as_str().is_some_and(|why| why.len() > 5), "{finding}");
    }
}

#[test]
fn doctor_lists_cdi_devices_of_host() {
    // R-10
    requires!(root, userns);
    let env = TestEnv::new();
    let script = r#"mount -t tmpfs none /var/run && mkdir /var/run/cdi && cd /var/run/cdi && exec > test.json && echo '
        {"cdiVersion": "0.6.0", "kind": "test.example/dev", "devices": [{"name": "one", "containerEdits": {}},
        {"name": "two", "containerEdits": {"netDevices": [{}]}}]}' && exec > broken.json && echo [ && exec >&2 && exec "$@""#;
    let out = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(crate::support::env::binary())
        .arg("doctor")
        .env("KILN_ROOT", env.store())
        .output()
        .expect("run unshare");
    let said = String::from_utf8_lossy(&out.stderr);
    let line = said.lines().skip_while(|line| !line.contains("RUN --device")).nth(1).unwrap_or_default();
    for part in
        ["test.example/dev=one; ", "test.example/dev=two, described by /var/run/cdi/test.json: ", "broken.json: EOF"]
    {
        assert!(line.contains(part), "no {part:?} in {said}");
    }
}
