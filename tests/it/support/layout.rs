//! Writes OCI layouts by hand, for images that kiln would not build.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::env::fixture;
use super::image::sha256;

/// An empty layer.
pub const EMPTY: [u8; 1024] = [0; 1024];

/// Writes a layout with one image, tag `x:1`, to the directory `at`: busybox with the uncompressed `layers` on top.
pub fn write(at: &Path, layers: &[&[u8]]) {
    let base = fixture("busybox").join("layout");
    let document = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON") };
    let of = |digest: &Value| base.join("blobs").join(digest.as_str().expect("a digest").replace(':', "/"));
    let mut index = document(&base.join("index.json"));
    let mut manifest = document(&of(&index["manifests"][0]["digest"]));
    let mut config = document(&of(&manifest["config"]["digest"]));
    let blobs = at.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("create a layout");
    for layer in manifest["layers"].as_array().expect("layers") {
        let from = of(&layer["digest"]);
        fs::copy(&from, blobs.join(from.file_name().expect("named"))).expect("copy a blob");
    }
    let put = |bytes: &[u8]| {
        let digest = sha256(bytes);
        fs::write(blobs.join(&digest), bytes).expect("write a blob");
        (format!("sha256:{digest}"), bytes.len())
    };
    for layer in layers {
        let (digest, size) = put(layer);
        config["rootfs"]["diff_ids"].as_array_mut().expect("diff_ids").push(json!(digest));
        if let Some(history) = config["history"].as_array_mut() {
            history.push(json!({"created_by": "by hand"}));
        }
        let media_type = "application/vnd.oci.image.layer.v1.tar";
        let layer = json!({"mediaType": media_type, "digest": digest, "size": size});
        manifest["layers"].as_array_mut().expect("layers").push(layer);
    }
    let name = |document: &Value, descriptor: &mut Value| {
        let (digest, size) = put(document.to_string().as_bytes());
        descriptor["digest"] = json!(digest);
        descriptor["size"] = json!(size);
    };
    name(&config, &mut manifest["config"]);
    name(&manifest, &mut index["manifests"][0]);
    index["manifests"][0]["annotations"] = json!({"org.opencontainers.image.ref.name": "x:1"});
    fs::write(at.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write");
    fs::write(at.join("index.json"), index.to_string()).expect("write");
}
