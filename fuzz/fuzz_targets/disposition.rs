//! The fuzz target `disposition`: see `hapax_fuzz::http::disposition`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hapax_fuzz::http::disposition(data));
