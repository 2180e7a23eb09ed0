//! `-o`: outputs besides the store (O-62 to O-66).

use std::path::PathBuf;

use crate::cli::failure::Failure;

use super::value;

/// One `-o`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Output {
    /// Its form.
    pub(in crate::cli) form: Form,
    /// Its destination.
    pub(in crate::cli) dest: Destination,
}

/// The form of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Form {
    /// `type=oci`: an OCI layout in one tar file.
    OciArchive,
    /// `type=oci-layout`, or `type=oci,tar=false`: an OCI layout directory.
    OciLayout,
    /// `type=docker`: an OCI archive that `docker load` takes.
    DockerArchive,
    /// `type=tar`: the file system in one tar file.
    RootfsTar,
    /// `type=local`: the file system as files.
    RootfsDir,
}

impl Form {
    /// Whether it is a directory, not a file.
    pub(in crate::cli) fn is_directory(self) -> bool {
        matches!(self, Form::OciLayout | Form::RootfsDir)
    }
}

/// The destination of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Destination {
    /// A file or directory.
    Path(PathBuf),
    /// `dest=-`.
    Stdout,
}

/// Parses `type=…,dest=…`.
pub(super) fn parse(text: &str) -> Result<Output, Failure> {
    let wrong = |why: String| Failure::usage(format!("--output {why}"));
    // `-o DIR` and `-o -` are short for type=local and type=tar (O-64, O-65).
    if text == "-" {
        return Ok(Output { form: Form::RootfsTar, dest: Destination::Stdout });
    }
    if !text.contains('=') && !text.is_empty() {
        return Ok(Output { form: Form::RootfsDir, dest: Destination::Path(PathBuf::from(text)) });
    }
    let (mut kind, mut dest, mut tar) = (None, None, true);
    for (key, value) in value::fields(text).map_err(wrong)? {
        let value = value.ok_or_else(|| wrong(format!("{text:?}: {key} needs a value")))?;
        match key.as_str() {
            "type" => kind = Some(value),
            "dest" => dest = Some(value),
            "tar" => {
                tar = value.parse().map_err(|_| wrong(format!("{text:?}: tar is true or false")))?;
            }
            _ => {
                let failure = wrong(format!("{text:?}: the attribute {key} is not supported"));
                return Err(match key.as_str() {
                    "name" => failure.hint("name the image with -t"),
                    "compression" | "compression-level" => {
                        failure.hint(format!("use --{key}, which applies to every output"))
                    }
                    "push" => failure.hint("push with skopeo, from the store or from an archive"),
                    _ => failure.hint("use type, dest and tar"),
                });
            }
        }
    }
    let form = match kind.as_deref() {
        Some("oci") if tar => Form::OciArchive,
        Some("oci" | "oci-layout") => Form::OciLayout,
        Some("docker") if dest.is_none() => {
            return Err(wrong(format!("{text:?}: there is no daemon to load it into; name a file with dest=FILE")));
        }
        Some("docker") if tar => Form::DockerArchive,
        Some("docker") => return Err(wrong(format!("{text:?}: a Docker archive is a tar, want type=oci-layout"))),
        Some("tar") if tar => Form::RootfsTar,
        Some("local" | "tar") => Form::RootfsDir,
        Some(other @ ("image" | "registry")) => return Err(unsupported(other)),
        Some(other) => {
            return Err(wrong(format!(
                "{text:?}: {other:?} is not a type: want oci, oci-layout, docker, tar or local"
            )));
        }
        None => return Err(wrong(format!("{text:?}: the type is missing"))),
    };
    let dest = match (dest.as_deref(), form) {
        (Some("-"), form) if form.is_directory() => {
            return Err(wrong(format!("{text:?}: a directory cannot go to standard output")));
        }
        (Some("-"), _) => Destination::Stdout,
        (Some(path), _) if !path.is_empty() => Destination::Path(PathBuf::from(path)),
        _ => return Err(wrong(format!("{text:?}: dest is missing"))),
    };
    Ok(Output { form, dest })
}

fn unsupported(kind: &str) -> Failure {
    Failure::usage(format!("--output type={kind} is not supported yet"))
        .hint("write an archive with type=oci,dest=FILE.tar: images are always stored")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_options_parse_or_fail_by_name() {
        // O-62
        let output = |form, dest: &str| Ok(Output { form, dest: Destination::Path(dest.into()) });
        for (text, want) in [
            ("type=oci,dest=a.tar", output(Form::OciArchive, "a.tar")),
            ("dest=d,type=oci-layout", output(Form::OciLayout, "d")),
            ("type=oci,tar=false,dest=d", output(Form::OciLayout, "d")),
            ("type=oci,dest=-", Ok(Output { form: Form::OciArchive, dest: Destination::Stdout })),
            ("type=oci-layout,dest=-", Err("a directory cannot go to standard output")),
            ("type=docker,dest=a.tar", output(Form::DockerArchive, "a.tar")),
            ("type=docker", Err("there is no daemon to load it into")),
            ("type=tar,dest=a.tar", output(Form::RootfsTar, "a.tar")),
            ("type=local,dest=d", output(Form::RootfsDir, "d")),
            ("out", output(Form::RootfsDir, "out")),
            ("-", Ok(Output { form: Form::RootfsTar, dest: Destination::Stdout })),
            ("type=local,dest=-", Err("a directory cannot go to standard output")),
            ("", Err("a field is empty")),
            ("type=oci", Err("dest is missing")),
            ("type=oci,dest=", Err("dest is missing")),
            ("dest=x", Err("the type is missing")),
            ("type=zip,dest=x", Err("\"zip\" is not a type")),
            ("type=image,name=x", Err("name is not supported")),
            ("type=registry", Err("type=registry is not supported yet")),
            ("type=oci,dest=x,annotation.a=b", Err("the attribute annotation.a is not supported")),
            ("type=oci,dest=x,tar=maybe", Err("tar is true or false")),
        ] {
            match (parse(text), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{text}"),
                (Err(got), Err(want)) => assert!(got.message.contains(want), "{text}: {}", got.message),
                (got, want) => panic!("{text}: {got:?}, want {want:?}"),
            }
        }
    }
}
