//! A client against servers that misbehave on purpose.

mod auth;
mod faults;
mod parts;
mod push;
mod server;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Mutex;
use std::time::Duration;

use crate::base::digest::{BlobDigest, DiffId, Sha256};
use crate::base::sparse::SparseRead;
use crate::base::verify::Verified;
use crate::oci::blob::{BlobError, BlobFault, BlobSink, BlobSource, BlobStore};
use crate::oci::config::{History, ImageConfig};
use crate::oci::descriptor::{CONFIG, Descriptor, INDEX, LAYER_TAR, MANIFEST};
use crate::oci::manifest::{Index, Manifest};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::transport::{HttpError, Pace, Timing};

use super::pull::Pinned;
use super::*;
use server::{Reply, Request, Server};

/// A store in memory.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<BlobDigest, Vec<u8>>>);

impl BlobSource for Memory {
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn SparseRead + Send>, BlobError> {
        let missing = || BlobError {
            operation: "open",
            digest: blob.digest,
            reason: "missing".into(),
            fault: BlobFault::Missing,
        };
        let bytes = self.0.lock().expect("lock").get(&blob.digest).cloned().ok_or_else(missing)?;
        Ok(Box::new(std::io::Cursor::new(bytes)))
    }
}

impl BlobSink for Memory {
    fn has(&self, blob: &Descriptor) -> Result<bool, BlobError> {
        Ok(self.0.lock().expect("lock").contains_key(&blob.digest))
    }

    fn accept(&self, blob: &Descriptor, content: &mut dyn Read) -> Result<(), BlobError> {
        let mut bytes = Vec::new();
        let read = Verified::new(content, blob.digest.0, blob.size).read_to_end(&mut bytes);
        let fault = BlobFault::Mismatch;
        read.map_err(|e| BlobError { operation: "store", digest: blob.digest, reason: e.to_string(), fault })?;
        self.0.lock().expect("lock").insert(blob.digest, bytes);
        Ok(())
    }

    /// Names are not stored: only an empty store knows none for sure.
    fn may_know(&self, _name: &Reference) -> bool {
        !self.0.lock().expect("lock").is_empty()
    }
}

/// An image as a registry holds it.
#[derive(Clone)]
struct Hosted {
    manifest: Descriptor,
    layer: Descriptor,
    blobs: BTreeMap<String, Vec<u8>>,
}

fn hosted(platform: &str, layer: &[u8]) -> Hosted {
    let mut config = ImageConfig::scratch(platform.parse().expect("platform"));
    config.rootfs.diff_ids.push(DiffId(Sha256::of(layer)));
    config.history.push(History::default());
    let config_bytes = config.to_bytes();
    let layer_blob = Descriptor::of(LAYER_TAR, layer);
    let config_blob = Descriptor::of(CONFIG, &config_bytes);
    let manifest_bytes = Manifest::new(config_blob.clone(), vec![layer_blob.clone()]).to_bytes();
    let manifest = Descriptor::of(MANIFEST, &manifest_bytes);
    let blobs =
        [(config_blob.digest, config_bytes), (layer_blob.digest, layer.to_vec()), (manifest.digest, manifest_bytes)];
    let blobs = blobs.into_iter().map(|(digest, bytes)| (digest.to_string(), bytes)).collect();
    Hosted { manifest, layer: layer_blob, blobs }
}

impl Request {
    /// The start of a `Range`.
    fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.split('-').next()?.parse().ok()
    }

    /// The end of a `Range`, exclusive, if it has one.
    fn to(&self) -> Option<usize> {
        let last: usize = self.header("range")?.split('-').nth(1)?.parse().ok()?;
        Some(last + 1)
    }
}

impl Server {
    /// How many requests had this method and a target containing `part`.
    fn count(&self, method: &str, part: &str) -> usize {
        self.log().iter().filter(|r| r.method == method && r.target.contains(part)).count()
    }
}

impl Hosted {
    /// The response of a correct registry that has the image under the tag `1`.
    fn answer(&self, request: &Request) -> Reply {
        let key = request.target.rsplit('/').next().unwrap_or_default();
        let key = if key == "1" { self.manifest.digest.to_string() } else { key.to_owned() };
        let Some(bytes) = self.blobs.get(&key) else {
            return Reply::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}"#);
        };
        let kind = if request.target.contains("/manifests/") { MANIFEST } else { "application/octet-stream" };
        let kind = if Index::parse(bytes).is_ok() { INDEX } else { kind };
        let whole = Reply::new(200, bytes.clone()).with("content-type", kind).with("docker-content-digest", key);
        let Some(from) = request.from() else { return whole };
        let to = request.to().unwrap_or(bytes.len()).min(bytes.len());
        Reply { status: 206, body: bytes[from..to].to_vec(), ..whole }
            .with("content-range", format!("bytes {from}-{}/{}", to - 1, bytes.len()))
    }
}

impl Client {
    fn pull(
        &self,
        name: &Reference,
        platform: &Platform,
        store: &dyn BlobStore,
        jobs: usize,
    ) -> Result<Pinned, RegistryError> {
        let pinned = self.resolve(name, platform, store)?;
        self.fetch(name, &pinned.image.manifest.layers, store, jobs)?;
        Ok(pinned)
    }
}

fn short_timing() -> Timing {
    Timing {
        attempts: 3,
        pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(1500),
        connect: Duration::from_secs(2),
        stall: Duration::from_millis(300),
        commit: Duration::from_secs(2),
        pace: Pace { bytes: 1000, window: Duration::from_millis(400) },
    }
}

fn client() -> Client {
    Client::new(Options { timing: short_timing(), ..Options::default() })
}

fn name(server: &Server) -> Reference {
    format!("{}/app:1", server.authority).parse().expect("reference")
}

fn amd64() -> Platform {
    Platform::new("linux", "amd64")
}
