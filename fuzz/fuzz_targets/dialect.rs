//! The fuzz target `dialect`: see `hapax_fuzz::http::dialect`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hapax_fuzz::http::dialect(data));
