//! trees, changes, tar.
