//! The fuzz target `key_ring`: see `hapax_fuzz::stored::key_ring`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hapax_fuzz::stored::key_ring(data));
