//! What is done with arbitrary bytes: for each parser and decoder one function that feeds it and asserts what must hold
//! of whatever comes out. Owns no parser and no fuzzer: `fuzz_targets/` hands the functions to libFuzzer, and a test
//! of xtask calls them with every file of `corpus/`.
//!
//! A function returns quietly from what is refused. It panics if a promise is broken; that is the finding.

#![forbid(unsafe_code)]

/// Fields of requests and answers, and paths.
pub mod http;
/// Bodies in JSON.
pub mod json;
/// Bodies that are read piece by piece.
pub mod stream;
/// What lies on disks.
pub mod stored;

/// A fuzz target: its name, which is also that of its corpus, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("batch", stream::batch),
    ("checkpoint", stored::checkpoint),
    ("dialect", http::dialect),
    ("digest", http::digest),
    ("disposition", http::disposition),
    ("json", json::bodies),
    ("key_ring", stored::key_ring),
    ("name", http::name),
    ("object", stored::object),
    ("open_part", stored::open_part),
    ("pin", http::pin),
    ("problem", json::problem),
    ("request", http::request),
    ("validator", http::validator),
];
