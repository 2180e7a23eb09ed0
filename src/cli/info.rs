//! `kiln info`: version, user and store.

use serde_json::json;

use crate::base::fs;
use crate::oci::platform::Platform;
use crate::store::FORMAT;

use super::args::{Format, InfoArgs};
use super::failure::{Done, SUCCESS};
use super::session::Session;

/// Prints version, platform, user, and the store with its contents.
pub(super) fn run(args: &InfoArgs, session: &mut Session<'_>) -> Done {
    let store = session.store()?;
    let entries = store.entries()?;
    let mut images: Vec<_> = entries.iter().map(|e| e.target.digest).collect();
    images.sort();
    images.dedup();
    let (mut blobs, mut bytes) = (0u64, 0u64);
    for name in fs::list(&store.root().join("blobs/sha256"))? {
        let Ok(digest) = format!("sha256:{}", name.to_string_lossy()).parse() else { continue };
        if let Some(size) = store.blob_size(digest)? {
            blobs += 1;
            bytes += size;
        }
    }
    let unpacked = fs::list(&store.layers_dir())?.len();
    let facts = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "platform": Platform::host().to_string(),
        "uid": session.environment.uid,
        "rootless": session.environment.uid != 0,
        "store": {
            "root": store.root(),
            "format": FORMAT,
            "images": images.len(),
            "names": entries.iter().filter(|e| e.name.is_some()).count(),
            "blobs": blobs,
            "blobBytes": bytes,
            "unpackedLayers": unpacked,
        },
    });
    match args.format {
        Format::Json => session.console.data(format_args!("{facts}"))?,
        Format::Text => {
            let who = if session.environment.uid == 0 { "root" } else { "a plain user (rootless)" };
            session.console.data(format_args!("kiln {} ({})", env!("CARGO_PKG_VERSION"), Platform::host()))?;
            session.console.data(format_args!("running as:       {who}"))?;
            session.console.data(format_args!("store:            {} (format {FORMAT})", store.root().display()))?;
            session.console.data(format_args!("images:           {}", images.len()))?;
            session.console.data(format_args!("blobs:            {blobs}, {}", super::table::size(bytes)))?;
            session.console.data(format_args!("unpacked layers:  {unpacked}"))?;
        }
    }
    Ok(SUCCESS)
}
