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
    Version {
        etag: String,
        size: u64,
        blake3: FileHash,
        temporary: PathBuf,
        id: FileId,
        /// Which filling of a file this is; a checkpoint of before does not say.
        #[serde(default)]
        filling: Option<Filling>,
    },
    /// These parts are in it: proven, and on disk. The record of a part of an earlier version, which was on its way to the
    /// log when that was given up, may stand behind the record of the next one: it names another filling.
    Proven {
        parts: Vec<PartNumber>,
        #[serde(default)]
        filling: Option<Filling>,
    },
}

/// The random name of one filling of one temporary file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Filling(u64);

impl Filling {
    fn draw() -> Self {
        Self(getrandom::u64().expect("the system has a source of randomness"))
    }
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
    fn record(&self, sink: &Sink, id: FileId, filling: Option<Filling>) -> Record {
        Record::Version {
            etag: self.etag.clone(),
            size: self.identity.size.get(),
            blake3: self.identity.blake3,
            temporary: sink.path().to_owned(),
            id,
            filling,
        }
    }
}

/// A file that is being filled with a version.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) sink: Sink,
    id: FileId,
    pub(super) filling: Option<Filling>,
    /// The parts that are not here yet, in order.
    pub(super) missing: Vec<PartNumber>,
    /// Bytes that are here.
    pub(super) kept: Length,
    /// Whether what was here of another version was dropped.
    pub(super) changed: bool,
}

impl Begun {
    /// Returns the records that name what was begun, so that the next round can drop it.
    pub(super) fn recall(&self, version: &Version) -> Vec<Record> {
        vec![version.record(&self.sink, self.id, self.filling)]
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
    if let Some((file, here)) = reopen(&records, version).await? {
        return Ok(begun(version, file, &here));
    }
    forget(log, records).await?;
    let (sink, id) = Sink::create(target, version.identity.size).await?;
    let filling = Some(Filling::draw());
    log.append([version.record(&sink, id, filling)]).await?;
    log.sync().await?;
    Ok(Begun { changed: earlier, ..begun(version, (sink, id, filling), &BTreeSet::new()) })
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

/// A temporary file, and which filling of it is under way.
type Filled = (Sink, FileId, Option<Filling>);

/// Opens the file of the records, if it is there and of this version, with the parts that are in it.
async fn reopen(
    records: &[Record],
    version: &Version,
) -> Result<Option<(Filled, BTreeSet<PartNumber>)>, TransferError> {
    let (mut file, mut current) = (None, None);
    let mut here = BTreeSet::new();
    for record in records {
        match record {
            Record::Version { etag, size, blake3, temporary, id, filling } => {
                here.clear();
                current = *filling;
                let identity = Identity { blake3: *blake3, size: Length::new(*size) };
                file = (*etag == version.etag && identity == version.identity).then_some((temporary, *id));
            }
            Record::Proven { parts, filling } if *filling == current => here.extend(parts),
            Record::Proven { .. } => {}
        }
    }
    let Some((temporary, id)) = file else { return Ok(None) };
    let sink = Sink::reopen(temporary, id, version.identity.size).await?;
    Ok(sink.map(|sink| ((sink, id, current), here)))
}

fn begun(version: &Version, (sink, id, filling): Filled, here: &BTreeSet<PartNumber>) -> Begun {
    let size = version.identity.size;
    let (mut missing, mut kept) = (Vec::new(), Length::ZERO);
    for (part, span) in parts(size) {
        if here.contains(&part) {
            kept = kept.checked_add(span.length()).expect("no more is here than the file has");
        } else {
            missing.push(part);
        }
    }
    Begun { sink, id, filling, missing, kept, changed: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 3 * (16 << 20);

    fn version(etag: &str) -> Version {
        let tag = EntityTag::parse(etag.as_bytes()).unwrap();
        let size = Length::new(SIZE);
        Version {
            etag: etag.to_owned(),
            pin: Pin { validator: Validator::Tag(tag), size },
            identity: Identity { blake3: FileHash::of(etag.as_bytes()), size },
            modified: None,
            executable: false,
        }
    }

    fn proven(part: u32, filling: Option<Filling>) -> Record {
        Record::Proven { parts: vec![PartNumber::new(part)], filling }
    }

    #[tokio::test]
    async fn a_late_record_of_an_earlier_version_proves_nothing_of_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let (sink, id) = Sink::create(&folder.path().join("a"), Length::new(SIZE)).await.unwrap();
        let check = async |records: Vec<Record>, expected: &[u32]| {
            let (_, here) = reopen(&records, &version("\"new\"")).await.unwrap().unwrap();
            assert_eq!(here.iter().map(|part| part.get()).collect::<Vec<_>>(), expected, "{records:?}");
        };
        let (earlier, later) = (Some(Filling(1)), Some(Filling(2)));
        let [old, new] = [("\"old\"", earlier), ("\"new\"", later)]
            .map(|(etag, filling)| version(etag).record(&sink, id, filling));
        check(vec![new.clone(), proven(0, later), proven(2, later)], &[0, 2]).await;
        check(vec![new.clone(), proven(0, later), proven(1, earlier)], &[0]).await;
        check(vec![old, proven(0, earlier), new, proven(1, earlier), proven(2, later)], &[2]).await;
        let of_before = version("\"new\"").record(&sink, id, None);
        check(vec![of_before, proven(1, None)], &[1]).await;
    }

    #[test]
    fn records_of_before_fillings_were_named_are_read() {
        let read: Record = serde_json::from_str(r#"{"proven":{"parts":[0,1]}}"#).unwrap();
        let parts = [0, 1].map(PartNumber::new).to_vec();
        assert_eq!(read, Record::Proven { parts, filling: None });
    }
}
