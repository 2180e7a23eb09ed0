//! Commands and options of docker, buildah, podman and kaniko that kiln does not have, with suggestions.
//!
//! **Holds.** The row of an option lists the values without effect: `kiln build` accepts those (hidden from its help) and
//! refuses all others. An option without such values is not defined; its suggestion is looked up when the parser
//! does not know it.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

/// The name of an option, its values without effect, and a suggestion for the others.
type Row = (&'static str, &'static [&'static str], &'static str);

/// Options of other builders.
#[rustfmt::skip]
const OPTIONS: &[Row] = &[
    // docker build and buildx
    ("rm", &["true"], "a failed step's files are shown by --on-failure=shell"),
    ("force-rm", &["true", "false"], ""),
    ("load", &["true"], "the image is always in the store; kiln save writes an archive for docker load"),
    ("compress", &["true", "false"], ""),
    ("push", &["false"], "write an archive with -o type=oci,dest=FILE.tar and copy it with skopeo"),
    ("cache-from", &[], "the cache is in the store: keep the directory of --root between builds"),
    ("cache-to", &[], "the cache is in the store: keep the directory of --root between builds"),
    ("provenance", &["false"], "images carry no attestations; --metadata-file records what was built"),
    ("sbom", &["false"], "images carry no attestations; scan the archive that -o type=oci writes"),
    ("attest", &[], "images carry no attestations; --metadata-file records what was built"),
    ("annotation", &[], "add a label to the config with --label KEY=VALUE"),
    ("builder", &["default"], "there is no daemon to choose; choose a store with --root"),
    ("policy", &[], "pin base images by digest: FROM NAME@sha256:…"),
    ("cgroup-parent", &[], "start kiln itself in that control group"),
    ("isolation", &["default", "oci", "rootless"], "kiln chooses the strictest sandbox this host allows; see kiln doctor"),
    ("security-opt", &[], "use RUN --security=insecure with --allow security.insecure"),
    ("squash", &["false"], "copy the result into one layer: FROM scratch, then COPY --from=STAGE / /"),
    ("debug", &["false"], "see all events with --progress plain, or open a shell with --on-failure=shell"),
    // buildah and podman
    ("layers", &["true"], "every instruction makes a layer; use --no-cache to build them all again"),
    ("format", &["oci"], "images are in OCI format; -o type=docker,dest=FILE writes an archive for docker load"),
    ("authfile", &[], "set REGISTRY_AUTH_FILE to that file"),
    ("creds", &[], "store the credentials with docker login or podman login, or set REGISTRY_AUTH_FILE"),
    ("cert-dir", &[], "set SSL_CERT_FILE to a PEM file with the CA's certificate"),
    ("tls-verify", &["true"], "name the registry with --insecure-registry HOST[:PORT]"),
    ("timestamp", &[], "set --build-arg SOURCE_DATE_EPOCH=SECONDS"),
    ("source-date-epoch", &[], "set --build-arg SOURCE_DATE_EPOCH=SECONDS"),
    ("rewrite-timestamp", &["false"], "set --build-arg SOURCE_DATE_EPOCH=SECONDS: later times in new layers become that time"),
    ("omit-history", &["false"], "a config always has its history; kiln history shows it"),
    ("storage-driver", &["overlay"], "choose with --snapshotter overlay or --snapshotter copy"),
    ("storage-opt", &[], "choose the store with --root and the method with --snapshotter"),
    ("userns", &["auto"], "kiln enters a user namespace by itself when it is started as a plain user"),
    ("userns-uid-map", &[], "ranges of ids come from /etc/subuid"),
    ("userns-gid-map", &[], "ranges of ids come from /etc/subgid"),
    ("userns-uid-map-user", &[], "ranges of ids come from /etc/subuid"),
    ("userns-gid-map-group", &[], "ranges of ids come from /etc/subgid"),
    ("cgroupns", &["private"], "RUN always has a control group namespace of its own"),
    ("ipc", &["private"], "RUN always has an IPC namespace of its own"),
    ("pid", &["private"], "RUN always has a process namespace of its own"),
    ("uts", &["private"], "RUN always has a hostname of its own"),
    ("runtime", &[], "kiln runs commands itself, without an OCI runtime"),
    ("runtime-flag", &[], "kiln runs commands itself, without an OCI runtime"),
    ("cap-add", &[], "use RUN --security=insecure with --allow security.insecure"),
    ("cap-drop", &[], "drop capabilities in the command, for example with setpriv"),
    ("device", &[], "use RUN --device=NAME with --allow device=NAME"),
    ("volume", &[], "use RUN --mount=type=bind or type=cache, or --build-context: a volume is no part of the cache key"),
    ("group-add", &[], "list the user in /etc/group of the image"),
    ("env", &[], "write ENV in the Dockerfile, or declare an ARG and use --build-arg"),
    ("unsetenv", &[], "write ENV NAME= in the Dockerfile"),
    ("unsetlabel", &[], "set the label to another value with --label KEY=VALUE"),
    ("unsetannotation", &[], "images carry only the annotations that OCI requires"),
    ("inherit-labels", &["true"], "a label of the base image is replaced with --label KEY=VALUE"),
    ("inherit-annotations", &["true"], "annotations of the base image are not inherited"),
    ("identity-label", &["false"], "no such label is added"),
    ("created-annotation", &["false"], "no such annotation is added"),
    ("http-proxy", &["true"], "unset the proxy variables in kiln's environment"),
    ("all-platforms", &["false"], "name one platform with --platform"),
    ("arch", &[], "use --platform OS/ARCH[/VARIANT]"),
    ("os", &[], "use --platform OS/ARCH[/VARIANT]"),
    ("variant", &[], "use --platform OS/ARCH[/VARIANT]"),
    ("os-feature", &[], "only Linux images are built"),
    ("os-version", &[], "only Linux images are built"),
    ("manifest", &[], "name the image with -t"),
    ("pull-always", &["false"], "use --pull=always"),
    ("pull-never", &["false"], "use --pull=never"),
    ("ignorefile", &[], "name the file DOCKERFILE.dockerignore, or .dockerignore in the context"),
    ("build-arg-file", &[], "name each argument with --build-arg"),
    ("from", &[], "pass the base as an argument: ARG BASE, FROM $BASE, --build-arg BASE=IMAGE"),
    ("cpp-flag", &[], "run the preprocessor first and pass its output with -f -"),
    ("add-file", &[], "put the file into a context: --build-context NAME=DIR"),
    ("skip-unused-stages", &["true"], "name the stages to build one after another with --target"),
    ("disable-compression", &["false"], "use --compression uncompressed"),
    ("no-hosts", &["false"], "/etc/hosts of a command is never part of a layer"),
    ("no-hostname", &["false"], "/etc/hostname of a command is never part of a layer"),
    ("stdin", &["false"], "commands of a build read nothing from standard input"),
    ("logfile", &[], "redirect standard error, or use --progress json"),
    ("logsplit", &[], "redirect standard error, or use --progress json"),
    ("log-rusage", &["false"], "--progress plain shows how long each step took"),
    ("retry", &[], "kiln repeats failed requests by itself"),
    ("retry-delay", &[], "kiln repeats failed requests by itself"),
    ("signature-policy", &[], "pin base images by digest: FROM NAME@sha256:…"),
    ("sign-by", &[], "sign the pushed image with a tool for signatures"),
    ("decryption-key", &[], "encrypted layers are not supported"),
    ("hooks-dir", &[], "hooks are not supported"),
    ("compat-volumes", &["false"], "files below a VOLUME are kept, as BuildKit keeps them"),
    ("cw", &[], "confidential workloads are not supported"),
    ("save-stages", &["false"], "build and tag a stage of its own with --target STAGE -t NAME"),
    // kaniko
    ("context", &[], "give the context as the last argument: kiln build DIR"),
    ("context-sub-path", &[], "name the directory as the context, or GIT-URL#REF:SUBDIR"),
    ("dockerfile", &[], "name the Dockerfile with -f"),
    ("destination", &[], "name the image with -t"),
    ("no-push", &["true"], "write an archive with -o type=oci,dest=FILE.tar and copy it with skopeo"),
    ("no-push-cache", &["true"], "the cache is in the store: keep the directory of --root between builds"),
    ("single-snapshot", &["false"], "copy the result into one layer: FROM scratch, then COPY --from=STAGE / /"),
    ("snapshot-mode", &["full", "redo", "time"], "changes are found without scanning files"),
    ("use-new-run", &["true", "false"], ""),
    ("reproducible", &["false"], "set --build-arg SOURCE_DATE_EPOCH=SECONDS"),
    ("kaniko-dir", &[], "choose the store with --root"),
    ("skip-tls-verify", &["false"], "name the registry with --insecure-registry HOST[:PORT]"),
    ("skip-tls-verify-pull", &["false"], "name the registry with --insecure-registry HOST[:PORT]"),
    ("skip-tls-verify-registry", &[], "name the registry with --insecure-registry HOST[:PORT]"),
    ("insecure", &["false"], "name the registry with --insecure-registry HOST[:PORT]"),
    ("insecure-pull", &["false"], "name the registry with --insecure-registry HOST[:PORT]"),
    ("registry-certificate", &[], "set SSL_CERT_FILE to a PEM file with the CA's certificate"),
    ("registry-client-cert", &[], "client certificates are not supported"),
    ("registry-map", &[], "use --registry-mirror REGISTRY=HOST[:PORT]"),
    ("cache", &["true"], "use --no-cache"),
    ("cache-dir", &[], "choose the store with --root"),
    ("cache-repo", &[], "the cache is in the store: keep the directory of --root between builds"),
    ("cache-copy-layers", &["true"], "COPY is always cached; use --no-cache to build everything again"),
    ("cache-run-layers", &["true"], "RUN is always cached; use --no-cache to build everything again"),
    ("cache-ttl", &[], "remove what was not used lately with kiln prune"),
    ("compressed-caching", &["true", "false"], ""),
    ("cleanup", &["true", "false"], ""),
    ("verbosity", &[], "use --progress plain, json or quiet"),
    ("log-format", &[], "use --progress plain, json or quiet"),
    ("log-timestamp", &["false"], "use --progress json"),
    ("ignore-path", &[], "mount something over the path: RUN --mount=type=tmpfs"),
    ("ignore-var-run", &["true"], "/var/run is kept like any other directory"),
    ("digest-file", &[], "use --metadata-file"),
    ("image-name-with-digest-file", &[], "use --metadata-file"),
    ("image-name-tag-with-digest-file", &[], "use --metadata-file"),
    ("oci-layout-path", &[], "use -o type=oci-layout,dest=DIR"),
    ("tar-path", &[], "use -o type=docker,dest=FILE"),
    ("push-retry", &[], "nothing is pushed"),
    ("image-fs-extract-retry", &[], "kiln repeats failed requests by itself"),
    ("image-download-retry", &[], "kiln repeats failed requests by itself"),
    ("custom-platform", &[], "use --platform OS/ARCH[/VARIANT]"),
    ("git", &[], "name the commit and directory in the context: GIT-URL#REF:SUBDIR"),
    ("force", &["true", "false"], ""),
];

/// Short forms of [`OPTIONS`].
const SHORT: [(char, &str); 3] = [('D', "debug"), ('v', "volume"), ('d', "destination")];

/// The suggestion for a command of another tool.
pub(in crate::cli) fn instead_of_command(name: &str) -> Option<&'static str> {
    Some(match name {
        "push" | "copy" | "manifest" => {
            "push with skopeo: kiln save -o app.tar IMAGE, then skopeo copy oci-archive:app.tar docker://IMAGE"
        }
        "login" | "logout" => {
            "kiln reads the credentials that docker login, podman login and skopeo login store; docs/reference.md names the files"
        }
        "commit" => "kiln run --commit NAME IMAGE COMMAND makes an image of what a command changed",
        "buildx" | "bud" | "builder" | "bake" => "kiln build takes the options of docker build",
        "container" => "kiln keeps no containers: kiln run discards what a command changed",
        "image" => "the commands for images are kiln images, inspect, history, tag, rmi, save and load",
        "rm" => "kiln keeps no containers; kiln rmi removes images, kiln prune what none of them needs",
        "ps" | "exec" | "start" | "stop" | "kill" | "logs" | "attach" | "create" | "restart" | "wait" | "cp"
        | "top" => "kiln keeps no containers: kiln run discards what a command changed",
        "compose" | "up" | "volume" | "network" => "kiln builds images and runs single commands; podman runs services",
        "export" => "kiln build -o type=tar,dest=FILE writes an image's files",
        "system" => "kiln info and kiln prune",
        "search" => "kiln pulls images by name only",
        _ => return None,
    })
}

