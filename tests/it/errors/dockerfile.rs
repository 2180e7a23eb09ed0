//! Test the messages for missing or wrong Dockerfiles, contexts, targets and sources.

use super::says;
use crate::support::TestEnv;

#[test]
fn missing_dockerfile_is_reported() {
    let env = TestEnv::new();
    says(
        &env,
        "-- other --\n",
        &[],
        1,
        "error: no Dockerfile in CTX\nhint: name it with -f FILE, or -f - for standard input\n",
    );
    says(&env, "-- Dockerfile.dev --\n", &[], 1, "error: no Dockerfile in CTX\nhint: use -f CTX/Dockerfile.dev\n");
    says(
        &env,
        "-- dev.Dockerfile --\n",
        &["-f", "dev.Dockerfile"],
        1,
        "error: no such Dockerfile: dev.Dockerfile\n\
         hint: paths of -f start at the working directory, not at the context: use -f CTX/dev.Dockerfile\n",
    );
}

#[test]
fn missing_or_invalid_context_is_reported() {
    let env = TestEnv::new();
    let done = env.kiln(&["build", "nosuch"]).fails(1);
    assert_eq!(done.stderr, "error: context \"nosuch\" does not exist\n");
    let context = env.context("-- Dockerfile --\nFROM scratch\n");
    let file = context.join("Dockerfile");
    let done = env.build(&[], &file).fails(1);
    let want = format!(
        "error: {} is not an archive\n\
         hint: a context is a directory or an archive; name the Dockerfile with -f\n",
        file.display()
    );
    assert_eq!(done.stderr, want);
}

#[test]
fn all_syntax_errors_are_reported_at_once() {
    says(
        &TestEnv::new(),
        "-- Dockerfile --\nFROM scratch\nCPOY a b\nENV\n",
        &[],
        1,
        "error: unknown instruction: CPOY
 --> CTX/Dockerfile:2:1
  |
2 | CPOY a b
  | ^^^^
  |
  = help: did you mean `COPY`?
error: ENV requires at least one name=value
 --> CTX/Dockerfile:3:1
  |
3 | ENV
  | ^^^
",
    );
}

#[test]
fn missing_target_is_reported() {
    says(
        &TestEnv::new(),
        "-- Dockerfile --\nFROM scratch AS base\nFROM base AS production\n",
        &["--target", "prodction"],
        1,
        "error: there is no stage `prodction`
note: stages: base, production
hint: did you mean `production`?
",
    );
}

#[test]
fn missing_copy_source_is_reported() {
    let env = TestEnv::new();
    says(
        &env,
        "-- Dockerfile --\nFROM scratch\nCOPY requirments.txt /\n-- requirements.txt --\n",
        &[],
        1,
        "error: requirments.txt not found in the context
 --> CTX/Dockerfile:2:6
  |
2 | COPY requirments.txt /
  |      ^^^^^^^^^^^^^^^
  |
  = help: did you mean requirements.txt?
",
    );
    // C-2, G-9: the rule that hides it, with its line.
    says(
        &env,
        "-- Dockerfile --
FROM scratch
COPY --chown=1 \\
  src dist/app.js /srv/
-- .dockerignore --
# what is built
dist
-- src/x --
-- dist/app.js --
",
        &[],
        1,
        "error: dist/app.js not found in the context
 --> CTX/Dockerfile:3:7
  |
3 |   src dist/app.js /srv/
  |       ^^^^^^^^^^^
  |
  = help: change the ignore rule: it is excluded by .dockerignore:2 (`dist`)
",
    );
    says(
        &env,
        "-- Dockerfile --\nFROM scratch AS build\nCOPY x /\nFROM scratch\nCOPY --from=build /y /\n-- x --\n",
        &[],
        1,
        "error: /y not found in stage build
 --> CTX/Dockerfile:4:19
  |
4 | COPY --from=build /y /
  |                   ^^
",
    );
}
