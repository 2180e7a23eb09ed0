//! Authorities that a command trusts besides those of its image.
//!
//! **Holds.** The image's own bundle and the given authorities are mounted, read-only, over the bundle in all usual
//! places that the image has, and at [`BUNDLE`], which the environment names. All of it is in memory: nothing reaches
//! a layer. Java's keystores are left alone, and reported.

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::mount::UnmountFlags;

use crate::base::rooted::{Root, reopen};

use super::mounts::Prepared;
use super::spec::Authorities;

/// Where the bundle is in every command: in the `/dev` of the sandbox.
pub(super) const BUNDLE: &str = "/dev/ca-certificates.crt";

/// Where distributions keep the bundle.
const PLACES: [&str; 7] = [
    // Debian, Alpine, Arch
    "/etc/ssl/certs/ca-certificates.crt",
    // Alpine, and libraries that follow OpenBSD
    "/etc/ssl/cert.pem",
    // Fedora
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/cert.pem",
    // openSUSE
    "/etc/ssl/ca-bundle.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
];

/// The variables in which programs look for a bundle: OpenSSL, Node.js, requests, pip, curl, git.
const VARIABLES: [&str; 6] =
    ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"];

/// Where distributions keep the keystore of Java, which is no bundle and has a password.
const KEYSTORES: [&str; 3] =
    ["/etc/ssl/certs/java/cacerts", "/etc/pki/ca-trust/extracted/java/cacerts", "/etc/pki/java/cacerts"];

/// Where a Java that is installed somewhere else has its keystore.
const IN_JAVA_HOME: [&str; 2] = ["lib/security/cacerts", "jre/lib/security/cacerts"];

/// A larger bundle is none, and is left alone.
const LARGEST: u64 = 16 << 20;

/// The mounts of the bundles, for a root whose other mounts are attached.
pub(super) fn mounts(root: &Root, authorities: &Authorities) -> Vec<Prepared> {
    let mut seen = Vec::new();
    let mut mounts = Vec::new();
    let mut first = None;
    for place in PLACES {
        // Most of these are links to one of the others.
        let Some((id, mut bundle)) = read(root, place).filter(|(id, _)| !seen.contains(id)) else { continue };
        seen.push(id);
        if !bundle.is_empty() && !bundle.ends_with(b"\n") {
            bundle.push(b'\n');
        }
        bundle.extend_from_slice(&authorities.given);
        first.get_or_insert_with(|| bundle.clone());
        mounts.push(Prepared::file(Path::new(place), bundle));
    }
    let bundle = first.unwrap_or_else(|| authorities.otherwise.clone());
    mounts.push(Prepared::file(Path::new(BUNDLE), bundle));
    mounts
}

/// The keystore of the image's Java, which is not mounted over; `None`: there is none.
pub(super) fn keystore(root: &Root, env: &[(OsString, OsString)]) -> Option<String> {
    let home = env.iter().find(|(name, _)| name == "JAVA_HOME").and_then(|(_, value)| value.to_str());
    let own = home.filter(|home| !home.is_empty()).into_iter().flat_map(|home| {
        let home = home.trim_end_matches('/');
        IN_JAVA_HOME.map(|path| format!("{home}/{path}"))
    });
    own.chain(KEYSTORES.map(str::to_owned)).find(|path| {
        let found = root.locate(OsStr::new(path)).ok();
        let stat = found.and_then(|found| rustix::fs::fstat(&found).ok());
        stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    })
}

/// A bundle of the image and its identity; `None`: there is none.
fn read(root: &Root, place: &str) -> Option<((u64, u64), Vec<u8>)> {
    let found: OwnedFd = root.locate(OsStr::new(place)).ok()?;
    let stat = rustix::fs::fstat(&found).ok()?;
    let size = u64::try_from(stat.st_size).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || size > LARGEST {
        return None;
    }
    let mut bundle = Vec::new();
    let file = std::fs::File::from(reopen(found.as_fd(), OFlags::RDONLY).ok()?);
    file.take(LARGEST).read_to_end(&mut bundle).ok()?;
    Some(((stat.st_dev, stat.st_ino), bundle))
}

/// Whether a path ends in the name of a bundle.
pub(super) fn is_bundle_name(path: &[u8]) -> bool {
    let last = |path: &[u8]| path.rsplit(|&b| b == b'/').next().unwrap_or_default().to_vec();
    PLACES.iter().any(|place| last(place.as_bytes()) == last(path))
}

/// Removes the mounts over the image's bundles from this mount namespace. Paths in it belong to the command: only what
/// is on the file system of [`BUNDLE`], which nothing but bundles is on, is unmounted.
pub(super) fn unmount() -> std::io::Result<()> {
    let bundle = rustix::fs::statat(rustix::fs::CWD, BUNDLE, AtFlags::SYMLINK_NOFOLLOW)?;
    for place in PLACES {
        let Ok(found) = rustix::fs::open(place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else { continue };
        let stat = rustix::fs::fstat(&found)?;
        if stat.st_dev == bundle.st_dev && stat.st_ino != bundle.st_ino {
            let mounted = format!("/proc/self/fd/{}", found.as_raw_fd());
            rustix::mount::unmount(mounted, UnmountFlags::DETACH)?;
        }
    }
    Ok(())
}

/// Adds the variables that `env` does not set.
pub(super) fn add_variables(env: &mut Vec<(OsString, OsString)>) {
    for name in VARIABLES {
        if !env.iter().any(|(known, _)| known == name) {
            env.push((name.into(), BUNDLE.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_are_recognised_by_their_last_name() {
        for (path, want) in [
            ("ca-certificates.crt", true),
            ("/etc/ssl/certs/ca-certificates.crt", true),
            ("../pem/tls-ca-bundle.pem", true),
            ("/etc/ssl/certs/ca-certificates.crt.new", false),
            ("/etc/ssl/certs/", false),
            ("", false),
        ] {
            assert_eq!(is_bundle_name(path.as_bytes()), want, "{path}");
        }
    }

    #[test]
    fn variables_of_the_image_stay() {
        let mut env = vec![(OsString::from("PIP_CERT"), OsString::from("/own"))];
        add_variables(&mut env);
        assert_eq!(env[0].1, "/own");
        assert_eq!(env.len(), VARIABLES.len());
        assert!(env[1..].iter().all(|(_, value)| value == BUNDLE));
    }
}
