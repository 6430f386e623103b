//! The commands, one file each. Owns which one runs; each owns its words and asks the libraries for the work.

/// What every command gets.
pub(crate) mod context;

/// Folders of this machine.
mod tree;

/// Several transfers at a time.
mod abreast;

/// `ls`, `stat`, `rm`, `mv`, `mkdir`, `transfers`.
mod entries;

/// `put`.
mod put;

/// `get` and `cat`.
mod get;

/// `hash` and `verify`.
mod digests;

/// `login`.
mod login;

/// `admin`.
mod admin;

/// `serve`.
mod serve;

/// `offline`.
mod offline;

/// `demo`.
mod demo;

/// `completions` and `man`.
mod shell;

use crate::args::Command;
use crate::exit::Failure;
use context::Context;

/// Runs a command to its end.
pub(crate) async fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Serve(serve) => serve::run(context, serve).await,
        Command::Demo(demo) => demo::run(context, demo).await,
        Command::Login(login) => login::run(context, login).await,
        Command::Put(put) => put::run(context, put).await,
        Command::Get(get) => get::run(context, get).await,
        Command::Ls(ls) => entries::ls(context, ls).await,
        Command::Stat(paths) => entries::stat(context, paths).await,
        Command::Rm(rm) => entries::rm(context, rm).await,
        Command::Mv(mv) => entries::mv(context, mv).await,
        Command::Mkdir(paths) => entries::mkdir(context, paths).await,
        Command::Cat(paths) => get::cat(context, paths).await,
        Command::Transfers(transfers) => entries::transfers(context, transfers).await,
        Command::Verify(verify) => digests::verify(context, verify).await,
        Command::Hash(hash) => digests::hash(context, hash).await,
        Command::Admin(admin) => admin::run(context, admin).await,
        Command::Offline(offline) => offline::run(context, offline).await,
        Command::Completions(completions) => shell::completions(completions),
        Command::Man => shell::man(),
    }
}

/// Tells how to go on with a command that was ended in the middle; `None` if there is nothing to go on with.
pub(crate) fn going_on(command: &Command) -> Option<&'static str> {
    let stdin = std::path::Path::new("-");
    match command {
        Command::Put(put) if put.paths.first().is_some_and(|source| source == stdin) => {
            Some("nothing of standard input was kept: produce it again")
        }
        Command::Put(_) | Command::Get(_) => {
            Some("run the same command again: it goes on where this one ended")
        }
        _ => None,
    }
}
