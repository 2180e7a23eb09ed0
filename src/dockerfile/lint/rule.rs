//! The rules by name.

/// A lint rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The name, as in `# check=skip=`.
    pub name: &'static str,
    /// What the rule asks for, and why.
    pub description: &'static str,
    /// The last part of the page that explains it.
    page: &'static str,
    /// Only reported when `experimental=` asks for it.
    pub experimental: bool,
}

impl Rule {
    /// The page that explains the rule, if there is one.
    pub fn url(&self) -> Option<String> {
        (!self.page.is_empty()).then(|| format!("https://docs.docker.com/go/dockerfile/rule/{}/", self.page))
    }
}

/// The rule called `name`.
pub fn find(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

const fn rule(name: &'static str, page: &'static str, description: &'static str) -> Rule {
    Rule { name, description, page, experimental: false }
}

/// All rules.
pub const RULES: [Rule; 22] = [
    rule("StageNameCasing", "stage-name-casing", "A stage's name is written in lower case"),
    rule("FromAsCasing", "from-as-casing", "FROM and AS are written in the same case"),
    rule(
        "NoEmptyContinuation",
        "no-empty-continuation",
        "A continued instruction has no blank line inside; a later version may refuse it",
    ),
    rule(
        "ConsistentInstructionCasing",
        "consistent-instruction-casing",
        "All instructions of a file are written in the same case, upper or lower",
    ),
    rule("DuplicateStageName", "duplicate-stage-name", "No two stages have the same name"),
    rule("ReservedStageName", "reserved-stage-name", "No stage is called `scratch` or `context`"),
    rule(
        "JSONArgsRecommended",
        "json-args-recommended",
        "CMD and ENTRYPOINT are JSON lists, so that signals reach the program and not a shell",
    ),
    rule(
        "MaintainerDeprecated",
        "maintainer-deprecated",
        "An image's author is a label; MAINTAINER is no longer maintained",
    ),
    rule("UndefinedArgInFrom", "undefined-arg-in-from", "FROM uses arguments declared before the first FROM"),
    rule(
        "WorkdirRelativePath",
        "workdir-relative-path",
        "The first WORKDIR of a stage is absolute, so that it does not depend on the base image",
    ),
    rule("UndefinedVar", "undefined-var", "A variable is declared before it is used"),
    rule(
        "MultipleInstructionsDisallowed",
        "multiple-instructions-disallowed",
        "A stage has one CMD, one ENTRYPOINT and one HEALTHCHECK: only the last of each counts",
    ),
    rule(
        "LegacyKeyValueFormat",
        "legacy-key-value-format",
        "ENV and LABEL are written as name=value, not as name and value with a blank between",
    ),
    rule("InvalidBaseImagePlatform", "", "The base image is for the platform that the stage is built for"),
    rule(
        "RedundantTargetPlatform",
        "redundant-target-platform",
        "FROM does not say --platform=$TARGETPLATFORM, which is what it does anyway",
    ),
    rule(
        "SecretsUsedInArgOrEnv",
        "secrets-used-in-arg-or-env",
        "Secrets do not go through ARG or ENV: both stay readable in the image",
    ),
    rule(
        "InvalidDefaultArgInFrom",
        "invalid-default-arg-in-from",
        "FROM names a valid image when every argument has its default",
    ),
    rule(
        "FromPlatformFlagConstDisallowed",
        "from-platform-flag-const-disallowed",
        "FROM --platform is a variable, so that the image can be built for any platform",
    ),
    rule("CopyIgnoredFile", "copy-ignored-file", "COPY and ADD do not name what the ignore file excludes"),
    Rule {
        experimental: true,
        ..rule(
            "InvalidDefinitionDescription",
            "invalid-definition-description",
            "A comment right above ARG or FROM describes it: `# <name> <description>`; another comment is set off by \
             an empty line",
        )
    },
    rule("ExposeProtoCasing", "expose-proto-casing", "EXPOSE names its protocol in lower case"),
    rule("ExposeInvalidFormat", "expose-invalid-format", "EXPOSE names ports, not addresses or ports of the host"),
];
