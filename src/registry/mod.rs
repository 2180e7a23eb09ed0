//! the distribution protocol.
