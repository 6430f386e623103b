//! `hapax hash` and `hapax verify`: digests of local files, and their comparison with a server's. Reads each file
//! once, whatever is computed of it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use hapax_proto::digest::{Algorithm, Digests, Hasher};
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::context::{Context, Tally};
use super::entries::stat_file;
use crate::args::{Hash, Verify};
use crate::exit::{Code, Failure};
use crate::remote::{Remote, expect_local};
use crate::words;

/// How much is read at a time.
const PIECE: usize = 1 << 20;

/// What standard input is called.
const STDIN: &str = "-";

/// What `hapax hash` computes: the identity, the digest that most pages of downloads state, and the one of older ones.
const TOLD: &[Algorithm] = &[Algorithm::Blake3, Algorithm::Sha256, Algorithm::Md5];

/// `hapax hash`: for each file one line an algorithm, as `b3sum` and `sha256sum` write them.
pub(super) async fn hash(context: &Context, hash: &Hash) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Told<'a> {
        event: &'static str,
        file: &'a str,
        size: u64,
        digests: &'a Digests,
    }
    let mut tally = Tally::default();
    for file in &hash.files {
        let shown = file.display().to_string();
        match digest(file, TOLD).await {
            Ok((digests, size)) => {
                tally.done(size, 0);
                let lines: Vec<String> = digests.iter().map(|digest| format!("{digest}  {shown}")).collect();
                let event = Told { event: "digests", file: &shown, size, digests: &digests };
                context.screen.result(&lines.join("\n"), &event);
            }
            Err(failure) if hash.files.len() == 1 => return Err(failure),
            Err(failure) => tally.fail(&context.screen, &failure),
        }
    }
    tally.say_hints(&context.screen);
    match tally.failed {
        0 => Ok(()),
        failed => Err(Failure::new(Code::Failed, format!("{failed} of {} files failed", hash.files.len()))),
    }
}

/// `hapax verify`.
pub(super) async fn verify(context: &Context, verify: &Verify) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Told<'a> {
        event: &'static str,
        file: String,
        remote: String,
        size: u64,
        blake3: &'a str,
    }
    expect_local(&verify.local, "the first argument of verify")?;
    let remote = Remote::parse(&verify.remote)?;
    let client = context.servers().client(&remote.alias).await?;
    let stored = stat_file(&client, &remote).await?;
    let local = verify.local.display();
    let Some(theirs) = stored.blake3 else {
        let failure =
            Failure::new(Code::Temporary, format!("the server does not know the hash of {remote} yet"));
        return Err(failure.hint("run the same command again in a moment"));
    };
    let differs = |how: String| {
        Failure::new(Code::Integrity, format!("{local} and {remote} differ: {how}"))
            .hint("put or get it again; only what differs is sent")
    };
    let size =
        std::fs::metadata(&verify.local).map_err(|error| Failure::io("read", &verify.local, &error))?.len();
    if let Some(stored) = stored.size.filter(|stored| *stored != size) {
        return Err(differs(format!("{size} bytes here, {stored} there")));
    }
    let (digests, size) = digest(&verify.local, &[Algorithm::Blake3]).await?;
    let ours = digests.get(Algorithm::Blake3).and_then(|digest| digest.file_hash());
    let ours = ours.expect("BLAKE3 was asked for");
    if ours != theirs {
        return Err(differs(format!("BLAKE3 {ours} here, {theirs} there")));
    }
    let line = format!("equal: {local} and {remote}, {}, BLAKE3 {ours}", words::bytes(size));
    let blake3 = ours.to_string();
    let event =
        Told { event: "equal", file: local.to_string(), remote: remote.to_string(), size, blake3: &blake3 };
    context.screen.outcome(&line, &event);
    Ok(())
}

/// Computes digests of a file in one pass, and counts its bytes.
pub(super) async fn digest(file: &Path, algorithms: &'static [Algorithm]) -> Result<(Digests, u64), Failure> {
    let path = file.to_owned();
    let read = spawn_blocking(move || {
        if path == Path::new(STDIN) {
            digest_all(std::io::stdin().lock(), algorithms)
        } else {
            digest_all(File::open(&path)?, algorithms)
        }
    })
    .await;
    let read = read.unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic()));
    read.map_err(|error| Failure::io("read", file, &error))
}

fn digest_all(mut input: impl Read, algorithms: &[Algorithm]) -> std::io::Result<(Digests, u64)> {
    let mut hasher = Hasher::new(algorithms.iter().copied());
    let (mut piece, mut size) = (vec![0; PIECE], 0);
    loop {
        match input.read(&mut piece) {
            Ok(0) => return Ok((hasher.digests(), size)),
            Ok(read) => {
                hasher.update(&piece[..read]);
                size += read as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_digests_come_from_one_pass() {
        // Published values of "abc".
        let (digests, size) = digest_all(&b"abc"[..], TOLD).unwrap();
        let texts: Vec<String> = digests.iter().map(|digest| digest.to_string()).collect();
        assert_eq!(size, 3);
        assert_eq!(
            texts,
            [
                "blake3:6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
                "sha-256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                "md5:900150983cd24fb0d6963f7d28e17f72",
            ]
        );
    }
}
