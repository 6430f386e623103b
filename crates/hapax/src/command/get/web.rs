//! `hapax get https://…`: files of servers that are not hapax. Owns where they go and what is said of them, above all
//! whether anything shows that they are whole; the transfer is the client's engine for foreign servers.

use std::io;
use std::path::Path;
use std::sync::Arc;

use hapax_client::TransferError;
use hapax_client::foreign::{
    Address, BEAT, Fetch, Fetched, How, Manners, Proof, Streamed, Target, Web, fetch_file, fetch_stream,
};
use hapax_client::progress::Progress;
use hapax_client::sink::Overwrite;
use hapax_client::wire::Deadlines;
use hapax_proto::digest::Digests;
use hapax_proto::retry::Policy;
use serde::Serialize;

use super::{STDOUT, Stdout, means_folder};
use crate::args::Get;
use crate::command::context::{Context, Tally};
use crate::command::tree;
use crate::exit::Failure;
use crate::render::{Board, Sums};
use crate::screen::Screen;
use crate::words;

/// Receives what addresses name.
pub(super) async fn run(
    context: &Context,
    get: &Get,
    (addresses, target): (&[Address], &Path),
) -> Result<(), Failure> {
    if get.recursive {
        let failure = Failure::usage("an address names one file and no folder");
        return Err(failure.hint("leave -r out"));
    }
    let digests: Digests = get.web.digest.iter().copied().collect();
    if addresses.len() > 1 && !digests.is_empty() {
        let failure = Failure::usage("several files cannot all have one digest");
        return Err(failure.hint("run one command for each, with its digest"));
    }
    let web = Web::new(Manners {
        checkpoints: context.places.checkpoints(),
        deadlines: Deadlines { idle: get.web.stall, ..Deadlines::default() },
        patience: Policy { attempts_max: context.global.attempts, ..Policy::default() },
        beat: BEAT,
    })?;
    if target == Path::new(STDOUT) {
        return stream(context, &web, (addresses, &digests)).await;
    }
    let target = if means_folder(target) {
        Target::Folder(tree::make_folders(target, [])?)
    } else {
        Target::File(target.to_owned())
    };
    let board = Board::new(context.screen.clone());
    let mut tally = Tally::default();
    for address in addresses {
        let fetch = Fetch {
            address: address.clone(),
            target: target.clone(),
            overwrite: if get.overwrite { Overwrite::Replace } else { Overwrite::Never },
            digests: digests.clone(),
            connections: usize::from(get.web.connections),
        };
        let watcher = Arc::new(board.file(&shown(address)));
        let progress: Arc<dyn Progress> = Arc::clone(&watcher) as _;
        match fetch_file(&web, &fetch, &progress).await {
            Ok(fetched) => {
                let sums = watcher.sums();
                tally.done(fetched.size.get(), sums.moved);
                say(&context.screen, address, &fetched, &sums);
            }
            Err(error) if addresses.len() == 1 => return Err(error.into()),
            Err(error) => tally.fail(&context.screen, &error.into()),
        }
    }
    if addresses.len() == 1 { Ok(()) } else { tally.end(&context.screen, "received") }
}

/// Makes the failure of a word that is no address.
pub(super) fn unfit(error: TransferError) -> Failure {
    Failure::from(error).hint("an address is written like https://any.example/big.iso")
}

/// Returns what a row is called while the file has no name yet.
fn shown(address: &Address) -> String {
    let name = address.path().rsplit('/').find(|segment| !segment.is_empty());
    name.map_or_else(|| address.to_string(), str::to_owned)
}

