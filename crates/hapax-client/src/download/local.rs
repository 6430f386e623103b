//! What of a folder is here already. Owns how that is found out at the least cost: one look at each name, the digest cache
//! asked once for all of them, and only what it does not know read and hashed. Follows no symbolic link.

use std::fs::symlink_metadata;
use std::path::PathBuf;
use std::time::SystemTime;

use hapax_proto::dialect::native::EntryInfo;
use hapax_proto::digest::FileHash;
use hapax_proto::span::Length;

use super::Finish;
use crate::api::RemotePath;
use crate::cache::Digested;
use crate::claim::remember_all;
use crate::client::Client;
use crate::error::TransferError;
use crate::sink::{Overwrite, apply_all};
use crate::source::{Facts, absolute, hash_same};
use crate::tasks::{EveryCore, blocking};

/// A remote file as a listing tells of it, and where it goes.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The remote file.
    pub source: RemotePath,
    /// The local file.
    pub target: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its hash.
    pub blake3: FileHash,
    pub(super) etag: String,
    modified: Option<SystemTime>,
    executable: bool,
}

impl Listed {
    /// Takes from a listing what is needed to bring a file; `None` for what is no file, or has no hash yet.
    pub fn of(info: &EntryInfo, source: RemotePath, target: PathBuf) -> Option<Self> {
        let (size, blake3, etag) = (info.size?, info.blake3?, info.etag.clone()?);
        let modified = info.mtime.as_deref().and_then(|mtime| humantime::parse_rfc3339_weak(mtime).ok());
        Some(Self { source, target, size, blake3, etag, modified, executable: info.executable })
    }

    /// Returns its size.
    pub(super) fn length(&self) -> Length {
        Length::new(self.size)
    }

    pub(super) fn finish(&self, overwrite: Overwrite) -> Finish {
        Finish { overwrite, modified: self.modified, executable: self.executable }
    }
}

/// What the local name of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// Nobody's.
    Free,
    /// That of a file with this very content.
    Same,
    /// That of something else: another content, a folder, a link.
    Other,
}

/// Finds out what has the local names of files now.
///
/// # Errors
/// There is no folder that relative names begin in.
pub async fn look_for(client: &Client, files: &[Listed]) -> Result<Vec<Local>, TransferError> {
    let named: Vec<_> = files.iter().map(|file| (file.target.clone(), file.size)).collect();
    let (mut found, sized) = blocking(move || look(&named)).await?;
    let sized: Vec<(usize, PathBuf, Facts)> = sized;
    let mut hashes: Vec<Option<FileHash>> = vec![None; files.len()];
    let mut unknown = sized.clone();
    if let Some(cache) = &client.cache {
        let asked = sized.iter().map(|(_, path, facts)| Some((path.clone(), *facts))).collect();
        let told = cache.lookup_all(asked).await;
        let told = told.inspect_err(|error| tracing::debug!(%error, "the digest cache does not answer"));
        for (position, _, blake3) in told.unwrap_or_default() {
            hashes[sized[position].0] = Some(blake3);
        }
        unknown.retain(|(index, ..)| hashes[*index].is_none());
    }
    for (index, blake3) in hash(client, unknown).await {
        hashes[index] = Some(blake3);
    }
    for (index, ..) in sized {
        if hashes[index] == Some(files[index].blake3) {
            found[index] = Local::Same;
        }
    }
    Ok(found)
}

/// Gives files whose content is here already the times and bits that they have on the server.
pub async fn take_over(files: &[Listed]) {
    let wished = files.iter().map(|file| (file.target.clone(), file.finish(Overwrite::Replace)));
    apply_all(wished.collect()).await;
}

/// Those of the files that have the right size, with their numbers.
type Sized = Vec<(usize, PathBuf, Facts)>;

/// Looks at each name once.
fn look(named: &[(PathBuf, u64)]) -> Result<(Vec<Local>, Sized), TransferError> {
    let (mut found, mut sized) = (Vec::with_capacity(named.len()), Vec::new());
    for (index, (path, size)) in named.iter().enumerate() {
        found.push(match symlink_metadata(path) {
            // What cannot be looked at fails where it is written, by its own name.
            Err(_) => Local::Free,
            Ok(metadata) => {
                if metadata.is_file() && metadata.len() == *size {
                    sized.push((index, absolute(path)?, Facts::of(&metadata)));
                }
                Local::Other
            }
        });
    }
    Ok((found, sized))
}

/// Hashes files on every core, and remembers what came out.
async fn hash(client: &Client, files: Sized) -> Vec<(usize, FileHash)> {
    let (mut hashed, mut known) = (Vec::new(), Vec::new());
    let mut hashing = EveryCore::begin(files, |(index, path, facts)| (index, hash_same(path, facts)));
    while let Some((index, done)) = hashing.next().await {
        let Some((path, facts, begun, blake3)) = done else { continue };
        hashed.push((index, blake3));
        // Younger ones were not written back: a store to a page of theirs may not show.
        if facts.written_back_at(begun) {
            known.push(Digested { path, facts, begun, blake3 });
        }
    }
    remember_all(client, known).await;
    hashed
}
