//! Unique secrets: build with one, then search for it in everything that the build wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use memchr::memmem;

use super::image;

/// A unique text, different on every call.
pub fn text() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("canary-{}-{}-z9q7x", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Files below `dir` whose name or content (also after decompression) contains `canary`.
pub fn leaks(dir: &Path, canary: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for item in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = item.path();
            let kind = item.file_type().expect("file type");
            let named = path.file_name().is_some_and(|n| n.to_string_lossy().contains(canary));
            if kind.is_dir() {
                todo.push(path.clone());
            }
            let inside = kind.is_file() && fs::read(&path).is_ok_and(|bytes| holds(&bytes, canary));
            if named || inside {
                found.push(path);
            }
        }
    }
    found
}

fn holds(bytes: &[u8], canary: &str) -> bool {
    let plain = |bytes: &[u8]| memmem::find(bytes, canary.as_bytes()).is_some();
    plain(bytes) || image::decompress(bytes).is_ok_and(|bytes| plain(&bytes))
}
