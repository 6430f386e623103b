//! The fuzz target `validator`: see `hapax_fuzz::http::validator`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hapax_fuzz::http::validator(data));
