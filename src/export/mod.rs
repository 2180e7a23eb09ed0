//! An image's file system leaves the store: as one tar, or as files in a directory (O-64, O-65).
//!
//! **Holds.** The tar has what a container would see, with its true owners, modes, devices and attributes and without
//! whiteouts; equal images give equal tars. The directory has the files as the caller's own: no owners, devices or
//! attributes, setuid and setgid bits cleared, and nothing in it is followed on the way (S-96).
//! **Order.** Layers are unpacked in scratch first: nothing is written before every one of them was what its digest
//! says.

mod error;
mod links;
mod local;
mod rootfs;

pub use error::RootfsError;
pub use local::Skipped;
pub use rootfs::Rootfs;