async fn stream(
    context: &Context,
    web: &Web,
    (addresses, digests): (&[Address], &Digests),
) -> Result<(), Failure> {
    if context.global.json {
        let failure = Failure::usage("standard output takes the bytes of files and nothing else");
        return Err(failure.hint("leave --json out, or name a local target"));
    }
    let screen = context.screen.clone().without_output();
    for address in addresses {
        let board = Board::new(screen.clone());
        let watcher: Arc<dyn Progress> = Arc::new(board.file(&shown(address)));
        match fetch_stream(web, (address, digests), Stdout, &watcher).await {
            Ok(Streamed { size, proof }) => {
                drop(watcher);
                screen.note(&format!("{address}: received {}{}", words::bytes(size.get()), proven(proof)));
            }
            // Whoever reads has heard enough, as `head` does.
            Err(TransferError::Output { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Done {
    event: &'static str,
    file: String,
    source: String,
    how: &'static str,
    size: u64,
    kept: u64,
    moved: u64,
    proof: &'static str,
}

fn say(screen: &Screen, address: &Address, fetched: &Fetched, sums: &Sums) {
    let size = fetched.size.get();
    let (how, kept) = match fetched.how {
        How::There => ("there", size),
        How::Fetched => ("received", 0),
        How::Resumed { kept } => ("resumed", kept.get()),
        How::Changed => ("changed", 0),
    };
    let proof = match fetched.proof {
        Proof::Digest(algorithm) => algorithm.key(),
        Proof::Length => "length",
        Proof::Unverified => "unverified",
    };
    let event = Done {
        event: "done",
        file: fetched.path.display().to_string(),
        source: address.to_string(),
        how,
        size,
        kept,
        moved: sums.moved,
        proof,
    };
    screen.outcome(&format!("{}: {}", fetched.path.display(), words_for(fetched)), &event);
}

/// Says in a few words what a fetch came to.
fn words_for(fetched: &Fetched) -> String {
    let size = fetched.size.get();
    let how = match fetched.how {
        How::There => format!("there already: {} not received", words::bytes(size)),
        How::Fetched => format!("received {}", words::bytes(size)),
        How::Resumed { kept } => {
            let kept = kept.get();
            format!("resumed at {} % ({} kept)", words::percent(kept, size), words::bytes(kept))
        }
        How::Changed => format!("changed on the server: received {} of one version", words::bytes(size)),
    };
    how + &proven(fetched.proof)
}

/// Says what shows that a file is whole.
fn proven(proof: Proof) -> String {
    match proof {
        Proof::Digest(algorithm) => format!(", {algorithm} proven"),
        Proof::Length => ", as long as the server said".to_owned(),
        Proof::Unverified => ", unverified: the server said neither length nor digest".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use hapax_proto::digest::Algorithm;
    use hapax_proto::span::Length;

    use super::*;

    #[test]
    fn an_outcome_is_one_line_and_says_what_is_proven() {
        #[track_caller]
        fn check(how: How, proof: Proof, words: &str) {
            let fetched = Fetched { how, path: PathBuf::from("a"), size: Length::new(4 << 30), proof };
            assert_eq!(words_for(&fetched), words);
        }
        let sha256 = Proof::Digest(Algorithm::Sha256);
        let kept = Length::new(3 << 30);
        check(How::There, sha256, "there already: 4 GiB not received, sha-256 proven");
        check(How::Fetched, sha256, "received 4 GiB, sha-256 proven");
        check(How::Fetched, Proof::Length, "received 4 GiB, as long as the server said");
        check(
            How::Fetched,
            Proof::Unverified,
            "received 4 GiB, unverified: the server said neither length nor digest",
        );
        check(
            How::Resumed { kept },
            Proof::Length,
            "resumed at 75 % (3 GiB kept), as long as the server said",
        );
        check(How::Changed, sha256, "changed on the server: received 4 GiB of one version, sha-256 proven");
    }

    #[test]
    fn a_row_has_a_name_before_the_file_has() {
        #[track_caller]
        fn check(address: &str, expected: &str) {
            assert_eq!(shown(&address.parse().unwrap()), expected);
        }
        check("https://any.example/pub/big.iso?x=y", "big.iso");
        check("https://any.example/pub/", "pub");
        check("https://any.example", "https://any.example/");
    }
}
