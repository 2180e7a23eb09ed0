//! A Python web application: wheels from the context, tests in a RUN, its own user, a port from the environment.

use serde_json::json;

use crate::support::TestEnv;

use super::Served;

#[test]
fn guestbook_builds_passes_its_tests_and_serves() {
    requires!(userns, overlay);
    let env = TestEnv::with("python");
    let app = env.app("guestbook");
    let done = env.build(&["-t", "guestbook"], &app).ok();
    done.says("test_every_entry_is_one_line_with_its_mood").says("Successfully installed moods-1.2");
    let image = env.image("guestbook");
    image.skopeo_check();
    let tree = image.tree();
    for (path, mode, owner) in [
        ("srv/guestbook/app", 0o755, (990, 990)),
        ("srv/guestbook/app/__init__.py", 0o644, (990, 990)),
        ("srv/guestbook/data", 0o750, (990, 990)),
        ("srv/guestbook/requirements.txt", 0o644, (0, 0)),
    ] {
        let node = &tree[path];
        if node.kind == "file" {
            assert_eq!(node.mode, mode, "{path}");
        }
        assert_eq!((node.uid, node.gid), owner, "{path}");
    }
    assert!(!tree.has("srv/guestbook/tests"), "the tests stay in their stage");
    assert!(tree.0.keys().any(|p| p.ends_with("dist-packages/moods/__init__.py")), "the wheel is installed");
    let config = &image.config["config"];
    assert_eq!((&config["User"], &config["WorkingDir"]), (&json!("web"), &json!("/srv/guestbook")));
    assert_eq!(config["ExposedPorts"], json!({"5000/tcp": {}}));

    let mut server = Served::start(&env, "guestbook");
    assert_eq!(server.get("/health"), "ok\n");
    assert_eq!(server.get("/"), "Ada (glad): Works on my engine.\nGrace (calm): Found a moth in the image.\n");
    let (code, said) = server.stop();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("as uid 990"), "{said}");

    let again = env.build(&["-t", "again"], &app).ok();
    assert!(again.progress().ran().is_empty(), "{again}");
    assert_eq!(env.image("again").digest, image.digest);
    env.assert_swept();

    // A failing test fails the build, its output is shown, and the previous image stays.
    env.add(&app, "-- app/broken.py --\n");
    let page = std::fs::read_to_string(app.join("app/__init__.py")).expect("read");
    std::fs::write(app.join("app/__init__.py"), page.replace("({mood(e['text'])})", "(?)")).expect("write");
    let failed = env.build(&["-t", "guestbook"], &app).fails(1);
    failed.says("AssertionError").says("exited with status 1").says("Dockerfile:14");
    assert!(failed.progress().cached().iter().any(|step| step.starts_with("RUN pip install")), "{failed}");
    assert_eq!(env.image("guestbook").digest, image.digest);
    env.assert_swept();
}
