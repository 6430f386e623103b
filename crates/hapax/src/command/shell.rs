//! `hapax completions` and `hapax man`: printed from the definition of the command line, so they cannot differ.

use std::io::{self, Write};

use clap::CommandFactory;

use crate::args::{CommandLine, Completions};
use crate::exit::{Code, Failure};

/// Prints a completion script.
pub(super) fn completions(completions: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(completions.shell, &mut CommandLine::command(), "hapax", &mut script);
    write(&script)
}

/// Prints the manual: the page of the program, then those of its commands.
pub(super) fn man() -> Result<(), Failure> {
    let mut command = CommandLine::command();
    command.build();
    let mut pages = Vec::new();
    render(&command, &mut pages).map_err(|error| failed(&error))?;
    write(&pages)
}

fn render(command: &clap::Command, pages: &mut Vec<u8>) -> io::Result<()> {
    clap_mangen::Man::new(command.clone()).render(pages)?;
    command.get_subcommands().try_for_each(|command| render(command, pages))
}

fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(failed(&error)),
        _ => Ok(()),
    }
}

fn failed(error: &io::Error) -> Failure {
    Failure::new(Code::Failed, format!("cannot write to standard output: {error}"))
}
