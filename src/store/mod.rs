//! blobs, tags and scratch space on disk.
