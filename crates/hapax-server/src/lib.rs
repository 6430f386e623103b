//! The HTTP faces of hapax over its store, as a library: it listens, routes, decides with `hapax-proto`, and acts
//! on `hapax-store`. It never sends a request of its own and never speaks to a terminal.
//!
//! ```text
//!   serve --(socket)--> service --> routes --> auth --> a handler --> respond --> socket
//!                                                          |  ^
//!                                                     body v  | body
//!                                                       hapax-store
//! ```
//!
//! The modules, bottom-up; a module uses only modules listed above it:

/// The settings of a server, as values.
pub mod config;
/// What is counted and measured.
pub mod metrics;
/// How many of a kind may be under way at once.
pub mod limits;
/// What attempts cost.
pub mod throttle;
/// Challenges that are open.
pub mod challenges;
/// How fast background work goes, and what it did.
pub mod pace;
/// What was computed lately, of bounded number.
pub mod recent;
/// Whether a peer is still there.
pub mod line;
/// One accepted connection: replay, stall deadline, lingering close.
pub mod socket;
/// The bounded pumps between socket and store.
pub mod body;
/// The only place that builds responses.
pub mod respond;
/// The one table of routes.
pub mod routes;
/// Moments, as JSON spells them.
pub mod stamp;
/// From an error of the store to a problem.
pub mod refuse;
/// Who is asking.
pub mod auth;
/// What all requests share.
pub mod app;
/// Background jobs.
pub mod job;
/// One request on its way through a handler.
pub mod call;
/// What the service is, and how it is.
pub mod health;
/// Files: the content of entries, read and replaced.
pub mod files;
/// The tree of entries.
pub mod entries;
/// The hash tree of a file.
pub mod hash_tree;
/// Making a complete upload visible.
pub mod finish;
/// Uploads composed of others.
pub mod concat;
/// The prefix of an unfinished upload: its tag and its digests.
pub mod prefix;
/// Bytes behind what an upload holds.
pub mod append;
/// The native dialect of uploads.
pub mod uploads;
/// The upload resource, as every dialect sees it.
pub mod resource;
/// Resumable uploads for HTTP.
pub mod rufh;
/// tus 1.0.0.
pub mod tus;
/// Instant upload.
pub mod claims;
/// Many small files in one request.
pub mod batch;
/// Tokens.
pub mod tokens;
/// The sessions of pages.
pub mod session;
/// Accounts and housekeeping.
pub mod admin;
/// The data folder without a running server.
pub mod offline;
/// From a request to its response.
pub mod service;
/// The accept loop.
pub mod serve;
