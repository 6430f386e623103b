//! The fuzz target `pin`: see `hapax_fuzz::http::pin`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hapax_fuzz::http::pin(data));
