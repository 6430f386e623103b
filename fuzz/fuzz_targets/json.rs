//! The fuzz target `json`: see `hapax_fuzz::json::bodies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hapax_fuzz::json::bodies(data));
