//! Bodies in JSON: what is accepted is written and read back as the same.

use hapax_proto::dialect::native::{
    BatchRecord, BatchResult, ClaimResults, Claims, Complete, Completed, CreateSession, CreateToken,
    CreateUpload, CreatedToken, EntryInfo, EntryList, EntryOperation, EntryPatch, FetchBatch, FetchRecord,
    Resize, Service, SessionInfo, SpanDigest, StoredPart, TokenInfo, Tree, UploadList, UploadStatus,
};
use hapax_proto::problem::Problem;
use http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn check<T: Serialize + DeserializeOwned + PartialEq>(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(data) else { return };
    let text = serde_json::to_vec(&value).expect("what was read can be written");
    let again = serde_json::from_slice::<T>(&text).expect("what was written can be read");
    assert!(again == value, "{}", String::from_utf8_lossy(&text));
}

/// Every body of the native dialect, in both directions.
pub fn bodies(data: &[u8]) {
    check::<BatchRecord>(data);
    check::<BatchResult>(data);
    check::<ClaimResults>(data);
    check::<Claims>(data);
    check::<Complete>(data);
    check::<Completed>(data);
    check::<CreateSession>(data);
    check::<CreateToken>(data);
    check::<CreateUpload>(data);
    check::<CreatedToken>(data);
    check::<EntryInfo>(data);
    check::<EntryList>(data);
    check::<EntryOperation>(data);
    check::<EntryPatch>(data);
    check::<FetchBatch>(data);
    check::<FetchRecord>(data);
    check::<Resize>(data);
    check::<Service>(data);
    check::<SessionInfo>(data);
    check::<SpanDigest>(data);
    check::<StoredPart>(data);
    check::<TokenInfo>(data);
    check::<Tree>(data);
    check::<UploadList>(data);
    check::<UploadStatus>(data);
}

/// Problems, under the status that the first two bytes say.
pub fn problem(data: &[u8]) {
    let Some((status, body)) = data.split_first_chunk() else { return };
    let Ok(status) = StatusCode::from_u16(400 + u16::from_le_bytes(*status) % 200) else { return };
    let Some(problem) = Problem::decode(status, body) else { return };
    let again = Problem::decode(status, &problem.encode()).expect("what was written can be read");
    assert_eq!(again.kind, problem.kind);
}
