//! `--cache-from`, `--cache-to`: caches that machines share (O-44, O-45).

use std::path::PathBuf;

use crate::cache::remote::Mode;
use crate::cli::failure::Failure;
use crate::oci::reference::Reference;

use super::value;

/// Where a shared cache is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Place {
    /// A repository of a registry.
    Registry(Reference),
    /// A directory.
    Directory(PathBuf),
}

/// One `--cache-to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct CacheTo {
    /// Where.
    pub(in crate::cli) place: Place,
    /// What is written.
    pub(in crate::cli) mode: Mode,
}

const TYPES: &str = "want registry or local";

/// Parses `--cache-from type=registry,ref=NAME`, `type=local,src=DIR`, or `NAME`.
pub(super) fn from(text: &str) -> Result<Place, Failure> {
    let (place, rest) = parse("--cache-from", text, "src")?;
    match rest.into_iter().next() {
        None => Ok(place),
        Some((key, _)) => Err(unsupported("--cache-from", text, &key)),
    }
}

/// Parses `--cache-to type=registry,ref=NAME[,mode=max]`, `type=local,dest=DIR[,mode=max]`, or `NAME`.
pub(super) fn to(text: &str) -> Result<CacheTo, Failure> {
    let (place, rest) = parse("--cache-to", text, "dest")?;
    let mut mode = Mode::default();
    for (key, value) in rest {
        match (key.as_str(), value.as_str()) {
            ("mode", "min") => mode = Mode::Min,
            ("mode", "max") => mode = Mode::Max,
            ("mode", _) => return Err(Failure::usage(format!("--cache-to {text:?}: mode is min or max"))),
            // What is always so.
            ("ignore-error" | "image-manifest" | "oci-mediatypes", "true") => {}
            _ => return Err(unsupported("--cache-to", text, &key)),
        }
    }
    Ok(CacheTo { place, mode })
}

/// The place, and the attributes that do not belong to it.
fn parse(option: &str, text: &str, dir: &str) -> Result<(Place, Vec<(String, String)>), Failure> {
    let wrong = |why: &str| Failure::usage(format!("{option} {text:?}: {why}"));
    if !text.contains('=') && !text.is_empty() {
        return Ok((Place::Registry(text.parse().map_err(|e| wrong(&format!("{e}")))?), Vec::new()));
    }
    let (mut kind, mut reference, mut path, mut rest) = (None, None, None, Vec::new());
    for (key, value) in value::fields(text).map_err(|why| Failure::usage(format!("{option} {why}")))? {
        let value = value.ok_or_else(|| wrong(&format!("{key} needs a value")))?;
        match key.as_str() {
            "type" => kind = Some(value),
            "ref" => reference = Some(value),
            key if key == dir => path = Some(value),
            _ => rest.push((key, value)),
        }
    }
    let belongs = |given: &Option<String>, key: &str| match given {
        Some(_) => Err(unsupported(option, text, key)),
        None => Ok(()),
    };
    let place = match kind.as_deref() {
        Some("registry") => {
            belongs(&path, dir)?;
            let reference = reference.filter(|text| !text.is_empty()).ok_or_else(|| wrong("ref is missing"))?;
            Place::Registry(reference.parse().map_err(|e| wrong(&format!("{e}")))?)
        }
        Some("local") => {
            belongs(&reference, "ref")?;
            let path = path.filter(|text| !text.is_empty()).ok_or_else(|| wrong(&format!("{dir} is missing")))?;
            Place::Directory(PathBuf::from(path))
        }
        Some("inline") => {
            let hint = "use type=registry with the repository of the image: its layers are not uploaded twice";
            return Err(wrong("a cache inside the image is not supported").hint(hint));
        }
        Some(other @ ("s3" | "gha" | "azblob")) => {
            return Err(wrong(&format!("{other} is not supported")).hint("use type=registry or type=local"));
        }
        Some(other) => return Err(wrong(&format!("{other:?} is not a type: {TYPES}"))),
        None => return Err(wrong(&format!("the type is missing: {TYPES}"))),
    };
    Ok((place, rest))
}

fn unsupported(option: &str, text: &str, key: &str) -> Failure {
    let failure = Failure::usage(format!("{option} {text:?}: the attribute {key} is not supported"));
    match key {
        "compression" | "compression-level" => failure.hint(format!("use --{key}, which applies to all layers")),
        "tag" | "digest" => failure.hint("omit it: entries are found by their keys"),
        "mode" => failure.hint("give mode with --cache-to"),
        _ => failure.hint("use type, ref, src, dest and mode"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_options_parse_or_fail_by_name() {
        let registry = |name: &str| Place::Registry(name.parse().expect("a name"));
        let directory = |path: &str| Place::Directory(path.into());
        for (text, place, mode) in [
            ("user/app:cache", registry("user/app:cache"), Mode::Min),
            ("type=registry,ref=localhost:5000/c", registry("localhost:5000/c"), Mode::Min),
            ("type=registry,ref=c,mode=max,image-manifest=true", registry("c"), Mode::Max),
            ("type=local,dest=/d,mode=min", directory("/d"), Mode::Min),
        ] {
            assert_eq!(to(text).ok(), Some(CacheTo { place, mode }), "{text}");
        }
        assert_eq!(from("type=local,src=d").ok(), Some(directory("d")));
        for (parsed, why) in [
            (to("type=registry"), "ref is missing"),
            (to("type=registry,ref=UP"), "invalid image name"),
            (to("type=local,src=d"), "dest is missing"),
            (to("type=local,dest="), "dest is missing"),
            (to("type=local,dest=d,ref=x"), "the attribute ref is not supported"),
            (to("type=registry,ref=c,mode=all"), "mode is min or max"),
            (to("type=registry,ref=c,compression=zstd"), "the attribute compression is not supported"),
            (to("type=registry,ref=c,ignore-error=false"), "the attribute ignore-error is not supported"),
            (to("type=inline"), "a cache inside the image is not supported"),
            (to("type=azblob,name=x"), "azblob is not supported"),
            (to("type=ftp"), "\"ftp\" is not a type: want registry or local"),
            (to("ref=c"), "the type is missing"),
            (to("UP"), "invalid image name"),
            (to(""), "a field is empty"),
        ] {
            assert!(parsed.is_err_and(|failure| failure.message.contains(why)), "{why}");
        }
        let refused = from("type=registry,ref=c,mode=max");
        assert!(refused.is_err_and(|failure| failure.message.contains("the attribute mode is not supported")));
    }
}
