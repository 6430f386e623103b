//! The fuzz target `problem`: see `hapax_fuzz::json::problem`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hapax_fuzz::json::problem(data));
