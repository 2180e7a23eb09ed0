#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kiln_fuzz::layers::passes_through(data));
