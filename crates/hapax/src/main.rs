//! The program `hapax`: server, command-line client and demonstration in one binary. This file owns the way from a
//! command line to an exit code and nothing between.
//!
//! The modules, bottom-up; a module uses only modules listed above it:

/// How a command ends that did not succeed.
mod exit;
/// Where files of the user's are kept.
mod places;
/// Numbers as people read them.
mod words;
/// The command line.
mod args;
/// Settings and where they come from.
mod settings;
/// Remote paths as people type them.
mod remote;
/// Tokens on disk and passwords from a terminal.
mod secrets;
/// The signals that end a command in order.
mod signal;
/// Where a command talks.
mod screen;
/// How transfers look while they run.
mod render;
/// Which server a command talks to, and as whom.
mod server;
/// The commands.
mod command;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use args::Command;
use command::context::Context;
use exit::{Code, Failure};
use places::Places;
use screen::Screen;
use settings::{Settings, Unset};
use signal::Signal;
use tracing_subscriber::EnvFilter;

/// Threads that may wait for the disk at the same time. More of them gain nothing, and each keeps memory of its own.
const BLOCKING_THREADS_MAX: usize = 64;

/// How long work on blocking threads may go on when a command is over: long enough to save a checkpoint.
const LAST_WORDS: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    match start() {
        Ok(code) => code,
        Err(error) => {
            screen::error_line(&format!("hapax: {error:#}"));
            ExitCode::from(Code::Failed.number())
        }
    }
}

/// Reads the settings, and runs what they ask for.
fn start() -> anyhow::Result<ExitCode> {
    let read = Places::find()
        .map_err(Unset::from)
        .and_then(|places| Ok((Settings::read(std::env::args_os().collect(), &places)?, places)));
    let (settings, places) = match read {
        Ok(read) => read,
        Err(Unset::CommandLine(error)) => {
            error.print().context("cannot write to the terminal")?;
            return Ok(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Code::Usage.number())));
        }
        Err(Unset::File(failure)) => return Ok(end_early(&failure)),
    };
    if let Command::Serve(serve) = &settings.line.command
        && serve.print_config
    {
        let printed = settings.print(&[("data", places.data())]);
        std::io::Write::write_all(&mut std::io::stdout(), printed.as_bytes()).context("cannot print")?;
        return Ok(ExitCode::SUCCESS);
    }
    let line = settings.line;
    if let Err(failure) = begin_log(&line.global.log) {
        return Ok(end_early(&failure));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .context("cannot start the threads of the runtime")?;
    let context = Context { screen: Screen::new(&line.global), places, global: line.global };
    let ended = runtime.block_on(run(&context, &line.command));
    context.screen.clear();
    runtime.shutdown_timeout(LAST_WORDS);
    Ok(match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            context.screen.failure(&failure);
            ExitCode::from(failure.code.number())
        }
    })
}

/// Runs a command until it ends, or a signal ends it. A server ends in its own order.
async fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    if matches!(command, Command::Serve(_)) {
        return command::run(context, command).await;
    }
    let signal = signal::signalled();
    tokio::select! {
        ended = command::run(context, command) => ended,
        signal = signal => Err(interrupted(signal, command)),
    }
}

fn interrupted(signal: Signal, command: &Command) -> Failure {
    let failure = match signal {
        Signal::Interrupt => Failure::new(Code::Interrupted, "interrupted"),
        Signal::Terminate => Failure::new(Code::Terminated, "ended by SIGTERM"),
    };
    match command::going_on(command) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Says what went wrong before there was a screen.
fn end_early(failure: &Failure) -> ExitCode {
    screen::error_line(&format!("hapax: {failure}"));
    if let Some(hint) = &failure.hint {
        screen::error_line(&format!("hint: {hint}"));
    }
    ExitCode::from(failure.code.number())
}

/// Begins to log on standard error.
fn begin_log(rules: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(rules).map_err(|error| {
        Failure::usage(format!("{rules} cannot be used as --log: {error}"))
            .hint("write error, warn, info, debug, trace, or rules like hapax_client=debug")
    })?;
    let coloured = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(coloured)
        .with_writer(std::io::stderr)
        // They would go to standard error, too, and panic where that is what failed.
        .log_internal_errors(false)
        .init();
    Ok(())
}
