//! Reads images from an OCI layout, without the code of kiln.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::dir::Dir;
use super::requires::is_root;
use super::tree::{Node, Tree};

/// An image: manifest, config and layers.
pub struct Image {
    /// The layout that holds it.
    pub layout: PathBuf,
    /// `sha256:…` of the manifest.
    pub digest: String,
    pub manifest: Value,
    pub config: Value,
    /// Compressed layers, lowest first, as files of the layout.
    pub layers: Vec<PathBuf>,
}

impl Image {
    /// The image with the name `name` in `layout/index.json`; the name may be short (`app`), tagged (`app:latest`) or
    /// full. Panics with the index if there is none. Every blob is checked against its digest and size, every layer
    /// against its diff-id.
    #[track_caller]
    pub fn open(layout: &Path, name: &str) -> Image {
        let index = json(&fs::read(layout.join("index.json")).expect("read index.json"));
        let found = manifests(&index).find(|m| same_name(&tag(m), name));
        let found = found.unwrap_or_else(|| panic!("no image {name} in {}:\n{index:#}", layout.display())).clone();
        Image::of_descriptor(layout, &found)
    }

    /// The image names in the index.
    pub fn names(layout: &Path) -> Vec<String> {
        let Ok(bytes) = fs::read(layout.join("index.json")) else { return Vec::new() };
        manifests(&json(&bytes)).map(tag).filter(|t| !t.is_empty()).collect()
    }

    fn of_descriptor(layout: &Path, descriptor: &Value) -> Image {
        let manifest = json(&blob(layout, descriptor));
        if let Some(first) = manifest["manifests"].get(0) {
            return Image::of_descriptor(layout, first);
        }
        let config = json(&blob(layout, &manifest["config"]));
        let listed = manifest["layers"].as_array().expect("layers").clone();
        let diff_ids = config["rootfs"]["diff_ids"].as_array().expect("diff_ids").clone();
        assert_eq!(listed.len(), diff_ids.len(), "one diff-id per layer");
        let empty = |h: &&Value| !h["empty_layer"].as_bool().unwrap_or(false);
        if let Some(history) = config["history"].as_array() {
            assert_eq!(history.iter().filter(empty).count(), listed.len(), "one history entry per layer: {history:#?}");
        }
        // Most layers belong to a base image, so verify equal layers once.
        static KNOWN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        let mut layers = Vec::new();
        for (layer, diff_id) in listed.iter().zip(&diff_ids) {
            let bytes = blob(layout, layer);
            let pair = format!("{} {diff_id}", layer["digest"]);
            if !KNOWN.lock().expect("known layers").contains(&pair) {
                let plain = decompress(&bytes).expect("decompress a layer");
                assert_eq!(*diff_id, format!("sha256:{}", sha256(&plain)), "diff-id of {layer}");
                KNOWN.lock().expect("known layers").insert(pair);
            }
            layers.push(blob_path(layout, layer));
        }
        let digest = descriptor["digest"].as_str().expect("digest").to_owned();
        Image { layout: layout.to_owned(), digest, manifest, config, layers }
    }

    /// The members of one layer, including whiteouts.
    pub fn layer_tree(&self, i: usize) -> Tree {
        // Keyed by the name of the blob, which is its digest, verified by `open`.
        static KNOWN: Mutex<BTreeMap<OsString, Tree>> = Mutex::new(BTreeMap::new());
        let name = self.layers[i].file_name().expect("named").to_owned();
        if let Some(tree) = KNOWN.lock().expect("known trees").get(&name) {
            return tree.clone();
        }
        let bytes = fs::read(&self.layers[i]).expect("read a layer");
        let tree = Tree::of_tar(&decompress(&bytes).expect("decompress a layer")[..]);
        KNOWN.lock().expect("known trees").insert(name, tree.clone());
        tree
    }

    /// The tree that a container of this image sees.
    pub fn tree(&self) -> Tree {
        let mut tree = Tree::default();
        (0..self.layers.len()).for_each(|i| tree.lay(&self.layer_tree(i)));
        tree
    }

    /// The digests of the uncompressed layers.
    pub fn diff_ids(&self) -> Vec<&str> {
        self.config["rootfs"]["diff_ids"].as_array().expect("diff_ids").iter().filter_map(Value::as_str).collect()
    }

    /// The bytes of a file of the final tree. Panics if it is missing.
    #[track_caller]
    pub fn content(&self, path: &str) -> Vec<u8> {
        self.content_of(&self.tree()[path])
    }

