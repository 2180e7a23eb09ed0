//! events and diagnostics as text.
