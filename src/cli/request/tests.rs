//! Command lines and environments → requests, or one message that names the option.

use std::path::Path;

use clap::Parser;

use crate::cli::args::{BuildArgs, Progress};
use crate::cli::failure::Failure;
use crate::plan::{NamedContext, Network};

use super::{BuildRequest, DockerfileFrom, Environment, build};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: BuildArgs,
}

fn request_in(environment: &[(&str, &str)], line: &[&str]) -> Result<BuildRequest, Failure> {
    let line = Line::try_parse_from(["kiln"].iter().chain(line).chain(&["."])).unwrap_or_else(|e| panic!("{e}"));
    build(&line.args, &Environment::of(1000, environment))
}

fn request(line: &[&str]) -> BuildRequest {
    request_in(&[], line).unwrap_or_else(|e| panic!("{line:?}: {}", e.message))
}

#[test]
fn build_request_has_documented_defaults() {
    let request = request(&[]);
    assert_eq!(request.source.file, DockerfileFrom::Context);
    assert_eq!(request.source.options.network, Network::Default);
    assert_eq!(request.progress, Progress::Auto);
    assert!(request.source.options.build_args.is_empty());
    assert!(request.tags.is_empty() && request.outputs.is_empty() && request.timeout.is_none());
}

#[test]
fn build_arg_without_value_reads_environment() {
    // A-2
    let environment =
        [("V", "env"), ("EMPTY", ""), ("https_proxy", "http://p"), ("SOURCE_DATE_EPOCH", "7"), ("X", "x")];
    let args = |line: &[&str]| {
        let request = request_in(&environment, line).expect("a request");
        let mut args = request.source.options.build_args;
        for known in ["https_proxy", "SOURCE_DATE_EPOCH"] {
            assert!(args.remove(known).is_some(), "{known}: A-6, O-57");
        }
        args.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(args(&[]), "");
    assert_eq!(args(&["--build-arg", "V=line"]), "V=line");
    assert_eq!(args(&["--build-arg", "V"]), "V=env");
    assert_eq!(args(&["--build-arg", "V="]), "V=");
    assert_eq!(args(&["--build-arg", "EMPTY"]), "EMPTY=");
    assert_eq!(args(&["--build-arg", "UNSET"]), "");
    assert_eq!(args(&["--build-arg", "A=b=c d", "--build-arg", "V=1", "--build-arg", "V=2"]), "A=b=c d V=2");
    let request = request_in(&environment, &["--build-arg", "SOURCE_DATE_EPOCH=9"]).expect("a request");
    assert_eq!(request.source.options.build_args["SOURCE_DATE_EPOCH"], "9");
}

#[test]
fn build_context_takes_directory_image_or_layout() {
    // O-5
    let request = request(&[
        "--build-context=Src=/",
        "--build-context=alpine=docker-image://busybox:1",
        "--build-context=base=oci-layout:///x:tag",
        "--build-context=nothing=docker-image://scratch",
        "--build-context=Debian:12::linux/arm64/v8=docker-image://busybox:1",
        "--build-context=src::arm64=docker-image://busybox:2",
    ]);
    let contexts = request.source.options.contexts;
    assert_eq!(contexts["src"], NamedContext::Local);
    assert_eq!(contexts["alpine"], NamedContext::Image("busybox:1".parse().expect("reference")));
    assert_eq!(contexts["base"], NamedContext::Layout("/x:tag".to_owned()));
    assert_eq!(contexts["nothing"], NamedContext::Scratch);
    assert_eq!(contexts["debian:12::linux/arm64"], NamedContext::Image("busybox:1".parse().expect("reference")));
    assert_eq!(contexts["src::linux/arm64"], NamedContext::Image("busybox:2".parse().expect("reference")));
    assert_eq!(request.directories["src"].to_str(), Some("/"));
}

#[test]
fn progress_option_overrides_environment() {
    // O-70, O-71
    let progress = |env: &[(&str, &str)], line: &[&str]| request_in(env, line).map(|r| r.progress).ok();
    let plain = [("BUILDKIT_PROGRESS", "plain")];
    assert_eq!(progress(&plain, &[]), Some(Progress::Plain));
    assert_eq!(progress(&plain, &["--progress", "rawjson"]), Some(Progress::Json));
    assert_eq!(progress(&plain, &["-q"]), Some(Progress::Quiet));
    assert_eq!(progress(&[("BUILDKIT_PROGRESS", "loud")], &[]), None);
}

#[test]
fn invalid_options_fail_as_usage_errors() {
    // O-50
    for (line, want) in [
        (&["-t", "Upper/Case"][..], "--tag"),
        (&["-t", "a:b:c"], "--tag"),
        (&["-t", "a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"], "--tag"),
        (&["-t", ""], "--tag"),
        (&["--label", "=x"], "--label"),
        (&["--build-arg", "=x"], "--build-arg"),
        (&["--build-context", "x"], "--build-context"),
        (&["--build-context", "x::nowhere=/"], "invalid platform"),
        (&["--build-context", "::linux/arm64=/"], "--build-context"),
        (&["--build-context", "x=/", "--build-context", "X=/"], "--build-context"),
        (&["--build-context", "x=docker-image://Q"], "--build-context"),
        (&["--platform", "nonsense"], "--platform"),
        (&["--platform", "linux/amd64,linux/arm64"], "--platform"),
        (&["--allow", "everything"], "--allow"),
        (&["--timeout", "soon"], "--timeout"),
        (&["--jobs", "0"], "--jobs"),
        (&["-o", "type=zip,dest=x"], "--output"),
        (&["-q", "--progress", "plain"], "--quiet"),
        (&["-f", ""], "--file"),
        (&["--ssh", "default"], "SSH_AUTH_SOCK is not set"),
        (&["--cpuset-cpus", "60000"], "--cpuset-cpus"),
    ] {
        let failure = request_in(&[], line).expect_err(&line.join(" "));
        assert!(failure.message.contains(want), "{line:?}: {}", failure.message);
        assert_eq!(failure.kind.code(), 2, "{line:?}");
    }
}

#[test]
fn tag_with_upper_case_suggests_lower_case() {
    // O-50
    let failure = request_in(&[], &["-t", "App:V1"]).expect_err("refused");
    assert_eq!(failure.hints, ["names are lower-case: app:v1"]);
}

#[test]
fn context_takes_directory_or_remote_source() {
    // O-1
    for context in ["-", "https://example.org/x.git#main:sub", "https://example.org/x.tar", "git@h:o/r", "ssh://h/r"] {
        let line = Line::try_parse_from(["kiln", context]).unwrap_or_else(|e| panic!("{e}"));
        let request = build(&line.args, &Environment::of(0, &[])).unwrap_or_else(|e| panic!("{}", e.message));
        assert!(request.source.origin.is_some(), "{context}");
        assert_eq!(request.source.file, DockerfileFrom::Fetched(None));
    }
    for (context, file, want, code) in [
        ("/nonexistent", "x", "context \"/nonexistent\" does not exist", 1),
        ("/dev/null", "x", "context \"/dev/null\" is neither a directory nor a file", 1),
        ("-", "-", "--file - and context -: standard input cannot be both", 2),
        ("https://example.org/x.git#--upload-pack=x", "x", "not a ref", 2),
        ("https://me:secret@example.org/x.git?nonsense=1", "x", "https://xxxxx@example.org/x.git", 2),
    ] {
        let line = Line::try_parse_from(["kiln", context, "-f", file]).unwrap_or_else(|e| panic!("{e}"));
        let failure = build(&line.args, &Environment::of(0, &[])).expect_err(context);
        assert!(failure.message.contains(want), "{}", failure.message);
        assert_eq!(failure.kind.code(), code);
    }
}

#[test]
fn store_root_follows_option_environment_user() {
    let root = |uid, vars: &[(&str, &str)], option: Option<&str>| {
        Environment::of(uid, vars).store_root(option.map(Path::new)).map(|p| p.display().to_string()).ok()
    };
    let home = ("HOME", "/home/u");
    for (uid, vars, option, want) in [
        (1000, &[home, ("KILN_ROOT", "/k")][..], Some("/o"), Some("/o")),
        (1000, &[home, ("KILN_ROOT", "/k")], None, Some("/k")),
        (1000, &[home, ("KILN_ROOT", "")], None, Some("/home/u/.local/share/kiln")),
        (1000, &[home, ("XDG_DATA_HOME", "/data")], None, Some("/data/kiln")),
        (1000, &[home, ("XDG_DATA_HOME", "data")], None, Some("/home/u/.local/share/kiln")),
        (0, &[home], None, Some("/var/lib/kiln")),
        (1000, &[], None, None),
    ] {
        assert_eq!(root(uid, vars, option).as_deref(), want, "{uid} {vars:?} {option:?}");
    }
}

#[test]
fn no_color_and_dumb_terminals_disable_colour() {
    // O-70
    assert!(Environment::of(0, &[]).wants_colour());
    assert!(Environment::of(0, &[("NO_COLOR", "")]).wants_colour());
    assert!(!Environment::of(0, &[("NO_COLOR", "1")]).wants_colour());
    assert!(!Environment::of(0, &[("TERM", "dumb")]).wants_colour());
}
