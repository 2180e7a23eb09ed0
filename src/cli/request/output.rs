//! `-o`: outputs besides the store, and pushes (O-60 to O-66).

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

/// What one `-o` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Files.
    Files(Output),
    /// `type=image` or `type=registry`: the stored image.
    Image(ImageOutput),
}

/// `type=image` or `type=registry`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ImageOutput {
    /// Further names.
    pub(super) names: Vec<String>,
    /// The image is pushed.
    pub(super) push: bool,
    /// The registry may be used without TLS or with an unknown certificate.
    pub(super) insecure: bool,
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
pub(super) fn parse(text: &str) -> Result<Asked, Failure> {
    let wrong = |why: String| Failure::usage(format!("--output {why}"));
    // `-o DIR` and `-o -` are short for type=local and type=tar (O-64, O-65).
    if text == "-" {
        return Ok(Asked::Files(Output { form: Form::RootfsTar, dest: Destination::Stdout }));
    }
    if !text.contains('=') && !text.is_empty() {
        let dest = Destination::Path(PathBuf::from(text));
        return Ok(Asked::Files(Output { form: Form::RootfsDir, dest }));
    }
    let mut fields = Vec::new();
    for (key, value) in value::fields(text).map_err(wrong)? {
        let value = value.ok_or_else(|| wrong(format!("{text:?}: {key} needs a value")))?;
        fields.push((key, value));
    }
    match fields.iter().rev().find(|(key, _)| key == "type").map(|(_, value)| value.as_str()) {
        Some("image") => image(text, &fields, false).map(Asked::Image),
        Some("registry") => image(text, &fields, true).map(Asked::Image),
        Some(kind) => files(text, kind, &fields).map(Asked::Files),
        None => Err(wrong(format!("{text:?}: the type is missing"))),
    }
}

fn image(text: &str, fields: &[(String, String)], push: bool) -> Result<ImageOutput, Failure> {
    let mut image = ImageOutput { push, ..ImageOutput::default() };
    for (key, value) in fields {
        match key.as_str() {
            "type" => {}
            "name" => image.names.extend(value.split(',').map(str::to_owned)),
            "push" => image.push = flag(text, key, value)?,
            "registry.insecure" => image.insecure = flag(text, key, value)?,
            _ => return Err(unsupported(text, key, "use type, name, push and registry.insecure")),
        }
    }
    Ok(image)
}

fn files(text: &str, kind: &str, fields: &[(String, String)]) -> Result<Output, Failure> {
    let wrong = |why: &str| Failure::usage(format!("--output {text:?}: {why}"));
    let (mut dest, mut tar) = (None, true);
    for (key, value) in fields {
        match key.as_str() {
            "type" => {}
            "dest" => dest = Some(value.as_str()),
            "tar" => tar = flag(text, key, value)?,
            _ => return Err(unsupported(text, key, "use type, dest and tar")),
        }
    }
    let form = match kind {
        "oci" if tar => Form::OciArchive,
        "oci" | "oci-layout" => Form::OciLayout,
        "docker" if dest.is_none() => {
            return Err(wrong("there is no daemon to load it into; name a file with dest=FILE"));
        }
        "docker" if tar => Form::DockerArchive,
        "docker" => return Err(wrong("a Docker archive is a tar, want type=oci-layout")),
        "tar" if tar => Form::RootfsTar,
        "local" | "tar" => Form::RootfsDir,
        other => {
            return Err(wrong(&format!(
                "{other:?} is not a type: want oci, oci-layout, docker, tar, local, image or registry"
            )));
        }
    };
    let dest = match (dest, form) {
        (Some("-"), form) if form.is_directory() => return Err(wrong("a directory cannot go to standard output")),
        (Some("-"), _) => Destination::Stdout,
        (Some(path), _) if !path.is_empty() => Destination::Path(PathBuf::from(path)),
        _ => return Err(wrong("dest is missing")),
    };
    Ok(Output { form, dest })
}

fn flag(text: &str, key: &str, value: &str) -> Result<bool, Failure> {
    value.parse().map_err(|_| Failure::usage(format!("--output {text:?}: {key} is true or false")))
}

fn unsupported(text: &str, key: &str, supported: &str) -> Failure {
    let failure = Failure::usage(format!("--output {text:?}: the attribute {key} is not supported"));
    match key {
        "name" => failure.hint("name the image with -t"),
        "push" => failure.hint("use --push, or type=image,push=true"),
        "compression" | "compression-level" => failure.hint(format!("use --{key}, which applies to every output")),
        _ => failure.hint(supported),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_options_parse_or_fail_by_name() {
        // O-62
        let output = |form, dest: &str| Ok(Asked::Files(Output { form, dest: Destination::Path(dest.into()) }));
        let stdout = |form| Ok(Asked::Files(Output { form, dest: Destination::Stdout }));
        let image = |names: &[&str], push, insecure| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            Ok(Asked::Image(ImageOutput { names, push, insecure }))
        };
        for (text, want) in [
            ("type=oci,dest=a.tar", output(Form::OciArchive, "a.tar")),
            ("dest=d,type=oci-layout", output(Form::OciLayout, "d")),
            ("type=oci,tar=false,dest=d", output(Form::OciLayout, "d")),
            ("type=oci,dest=-", stdout(Form::OciArchive)),
            ("type=oci-layout,dest=-", Err("a directory cannot go to standard output")),
            ("type=docker,dest=a.tar", output(Form::DockerArchive, "a.tar")),
            ("type=docker", Err("there is no daemon to load it into")),
            ("type=tar,dest=a.tar", output(Form::RootfsTar, "a.tar")),
            ("type=local,dest=d", output(Form::RootfsDir, "d")),
            ("out", output(Form::RootfsDir, "out")),
            ("-", stdout(Form::RootfsTar)),
            ("type=local,dest=-", Err("a directory cannot go to standard output")),
            ("", Err("a field is empty")),
            ("type=oci", Err("dest is missing")),
            ("type=oci,dest=", Err("dest is missing")),
            ("dest=x", Err("the type is missing")),
            ("type=zip,dest=x", Err("\"zip\" is not a type")),
            ("type=image", image(&[], false, false)),
            ("type=image,name=x,push=true", image(&["x"], true, false)),
            ("\"type=image\",\"name=x,y:1\",push=true", image(&["x", "y:1"], true, false)),
            ("type=registry,registry.insecure=true", image(&[], true, true)),
            ("type=registry,push=false", image(&[], false, false)),
            ("type=image,push=yes", Err("push is true or false")),
            ("type=image,dest=x", Err("the attribute dest is not supported")),
            ("type=image,push-by-digest=true", Err("the attribute push-by-digest is not supported")),
            ("type=oci,dest=x,push=true", Err("the attribute push is not supported")),
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
