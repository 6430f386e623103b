//! One command against one server: how long it took and what both used up. Owns the reading before and after;
//! the command's own usage is read between its end and its burial.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::Bench;
use super::subject::Subject;
use crate::rig::process::{End, Process};
use crate::rig::usage::{peak_memory, processor_time};

/// How often a running command's memory is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// What a command cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// Processor time of the client's process.
    pub(crate) client: Duration,
    /// Processor time of the server's processes, meanwhile.
    pub(crate) server: Duration,
    /// The most memory the server ever held since its start, in bytes.
    pub(crate) server_peak: u64,
    /// The most memory the client was seen to hold, in bytes.
    pub(crate) client_peak: u64,
}

/// Runs a command that must succeed.
pub(crate) fn cost(bench: &Bench, command: &mut Command, server: &Subject) -> anyhow::Result<Cost> {
    let before = processor_time(server.id());
    let start = Instant::now();
    let mut process = Process::start(command, bench.patience)?;
    let mut client_peak = 0;
    while !process.has_ended()? && start.elapsed() < bench.patience {
        client_peak = client_peak.max(peak_memory(process.id()));
        thread::sleep(LOOK);
    }
    let wall = start.elapsed();
    let client = processor_time(process.id());
    let end = process.wait()?;
    ensure!(end == End::Exit(0), "{command:?} ended with {end:?}");
    let server_peak = peak_memory(server.id());
    // What a server does behind its answer belongs to it as well, but nobody can wait for that to end.
    let server = processor_time(server.id()).saturating_sub(before);
    Ok(Cost { wall, client, server, server_peak, client_peak })
}
