//! The server's routes as functions: one request each, typed on both sides. Owns how routes are spelled; repeats
//! nothing and decides nothing.

use std::fmt;
use std::str::FromStr;

use hapax_proto::batch;
use hapax_proto::dialect::native::{
    API, BatchResult, ClaimResults, Claims, Complete, Completed, CreateToken, CreateUpload, CreatedToken,
    EntryInfo, EntryList, EntryOperation, EntryPatch, FetchBatch, Precondition, Proofs, Resize, Service,
    StoredPart, TokenInfo, Tree, UploadList, UploadStatus,
};
use hapax_proto::digest::{Digest, Digests, FileHash, REPR_DIGEST};
use hapax_proto::name::{BadPath, EntryPath, UserName};
use hapax_proto::pin::{Pin, Validator};
use hapax_proto::span::{Length, Span};
use hapax_proto::tree::{PART_VALUE, PartNumber, PartValue};
use http::header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RANGE};
use http::{HeaderName, HeaderValue, Method};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::TransferError;
use crate::wire::{Answer, Ask, Payload, Wire};

/// A path on the server: `/path` in the caller's own space, `/@space/path` in any.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemotePath {
    /// The space, unless it is the caller's own.
    pub space: Option<UserName>,
    /// The path inside it.
    pub path: EntryPath,
}

impl FromStr for RemotePath {
    type Err = BadPath;

    fn from_str(text: &str) -> Result<Self, BadPath> {
        let Some(named) = text.strip_prefix("/@") else {
            return Ok(Self { space: None, path: EntryPath::parse(text)? });
        };
        let (space, path) = named.split_at(named.find('/').unwrap_or(named.len()));
        let path = if path.is_empty() { EntryPath::root() } else { EntryPath::parse(path)? };
        Ok(Self { space: Some(UserName::parse(space).ok_or(BadPath::Space)?), path })
    }
}

impl fmt::Display for RemotePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.space {
            Some(space) => write!(f, "/@{space}{}", self.path),
            None => self.path.fmt(f),
        }
    }
}

impl RemotePath {
    /// Returns what stands behind a route's name.
    fn to_url(&self) -> String {
        let space = self.space.as_ref().map(|space| format!("/@{space}")).unwrap_or_default();
        space + &self.path.to_url()
    }

    /// Returns the same for a route that wants a folder, which ends with a slash.
    fn to_folder_url(&self) -> String {
        let url = self.to_url();
        if url.ends_with('/') { url } else { url + "/" }
    }
}

/// A run of bytes for one part of an upload.
#[derive(Debug, Clone, Copy)]
pub struct PartRun {
    /// Which part.
    pub part: PartNumber,
    /// Where in the part the run begins.
    pub from: Length,
    /// The value of the whole part.
    pub value: PartValue,
}

/// A page of a listing.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Whether what lies in folders is listed too.
    pub recursive: bool,
    /// How many entries at most; the server's choice if absent.
    pub limit: Option<u32>,
    /// What the page before said.
    pub after: Option<String>,
}

/// The routes of one server.
#[derive(Debug, Clone)]
pub struct Api {
    wire: Wire,
}

impl Api {
    /// Puts the routes over a wire.
    pub fn new(wire: Wire) -> Self {
        Self { wire }
    }

    /// Returns the wire below.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// What the service is and can do; needs no credentials.
    pub async fn service(&self) -> Result<Service, TransferError> {
        self.get(API.to_owned()).await
    }

    /// Creates an upload. Safe to repeat with the same key.
    pub async fn create_upload(&self, create: &CreateUpload) -> Result<UploadStatus, TransferError> {
        self.post(format!("{API}/uploads"), create).await
    }

    /// Asks for a page of an upload's state, with the parts from `from` on.
    pub async fn upload_status(&self, id: &str, from: PartNumber) -> Result<UploadStatus, TransferError> {
        self.get(format!("{}?from={from}", upload(id))).await
    }

    /// Lists the caller's uploads.
    pub async fn uploads(&self, after: Option<&str>) -> Result<UploadList, TransferError> {
        let query = after.map(|after| format!("?after={}", encoded(after))).unwrap_or_default();
        self.get(format!("{API}/uploads{query}")).await
    }

    /// Sends a run of a part.
    pub async fn put_part(
        &self,
        id: &str,
        run: PartRun,
        payload: Payload,
    ) -> Result<StoredPart, TransferError> {
        let query = if run.from.is_zero() { String::new() } else { format!("?from={}", run.from) };
        let mut ask = Ask::new(Method::PUT, format!("{}/parts/{}{query}", upload(id), run.part));
        ask.fields.insert(HeaderName::from_static(PART_VALUE), run.value.format_field());
        ask.payload = payload;
        self.wire.ask(ask).await?.json().await
    }

