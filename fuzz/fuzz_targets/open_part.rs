//! The fuzz target `open_part`: see `hapax_fuzz::stored::open_part`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hapax_fuzz::stored::open_part(data));
