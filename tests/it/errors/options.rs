//! Test invalid option values: each gives one message before anything is built.

use std::fs;

use super::intact;
use crate::support::TestEnv;

const NOTHING: &str = "-- Dockerfile --\nFROM scratch\nLABEL a=b\n-- file --\nf\n";

#[test]
fn unwritable_output_is_refused_before_build() {
    // O-54, O-66
    let env = TestEnv::new();
    let context = env.context(NOTHING);
    fs::create_dir(env.dir().join("dir")).expect("mkdir");
    fs::write(env.dir().join("file"), "").expect("write");
    for (args, says) in [
        (["-o", "type=oci,dest=no/where/a.tar"], "error: --output: there is no directory no/where\n"),
        (["-o", "type=tar,dest=dir"], "error: --output: dir is a directory\n"),
        (["-o", "type=local,dest=file"], "error: --output: file is not a directory\n"),
        (["--iidfile", "no/where/id"], "error: --iidfile: there is no directory no/where\n"),
        (["--metadata-file", "dir"], "error: --metadata-file: dir is a directory\n"),
    ] {
        let done = env.build(&[&["-t", "x"], &args[..]].concat(), &context).fails(1);
        assert_eq!(done.stderr, says, "{args:?}");
        env.kiln(&["inspect", "x"]).fails(1);
    }
    intact(&env);
}

#[test]
fn missing_secret_or_key_names_where_it_was_looked_up() {
    // O-33, O-34
    let env = TestEnv::new();
    let context = env.context(NOTHING);
    fs::write(env.dir().join("key.pub"), "ssh-ed25519 AAAA x\n").expect("write");
    for (option, value, says) in [
        ("--secret", "token", "want id=ID,src=FILE or id=ID,env=VARIABLE"),
        ("--secret", "id=token", "there is neither a variable nor a file token"),
        ("--secret", "id=token,src=~/none", "write $HOME instead"),
        ("--ssh", "default=/", "/ is a directory"),
        ("--ssh", "default=key.pub", "is a public key"),
        ("--build-context", "a b=.", "neither the name of a stage"),
    ] {
        env.build(&[option, value], &context).fails(2).says(option).says(says);
    }
    intact(&env);
}

#[test]
fn run_rejects_image_for_another_platform() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    env.kiln(&["run", "--platform", "linux/s390x", "busybox", "true"]).fails(125).says("not for linux/s390x");
    let here = if cfg!(target_arch = "aarch64") { "linux/aarch64" } else { "linux/x86_64" };
    env.kiln(&["run", "--platform", here, "busybox", "true"]).ok();
}

#[test]
fn ineffective_or_unknown_values_are_reported() {
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch AS base\nFROM base\nLABEL a=b\n");
    let done = env.build(&["-t", "x", "--no-cache-filter", "bas", "--no-cache-filter", "BASE"], &context).ok();
    done.says("--no-cache-filter bas has no effect").says("did you mean `base`?").never_says("filter BASE");
    env.build(&["-t", "x", "--target", "", "--platform", ""], &context).ok();
    // A number is not treated as a typo of a name.
    env.build(&["--target", "9"], &context).fails(1).says("there is no stage `9`").never_says("did you mean");
    let done = env.build(&["--build-context", "lib=./none"], &context).fails(1);
    done.says("error: --build-context lib: context \"./none\" does not exist");
    env.build(&["--build-context", "=x"], &context).fails(2).says("--build-context \"=x\": want NAME=SOURCE");
    let layout = crate::support::env::fixture("busybox").join("layout");
    let using = env.context("-- Dockerfile --\nFROM lib\n");
    let asked = format!("lib=oci-layout://{}:nope", layout.display());
    let done = env.build(&["--build-context", &asked], &using).fails(1);
    done.says("holds no image nope; it holds latest").never_says("is not an OCI image layout");
    let done = env.build(&["--secret", "id=a,src=none"], &context).fails(2);
    done.says("error: --secret a: cannot open none: No such file or directory\n");
    env.kiln(&["save", "-o", ".", "x"]).fails(1).says("error: cannot write .: is a directory").never_says("rename");
    env.kiln(&["cache", "mounts", "export", "-o", "."]).fails(1).says("error: cannot write .: is a directory");
    env.kiln(&["run", "--read-only", "x", "true"]).fails(125).says("kiln run has no option --read-only");
    env.kiln(&["container", "ls"]).fails(2).says("kiln keeps no containers");
}
