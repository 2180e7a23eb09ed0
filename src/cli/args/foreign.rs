//! Options and commands of other builders (docker, buildah, podman, kaniko) are recognised: values without effect
//! (`--rm`, `--load`) are accepted, the rest fail with a suggestion.
//!
//! **Holds.** Each row of [`OPTIONS`] lists the values without effect. `kiln build` defines such an option, hidden from
//! help, and refuses its other values. An option without such values is not defined: the parser reports it as
//! unknown, and the suggestion is looked up then.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

/// The name of an option, its values without effect, and the hint for all other values.
type Row = (&'static str, &'static [&'static str], &'static str);

/// Options of other builders.
#[rustfmt::skip]
const OPTIONS: &[Row] = &[
    // docker build and buildx
    ("rm", &["true"], "use --on-failure=shell to inspect the files of a failed step"),
    ("force-rm", &["true", "false"], ""),
    ("load", &["true"], "omit it: the image is always stored"),
    ("compress", &["true", "false"], ""),
    ("provenance", &["false"], "use --metadata-file to record what was built; images carry no attestations"),
    ("sbom", &["false"], "scan the archive that -o type=oci writes; images carry no attestations"),
    ("attest", &[], "use --metadata-file to record what was built; images carry no attestations"),
    ("annotation", &[], "use --label KEY=VALUE to add a label to the config"),
    ("builder", &["default"], "choose a store with --root; there is no daemon to choose"),
    ("policy", &[], "pin base images by digest: FROM NAME@sha256:…"),
    ("cgroup-parent", &[], "start kiln itself in that control group"),
    ("isolation", &["default", "oci", "rootless"], "run kiln doctor to see which sandbox kiln uses on this host"),
    ("security-opt", &[], "use RUN --security=insecure with --allow security.insecure"),
    ("squash", &["false"], "copy the result into one layer: FROM scratch, then COPY --from=STAGE / /"),
    ("debug", &["false"], "use --progress plain to see all events, or --on-failure=shell to open a shell"),
    // buildah and podman
    ("layers", &["true"], "use --no-cache to run every step again; each instruction makes a layer"),
    ("format", &["oci"], "use -o type=docker,dest=FILE to write an archive for docker load"),
    ("creds", &[], "use kiln login, or --authfile FILE"),
    ("timestamp", &[], "set --build-arg SOURCE_DATE_EPOCH=SECONDS"),
    ("source-date-epoch", &[], "set --build-arg SOURCE_DATE_EPOCH=SECONDS"),
    ("rewrite-timestamp", &["false"], "set --build-arg SOURCE_DATE_EPOCH=SECONDS to limit times in new layers"),
    ("omit-history", &["false"], "omit it: a config always has its history"),
    ("storage-driver", &["overlay"], "use --snapshotter overlay or --snapshotter copy"),
    ("storage-opt", &[], "choose the store with --root and the method with --snapshotter"),
    ("userns", &["auto"], "start kiln as a plain user: it then enters a user namespace by itself"),
    ("userns-uid-map", &[], "set the range of ids in /etc/subuid"),
    ("userns-gid-map", &[], "set the range of ids in /etc/subgid"),
    ("userns-uid-map-user", &[], "set the range of ids in /etc/subuid"),
    ("userns-gid-map-group", &[], "set the range of ids in /etc/subgid"),
    ("cgroupns", &["private"], "omit it: RUN always has its own control group namespace"),
    ("ipc", &["private"], "omit it: RUN always has its own IPC namespace"),
    ("pid", &["private"], "omit it: RUN always has its own PID namespace"),
    ("uts", &["private"], "omit it: RUN always has its own UTS namespace"),
    ("runtime", &[], "omit it: kiln runs commands without an OCI runtime"),
    ("runtime-flag", &[], "omit it: kiln runs commands without an OCI runtime"),
    ("cap-add", &[], "use RUN --security=insecure with --allow security.insecure"),
    ("cap-drop", &[], "drop capabilities in the command, for example with setpriv"),
    ("device", &[], "use RUN --device=NAME with --allow device=NAME"),
    ("volume", &[], "use RUN --mount=type=bind or type=cache, or --build-context; the cache key cannot cover a volume"),
    ("group-add", &[], "add the user to the group in /etc/group of the image"),
    ("env", &[], "write ENV in the Dockerfile, or declare an ARG and use --build-arg"),
    ("unsetenv", &[], "write ENV NAME= in the Dockerfile"),
    ("unsetlabel", &[], "set the label to another value with --label KEY=VALUE"),
    ("unsetannotation", &[], "omit it: images carry only the annotations that OCI requires"),
    ("inherit-labels", &["true"], "replace labels of the base image with --label KEY=VALUE"),
    ("inherit-annotations", &["true"], "omit it: annotations of the base image are not inherited"),
    ("identity-label", &["false"], "omit it: no such label is added"),
    ("created-annotation", &["false"], "omit it: no such annotation is added"),
    ("http-proxy", &["true"], "unset the proxy variables in kiln's environment"),
    ("all-platforms", &["false"], "name one platform with --platform"),
    ("arch", &[], "use --platform OS/ARCH[/VARIANT]"),
    ("os", &[], "use --platform OS/ARCH[/VARIANT]"),
    ("variant", &[], "use --platform OS/ARCH[/VARIANT]"),
    ("os-feature", &[], "omit it: kiln builds only Linux images"),
    ("os-version", &[], "omit it: kiln builds only Linux images"),
    ("manifest", &[], "name the image with -t"),
    ("pull-always", &["false"], "use --pull=always"),
    ("pull-never", &["false"], "use --pull=never"),
    ("ignorefile", &[], "name the file DOCKERFILE.dockerignore, or .dockerignore in the context"),
    ("build-arg-file", &[], "name each argument with --build-arg"),
    ("from", &[], "pass the base as an argument: ARG BASE, FROM $BASE, --build-arg BASE=IMAGE"),
    ("cpp-flag", &[], "run the preprocessor first and pass its output with -f -"),
    ("add-file", &[], "put the file into a context: --build-context NAME=DIR"),
    ("skip-unused-stages", &["true"], "build the other stages one by one with --target"),
    ("disable-compression", &["false"], "use --compression uncompressed"),
    ("no-hosts", &["false"], "omit it: /etc/hosts of a command is never part of a layer"),
    ("no-hostname", &["false"], "omit it: /etc/hostname of a command is never part of a layer"),
    ("stdin", &["false"], "omit it: commands of a build have no standard input"),
    ("logfile", &[], "redirect standard error, or use --progress json"),
    ("logsplit", &[], "redirect standard error, or use --progress json"),
    ("log-rusage", &["false"], "use --progress plain to see how long each step takes"),
    ("retry", &[], "omit it: kiln retries failed requests by itself"),
    ("retry-delay", &[], "omit it: kiln retries failed requests by itself"),
    ("signature-policy", &[], "pin base images by digest: FROM NAME@sha256:…"),
    ("sign-by", &[], "sign the image after pushing it, for example with cosign"),
    ("decryption-key", &[], "decrypt the base image first, for example with skopeo"),
    ("hooks-dir", &[], "omit it: OCI hooks are not supported"),
    ("compat-volumes", &["false"], "omit it: files below a VOLUME are kept, as in BuildKit"),
    ("cw", &[], "omit it: confidential workloads are not supported"),
    ("save-stages", &["false"], "build and tag each stage with --target STAGE -t NAME"),
    // kaniko
    ("context", &[], "give the context as the last argument: kiln build DIR"),
    ("context-sub-path", &[], "name the directory as the context, or GIT-URL#REF:SUBDIR"),
    ("dockerfile", &[], "name the Dockerfile with -f"),
    ("destination", &[], "name the image with -t"),
    ("no-push", &["true"], "use --push"),
    ("no-push-cache", &["true"], "keep the directory of --root between builds: it holds the cache"),
    ("single-snapshot", &["false"], "copy the result into one layer: FROM scratch, then COPY --from=STAGE / /"),
    ("snapshot-mode", &["full", "redo", "time"], "omit it: kiln finds changes without scanning files"),
    ("use-new-run", &["true", "false"], ""),
    ("reproducible", &["false"], "set --build-arg SOURCE_DATE_EPOCH=SECONDS"),
    ("kaniko-dir", &[], "choose the store with --root"),
    ("skip-tls-verify", &["false"], "use --tls-verify=false, or name the registry with --insecure-registry HOST[:PORT]"),
    ("skip-tls-verify-pull", &["false"], "name the registry with --insecure-registry HOST[:PORT]"),
    ("skip-tls-verify-registry", &[], "name the registry with --insecure-registry HOST[:PORT]"),
    ("insecure", &["false"], "name the registry with --insecure-registry HOST[:PORT]"),
    ("insecure-pull", &["false"], "name the registry with --insecure-registry HOST[:PORT]"),
    ("registry-certificate", &[], "name the CA's certificate with --registry-ca FILE"),
    ("registry-client-cert", &[], "put certificate and key into a directory: --cert-dir DIR"),
    ("registry-map", &[], "use --registry-mirror REGISTRY=HOST[:PORT]"),
    ("cache", &["true"], "use --no-cache"),
    ("cache-dir", &[], "choose the store with --root"),
    ("cache-repo", &[], "keep the directory of --root between builds: it holds the cache"),
    ("cache-copy-layers", &["true"], "use --no-cache to run every step again; COPY is always cached"),
    ("cache-run-layers", &["true"], "use --no-cache to run every step again; RUN is always cached"),
    ("cache-ttl", &[], "remove old build cache with kiln prune"),
    ("compressed-caching", &["true", "false"], ""),
    ("cleanup", &["true", "false"], ""),
    ("verbosity", &[], "use --progress plain, json or quiet"),
    ("log-format", &[], "use --progress plain, json or quiet"),
    ("log-timestamp", &["false"], "use --progress json"),
    ("ignore-path", &[], "mount something over the path: RUN --mount=type=tmpfs"),
    ("ignore-var-run", &["true"], "omit it: /var/run is kept like any other directory"),
    ("digest-file", &[], "use --metadata-file"),
    ("image-name-with-digest-file", &[], "use --metadata-file"),
    ("image-name-tag-with-digest-file", &[], "use --metadata-file"),
    ("oci-layout-path", &[], "use -o type=oci-layout,dest=DIR"),
    ("tar-path", &[], "use -o type=docker,dest=FILE"),
    ("push-retry", &[], "omit it: kiln retries failed requests by itself"),
    ("image-fs-extract-retry", &[], "omit it: kiln retries failed requests by itself"),
    ("image-download-retry", &[], "omit it: kiln retries failed requests by itself"),
    ("custom-platform", &[], "use --platform OS/ARCH[/VARIANT]"),
    ("git", &[], "name the commit and directory in the context: GIT-URL#REF:SUBDIR"),
    ("force", &["true", "false"], ""),
];

/// Short forms of [`OPTIONS`].
const SHORT: [(char, &str); 3] = [('D', "debug"), ('v', "volume"), ('d', "destination")];

/// The suggestion for a command of another tool.
pub(in crate::cli) fn instead_of_command(name: &str) -> Option<&'static str> {
    Some(match name {
        "copy" => "use kiln pull, kiln tag and kiln push",
        "commit" => "use kiln run --commit NAME IMAGE COMMAND to create an image from the changes of a command",
        "image" => "use kiln images, rmi, build, history, import, inspect, load, prune, pull, push, save or tag",
        "buildx" | "builder" => {
            "use kiln build, which accepts the options of docker build; kiln has no builders to create or choose"
        }
        "bud" | "bake" => "use kiln build, which accepts the options of docker build",
        "context" => "omit it: kiln has no daemon to choose",
        "rm" => "use kiln rmi to remove images, or kiln prune to remove unused data; kiln keeps no containers",
        "create" | "cp" => "use kiln export IMAGE to read the files of an image; kiln keeps no containers",
        "container" | "ps" | "exec" | "start" | "stop" | "kill" | "logs" | "attach" | "restart" | "wait" | "top" => {
            "use kiln run; kiln keeps no containers and discards the changes of a command"
        }
        "compose" | "up" | "volume" | "network" => "use podman to run services; kiln builds images and runs commands",
        "system" => "use kiln info or kiln prune",
        "search" => "search on the website of the registry; kiln pulls images by name only",
        _ => return None,
    })
}

/// The suggestion for an option of another tool, which is written `--name` or `-n`.
pub(in crate::cli) fn instead_of_option(option: &str) -> Option<&'static str> {
    let name = option.strip_prefix("--").or_else(|| {
        let letter = option.strip_prefix('-')?.chars().next()?;
        SHORT.iter().find_map(|(short, name)| (*short == letter).then_some(*name))
    })?;
    OPTIONS.iter().find(|(known, ..)| *known == name).map(|(_, _, instead)| *instead)
}

/// The options of other builders on the command line of `kiln build`, with their values.
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

    /// The foreign options of `kiln build LINE`; `None` if the line does not parse.
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
