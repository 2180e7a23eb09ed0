//! Real builds with the real binary.
