//! layers → roots.
