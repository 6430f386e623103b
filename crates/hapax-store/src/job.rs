//! What all background jobs have in common: somebody else says how fast they go, and when they stop. Decides neither.

use hapax_proto::span::Length;

/// Whether a job is to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Go {
    /// It is.
    On,
    /// It is to stop where it is; what it kept stays.
    Stop,
}

/// Asked before a job reads so many bytes; it may take its time to answer: so fast the job is.
pub type Pace<'a> = &'a dyn Fn(Length) -> Go;

/// The pace of what somebody waits for: as fast as it goes, to the end.
pub const UNPACED: Pace<'static> = &|_| Go::On;
