//! From a step and its inputs to the parts of its key.
//!
//! Every field of a step is named here: a field added to the plan does not compile until somebody decided whether it
//! is in the key.

use serde::Serialize;

use crate::base::digest::{BlobDigest, DiffId, Sha256, StepKey};
use crate::base::stable::StableHasher;
use crate::base::time::Timestamp;
use crate::oci::platform::Platform;
use crate::plan::{Copy, Mount, Run, Workdir};

use super::key::KeyParts;

/// The part of a COPY or ADD that stands for the files it reads.
pub const FILES: &str = "files";

/// The part that stands for the parent.
const PARENT: &str = "parent";

/// The part of a linked COPY that stands for what it depends on of its parent.
const PASSED: &str = "directories it passes through";

/// The key of a file system by its layers, bottom first, in whatever way they were made.
pub fn layers(chain: &[DiffId]) -> StepKey {
    let mut parts = KeyParts::new();
    parts.add("base image", chain.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n").as_bytes());
    parts.key()
}

/// The parts of a FROM of an image that has to be fetched.
pub fn image(manifest: BlobDigest) -> KeyParts {
    let mut parts = KeyParts::new();
    parts.add("base image", manifest.to_string().as_bytes());
    parts
}

/// The parts of a FROM of a context whose files have the digest `files`.
pub fn context(files: Sha256) -> KeyParts {
    let mut parts = KeyParts::new();
    parts.add_digest("the files of the context", files);
    parts
}

/// The parts of a RUN; `mounts[i]` is the digest of what `run.mounts[i]` shows, where it shows files; `devices` are those
/// it gets.
pub fn run(run: &Run, parent: StepKey, mounts: &[Option<Sha256>], devices: &[&str]) -> KeyParts {
    let Run {
        argv,
        env,
        args,
        proxy: _,
        user,
        cwd,
        mounts: shapes,
        network,
        security,
        devices: _,
        files,
        hostname,
        platform,
    } = run;
    let mut parts = KeyParts::new();
    parts.add_digest(PARENT, parent.0);
    parts.add("platform", platform_text(platform).as_bytes());
    parts.add("the command", &canonical(argv));
    for (name, value) in env {
        parts.add(format!("variable {name}"), value.as_bytes());
    }
    for (name, value) in args {
        parts.add(format!("build argument {name}"), value.as_bytes());
    }
    parts.add("the user", user.as_bytes());
    parts.add("the working directory", cwd.as_bytes());
    parts.add("the network", &canonical(network));
    parts.add("the security mode", &canonical(security));
    parts.add("the host name", hostname.as_bytes());
    for device in devices {
        parts.add(format!("device {device}"), b"");
    }
    for file in files {
        parts.add(format!("heredoc {}", file.path), file.content.as_bytes());
    }
    for (mount, digest) in shapes.iter().zip(mounts) {
        let name = mount.target().unwrap_or("environment");
        parts.add(format!("mount {name}"), &canonical(mount));
        // The content of a cache mount is no input (M-10). Its seed is named by its options alone.
        if let (Mount::Bind { .. }, Some(digest)) = (mount, digest) {
            parts.add_digest(format!("files of mount {name}"), *digest);
        }
    }
    parts
}

/// The parts of a COPY or ADD that selects `files`.
pub fn copy(copy: &Copy, parent: StepKey, files: Sha256) -> KeyParts {
    let mut parts = KeyParts::new();
    parts.add_digest(PARENT, parent.0);
    parts.add("the instruction", &canonical(copy));
    parts.add_digest(FILES, files);
    parts
}

/// The parts of a WORKDIR.
pub fn workdir(workdir: &Workdir, parent: StepKey) -> KeyParts {
    let mut parts = KeyParts::new();
    parts.add_digest(PARENT, parent.0);
    parts.add("the directory", workdir.path.as_bytes());
    parts.add("the user", workdir.user.as_bytes());
    parts
}

/// Adds SOURCE_DATE_EPOCH: times in the layer are no later than `latest`.
pub fn clamp(parts: &mut KeyParts, latest: Timestamp) {
    parts.add("SOURCE_DATE_EPOCH", latest.secs.to_string().as_bytes());
}

/// The parts of the same step over a parent with another key.
pub fn over_parent(parts: &KeyParts, parent: StepKey) -> KeyParts {
    parts.replace(PARENT, PARENT, parent.0)
}

/// The parts of the same step over any parent that has these directories.
pub fn over_directories<'d>(parts: &KeyParts, dirs: impl IntoIterator<Item = &'d [u8]>) -> KeyParts {
    let mut hasher = StableHasher::new("kiln.passed.v1");
    for dir in dirs {
        hasher.field("directory", dir);
    }
    parts.replace(PARENT, PASSED, hasher.finish())
}

fn platform_text(platform: &Platform) -> String {
    let Platform { architecture, os, os_version, os_features, variant } = platform;
    format!("{os}/{architecture}/{variant:?}/{os_version:?}/{os_features:?}")
}

fn canonical<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plan data has only string keys")
}
