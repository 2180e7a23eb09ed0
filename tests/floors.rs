//! The dependency table, executed.
