//! Errors of the store.

use std::path::PathBuf;

use crate::base::fs::FsError;
use crate::oci::blob::BlobError;
use crate::oci::image::ImageError;
use crate::oci::reference::InvalidReference;

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A later version of kiln made the store (S-133).
    #[error("store {} has format {found}; this kiln knows formats up to {known}", root.display())]
    Newer {
        /// The store.
        root: PathBuf,
        /// Its format.
        found: u64,
        /// The newest we know.
        known: u64,
    },
    /// The directory has foreign files, which a store in it could destroy or reveal.
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
    /// A file of the store is damaged.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The directory is not an OCI image layout.
    #[error("{} is not an OCI image layout: {why}", root.display())]
    NotALayout {
        /// The directory.
        root: PathBuf,
        /// What is missing or wrong.
        why: String,
    },
    /// The image is not in the OCI image layout.
    #[error("the OCI image layout {} {why}", root.display())]
    NotInLayout {
        /// The directory.
        root: PathBuf,
        /// What it has instead.
        why: String,
    },
    /// No image has this name or id.
    #[error("no image named {name:?}{}", did_you_mean(.similar.as_deref()))]
    NoSuchImage {
        /// What was asked for.
        name: String,
        /// A similar name that exists.
        similar: Option<String>,
    },
    /// Neither an image name nor an id.
    #[error(transparent)]
    InvalidName(InvalidReference),
    /// A short id with which the ids of several images begin.
    #[error("image id {id:?} is ambiguous: it begins {}", .candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        id: String,
        /// The ids that begin with it.
        candidates: Vec<String>,
    },
    /// The image is damaged, or not for this platform.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A blob is missing or damaged.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A file operation failed.
    #[error(transparent)]
    Fs(#[from] FsError),
}

fn did_you_mean(similar: Option<&str>) -> String {
    similar.map(|s| format!(", did you mean {s:?}?")).unwrap_or_default()
}