    /// Tells an upload its size. Safe to repeat.
    pub async fn resize(&self, id: &str, resize: &Resize) -> Result<UploadStatus, TransferError> {
        self.post(format!("{}/resize", upload(id)), resize).await
    }

    /// Completes an upload. Safe to repeat with the same body.
    pub async fn complete(&self, id: &str, complete: &Complete) -> Result<Completed, TransferError> {
        self.post(format!("{}/complete", upload(id)), complete).await
    }

    /// Cancels an upload.
    pub async fn cancel_upload(&self, id: &str) -> Result<(), TransferError> {
        self.wire.ask(Ask::new(Method::DELETE, upload(id))).await?.success().await?;
        Ok(())
    }

    /// Sends a whole file in one request. Safe to repeat: the digest tells the server that it is the same again.
    ///
    /// # Errors
    /// Whatever does not say in so many words that these bytes are stored: something on the way may answer 200 as well.
    pub async fn put_file(
        &self,
        path: &RemotePath,
        blake3: FileHash,
        precondition: Option<&Precondition>,
        payload: Payload,
    ) -> Result<Completed, TransferError> {
        let size = match &payload {
            Payload::Nothing => Length::ZERO,
            Payload::Memory(bytes) => Length::of(bytes),
            Payload::Content(content) => content.length,
        };
        let mut ask = Ask::new(Method::PUT, format!("/files{}", path.to_url()));
        let digests: Digests = [Digest::from(blake3)].into_iter().collect();
        ask.fields.insert(
            HeaderName::from_static(REPR_DIGEST),
            digests.format_field().expect("one digest is no empty field"),
        );
        match precondition {
            None => {}
            Some(Precondition::Absent) => {
                ask.fields.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
            }
            Some(Precondition::Matches(etag)) => {
                ask.fields.insert(IF_MATCH, field(etag)?);
            }
        }
        ask.payload = payload;
        let stored: Completed = self.wire.ask(ask).await?.json().await?;
        if stored.blake3 == blake3 && stored.size == size.get() {
            return Ok(stored);
        }
        let (path, actual) = (path.to_string().into(), stored.blake3);
        Err(TransferError::FinishedOtherwise { path, expected: blake3, actual })
    }

    /// Sends many small files in one request. Safe to repeat: what is there already is answered as stored.
    pub async fn put_batch(&self, payload: Payload) -> Result<Vec<BatchResult>, TransferError> {
        let mut ask = Ask::new(Method::POST, format!("{API}/batch"));
        ask.fields.insert(CONTENT_TYPE, HeaderValue::from_static(batch::MEDIA_TYPE));
        ask.payload = payload;
        self.wire.ask(ask).await?.lines().await
    }

    /// Asks for many small files in one request. The answer is a batch.
    pub async fn fetch_batch(&self, batch: &FetchBatch) -> Result<Answer, TransferError> {
        let ask = Ask::new(Method::POST, format!("{API}/batch/get")).json(batch);
        self.wire.ask(ask).await?.success().await
    }

    /// Asks for a span of a pinned version of a file. The answer is to be judged by `hapax_proto::pin`.
    pub async fn get_span(&self, path: &RemotePath, pin: &Pin, span: Span) -> Result<Answer, TransferError> {
        let mut ask = Ask::new(Method::GET, format!("/files{}", path.to_url()));
        let last = span.end().since(span.start()).and_then(|length| length.checked_sub(Length::new(1)));
        let last = last.and_then(|behind| span.start().checked_add(behind)).unwrap_or(span.start());
        ask.fields.insert(RANGE, field(&format!("bytes={}-{last}", span.start()))?);
        match &pin.validator {
            Validator::Tag(etag) => ask.fields.insert(IF_MATCH, etag.to_value()),
            Validator::Date(date) => ask.fields.insert(IF_UNMODIFIED_SINCE, date.to_value()),
            Validator::Digest(_) => None,
        };
        self.wire.ask(ask).await
    }

    /// Asks for a page of the values of a version of a file.
    pub async fn tree(&self, path: &RemotePath, etag: &str, from: PartNumber) -> Result<Tree, TransferError> {
        self.get(format!("{API}/tree{}?etag={}&from={from}", path.to_url(), encoded(etag))).await
    }

    /// Asks what an entry is.
    pub async fn stat(&self, path: &RemotePath) -> Result<EntryInfo, TransferError> {
        self.get(entry(path)).await
    }

