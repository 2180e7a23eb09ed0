//! From a step and its inputs to the parts of its key.
//!
//! Every field of a step is named here: a field added to the plan does not compile until somebody decided whether it
//! is in the key.

use serde::Serialize;

use crate::base::digest::{Sha256, StepKey};
use crate::cache::KeyParts;
use crate::oci::platform::Platform;
use crate::plan::{Copy, Mount, Run, Workdir};

/// The part of a COPY or ADD that stands for what it reads.
pub(super) const FILES: &str = "files";

/// The part that stands for what is below.
pub(super) const PARENT: &str = "parent";

/// The key of a filesystem by its layers, whoever made them.
pub(super) fn base(chain: &[crate::base::digest::DiffId]) -> StepKey {
    let mut parts = KeyParts::new();
    parts.add("base image", chain.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n").as_bytes());
    parts.key()
}

/// The parts of a FROM of a context whose files have the digest `files`.
pub(super) fn context(files: Sha256) -> KeyParts {
    let mut parts = KeyParts::new();
    parts.add_digest("the files of the context", files);
    parts
}

/// The parts of a RUN; `mounts[i]` is the digest of what `run.mounts[i]` shows, where it shows files; `devices` are those
/// it gets.
pub(super) fn run(run: &Run, parent: StepKey, mounts: &[Option<Sha256>], devices: &[&str]) -> KeyParts {
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
        // What a cache holds is nobody's input (M-10), except the seed it starts from, which only its shape names.
        if let (Mount::Bind { .. }, Some(digest)) = (mount, digest) {
            parts.add_digest(format!("files of mount {name}"), *digest);
        }
    }
    parts
}

/// The parts of a COPY or ADD that selects `files`.
pub(super) fn copy(copy: &Copy, parent: StepKey, files: Sha256) -> KeyParts {
    let mut parts = KeyParts::new();
    parts.add_digest(PARENT, parent.0);
    parts.add("the instruction", &canonical(copy));
    parts.add_digest(FILES, files);
    parts
}

/// The parts of a WORKDIR.
pub(super) fn workdir(workdir: &Workdir, parent: StepKey) -> KeyParts {
    let mut parts = KeyParts::new();
    parts.add_digest(PARENT, parent.0);
    parts.add("the directory", workdir.path.as_bytes());
    parts.add("the user", workdir.user.as_bytes());
    parts
}

fn platform_text(platform: &Platform) -> String {
    let Platform { architecture, os, os_version, os_features, variant } = platform;
    format!("{os}/{architecture}/{variant:?}/{os_version:?}/{os_features:?}")
}

fn canonical<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plan data has only string keys")
}
