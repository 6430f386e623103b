//! What is known of a download, and what is missing. Owns the records of a get's checkpoint and the questions to
//! the server that are no content: which version there is, and which values prove it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use hapax_proto::digest::{FileHash, Identity};
use hapax_proto::pin::{Pin, Validator};
use hapax_proto::span::Length;
use hapax_proto::tree::{PartNumber, PartValue, ProvenParts, parts};
use hapax_proto::validator::EntityTag;
use serde::{Deserialize, Serialize};

use super::{Finish, Got, How, Kind, Overwrite, Sink};
use crate::api::RemotePath;
use crate::attempt::repeat;
use crate::checkpoint::Log;
use crate::client::Client;
use crate::error::TransferError;
use crate::progress::Progress;
use crate::sink::FileId;

/// One line of a get's checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Record {
    /// This version is fetched into this file.
    Version { etag: String, size: u64, blake3: FileHash, temporary: PathBuf, id: FileId },
    /// These parts are in it: proven, and on disk. They are [proven again](super::prove::still_here) before they count, for much
    /// may happen to a file between two commands.
    Proven { parts: Vec<PartNumber> },
}

/// A version of a remote file.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) etag: String,
    pub(super) pin: Pin,
    pub(super) identity: Identity,
    modified: Option<SystemTime>,
    executable: bool,
}

impl Version {
    pub(super) fn got(&self, how: How) -> Got {
        Got { how, size: self.identity.size, blake3: self.identity.blake3 }
    }

    pub(super) fn finish(&self, overwrite: Overwrite) -> Finish {
        Finish { overwrite, modified: self.modified, executable: self.executable }
    }

    /// Returns the record that this version is fetched into a file.
    fn record(&self, sink: &Sink, id: FileId) -> Record {
        Record::Version {
            etag: self.etag.clone(),
            size: self.identity.size.get(),
            blake3: self.identity.blake3,
            temporary: sink.path().to_owned(),
            id,
        }
    }
}

/// A file that is being filled with a version.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) sink: Sink,
    id: FileId,
    /// The parts that were proven when they came.
    pub(super) here: BTreeSet<PartNumber>,
    /// Whether what was here of another version was dropped.
    pub(super) changed: bool,
}

impl Begun {
    /// Returns the records that name what was begun, so that the next round can drop it.
    pub(super) fn recall(&self, version: &Version) -> Vec<Record> {
        vec![version.record(&self.sink, self.id)]
    }
}

/// Asks which version there is.
pub(super) async fn version(
    client: &Client,
    path: &RemotePath,
    progress: &Arc<dyn Progress>,
) -> Result<Version, TransferError> {
    let info = repeat(&client.policy, progress, || client.api.stat(path)).await?;
    let unprovable = || TransferError::Unprovable { path: path.to_string() };
    let (Some(etag), Some(size), Some(blake3)) = (info.etag, info.size, info.blake3) else {
        return Err(unprovable());
    };
    let tag = EntityTag::parse(etag.as_bytes()).ok_or_else(unprovable)?;
    let size = Length::new(size);
    let modified = info.mtime.and_then(|mtime| humantime::parse_rfc3339_weak(&mtime).ok());
    Ok(Version {
        etag,
        pin: Pin { validator: Validator::Tag(tag), size },
        identity: Identity { blake3, size },
        modified,
        executable: info.executable,
    })
}

/// Asks for the values of a version, and proves them.
///
/// # Errors
/// [`TransferError::Changed`] if there is another version by now, [`TransferError::FalseTree`] if the values are
/// not those of the hash.
pub(super) async fn values(
    client: &Client,
    path: &RemotePath,
    version: &Version,
    progress: &Arc<dyn Progress>,
) -> Result<ProvenParts, TransferError> {
    let mut values: Vec<PartValue> = Vec::new();
    // The hash itself proves a file of one part.
    let mut from = (parts(version.identity.size).nth(1).is_some()).then_some(PartNumber::FIRST);
    while let Some(part) = from {
        let page = repeat(&client.policy, progress, || client.api.tree(path, &version.etag, part)).await;
        let page = page.map_err(|error| match error.problem() {
            Some(Kind::Changed | Kind::PreconditionFailed) => {
                TransferError::Changed { path: path.to_string() }
            }
            _ => error,
        })?;
        values.extend(page.values);
        // A page that does not lead forward would be asked for for ever.
        from = page.next.map(PartNumber::new).filter(|next| *next > part);
    }
    ProvenParts::prove(version.identity, values)
        .map_err(|source| TransferError::FalseTree { path: path.to_string(), source })
}

/// Goes on with the file that the checkpoint knows, if it belongs to this version, and else begins another one.
pub(super) async fn begin(
    log: &Log<Record>,
    records: Vec<Record>,
    target: &Path,
    version: &Version,
) -> Result<Begun, TransferError> {
    let earlier = !records.is_empty();
    if let Some((sink, id, here)) = reopen(&records, version).await? {
        return Ok(Begun { sink, id, here, changed: false });
    }
    forget(log, records).await?;
    let (sink, id) = Sink::create(target, version.identity.size).await?;
    log.append([version.record(&sink, id)]).await?;
    log.sync().await?;
    Ok(Begun { sink, id, here: BTreeSet::new(), changed: earlier })
}

/// Removes the temporary file that the records name, and the records.
pub(super) async fn forget(log: &Log<Record>, records: Vec<Record>) -> Result<(), TransferError> {
    for record in records {
        if let Record::Version { size, temporary, id, .. } = record
            && let Some(sink) = Sink::reopen(&temporary, id, Length::new(size)).await?
        {
            sink.discard().await?;
        }
    }
    log.clear().await
}

/// Opens the file of the records, if it is there and of this version, with the parts that are in it.
async fn reopen(
    records: &[Record],
    version: &Version,
) -> Result<Option<(Sink, FileId, BTreeSet<PartNumber>)>, TransferError> {
    let mut file = None;
    let mut here = BTreeSet::new();
    for record in records {
        match record {
            Record::Version { etag, size, blake3, temporary, id } => {
                here.clear();
                let identity = Identity { blake3: *blake3, size: Length::new(*size) };
                file = (*etag == version.etag && identity == version.identity).then_some((temporary, *id));
            }
            Record::Proven { parts } => here.extend(parts),
        }
    }
    let Some((temporary, id)) = file else { return Ok(None) };
    let sink = Sink::reopen(temporary, id, version.identity.size).await?;
    Ok(sink.map(|sink| (sink, id, here)))
}