    /// Lists a folder.
    pub async fn list(&self, path: &RemotePath, page: &Page) -> Result<EntryList, TransferError> {
        let recursive = if page.recursive { "&recursive=1" } else { "" };
        let limit = page.limit.map(|limit| format!("&limit={limit}")).unwrap_or_default();
        let after =
            page.after.as_deref().map(|after| format!("&after={}", encoded(after))).unwrap_or_default();
        self.get(format!("{API}/entries{}?list{recursive}{limit}{after}", path.to_folder_url())).await
    }

    /// Makes a folder, moves or copies an entry.
    pub async fn operate(
        &self,
        path: &RemotePath,
        operation: &EntryOperation,
    ) -> Result<EntryInfo, TransferError> {
        self.post(entry(path), operation).await
    }

    /// Gives a file another modification time or executable bit, if the content with this entity tag stands there. Safe to
    /// repeat.
    pub async fn patch(
        &self,
        path: &RemotePath,
        etag: &str,
        wanted: &EntryPatch,
    ) -> Result<EntryInfo, TransferError> {
        let mut ask = Ask::new(Method::PATCH, entry(path)).json(wanted);
        ask.fields.insert(IF_MATCH, field(etag)?);
        self.wire.ask(ask).await?.json().await
    }

    /// Removes an entry; a folder that is not empty only if asked.
    pub async fn remove(&self, path: &RemotePath, contents: Contents) -> Result<(), TransferError> {
        let query = match contents {
            Contents::Keep => "",
            Contents::RemoveToo => "?recursive=1",
        };
        self.wire.ask(Ask::new(Method::DELETE, entry(path) + query)).await?.success().await?;
        Ok(())
    }

    /// Claims contents. Safe to repeat.
    pub async fn claim(&self, claims: &Claims) -> Result<ClaimResults, TransferError> {
        self.post(format!("{API}/claims"), claims).await
    }

    /// Answers challenges. Each can be answered once: what came of an answer that was lost is told by claiming again.
    pub async fn prove(&self, proofs: &Proofs) -> Result<ClaimResults, TransferError> {
        self.post(format!("{API}/claims/proofs"), proofs).await
    }

    /// Makes a token, whose text is told this once.
    pub async fn create_token(&self, create: &CreateToken) -> Result<CreatedToken, TransferError> {
        self.post(format!("{API}/tokens"), create).await
    }

    /// Lists the caller's tokens.
    pub async fn tokens(&self) -> Result<Vec<TokenInfo>, TransferError> {
        self.get(format!("{API}/tokens")).await
    }

    /// Revokes a token.
    pub async fn delete_token(&self, id: i64) -> Result<(), TransferError> {
        self.wire.ask(Ask::new(Method::DELETE, format!("{API}/tokens/{id}"))).await?.success().await?;
        Ok(())
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, target: String) -> Result<T, TransferError> {
        self.wire.ask(Ask::new(Method::GET, target)).await?.json().await
    }

    async fn post<T: serde::de::DeserializeOwned>(
        &self,
        target: String,
        body: &impl serde::Serialize,
    ) -> Result<T, TransferError> {
        self.wire.ask(Ask::new(Method::POST, target).json(body)).await?.json().await
    }
}

/// What happens to that which lies in a folder that is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// It stays, and so does the folder.
    Keep,
    /// It goes with the folder.
    RemoveToo,
}

fn upload(id: &str) -> String {
    format!("{API}/uploads/{}", encoded(id))
}

fn entry(path: &RemotePath) -> String {
    format!("{API}/entries{}", path.to_url())
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn field(text: &str) -> Result<HeaderValue, TransferError> {
    HeaderValue::from_str(text).map_err(|_| TransferError::BadAddress { what: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_path_names_a_space_or_not() {
        #[track_caller]
        fn check(text: &str, url: Option<&str>, folder: Option<&str>) {
            let path = text.parse::<RemotePath>();
            assert_eq!(path.as_ref().map(RemotePath::to_url).ok().as_deref(), url);
            assert_eq!(path.as_ref().map(RemotePath::to_folder_url).ok().as_deref(), folder);
            if let Ok(path) = path {
                assert_eq!(path.to_string().parse::<RemotePath>().unwrap(), path);
            }
        }
        check("/", Some("/"), Some("/"));
        check("/a b/c", Some("/a%20b/c"), Some("/a%20b/c/"));
        check("/@ann", Some("/@ann/"), Some("/@ann/"));
        check("/@ann/", Some("/@ann/"), Some("/@ann/"));
        check("/@ann/x", Some("/@ann/x"), Some("/@ann/x/"));
        check("/@ann/@x", None, None);
        check("/@/x", None, None);
        check("/@Ann/x", None, None);
        check("a", None, None);
        check("/a//b", None, None);
    }
}
