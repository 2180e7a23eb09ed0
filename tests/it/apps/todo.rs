//! A to-do list with four stages, one of which runs its tests.

use serde_json::json;

use crate::support::TestEnv;

#[test]
fn each_target_builds_its_own_image() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let app = env.app("todo");

    let done = env.build(&["-t", "todo:dev", "--target", "development"], &app).ok();
    assert!(!done.progress().ran().iter().any(|step| step.contains("run.sh")), "no test ran\n{done}");
    let development = env.image("todo:dev");
    assert_eq!(development.config["config"]["Cmd"], json!(["todo", "watch"]));
    assert_eq!(development.content("data/todo.txt"), b"try the development image\n");

    let done = env.build(&["-t", "todo", "--build-arg", "VERSION=2.0"], &app).ok();
    assert!(done.progress().cached().iter().any(|step| step.starts_with("COPY lib/")), "shared\n{done}");
    let production = env.image("todo");
    production.skopeo_check();
    let config = &production.config["config"];
    assert_eq!(config["Labels"]["org.opencontainers.image.version"], "2.0");
    assert_eq!((&config["User"], &config["StopSignal"]), (&json!("todo"), &json!("SIGINT")));
    assert_eq!(config["Volumes"], json!({"/data": {}}));
    assert_eq!(production.content("usr/share/todo/test-report.txt"), b"3 tests passed\n");
    assert!(!production.tree().has("app/test"));
    assert_eq!(production.tree()["data"].uid, 1500);

    let done = env.build(&["-t", "todo:test", "--target", "test"], &app).ok();
    assert!(done.progress().ran().is_empty(), "the production image needed it\n{done}");

    assert_eq!(&*env.kiln(&["run", "--rm", "todo"]).ok(), "nothing to do (production)");
    let listed = env.kiln(&["run", "--rm", "--entrypoint", "sh", "todo", "-c", "todo add milk; todo list; id -u"]).ok();
    assert_eq!(&*listed, "1. milk\n1500");
    env.kiln(&["run", "--rm", "todo", "dance"]).fails(64).says("what is dance?");
    env.assert_swept();
}

#[test]
fn failing_test_stage_fails_production_build() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let app = env.app("todo");
    let store = app.join("lib/store.sh");
    let text = std::fs::read_to_string(&store).expect("read");
    std::fs::write(&store, text.replace("sed -i \"$1d\"", "sed -i \"2d\"")).expect("write");
    // The pipe in the Dockerfile would hide the failure; `pipefail` reports it.
    let dockerfile = std::fs::read_to_string(app.join("Dockerfile")).expect("read");
    let careful = dockerfile.replace("RUN sh test", "SHELL [\"/bin/sh\", \"-o\", \"pipefail\", \"-c\"]\nRUN sh test");
    std::fs::write(app.join("Dockerfile"), careful).expect("write");
    env.build(&["-t", "todo"], &app).fails(1).says("run.sh").says("exited with status 1");
    env.build(&["-t", "todo:dev", "--target", "development"], &app).ok();
}

#[test]
fn unknown_target_error_suggests_similar_name() {
    let env = TestEnv::with_busybox();
    let app = env.app("todo");
    env.build(&["--target", "prodution"], &app).fails(1).says("prodution").says("production");
}
