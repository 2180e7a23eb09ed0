use std::collections::BTreeSet;

use super::*;
use crate::dockerfile::{Dockerfile, Source, Word, parse, source::Span};

fn file(text: &str) -> Dockerfile {
    parse(&Source::new("Dockerfile", text)).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// Rule and source text of each warning, as the file's own controls leave them.
fn lints(text: &str) -> Vec<(&'static str, String)> {
    let file = file(text);
    let controls = Controls::of(&file, None).unwrap();
    let warnings = filter(&file, check(&file), &controls);
    warnings.into_iter().map(|w| (w.code.unwrap_or(""), file.source.slice(w.span).to_owned())).collect()
}

fn rules(text: &str) -> Vec<&'static str> {
    lints(text).into_iter().map(|(rule, _)| rule).collect()
}

#[test]
fn rule_names_are_unique() {
    let names: BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(names.len(), 22);
    assert_eq!(find("InvalidBaseImagePlatform").and_then(Rule::url), None);
    assert_eq!(
        find("UndefinedVar").and_then(Rule::url).as_deref(),
        Some("https://docs.docker.com/go/dockerfile/rule/undefined-var/")
    );
}

#[test]
fn rules_report_only_their_cases() {
    let table: &[(&str, &[&str])] = &[
        ("FROM a AS Build", &["StageNameCasing"]),
        ("FROM a AS build", &[]),
        ("FROM a as build", &["FromAsCasing"]),
        ("from a AS build", &["FromAsCasing"]),
        ("from a as build", &[]),
        ("from a As build", &["FromAsCasing"]),
        ("FROM a As build", &["FromAsCasing"]),
        ("From a as build", &["ConsistentInstructionCasing"]),
        ("From a AS build", &["ConsistentInstructionCasing"]),
        ("FROM a\nRUN x \\\n\n y", &["NoEmptyContinuation"]),
        ("FROM a\nRUN x \\\n # y\n y", &[]),
        ("FROM a\nrun x\nRUN y", &["ConsistentInstructionCasing"]),
        ("FROM a\nRun x", &["ConsistentInstructionCasing"]),
        ("FROM a\nrun x\nrun y", &["ConsistentInstructionCasing"]),
        ("from a\nrun x", &[]),
        ("FROM a AS x\nFROM b AS X", &["StageNameCasing", "DuplicateStageName"]),
        ("FROM a AS scratch", &["ReservedStageName"]),
        ("FROM a AS context", &["ReservedStageName"]),
        ("FROM a\nMAINTAINER me", &["MaintainerDeprecated"]),
        ("FROM a\nCMD [\"x\"]\nCMD [\"y\"]", &["MultipleInstructionsDisallowed"]),
        ("FROM a\nHEALTHCHECK NONE\nHEALTHCHECK CMD x", &["MultipleInstructionsDisallowed"]),
        ("FROM a\nCMD [\"x\"]\nFROM b\nCMD [\"y\"]", &[]),
        ("FROM a\nENV x y", &["LegacyKeyValueFormat"]),
        ("FROM a\nLABEL x y", &["LegacyKeyValueFormat"]),
        ("FROM a\nENV x=y", &[]),
        ("FROM a\nARG TOKEN", &["SecretsUsedInArgOrEnv"]),
        ("FROM a\nENV api_key=x", &["SecretsUsedInArgOrEnv"]),
        ("FROM a\nENV MY_APIKEY=x GIT_AUTH_TOKEN=y", &["SecretsUsedInArgOrEnv", "SecretsUsedInArgOrEnv"]),
        ("FROM a\nENV PUBLIC_KEY=x TOKEN_FILE=y MONKEY=z KEY_VERSION=1", &[]),
        ("ARG TOKEN\nFROM a", &[]),
        ("FROM a\nEXPOSE 80/TCP", &["ExposeProtoCasing"]),
        ("FROM a\nEXPOSE 127.0.0.1:80:80 8080:80", &["ExposeInvalidFormat", "ExposeInvalidFormat"]),
        ("FROM a\nEXPOSE 80/tcp 53/udp 1-2", &[]),
        ("FROM a\nEXPOSE :3388 ::3389", &[]),
        ("FROM a\nEXPOSE 1::80", &["ExposeInvalidFormat"]),
        ("# x is y\nARG z\nFROM a", &[]),
    ];
    for (text, want) in table {
        assert_eq!(rules(text), *want, "{text}");
    }
}

#[test]
fn warning_points_at_its_word() {
    assert_eq!(lints("FROM a\nENV b c"), [("LegacyKeyValueFormat", "b c".to_owned())]);
    assert_eq!(lints("FROM a\nCMD b\nCMD [\"c\"]")[0].1, "CMD b");
    assert_eq!(lints("FROM a as b")[0].1, "as");
}

