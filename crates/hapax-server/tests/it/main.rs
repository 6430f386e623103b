//! The server from outside: a real listener on 127.0.0.1, bytes on the wire, and real clients where they matter.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

/// A server of a test.
mod server;

/// A client that speaks bytes.
mod wire;

/// A client of HTTP/2 that sends pieces.
mod h2;

/// A line that breaks.
mod link;

/// Answers before the body was read.
mod early;

/// What the connection itself promises.
mod connection;

/// TLS.
mod tls;

/// Paths and methods.
mod targets;

/// Who may do what, at every route.
mod access;

/// Reading and replacing files.
mod files;

/// Ranges, in one part and in several, and conditions.
mod ranges;

/// Digests of whole files.
mod concat;
mod digests;

/// Stock clients, browsers, crowds.
mod stock;

/// The native dialect of uploads.
mod uploads;

/// The prefix of an unfinished upload.
mod prefix;

/// Senders that fell silent, and who takes over from them.
mod takeover;

/// Many small appends to one upload.
mod appends;
mod attacks;

/// tus 1.0.0.
mod tus;

/// Instant upload through tus.
mod instant;

/// Resumable uploads for HTTP.
mod rufh;

/// Digests behind the bytes.
mod trailers;

/// What is told while others change it.
mod races;

/// All dialects at once, against a model.
mod mixing;

/// Input that is wrong.
mod malformed;

/// Folders, listings, moves.
mod entries;

/// Instant upload.
mod claims;

/// Contents found by MD5, SHA-1 and SHA-256.
mod candidates;

/// Many small files in one request.
mod batch;

/// Many small files in one answer.
mod fetch;

/// Accounts, tokens, housekeeping.
mod accounts;

/// Background work.
mod jobs;
