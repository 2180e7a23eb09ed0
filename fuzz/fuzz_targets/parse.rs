#![no_main]

#[path = "../../tests/it/dockerfile/oracle.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|data: &[u8]| oracle::parse(data));
