//! The fuzz target `request`: see `hapax_fuzz::http::request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hapax_fuzz::http::request(data));
