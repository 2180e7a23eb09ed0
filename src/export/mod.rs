//! Exports the file system of an image: as one tar, or as files in a directory (O-64, O-65).
//!
//! **Holds.** The tar has what a container would see, with true owners, modes, devices and attributes, without whiteouts;
//! equal images give equal tars. In a directory, the files belong to the caller: no owners, devices or attributes, setuid and
//! setgid bits cleared. Symlinks that are in the directory already are never followed (S-96).
//! **Order.** Layers are unpacked in scratch first: nothing is written before every layer has been verified.

mod error;
mod links;
mod local;
mod rootfs;

pub(crate) use error::RootfsError;
pub(crate) use rootfs::Rootfs;
