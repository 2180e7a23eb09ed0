//! The image specification as data.
//!
//! **Holds.** Media types and descriptors (`descriptor`), manifests and indexes (`manifest`), image configs (`config`), an
//! image as a whole (`image`), platforms (`platform`), names (`reference`), and the ports between those who have blobs and
//! those who want them (`blob`). Written JSON has a fixed field order and sorted maps, so that equal values give equal bytes.
//! Unknown fields of descriptors, manifests, indexes and the `config` object are kept (F-12).
//! **On `oci-spec`.** It is the wire format of descriptors, and in tests the reader that must understand what kiln writes.
//! For the other documents it would change bytes or lose content (version 0.10):
//! - `ImageManifest` and `ImageIndex` hold its own descriptors, which drop unknown fields;
//! - `Config` drops `Healthcheck`, `OnBuild`, `Shell`, `ArgsEscaped` and unknown fields;
//! - annotations, labels, ports and volumes are hash maps, which it writes in random order;
//! - `History` writes `author` before `created_by`, other builders and kiln the other way round;
//! - `Platform` writes `os_version` and `os_features` where the specification has `os.version` and `os.features`;
//! - `null`, which Go programs write for empty lists and maps (N-20), is refused.
//!
//! **Not here.** Where blobs are: `store`, `registry`.

pub(crate) mod blob;
pub mod config;
pub(crate) mod descriptor;
pub(crate) mod image;
pub(crate) mod manifest;
pub mod platform;
pub(crate) mod reference;
