//! The fuzz target `batch`: see `hapax_fuzz::stream::batch`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hapax_fuzz::stream::batch(data));
