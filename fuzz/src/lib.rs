//! The promises that the targets try to break.

#[path = "../../tests/it/dockerfile/oracle.rs"]
pub mod oracle;

#[path = "../../tests/it/contexts/oracle.rs"]
pub mod contexts;

#[path = "../../tests/it/layers/oracle.rs"]
pub mod layers;