#[test]
fn check_directive_controls_warnings_p_14() {
    assert_eq!(rules("# check=skip=all\nFROM a AS B\nCMD x"), [""; 0]);
    assert_eq!(rules("# check=skip=StageNameCasing, Other\nFROM a AS B\nENV x y"), ["LegacyKeyValueFormat"]);
    assert_eq!(rules("# check=experimental=all\n\n# nothing\nARG x\nFROM a"), ["InvalidDefinitionDescription"]);
    let text = "# check=skip=all;experimental=InvalidDefinitionDescription\n\n# nothing\nARG x\nFROM a AS B";
    assert_eq!(rules(text), ["InvalidDefinitionDescription"]);
    assert_eq!(rules("# check=experimental=all\n\n# x it is\nARG x\nFROM a"), [""; 0]);
    assert_eq!(rules("# check=skip=all // not now\nFROM a AS B\nCMD x"), [""; 0]);
    assert_eq!(rules("# CHECK=skip=StageNameCasing because\nFROM a AS B\nENV x y"), ["LegacyKeyValueFormat"]);
    let controls = |text: &str| Controls::parse(&Word::new(text, Span::default()));
    assert!(controls("error=true").unwrap().error);
    assert_eq!(controls("").unwrap(), Controls::default());
    for bad in ["skip", "error=maybe", "skipp=x", "error=true;;skip=all"] {
        assert!(controls(bad).is_err(), "{bad}");
    }
}

#[test]
fn comment_controls_next_instruction() {
    let text = "FROM a\n# check=skip=LegacyKeyValueFormat\nENV x x\nFROM b\nENV y y";
    assert_eq!(lints(text), [("LegacyKeyValueFormat", "y y".to_owned())]);
    assert_eq!(rules("FROM a\n# why\n# check = skip=all\nENV x x"), [""; 0]);
    for (above, skipped) in [
        ("# check=skip=LegacyKeyValueFormat // old", true),
        ("# check=skip=LegacyKeyValueFormat old", true),
        ("# check=skip=A,LegacyKeyValueFormat", true),
        ("# CHECK=skip=LegacyKeyValueFormat", true),
        ("#Check\t= skip=LegacyKeyValueFormat", true),
        ("# check=skip=LegacyKeyValueFormat\n\n\n", true),
        ("# check=skip=LegacyKeyValueFormat\n# and a comment", true),
        ("# check=error=true;skip=all", true),
        ("# check=skip=legacykeyvalueformat", false),
        ("# check=skip=LegacyKeyValueFormat, but why", true),
        ("# check=skip=A, LegacyKeyValueFormat", false),
        ("# check=skip=LegacyKeyValueFormat\n#", false),
        ("# check=skip=LegacyKeyValueFormat;what=ever", false),
        ("# check=skip=A\n# check=skip=LegacyKeyValueFormat", false),
        (" # check=skip=LegacyKeyValueFormat", false),
        ("# see check=skip=LegacyKeyValueFormat", false),
    ] {
        let text = format!("FROM a\n{above}\nENV x x");
        assert_eq!(rules(&text).is_empty(), skipped, "{text}");
    }
}

#[test]
fn comment_controls_only_rules_of_its_instruction() {
    let skip = |rule: &str| format!("# check=skip={rule}\n");
    for (before, rule, after) in [
        ("", "StageNameCasing", "FROM a AS B"),
        ("", "FromAsCasing", "FROM a as b"),
        ("FROM a\n", "MaintainerDeprecated", "MAINTAINER b"),
        ("FROM a\n", "LegacyKeyValueFormat", "LABEL b c"),
        ("FROM a\n", "SecretsUsedInArgOrEnv", "ENV TOKEN=b"),
        ("FROM a\n", "ExposeProtoCasing", "EXPOSE 1/TCP"),
        ("FROM a\n", "ExposeInvalidFormat", "EXPOSE 1:1"),
        ("FROM a\nCMD [\"b\"]\n", "MultipleInstructionsDisallowed", "CMD [\"c\"]"),
    ] {
        // The first line is an empty comment, so that the next one is not a directive.
        let text = format!("#\n{before}{after}");
        assert_eq!(rules(&text), [rule], "{text}");
        assert_eq!(rules(&format!("#\n{before}{}{after}", skip(rule))), [""; 0], "{text}");
    }
    for (before, rule, after) in [
        ("FROM a\n", "NoEmptyContinuation", "RUN b \\\n\n c"),
        ("FROM a\nRUN b\n", "ConsistentInstructionCasing", "run c"),
        ("FROM a AS b\n", "DuplicateStageName", "FROM a AS b"),
        ("", "ReservedStageName", "FROM a AS scratch"),
    ] {
        let text = format!("#\n{before}{}{after}", skip(rule));
        assert_eq!(rules(&text), [rule], "{text}");
    }
    // The comment above the later instruction controls the warning about the earlier one.
    let earlier = "FROM a\n# check=skip=all\nCMD [\"b\"]\nCMD [\"c\"]";
    assert_eq!(rules(earlier), ["MultipleInstructionsDisallowed"]);
}

#[test]
fn comment_enables_experimental_rules() {
    let text = "#\n# check=experimental=InvalidDefinitionDescription\n# nothing\nARG x\n# nothing\nARG y\nFROM a";
    assert_eq!(lints(text), [("InvalidDefinitionDescription", "nothing".to_owned())]);
    assert_eq!(rules("# check=experimental=all\n\n# nothing\n#\nARG x\nFROM a"), [""; 0]);
    assert_eq!(rules("# check=experimental=all\n\n# nothing\n\nARG x\nFROM a"), ["InvalidDefinitionDescription"]);
}
