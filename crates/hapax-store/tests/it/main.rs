//! The store from outside: real files, a real catalog, everything through the public verbs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod world;

mod copies;
mod lifecycle;
mod second_reader;
