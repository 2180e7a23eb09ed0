//! The image-spec as data.
//!
//! **Holds.** Media types and descriptors (`descriptor`), manifests and indexes (`manifest`), image configs
//! (`config`), one image as a whole (`image`), platforms (`platform`), names (`reference`), and the two ports between those who hold blobs and those
//! who want them (`blob`).
//! **Order.** Written JSON has sorted maps and a fixed field order, so equal values give equal bytes; unknown fields
//! of a config that was read are kept (F-12). `oci-spec` supplies the media-type names; its own structs drop
//! `Healthcheck`, `OnBuild`, `Shell` and write maps in random order, so ours are here.
//! **Not here.** Where blobs are: `store`, `registry`.

pub mod blob;
pub mod config;
pub mod descriptor;
pub mod image;
pub mod manifest;
pub mod platform;
pub mod reference;
