//! The store from outside: real files, a real catalog, everything through the public verbs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod rig;
mod script;
mod world;

mod appends;
mod composed;
mod bounds;
mod copies;
mod durable;
mod faults;
mod kills;
mod lifecycle;
mod lookups;
mod lost_answers;
mod possession;
mod races;
mod rot;
mod runs;
mod second_reader;
mod upkeep;
