//! `--cache-from`, `--cache-to`: caches that machines share (O-44, O-45).

use std::path::PathBuf;

use crate::cache::remote::{GhaPlace, Mode, Mounts, S3Place};
use crate::cli::failure::Failure;
use crate::oci::reference::Reference;

use super::given::Given;
use super::{Environment, bucket, gha};

/// Where a shared cache is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Place {
    /// A repository of a registry.
    Registry(Reference),
    /// A directory.
    Directory(PathBuf),
    /// A bucket of an S3 store.
    Bucket(S3Place),
    /// The cache of GitHub Actions.
    Actions(GhaPlace),
}

/// One `--cache-from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct CacheFrom {
    /// Where.
    pub(in crate::cli) place: Place,
    /// The cache mounts that are restored.
    pub(in crate::cli) mounts: Mounts,
}

/// One `--cache-to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct CacheTo {
    /// Where.
    pub(in crate::cli) place: Place,
    /// What is written.
    pub(in crate::cli) mode: Mode,
    /// The cache mounts that are written.
    pub(in crate::cli) mounts: Mounts,
}

const TYPES: &str = "want registry, local, s3 or gha";

/// Parses `--cache-from type=registry,ref=NAME`, `type=local,src=DIR`, `type=s3,bucket=NAME,…`, `type=gha`, each with
/// `mounts=ID` or `mounts=all`, or `NAME`.
pub(super) fn from(text: &str, environment: &Environment) -> Result<CacheFrom, Failure> {
    let mut given = Given::parse("--cache-from", text)?;
    let place = place(&mut given, "src", environment)?;
    let mounts = mounts(&mut given)?;
    match given.fields.first() {
        None => Ok(CacheFrom { place, mounts }),
        Some((key, _)) => Err(given.unsupported(key)),
    }
}

/// Parses `--cache-to type=registry,ref=NAME[,mode=max]`, `type=local,dest=DIR[,mode=max]`,
/// `type=s3,bucket=NAME,…[,mode=max]`, `type=gha[,mode=max]`, each with `mounts=ID` or `mounts=all`, or `NAME`.
pub(super) fn to(text: &str, environment: &Environment) -> Result<CacheTo, Failure> {
    let mut given = Given::parse("--cache-to", text)?;
    let place = place(&mut given, "dest", environment)?;
    let mounts = mounts(&mut given)?;
    let mut mode = Mode::default();
    for (key, value) in &given.fields {
        match (key.as_str(), value.as_str()) {
            ("mode", "min") => mode = Mode::Min,
            ("mode", "max") => mode = Mode::Max,
            ("mode", _) => return Err(given.wrong("mode is min or max")),
            // What is always so.
            ("ignore-error" | "image-manifest" | "oci-mediatypes", "true") => {}
            _ => return Err(given.unsupported(key)),
        }
    }
    Ok(CacheTo { place, mode, mounts })
}

/// Takes the ids of cache mounts.
fn mounts(given: &mut Given<'_>) -> Result<Mounts, Failure> {
    let ids = given.take_all("mounts");
    match ids.iter().any(String::is_empty) {
        true => Err(given.wrong("mounts needs the id of a cache mount, or all")),
        false if ids.iter().any(|id| id == "all") => Ok(Mounts::All),
        false => Ok(Mounts::Ids(ids.into_iter().collect())),
    }
}

/// Takes what names the place; the rest is left.
fn place(given: &mut Given<'_>, dir: &str, environment: &Environment) -> Result<Place, Failure> {
    if let Some(name) = given.name {
        return Ok(Place::Registry(name.parse().map_err(|e| given.wrong(&format!("{e}")))?));
    }
    match given.take("type").as_deref() {
        Some("registry") => {
            let reference = given.take("ref").filter(|text| !text.is_empty());
            let reference = reference.ok_or_else(|| given.wrong("ref is missing"))?;
            Ok(Place::Registry(reference.parse().map_err(|e| given.wrong(&format!("{e}")))?))
        }
        Some("local") => {
            let path = given.take(dir).filter(|text| !text.is_empty());
            Ok(Place::Directory(path.ok_or_else(|| given.wrong(&format!("{dir} is missing")))?.into()))
        }
        Some("s3") => bucket::place(given, environment).map(Place::Bucket),
        Some("gha") => gha::place(given, environment).map(Place::Actions),
        Some("inline") => {
            let hint = "use type=registry with the repository of the image: its layers are not uploaded twice";
            Err(given.wrong("a cache inside the image is not supported").hint(hint))
        }
        Some("azblob") => {
            let hint = "use type=registry, type=local, type=s3 or type=gha";
            Err(given.wrong("azblob is not supported").hint(hint))
        }
        Some(other) => Err(given.wrong(&format!("{other:?} is not a type: {TYPES}"))),
        None => Err(given.wrong(&format!("the type is missing: {TYPES}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> Result<CacheFrom, Failure> {
        super::from(text, &Environment::default())
    }

    fn to(text: &str) -> Result<CacheTo, Failure> {
        super::to(text, &Environment::default())
    }

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
            assert_eq!(to(text).ok(), Some(CacheTo { place, mode, mounts: Mounts::default() }), "{text}");
        }
        assert_eq!(from("type=local,src=d").ok(), Some(CacheFrom { place: directory("d"), mounts: Mounts::default() }));
        let ids = |ids: &[&str]| Mounts::Ids(ids.iter().map(|id| (*id).to_owned()).collect());
        for (text, mounts) in
            [("mounts=a", ids(&["a"])), ("mounts=/b,mounts=a", ids(&["a", "/b"])), ("mounts=all", Mounts::All)]
        {
            assert_eq!(to(&format!("type=local,dest=d,{text}")).map(|to| to.mounts).ok(), Some(mounts.clone()));
            assert_eq!(from(&format!("type=local,src=d,{text}")).map(|from| from.mounts).ok(), Some(mounts));
        }
        for (parsed, why) in [
            (to("type=registry"), "ref is missing"),
            (to("type=registry,ref=UP"), "invalid image name"),
            (to("type=local,src=d"), "dest is missing"),
            (to("type=local,dest="), "dest is missing"),
            (to("type=local,dest=d,ref=x"), "the attribute ref is not supported"),
            (to("type=registry,ref=c,mode=all"), "mode is min or max"),
            (to("type=registry,ref=c,compression=zstd"), "the attribute compression is not supported"),
            (to("type=registry,ref=c,ignore-error=false"), "the attribute ignore-error is not supported"),
            (to("type=local,dest=d,mounts="), "mounts needs the id of a cache mount, or all"),
            (to("type=inline"), "a cache inside the image is not supported"),
            (to("type=azblob,name=x"), "azblob is not supported"),
            (to("type=ftp"), "\"ftp\" is not a type: want registry, local, s3 or gha"),
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
