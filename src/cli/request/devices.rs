//! `--device`, `--allow device` and `--cdi-spec-dir`.

use std::path::PathBuf;

use crate::cli::failure::Failure;
use crate::device::{Grants, SPEC_DIRS};
use crate::plan::DeviceName;
use crate::sandbox::Device;

/// `--device` of `kiln run`: a node of the host, or a CDI device.
pub(super) enum Asked {
    Node(Device),
    Named(DeviceName),
}

/// `HOST[:INSIDE[:rwm]]`, both below `/dev`, or `VENDOR/CLASS=NAME`.
pub(super) fn device(text: &str) -> Result<Asked, Failure> {
    let wrong = |why: &str| Failure::usage(format!("--device {text:?}: {why}"));
    if !text.starts_with('/') {
        let named = DeviceName::parse(text).map(Asked::Named);
        return named.map_err(|why| wrong(&format!("want a path that begins with /, or VENDOR/CLASS=NAME: {why}")));
    }
    let mut fields = text.split(':');
    let host = fields.next().unwrap_or_default();
    let inside = fields.next().unwrap_or(host);
    if !matches!(fields.next(), None | Some("rwm")) || fields.next().is_some() {
        return Err(wrong("want HOST[:PATH]; access follows the mode of the device"));
    }
    match inside.strip_prefix("/dev/") {
        Some(name) if !name.is_empty() && !name.split('/').any(|part| matches!(part, "" | "." | "..")) => {
            Ok(Asked::Node(Device { host: host.into(), name: name.into(), required: true }))
        }
        _ => Err(wrong("the path inside must be below /dev")),
    }
}

/// `--allow device` and `--allow device=NAME` (O-22). None: another entitlement.
pub(super) fn grant(what: &str, grants: &mut Grants) -> Option<Result<(), String>> {
    match what.strip_prefix("device")? {
        "" => grants.all = true,
        rest => match DeviceName::parse(rest.strip_prefix('=')?) {
            Ok(name) => grants.names.push(name),
            Err(why) => return Some(Err(why)),
        },
    }
    Some(Ok(()))
}

/// `--cdi-spec-dir`. A named directory must exist.
pub(super) fn spec_dirs(given: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    if given.is_empty() {
        return Ok(SPEC_DIRS.iter().map(PathBuf::from).collect());
    }
    match given.iter().find(|dir| !dir.is_dir()) {
        Some(dir) => Err(Failure::usage(format!("--cdi-spec-dir {}: no such directory", dir.display()))),
        None => Ok(given.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_path_must_stay_below_dev() {
        let read = |text: &str| match device(text) {
            Ok(Asked::Node(d)) => Some((d.host.display().to_string(), d.name.display().to_string())),
            _ => None,
        };
        assert_eq!(read("/dev/fuse").unwrap(), ("/dev/fuse".to_owned(), "fuse".to_owned()));
        assert_eq!(read("/dev/a/b:/dev/c:rwm").unwrap(), ("/dev/a/b".to_owned(), "c".to_owned()));
        for wrong in ["fuse", "/dev/x:/etc/x", "/dev/x:/dev/../etc/x", "/dev/x:/dev/", "/dev/x:/dev/y:r", ""] {
            assert!(device(wrong).is_err(), "{wrong}");
        }
        assert!(matches!(device("vendor.com/gpu=0"), Ok(Asked::Named(_))));
    }

    #[test]
    fn allow_parses_device_entitlements() {
        // O-22
        let mut grants = Grants::default();
        for (what, want) in [
            ("device", Some(true)),
            ("device=a/b=c", Some(true)),
            ("device=c", Some(false)),
            ("device=", Some(false)),
            ("devices", None),
            ("network.host", None),
        ] {
            assert_eq!(grant(what, &mut grants).map(|read| read.is_ok()), want, "{what}");
        }
        assert!(grants.all && grants.names.len() == 1);
    }
}
