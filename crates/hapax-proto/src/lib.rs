//! The words of hapax, and every decision it takes, as pure functions over plain values.
//!
//! Nothing here opens a socket or a file, reads a clock or draws a random number: time, randomness and facts
//! about files come in as arguments. So the same function decides in the server, in the client, in the fuzzer
//! and in a simulation, and a table of cases tests the protocol in microseconds.
//!
//! The modules, bottom-up; a module uses only modules listed above it:

/// Byte numbers: offsets, lengths, spans, and the only arithmetic on them.
pub mod span;
/// Entry names and paths: parsing, rules, safe base names.
pub mod name;
/// Digest algorithms, values, incremental hashing, and the fields of RFC 9530.
pub mod digest;
/// The BLAKE3 hash tree over parts: subtree values, open states, roots.
pub mod tree;
/// Every error on the wire: name, status, advice.
pub mod problem;
/// Entity tags and dates as validators (RFC 9110 §8.8).
pub mod validator;
/// Conditional requests (RFC 9110 §13).
pub mod precondition;
/// The `Range` field (RFC 9110 §14).
pub mod range;
/// Several spans in one body: `multipart/byteranges` (RFC 9110 §14.6).
pub mod byteranges;
/// `Content-Disposition` for downloads (RFC 6266, RFC 8187).
pub mod disposition;
/// What answers a GET or HEAD: `decide_get`.
pub mod download;
/// How long to wait before the next attempt, and when to stop.
pub mod retry;
/// The client's side of a ranged download: `decide_response`.
pub mod pin;
/// The only authorisation: `decide_access`.
pub mod access;
/// The upload machine: create, store, finish.
pub mod upload;
/// Instant upload: the ladder of a claim.
pub mod claim;
/// When a file is recognised: before, while or instead of being sent.
pub mod course;
/// The wire dialects of the upload resource.
pub mod dialect;
/// Many small files in one request: the framing.
pub mod batch;
/// What a client sends next, from its checkpoint, its source and the server's status.
pub mod resume;
