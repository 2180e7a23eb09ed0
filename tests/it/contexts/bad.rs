//! Test the errors for invalid contexts, Dockerfiles and ignore files.

use std::fs;

use super::sh;
use crate::support::TestEnv;
use crate::support::web::Web;

#[test]
fn invalid_contexts_are_explained() {
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\n-- text --\nnot an archive\n");
    let at = |name: &str| context.join(name).to_str().expect("UTF-8").to_owned();
    let web = Web::serve(&[("/Dockerfile", "", b"FROM scratch\nLABEL from=web\n")]);
    for (line, code, says) in [
        (vec![at("text")], 1, "is not an archive"),
        (vec![at("gone")], 1, "does not exist"),
        (vec!["-f".into(), "-".into(), "-".into()], 2, "standard input cannot be both"),
        (vec![format!("{}/missing", web.url)], 1, "404"),
        (vec!["-f".into(), "x".into(), format!("{}/Dockerfile", web.url)], 2, "is not an archive"),
        (vec!["http://127.0.0.1:1/x".into()], 1, "connection refused"),
        (vec!["https://me:hunter2@127.0.0.1:1/r.git#a b".into()], 2, "not a ref"),
    ] {
        let all: Vec<&str> = ["build"].into_iter().chain(line.iter().map(String::as_str)).collect();
        env.kiln(&all).fails(code).says(says).never_says("hunter2");
    }
    // A URL of a Dockerfile is a context without files.
    env.kiln(&["build", "-t", "web", &format!("{}/Dockerfile", web.url)]).ok();
    assert_eq!(env.image("web").config["config"]["Labels"]["from"], "web");
    // An archive without a Dockerfile, one that is cut, one that is empty.
    sh(
        &context,
        "tar -cf none.tar text; tar -cf whole.tar Dockerfile; head -c 600 whole.tar >cut.tar; gzip -k whole.tar; head -c 50 whole.tar.gz >cut.tgz",
    );
    for (archive, says) in [("none.tar", "no Dockerfile"), ("cut.tar", "unpack"), ("cut.tgz", "unpack")] {
        let bytes = fs::read(at(archive)).expect("read");
        env.kiln(&["build", "-"]).stdin(&bytes).fails(1).says(says);
    }
    env.kiln(&["build", "-"]).stdin(b"").fails(1);
    let left: Vec<_> = fs::read_dir(env.store().join("scratch")).into_iter().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn ignore_file_must_be_regular_and_small() {
    // S-91
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY . /\n-- .dockerignore/ --\n");
    env.build(&[], &context).fails(1).says(".dockerignore");
    fs::remove_dir(context.join(".dockerignore")).expect("remove");
    nix::unistd::mkfifo(&context.join(".dockerignore"), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    env.build(&[], &context).fails(1).says(".dockerignore");
    fs::remove_file(context.join(".dockerignore")).expect("remove");
    let secret = env.dir().join("secret");
    fs::write(&secret, "canary-in-secret[\n").expect("write");
    std::os::unix::fs::symlink(&secret, context.join(".dockerignore")).expect("symlink");
    let done = env.build(&[], &context).output();
    done.never_says("canary-in-secret");
    fs::remove_file(context.join(".dockerignore")).expect("remove");
    let huge = fs::File::create(context.join(".dockerignore")).expect("create");
    huge.set_len(1 << 30).expect("truncate");
    env.build(&[], &context).fails(1).says("larger than 16 MiB");
}

#[test]
fn dockerfile_must_be_regular_and_small() {
    // S-91
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile.dockerignore/ --\n-- ok --\nFROM scratch\n");
    let path = context.join("Dockerfile");
    let file = path.to_str().expect("UTF-8");
    let refused = |says: &str| {
        env.build(&[], &context).fails(1).says(says);
        env.build(&["-f", file], &context).fails(1).says(says);
    };
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    refused("is not a regular file");
    fs::remove_file(&path).expect("remove");
    std::os::unix::fs::symlink("/dev/zero", &path).expect("symlink");
    refused("is not a regular file");
    fs::remove_file(&path).expect("remove");
    fs::create_dir(&path).expect("create");
    refused("is a directory");
    fs::remove_dir(&path).expect("remove");
    fs::File::create(&path).expect("create").set_len((16 << 20) + 1).expect("truncate");
    refused("larger than 16 MiB");
    // The ignore file next to it.
    fs::write(&path, "FROM scratch\nCOPY ok /\n").expect("write");
    refused("Dockerfile.dockerignore");
    fs::remove_dir(context.join("Dockerfile.dockerignore")).expect("remove");
    nix::unistd::mkfifo(&context.join("Dockerfile.dockerignore"), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    refused("not a regular file");
}
