//! Unpacking a layer into a directory, or reading only its tree (S-30…S-44).

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::base::digest::{ContentDigest, DiffId, Hasher};
use crate::base::sparse::{Run, SparseRead, SparseWriter, drain};

use super::ahead;
use super::decompress::decompress;
use super::entry::{EntryKind, RelPath};
use super::error::Error;
use super::fill::Filler;
use super::ledger::{Admitted, Ledger};
use super::limits::Limits;
use super::tar_read::{Dialect, TarReader};
use super::tree::Tree;
use super::walk::OverlayAttributes;

/// What an unpacked layer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A lower directory of an overlay: whiteouts and opaque directories are what overlayfs understands.
    Overlay {
        /// Its attributes live in `user.*`: the overlay will be mounted in a user namespace.
        userxattr: bool,
    },
    /// Files to copy from: only the tree knows what the layer deletes.
    Plain,
}

impl Form {
    pub(super) fn attributes(self) -> Option<OverlayAttributes> {
        match self {
            Form::Overlay { userxattr: true } => Some(OverlayAttributes::User),
            Form::Overlay { userxattr: false } => Some(OverlayAttributes::Trusted),
            Form::Plain => None,
        }
    }
}

/// Unpacks `blob`, compressed or not, into the empty directory `dest`.
///
/// Ok: the blob was read to its end and is the layer `diff_id`; `dest` holds its files, with owners, devices and attributes
/// where this host allows them; the tree has the true ones and the digest of every file. `Err`: `dest` holds an unknown part.
pub fn unpack(blob: impl SparseRead + Send, dest: &Path, diff_id: DiffId, form: Form) -> Result<Tree, Error> {
    unpack_within(blob, dest, diff_id, form, &Limits::default())
}

/// [`unpack`] with other limits.
pub(crate) fn unpack_within(
    blob: impl SparseRead + Send,
    dest: &Path,
    diff_id: DiffId,
    form: Form,
    limits: &Limits,
) -> Result<Tree, Error> {
    let mut filler = Filler::new(dest, form.attributes())?;
    let ledger = read(blob, diff_id, limits, |admitted, content| {
        let Admitted { entry, replaces } = admitted;
        if !matches!(entry.kind, EntryKind::File { .. }) {
            filler.put(&entry.path, &entry.kind, &entry.meta, *replaces)?;
            return Ok(None);
        }
        let write = |file: &mut File| write_file(file, content, &entry.path);
        filler.file(&entry.path, &entry.meta, *replaces, write).map(Some)
    })?;
    for path in ledger.whiteouts() {
        filler.whiteout(path)?;
    }
    for path in ledger.opaque() {
        filler.opaque(path)?;
    }
    for (path, meta) in ledger.dirs_deepest_first() {
        filler.seal(path, meta)?;
    }
    Ok(ledger.into_tree())
}

/// The tree of `blob`, compressed or not, as [`unpack`] returns it.
///
/// Ok: the blob was read to its end and is the layer `diff_id`.
pub fn read_tree(blob: impl SparseRead + Send, diff_id: DiffId) -> Result<Tree, Error> {
    read_tree_within(blob, diff_id, &Limits::default())
}

/// [`read_tree`] with other limits.
pub(crate) fn read_tree_within(blob: impl SparseRead + Send, diff_id: DiffId, limits: &Limits) -> Result<Tree, Error> {
    let ledger = read(blob, diff_id, limits, |admitted, content| match admitted.entry.kind {
        EntryKind::File { .. } => hash_to(content, |_| Ok(())).map(Some),
        _ => Ok(None),
    })?;
    Ok(ledger.into_tree())
}

/// Reads a layer to its end; `take` gets each entry with its content and returns the digest of a file.
fn read(
    blob: impl SparseRead + Send,
    want: DiffId,
    limits: &Limits,
    mut take: impl FnMut(&Admitted, &mut dyn SparseRead) -> Result<Option<ContentDigest>, Error>,
) -> Result<Ledger, Error> {
    let (_, plain) = decompress(blob, limits).map_err(Error::Stream)?;
    let body = |plain: &mut dyn SparseRead| -> Result<Ledger, Error> {
        let mut ledger = Ledger::new(limits.clone());
        let mut reader = TarReader::new(plain, Dialect::Layer, limits.clone());
        while let Some(entry) = reader.next_entry()? {
            let Some(admitted) = ledger.admit(entry)? else { continue };
            if let Some(digest) = take(&admitted, &mut reader)? {
                ledger.set_content(&admitted.entry.path, digest);
            }
        }
        Ok(ledger)
    };
    let (ledger, digest, _) = ahead::digested(plain, body)?;
    let got = DiffId(digest);
    if got == want { Ok(ledger) } else { Err(Error::DiffId { want, got }) }
}

/// Writes the content to the empty `file` and returns its digest.
pub(super) fn write_file(
    file: &mut File,
    content: &mut dyn SparseRead,
    path: &RelPath,
) -> Result<ContentDigest, Error> {
    let failed = |e| Error::system("write", path, e);
    // An archive can promise any number of zeros: they become holes (S-39).
    let mut file = SparseWriter::new(file);
    let digest = hash_to(content, |run| match run {
        Run::Bytes(bytes) => file.write_all(bytes).map_err(failed),
        Run::Zeros(count) => {
            file.zeros(count);
            Ok(())
        }
    })?;
    file.set_len().map_err(failed)?;
    Ok(digest)
}

/// Passes the content to `take` and returns its digest.
fn hash_to(
    content: &mut dyn SparseRead,
    mut take: impl FnMut(Run<'_>) -> Result<(), Error>,
) -> Result<ContentDigest, Error> {
    let mut hasher = Hasher::new();
    drain::<Error>(content, &mut [0; 64 << 10], |run| {
        match run {
            Run::Bytes(bytes) => hasher.update(bytes),
            Run::Zeros(count) => hasher.zeros(count),
        }
        take(run)
    })?;
    Ok(ContentDigest(hasher.finish()))
}
