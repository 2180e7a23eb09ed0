//! Test error messages in full, with their exit codes, and that a failed command leaves nothing behind.

mod causes;
mod command;
mod dockerfile;
mod host;
mod images;
mod options;

use crate::support::TestEnv;

#[test]
fn commands_of_other_tools_suggest_alternatives() {
    let env = TestEnv::new();
    for (command, word) in [
        (&["commit", "x"][..], "kiln run --commit"),
        (&["copy", "docker://a", "docker://b"], "kiln push"),
        (&["ps"], "keeps no containers"),
        (&["exec", "-it", "x", "sh"], "keeps no containers"),
        (&["buildx", "bake"], "kiln build"),
        (&["image", "frob"], "kiln images"),
        (&["buildx", "create", "--use"], "no builders"),
        (&["context", "ls"], "no daemon"),
    ] {
        let done = env.kiln(command).fails(2);
        assert!(done.stderr.starts_with(&format!("error: kiln has no command {}\nhint: ", command[0])), "{done}");
        done.says(word);
    }
    env.kiln(&["biuld", "."]).fails(2).says("'build'");
}

/// Builds the context `notation` with `-q` and `args`, and compares the whole output with `want`, in which `CTX` stands
/// for the context. Then checks that the store is clean and still builds.
#[track_caller]
fn says(env: &TestEnv, notation: &str, args: &[&str], code: i32, want: &str) {
    let context = env.context(notation);
    let name = context.file_name().expect("a name").to_str().expect("UTF-8").to_owned();
    let args: Vec<&str> = ["build", "-q"].into_iter().chain(args.iter().copied()).chain([&*name]).collect();
    let done = env.kiln(&args).fails(code);
    assert_eq!(done.stdout, "", "{done}");
    assert_eq!(done.stderr.replace(&name, "CTX"), want, "{done}");
    intact(env);
}

/// Checks that nothing is left behind and that the store still works.
#[track_caller]
fn intact(env: &TestEnv) {
    env.assert_swept();
    let next = env.context("-- Dockerfile --\nFROM scratch\nLABEL a=b\n");
    env.build(&["-q"], &next).ok();
    env.kiln(&["images"]).ok();
}
