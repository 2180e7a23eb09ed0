//! Uploads a layer of which a cache may have most already.
//!
//! **Order.** The pack, or the whole blob; then what says which layer was made last in this place. The layer's own entry follows,
//! unless that is the same.

use std::io::{self, Read as _};
use std::sync::Arc;

use crate::base::verify::Verified;
use crate::oci::blob::{BlobError, BlobFault};
use crate::oci::descriptor::Descriptor;

use super::cut::{Pack, Segments};
use super::entry::Form;
use super::parts::{BYTES, Bytes, Parts, Stored};
use super::{Cut, Entry, EntryName, Remote, RemoteError};

/// The largest list of segments that is read: of a layer of half a terabyte.
const MAX_SEGMENTS: u64 = 32 << 20;

/// Uploads the blob of the layer of `entry`, or what the cache lacks of it. Ok: the cache has the blob in this form.
pub(super) fn upload(remote: &dyn Remote, entry: &Entry, blob: &Descriptor, cut: &Cut) -> Result<Form, RemoteError> {
    let latest = latest(remote, &cut.latest)?;
    let in_parts = match &latest {
        Some(latest) => upload_parts(remote, entry, blob, cut, latest)?,
        None => None,
    };
    let form = match in_parts {
        Some(form) => form,
        None => remote.put_blob(blob, &cut.whole(blob.size)).map(|()| Form::Whole)?,
    };
    if latest.is_none_or(|(_, _, segments)| segments != cut.segments) {
        let bytes = cut.segments.to_bytes();
        let segments = Descriptor::of(BYTES, &bytes);
        remote.put_blob(&segments, &Bytes(bytes))?;
        let mut latest = entry.latest(cut.latest, Stored::of(&segments));
        latest.set_form(blob.digest, &form);
        remote.put(&latest, true)?;
    }
    Ok(form)
}

/// The layer that was made last in a place: its blob, what that is put together from, and its segments.
fn latest(remote: &dyn Remote, name: &EntryName) -> Result<Option<(Stored, Parts, Segments)>, RemoteError> {
    let entry = remote.get(name)?;
    let latest = entry.and_then(|entry| {
        let (layer, segments) = (entry.layer?, entry.segments?);
        let blob = Stored::of(layer.blobs.values().next()?);
        // Without the list, which may be gone, the layer is sent whole.
        Some((blob, layer.parts.unwrap_or_else(|| Parts::whole(blob)), read_segments(remote, segments)?))
    });
    Ok(latest)
}

fn read_segments(remote: &dyn Remote, list: Stored) -> Option<Segments> {
    if list.size > MAX_SEGMENTS {
        return None;
    }
    let content = remote.part(&list.descriptor(), 0..list.size).ok()?;
    let mut bytes = Vec::new();
    Verified::new(content, list.digest.0, list.size).read_to_end(&mut bytes).ok()?;
    Segments::from_bytes(&bytes)
}

/// Uploads what the cache lacks of a layer. `None`: it lacks too much.
fn upload_parts(
    remote: &dyn Remote,
    entry: &Entry,
    blob: &Descriptor,
    cut: &Cut,
    (was, parts, segments): &(Stored, Parts, Segments),
) -> Result<Option<Form>, RemoteError> {
    if was.digest == blob.digest {
        let whole = *parts == Parts::whole(*was);
        return Ok(Some(if whole { Form::Whole } else { Form::Parts(entry.name, Arc::new(parts.clone())) }));
    }
    let unreadable = |e: io::Error| {
        let (operation, digest, reason, fault) = ("read", blob.digest, e.to_string(), BlobFault::Other);
        RemoteError::from(BlobError { operation, digest, reason, fault })
    };
    let Some((parts, pack)) = cut.over(blob.size, (segments, parts)).map_err(unreadable)? else { return Ok(None) };
    let form = Form::Parts(entry.name, Arc::new(parts.clone()));
    let mut longest = entry.latest(cut.latest, *was);
    longest.set_form(blob.digest, &form);
    if !longest.fits() {
        return Ok(None);
    }
    let is_new = |source: &Stored| pack.as_ref().is_some_and(|pack| pack.blob == *source);
    for source in parts.sources().iter().filter(|source| !is_new(source)) {
        if !remote.has_blob(&source.descriptor())? {
            return Ok(None);
        }
    }
    if let Some(Pack { blob, bytes }) = &pack {
        remote.put_blob(&blob.descriptor(), bytes)?;
    }
    Ok(Some(form))
}
