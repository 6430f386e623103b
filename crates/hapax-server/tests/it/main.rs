//! The server from outside: a real listener on 127.0.0.1, bytes on the wire, and real clients where they matter.

/// A server of a test.
mod server;

/// A client that speaks bytes.
mod wire;

/// Answers before the body was read.
mod early;

/// What the connection itself promises.
mod connection;

/// Paths and methods.
mod targets;
