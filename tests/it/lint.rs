//! Test `kiln check` and the lint rules against golden files.
//!
//! Each folder `testdata/lint/<rule>/<case>` is a context for `kiln check`. `want` lists the warnings, then the exit
//! status; `args` holds further arguments, one per line; `base.json` is the config of an image `base` in the store.
//! `BLESS=1` writes `want`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::env::testdata;
use crate::support::golden::cases;
use crate::support::image::sha256;
use crate::support::{Golden, TestEnv};

/// The rules of BuildKit that kiln implements.
const RULES: [&str; 22] = [
    "ConsistentInstructionCasing",
    "CopyIgnoredFile",
    "DuplicateStageName",
    "ExposeInvalidFormat",
    "ExposeProtoCasing",
    "FromAsCasing",
    "FromPlatformFlagConstDisallowed",
    "InvalidBaseImagePlatform",
    "InvalidDefaultArgInFrom",
    "InvalidDefinitionDescription",
    "JSONArgsRecommended",
    "LegacyKeyValueFormat",
    "MaintainerDeprecated",
    "MultipleInstructionsDisallowed",
    "NoEmptyContinuation",
    "RedundantTargetPlatform",
    "ReservedStageName",
    "SecretsUsedInArgOrEnv",
    "StageNameCasing",
    "UndefinedArgInFrom",
    "UndefinedVar",
    "WorkdirRelativePath",
];

