//! The program from outside: real server and client processes on 127.0.0.1, real files, bytes on the wire.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

/// Processes, their folders, and a line whose bytes are counted.
mod stage;

/// Every command once, and what it says.
mod commands;

/// Exit codes and hints.
mod failures;

/// Transfers that are ended in the middle and go on.
mod resume;

/// Content that the server has already.
mod recognise;

/// Folders of small files.
mod batch;

/// Folders with all that may lie in them.
mod folders;

/// What others have, for who proves to have it too.
mod possession;

/// The server's start and end.
mod serving;

/// Files of servers that are not hapax.
mod web;

/// Clients of others that resume their uploads, as they come out of their registries.
mod clients;

/// The scripts of the documentation, and what it shows of them.
mod examples;
