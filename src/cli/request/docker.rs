//! Options of other builders: what they ask for is so anyway, or is refused by name with what to do instead.

use crate::cli::args::DockerArgs;
use crate::cli::failure::Failure;

/// Ok: nothing was asked for that is not so.
pub(super) fn answer(args: &DockerArgs) -> Result<(), Failure> {
    let on = |value: &Option<String>| value.as_deref().is_some_and(|value| !matches!(value, "false" | "0"));
    let other = |value: &Option<String>, fine: &[&str]| value.as_deref().is_some_and(|v| !fine.contains(&v));
    let refused = [
        (args.rm == Some(false), "--rm=false", "what a failed step left is shown by --on-failure=shell"),
        (
            args.push,
            "--push",
            "write an archive (-o type=oci,dest=FILE.tar) and copy it with skopeo, or point skopeo at the store",
        ),
        (
            !args.cache_from.is_empty(),
            "--cache-from",
            "the cache is in the store: keep the store's directory between builds",
        ),
        (
            !args.cache_to.is_empty(),
            "--cache-to",
            "the cache is in the store: keep the store's directory between builds",
        ),
        (on(&args.provenance), "--provenance", "kiln writes plain images; --metadata-file says what was built"),
        (on(&args.sbom), "--sbom", "kiln writes plain images; scan the archive of -o type=oci"),
        (!args.attest.is_empty(), "--attest", "kiln writes plain images; --metadata-file says what was built"),
        (!args.annotation.is_empty(), "--annotation", "a label says the same in the config: --label KEY=VALUE"),
        (
            other(&args.builder, &["", "default"]),
            "--builder",
            "there is no daemon and no builder to choose; --root chooses the store",
        ),
        (!args.policy.is_empty(), "--policy", "pin base images by digest: FROM NAME@sha256:…"),
        (args.cgroup_parent.is_some(), "--cgroup-parent", "start kiln itself in that control group"),
        (
            other(&args.isolation, &["", "default", "oci", "rootless"]),
            "--isolation",
            "kiln takes the best sandbox this host allows",
        ),
        (
            !args.security_opt.is_empty(),
            "--security-opt",
            "RUN --security=insecure with --allow security.insecure lifts the restrictions",
        ),
        (args.squash, "--squash", "copy the result into one layer: FROM scratch, then COPY --from=STAGE / /"),
        (args.debug, "--debug", "--progress plain says everything; --on-failure=shell opens a shell"),
        (
            !args.volume.is_empty(),
            "--volume",
            "a volume would make the cache wrong; RUN --mount=type=bind or cache, or --build-context",
        ),
        (
            other(&args.format, &["oci"]),
            "--format",
            "images are OCI images; -o type=docker,dest=FILE writes an archive for docker load",
        ),
        (!args.destination.is_empty(), "--destination", "name the image with -t"),
        (args.dockerfile.is_some(), "--dockerfile", "name the Dockerfile with -f"),
    ];
    match refused.into_iter().find(|(given, ..)| *given) {
        Some((_, name, instead)) => Err(Failure::usage(format!("{name} is not supported")).hint(instead)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        docker: DockerArgs,
    }

    fn asked(line: &[&str]) -> Result<(), Failure> {
        let line = Line::try_parse_from(["kiln"].iter().chain(line)).unwrap_or_else(|e| panic!("{line:?}: {e}"));
        answer(&line.docker)
    }

    #[test]
    fn what_is_so_anyway_may_be_asked_for() {
        for line in [
            &["--rm"][..],
            &["--rm=true"],
            &["--force-rm"],
            &["--load"],
            &["--compress"],
            &["--layers"],
            &["--provenance=false"],
            &["--sbom=false"],
            &["--builder", "default"],
            &["--isolation", "default"],
            &["--format", "oci"],
        ] {
            assert!(asked(line).is_ok(), "{line:?}");
        }
    }

    #[test]
    fn what_others_have_is_refused_by_name_and_says_what_instead() {
        for line in [
            &["--rm=false"][..],
            &["--push"],
            &["--cache-from", "type=registry,ref=x"],
            &["--cache-to", "type=inline"],
            &["--provenance"],
            &["--provenance=mode=max"],
            &["--sbom=true"],
            &["--attest", "type=sbom"],
            &["--annotation", "a=b"],
            &["--builder", "mine"],
            &["--policy", "x"],
            &["--cgroup-parent", "x"],
            &["--isolation", "hyperv"],
            &["--security-opt", "x"],
            &["--squash"],
            &["--debug"],
            &["--volume", "a:b"],
            &["--format", "docker"],
            &["--destination", "x"],
            &["--dockerfile", "x"],
        ] {
            let failure = asked(line).expect_err("refused");
            let option = line[0].split("=m").next().expect("a name").replace("=true", "");
            assert!(failure.message.starts_with(&option), "{line:?}: {}", failure.message);
            assert!(!failure.hints.is_empty() && failure.kind.code() == 2, "{line:?}");
        }
    }
}
