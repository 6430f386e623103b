//! The fuzz target `checkpoint`: see `hapax_fuzz::stored::checkpoint`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hapax_fuzz::stored::checkpoint(data));