    /// The bytes of a file of this image, found by its digest.
    #[track_caller]
    pub fn content_of(&self, node: &Node) -> Vec<u8> {
        for layer in self.layers.iter().rev() {
            let plain = decompress(&fs::read(layer).expect("read a layer")).expect("decompress a layer");
            for entry in tar::Archive::new(&plain[..]).entries().expect("a tar") {
                let mut entry = entry.expect("a tar member");
                if entry.header().entry_type().is_file() && entry.size() == node.size {
                    let mut bytes = Vec::new();
                    entry.read_to_end(&mut bytes).expect("read a member");
                    if sha256(&bytes) == node.content {
                        return bytes;
                    }
                }
            }
        }
        panic!("no layer has the content of {node}");
    }

    /// The tree as umoci unpacks it, as an independent reader. Owners and devices are correct only for root.
    pub fn umoci_tree(&self) -> Tree {
        Tree::of_dir(&self.umoci_dir().path().join("tree"))
    }

    /// A directory in which `tree` is the image unpacked by umoci.
    pub fn umoci_dir(&self) -> Dir {
        let dir = Dir::new();
        let copy = self.with_tag(dir.path());
        let rootless: &[&str] = if is_root() { &[] } else { &["--rootless"] };
        let out = Command::new("umoci")
            .args(["raw", "unpack", "--image", &format!("{}:x", copy.display())])
            .args(rootless)
            .arg(dir.path().join("tree"))
            .output()
            .expect("run umoci");
        assert!(out.status.success(), "umoci raw unpack: {}", String::from_utf8_lossy(&out.stderr));
        dir
    }

    /// Panics unless skopeo can read the image and copy it.
    pub fn skopeo_check(&self) {
        let dir = Dir::new();
        let source = format!("oci:{}:x", self.with_tag(dir.path()).display());
        let copy = format!("oci:{}:y", dir.path().join("copy").display());
        for args in [vec!["inspect", &source], vec!["copy", "--quiet", "--insecure-policy", &source, &copy]] {
            let out = Command::new("skopeo").args(&args).output().expect("run skopeo");
            assert!(out.status.success(), "skopeo {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr));
        }
    }

    /// The config as skopeo reads it.
    pub fn skopeo_config(&self) -> Value {
        let dir = Dir::new();
        let source = format!("oci:{}:x", self.with_tag(dir.path()).display());
        let out = Command::new("skopeo").args(["inspect", "--config", "--raw", &source]).output().expect("run skopeo");
        assert!(out.status.success(), "skopeo inspect: {}", String::from_utf8_lossy(&out.stderr));
        json(&out.stdout)
    }

    /// A layout in `dir` with the same blobs and the only tag `x`: umoci and skopeo reject names with slashes.
    fn with_tag(&self, dir: &Path) -> PathBuf {
        let copy = dir.join("layout");
        let blobs = copy.join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("create a layout");
        fs::write(copy.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write oci-layout");
        let bytes = serde_json::json!({
            "mediaType": self.manifest["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json"),
            "digest": self.digest,
            "size": fs::metadata(blob_path(&self.layout, &serde_json::json!({"digest": self.digest}))).expect("size").len(),
            "annotations": {"org.opencontainers.image.ref.name": "x"},
        });
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [bytes]});
        fs::write(copy.join("index.json"), index.to_string()).expect("write index.json");
        let mut wanted = vec![serde_json::json!({"digest": self.digest}), self.manifest["config"].clone()];
        wanted.extend(self.manifest["layers"].as_array().expect("layers").clone());
        for descriptor in wanted {
            let from = blob_path(&self.layout, &descriptor);
            let to = blobs.join(from.file_name().expect("named"));
            // Two layers may share a blob, which is read-only once written.
            if !to.exists() {
                fs::copy(&from, to).expect("copy a blob");
            }
        }
        copy
    }
}

fn manifests(index: &Value) -> impl Iterator<Item = &Value> {
    index["manifests"].as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

fn tag(descriptor: &Value) -> String {
    descriptor["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap_or("").to_owned()
}

fn same_name(full: &str, asked: &str) -> bool {
    let spelled = |name: &str| {
        let tagged = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
        let name = if tagged { name.to_owned() } else { format!("{name}:latest") };
        name.trim_start_matches("docker.io/").trim_start_matches("library/").to_owned()
    };
    spelled(full) == spelled(asked)
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(bytes)))
}

fn blob_path(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().expect("a digest");
    layout.join("blobs").join(digest.replace(':', "/"))
}

fn blob(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let path = blob_path(layout, descriptor);
    let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(descriptor["digest"], format!("sha256:{}", sha256(&bytes)), "{}", path.display());
    assert_eq!(descriptor["size"], bytes.len(), "{}", path.display());
    bytes
}

/// Hex SHA-256.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Decompresses gzip (any number of members) and zstd, detected by magic; returns other bytes unchanged.
pub fn decompress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out)?;
    } else if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        zstd::stream::read::Decoder::new(bytes)?.read_to_end(&mut out)?;
    } else {
        out.extend_from_slice(bytes);
    }
    Ok(out)
}
