//! The fuzz target `name`: see `hapax_fuzz::http::name`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hapax_fuzz::http::name(data));
