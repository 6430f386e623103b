//! The fuzz target `digest`: see `hapax_fuzz::http::digest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hapax_fuzz::http::digest(data));