/// Writes an image without layers into the store; only its config is used.
fn put_base(env: &TestEnv, config: &str) {
    env.kiln(&["images"]).ok();
    let put = |bytes: &[u8], media_type: &str| {
        let hex = sha256(bytes);
        let blobs = env.store().join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("create");
        fs::write(blobs.join(&hex), bytes).expect("write");
        json!({ "mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len() })
    };
    let config = put(config.as_bytes(), "application/vnd.oci.image.config.v1+json");
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let document = json!({ "schemaVersion": 2, "mediaType": manifest, "config": config, "layers": [] });
    let mut descriptor = put(document.to_string().as_bytes(), manifest);
    descriptor["annotations"] = json!({
        "io.containerd.image.name": "docker.io/library/base:latest",
        "org.opencontainers.image.ref.name": "latest",
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [descriptor],
    });
    fs::write(env.store().join("index.json"), index.to_string()).expect("write");
}

/// The output of `kiln check` for a case, one line per problem: `2:1-2:8 Rule: detail`.
fn check(case: &Path) -> String {
    let env = TestEnv::new();
    if let Ok(base) = fs::read_to_string(case.join("base.json")) {
        put_base(&env, &base);
    }
    let more = fs::read_to_string(case.join("args")).unwrap_or_default();
    let mut args = vec!["check", "--format=json"];
    args.extend(more.lines());
    args.push(case.to_str().expect("UTF-8"));
    let done = env.kiln(&args).output();
    let mut out = String::new();
    // An error is reported on standard error or in the JSON document.
    let answer: Value = serde_json::from_str(&done.stdout).unwrap_or_default();
    for problem in answer["warnings"].as_array().into_iter().flatten().chain(answer.get("buildError")) {
        let range = &problem["location"]["ranges"][0];
        let place = |at: &str| format!("{}:{}", range[at]["line"], range[at]["character"]);
        let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
        let rule = if problem.get("message").is_some() { "error".to_owned() } else { text("ruleName") };
        let source = problem["location"]["sourceIndex"].as_u64().filter(|index| *index > 0);
        let source = source.map(|index| format!("source {index} ")).unwrap_or_default();
        out += &format!("{source}{}-{} {rule}: {}{}\n", place("start"), place("end"), text("detail"), text("message"));
    }
    format!("{out}exit {}\n", done.code)
}

#[test]
fn lint_rules_fire_only_where_expected() {
    // Includes S-116: SecretsUsedInArgOrEnv
    let mut golden = Golden::new();
    let mut rules = Vec::new();
    for rule in cases(&testdata("lint")) {
        let name = rule.file_name().expect("a name").to_str().expect("UTF-8").to_owned();
        let mut fires = 0;
        let mut silent = 0;
        for case in cases(&rule) {
            let got = check(&case);
            golden.compare(&case.join("want"), &got);
            match got.contains(&format!(" {name}: ")) {
                true => fires += 1,
                false => silent += 1,
            }
        }
        if name != "controls" {
            assert!(fires > 0 && silent > 0, "{name} fires in {fires} cases and is silent in {silent}");
            rules.push(name);
        }
    }
    golden.finish();
    assert_eq!(rules, RULES);
}

#[test]
fn check_names_missing_base_images() {
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM nowhere.example/a\nLABEL a=$LANG\n");
    let told = env.kiln(&["check", context.to_str().expect("UTF-8")]).ok();
    told.says("nowhere.example/a:latest is not in the store").says("no warnings");
}

#[test]
fn warnings_fail_check_and_strict_build() {
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\n# check=error=true\nFROM scratch AS Build\n");
    let told = env.kiln(&["check", context.to_str().expect("UTF-8")]).fails(1);
    told.says("StageNameCasing").says("docs.docker.com/go/dockerfile/rule/stage-name-casing");
    env.build(&["--check"], &context).fails(1).says("StageNameCasing");
    env.build(&["-t", "x"], &context).fails(1).says("StageNameCasing");
    env.kiln(&["inspect", "x"]).fails(1);
    // The plan is printed although the build would fail; the exit status says so.
    let printed = env.build(&["--print-plan"], &context).fails(1);
    printed.says("StageNameCasing");
    assert!(printed.stdout.contains("created "), "{printed}");
    let json = env.kiln(&["check", "--format=json", context.to_str().expect("UTF-8")]).fails(1);
    let answer: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(answer["buildError"], json!({ "message": "lint violation found for rules: StageNameCasing" }));
    assert_eq!(answer["warnings"].as_array().map(Vec::len), Some(1));
    let lax = ["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=false", "-t", "x"];
    env.build(&lax, &context).ok().says("StageNameCasing");
}

#[test]
fn unused_build_argument_is_reported() {
    //
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\nARG VERSION\n");
    let args = ["--build-arg=VERSOIN=1", "--build-arg=HTTP_PROXY=p", "--build-arg=VERSION=1", "--target=0"];
    let told = env.build(&args, &context).ok();
    told.says("--build-arg VERSOIN has no effect").says("did you mean `VERSION`?");
    told.never_says("HTTP_PROXY").never_says("VERSION has no").never_says("Dockerfile:1");
    env.build(&["--target=nope"], &context).fails(1).says("there is no stage `nope`").never_says("Dockerfile:1");
}

#[test]
fn print_plan_builds_nothing() {
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch AS a\nCOPY Dockerfile /\nFROM a\nRUN [\"/x\"]\n");
    let told = env.build(&["--print-plan", "-t", "x"], &context).ok();
    let want = testdata("plan/printed/plan");
    let want = fs::read_to_string(&want).expect("the case of this Dockerfile");
    assert_eq!(told.trim(), want.trim());
    env.kiln(&["inspect", "x"]).fails(1);
}

#[test]
fn check_accepts_allow_and_rejects_unknown_entitlements() {
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\nRUN --security=insecure [\"/x\"]\n");
    let dir = context.to_str().expect("UTF-8");
    env.kiln(&["check", dir]).ok().says("no warnings");
    env.kiln(&["check", "--allow", "security.insecure", dir]).ok();
    env.build(&["--check"], &context).ok();
    env.kiln(&["check", "--allow", "everything", dir]).fails(2).says("--allow \"everything\"");
    env.build(&["--print-plan"], &context).fails(1).says("--allow security.insecure");
}

#[test]
fn buildkit_arguments_take_effect_or_are_reported() {
    // N-8
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\nLABEL a=b\n");
    for (argument, code, says) in [
        ("BUILDKIT_INLINE_CACHE=1", 1, "BUILDKIT_INLINE_CACHE is not supported"),
        ("BUILDKIT_INLINE_CACHE=0", 0, ""),
        ("BUILDKIT_MULTI_PLATFORM=true", 1, "BUILDKIT_MULTI_PLATFORM is not supported"),
        ("BUILDKIT_MULTI_PLATFORM=maybe", 1, "want true or false"),
        ("BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", 0, "no effect: the context is not a git repository"),
        ("BUILDKIT_BUILD_NAME=x", 0, "BUILDKIT_BUILD_NAME has no effect"),
        ("BUILDKIT_SBOM_SCAN_CONTEXT=true", 0, "BUILDKIT_SBOM_SCAN_CONTEXT has no effect"),
        ("BUILDKIT_SBOM_SCAN_STAGE=false", 0, ""),
        ("BUILDKIT_NEW=1", 0, "--build-arg BUILDKIT_NEW has no effect"),
        ("BUILDKIT_SYNTAX=example.com/frontend", 1, "another frontend"),
        ("BUILDKIT_DOCKERFILE_CHECK=nonsense", 1, "nonsense"),
    ] {
        let done = env.build(&["--build-arg", argument], &context).output();
        assert_eq!(done.code, code, "{argument}: {done}");
        done.says(says);
        assert_eq!(done.stderr.contains("no effect"), says.contains("no effect"), "{argument}: {done}");
    }
}
