#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kiln_fuzz::layers::unpacks_as_the_tree_says(data));
