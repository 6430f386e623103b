//! The fuzz target `object`: see `hapax_fuzz::stored::object`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hapax_fuzz::stored::object(data));
