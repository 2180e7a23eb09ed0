//! Makes the parts of a step's key from the step and its inputs.
//!
//! `Run` is destructured in full: a new field does not compile until someone decides whether it belongs in the key. A
//! COPY or ADD enters in serialized form, see [`crate::plan::StepKind`].

use serde::Serialize;

use crate::base::digest::{BlobDigest, DiffId, Sha256, StepKey};
use crate::base::stable::StableHasher;
use crate::base::time::Timestamp;
use crate::oci::platform::Platform;
use crate::plan::{Copy, Mount, Run, Workdir};

use super::key::KeyParts;

/// The part for the files that a COPY or ADD reads.
pub(crate) const FILES: &str = "files";

/// The part for the files of a context that a FROM names.
pub(crate) const FILES_OF_CONTEXT: &str = "the files of the context";

/// The part for the parent step.
const PARENT: &str = "parent";

/// The part of a `COPY --link` in place of its parent: the directories of the parent that it depends on.
const PASSED: &str = "directories it passes through";

/// The key of a file system with these layers, bottom first, however they were made.
pub(crate) fn layers(chain: &[DiffId]) -> StepKey {
    let mut parts = KeyParts::new();
    parts.add("base image", chain.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n").as_bytes());
    parts.key()
}

/// Identifies the layers of `below` with one more over them. What identifies none is [`layers`] of none.
pub(crate) fn over(below: StepKey, layer: DiffId) -> StepKey {
    let mut parts = KeyParts::new();
    parts.add(PARENT, below.to_string().as_bytes());
    parts.add("layer", layer.to_string().as_bytes());
    parts.key()
}

/// The parts of a FROM whose image is not fetched yet.
pub(crate) fn image(manifest: BlobDigest) -> KeyParts {
    let mut parts = KeyParts::new();
    parts.add("base image", manifest.to_string().as_bytes());
    parts
}

/// The parts of a FROM of a named context whose files have the digest `files`.
pub(crate) fn context(files: Sha256) -> KeyParts {
    let mut parts = KeyParts::new();
    parts.add_digest(FILES_OF_CONTEXT, files);
    parts
}

/// The parts of a RUN. `mounts[i]` is the digest of the files in `run.mounts[i]`, if it has any; `devices` names the
/// devices it gets.
pub(crate) fn run(run: &Run, parent: StepKey, mounts: &[Option<Sha256>], devices: &[&str]) -> KeyParts {
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
        // The content of a cache mount is not an input (M-10); only the options of the mount count.
        if let (Mount::Bind { .. }, Some(digest)) = (mount, digest) {
            parts.add_digest(files_of_mount(name), *digest);
        }
    }
    parts
}

/// The part for the files that a bind mount shows.
pub(crate) fn files_of_mount(target: &str) -> String {
    format!("files of mount {target}")
}

/// The parts of a COPY or ADD that selects `files`.
pub(crate) fn copy(copy: &Copy, parent: StepKey, files: Sha256) -> KeyParts {
    let mut parts = KeyParts::new();
    parts.add_digest(PARENT, parent.0);
    parts.add("the instruction", &canonical(copy));
    parts.add_digest(FILES, files);
    parts
}

/// The parts of a WORKDIR.
pub(crate) fn workdir(workdir: &Workdir, parent: StepKey) -> KeyParts {
    let mut parts = KeyParts::new();
    parts.add_digest(PARENT, parent.0);
    parts.add("the directory", workdir.path.as_bytes());
    parts.add("the user", workdir.user.as_bytes());
    parts
}

/// Adds SOURCE_DATE_EPOCH, which limits times in the layer to `latest`.
pub(crate) fn clamp(parts: &mut KeyParts, latest: Timestamp) {
    parts.add("SOURCE_DATE_EPOCH", latest.secs.to_string().as_bytes());
}

/// The parts of the same step on a parent with another key.
pub(crate) fn over_parent(parts: &KeyParts, parent: StepKey) -> KeyParts {
    parts.replace(PARENT, PARENT, parent.0)
}

/// The parts of the same step on any parent that has these directories.
pub(crate) fn over_directories<'d>(parts: &KeyParts, dirs: impl IntoIterator<Item = &'d [u8]>) -> KeyParts {
    let mut hasher = StableHasher::new("kiln.passed.v1");
    for dir in dirs {
        hasher.field("directory", dir);
    }
    parts.replace(PARENT, PASSED, hasher.finish())
}

/// The key of a whole build.
pub(crate) fn whole(of: Sha256) -> StepKey {
    StepKey(of)
}

/// Stands for the files of a step with these layers, where the files need not be read to know that they are the same.
pub(crate) fn files_of_layers(chain: StepKey) -> Sha256 {
    substitute("kiln.files-of-layers.v1", chain)
}

/// Stands for the files of a step with this key.
pub(crate) fn files_of_step(key: StepKey) -> Sha256 {
    substitute("kiln.files-of-step.v1", key)
}

fn substitute(domain: &str, key: StepKey) -> Sha256 {
    let mut hasher = StableHasher::new(domain);
    hasher.field("key", key.hex().as_bytes());
    hasher.finish()
}

fn platform_text(platform: &Platform) -> String {
    let Platform { architecture, os, os_version, os_features, variant } = platform;
    format!("{os}/{architecture}/{variant:?}/{os_version:?}/{os_features:?}")
}

fn canonical<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plan data has only string keys")
}
