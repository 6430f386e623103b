//! The wire dialects of the upload resource: each translates its own requests and answers from and to the same
//! values of `upload`. No dialect decides anything.

/// Our own dialect under `/api/v1`: parallel parts with values.
pub mod native;
