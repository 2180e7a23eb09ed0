//! one command inside one root.
