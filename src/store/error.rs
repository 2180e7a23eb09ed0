//! What can go wrong with a store, by what a caller can do about it.

use std::path::PathBuf;

use crate::base::fs::FsError;
use crate::oci::blob::BlobError;
use crate::oci::image::ImageError;
use crate::oci::reference::InvalidReference;

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A later kiln made this store (S-133).
    #[error("store {} has format {found}, this kiln knows formats up to {known}", root.display())]
    Newer {
        /// The store.
        root: PathBuf,
        /// Its format.
        found: u64,
        /// The newest we know.
        known: u64,
    },
    /// The directory holds something else; filling it with a store could destroy or reveal it.
    #[error("{} is not a kiln store and not empty (it holds {example:?})", root.display())]
    NotAStore {
        /// The directory.
        root: PathBuf,
        /// One of the names in it.
        example: String,
    },
    /// The directory cannot hold a store (S-134).
    #[error("store {} cannot be used: {source}", root.display())]
    Unusable {
        /// The store.
        root: PathBuf,
        /// What was tried.
        source: FsError,
    },
    /// A file of the store's own is not what the store writes.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A directory that was named as an OCI layout is none.
    #[error("{} is not an OCI image layout: {why}", root.display())]
    NotALayout {
        /// The directory.
        root: PathBuf,
        /// What is missing or wrong.
        why: String,
    },
    /// An OCI layout does not have what was asked for.
    #[error("the OCI image layout {} {why}", root.display())]
    NotInLayout {
        /// The directory.
        root: PathBuf,
        /// What it has instead.
        why: String,
    },
    /// Nothing has this name or id.
    #[error("no image named {name:?}{}", did_you_mean(.similar.as_deref()))]
    NoSuchImage {
        /// What was asked for.
        name: String,
        /// A name that exists and reads much like it.
        similar: Option<String>,
    },
    /// Neither an image name nor an id.
    #[error(transparent)]
    InvalidName(InvalidReference),
    /// A short id that several images begin with.
    #[error("image id {id:?} is ambiguous: it begins {}", .candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        id: String,
        /// What it could mean.
        candidates: Vec<String>,
    },
    /// What the name stands for is no image for this platform, or damaged.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A blob is missing or wrong.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The file system said no.
    #[error(transparent)]
    Fs(#[from] FsError),
}

fn did_you_mean(similar: Option<&str>) -> String {
    similar.map(|s| format!(", did you mean {s:?}?")).unwrap_or_default()
}