/// The suggestion for an option of another tool, given as `--name` or `-n`.
pub(in crate::cli) fn instead_of_option(option: &str) -> Option<&'static str> {
    let name = option.strip_prefix("--").or_else(|| {
        let letter = option.strip_prefix('-')?.chars().next()?;
        SHORT.iter().find_map(|(short, name)| (*short == letter).then_some(*name))
    })?;
    OPTIONS.iter().find(|(known, ..)| *known == name).map(|(_, _, instead)| *instead)
}

/// Options of other builders that were given to `kiln build`.
#[derive(Debug, Default)]
pub(in crate::cli) struct ForeignArgs {
    given: Vec<(Row, String)>,
}

impl ForeignArgs {
    /// The first option with a value that has an effect, and its suggestion.
    pub(in crate::cli) fn refused(&self) -> Option<(&'static str, &str, &'static str)> {
        let fine = |row: &Row, value: &str| row.1.contains(&value) || value.is_empty();
        let (row, value) = self.given.iter().find(|(row, value)| !fine(row, value))?;
        Some((row.0, value, row.2))
    }
}

impl Args for ForeignArgs {
    fn augment_args(command: Command) -> Command {
        OPTIONS.iter().filter(|(_, fine, _)| !fine.is_empty()).fold(command, |command, (name, fine, _)| {
            let arg = Arg::new(*name).long(*name).hide(true).help_heading(None::<&str>).action(ArgAction::Append);
            let switch = fine.iter().any(|value| matches!(*value, "true" | "false"));
            command.arg(match switch {
                true => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
                false => arg.num_args(1),
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ForeignArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given = Vec::new();
        for row in OPTIONS.iter().filter(|(_, fine, _)| !fine.is_empty()) {
            let values = matches.get_many::<String>(row.0).into_iter().flatten();
            given.extend(values.map(|value| (*row, value.clone())));
        }
        Ok(Self { given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::cli::args::{Cli, Command as Asked};

    /// The foreign options of `kiln build LINE`; none: the line does not parse.
    fn foreign(line: &[&str]) -> Option<ForeignArgs> {
        match Cli::try_parse_from(["kiln", "build"].iter().chain(line).chain(&["."])).ok()?.command {
            Asked::Build(args) => Some(args.foreign),
            _ => None,
        }
    }

    #[test]
    fn foreign_option_values_without_effect_are_accepted() {
        for (name, fine, _) in OPTIONS {
            for value in *fine {
                let option = format!("--{name}={value}");
                assert!(foreign(&[&option]).is_some_and(|given| given.refused().is_none()), "{option}");
            }
        }
        assert!(foreign(&["--rm", "--load", "--layers", "--no-push"]).is_some_and(|given| given.refused().is_none()));
    }

    #[test]
    fn foreign_options_fail_with_a_suggestion() {
        for (name, fine, instead) in OPTIONS {
            let option = format!("--{name}");
            match fine {
                [] => assert!(foreign(&[&format!("{option}=x")]).is_none(), "{option} exists"),
                ["true", "false"] => continue,
                _ => {
                    let given = foreign(&[&format!("{option}=else")]).expect(&option);
                    assert_eq!(given.refused(), Some((*name, "else", *instead)));
                }
            }
            assert!(!instead.is_empty(), "{option}");
            assert_eq!(instead_of_option(&option), Some(*instead));
        }
        assert_eq!(instead_of_option("-v"), instead_of_option("--volume"));
        assert_eq!(instead_of_option("--frobnicate"), None);
    }

    #[test]
    fn foreign_option_hints_name_real_options() {
        let command = Cli::command();
        let build = command.find_subcommand("build").expect("build");
        let known = |option: &str| {
            build
                .get_arguments()
                .chain(command.get_arguments())
                .any(|arg| !arg.is_hide_set() && arg.get_long() == Some(option))
        };
        let of_run =
            ["--security=insecure", "--mount=type=bind", "--mount=type=tmpfs", "--device=NAME", "--from=STAGE"];
        for (i, (name, _, instead)) in OPTIONS.iter().enumerate() {
            assert!(!known(name), "--{name} is kiln's own");
            assert!(OPTIONS[..i].iter().all(|(other, ..)| other != name), "--{name} is listed twice");
            for word in instead.split([' ', ',', ':', ';']).filter(|word| word.starts_with("--")) {
                let option = word.trim_start_matches("--").split('=').next().unwrap_or_default();
                assert!(known(option) || of_run.contains(&word), "--{name}: there is no {word}");
            }
        }
    }
}
