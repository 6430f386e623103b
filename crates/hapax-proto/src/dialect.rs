//! The wire dialects of the upload resource: each translates its own requests and answers from and to the same
//! values of `upload`. No dialect decides anything.

/// Our own dialect under `/api/v1`: parallel parts with values.
pub mod native;

/// tus 1.0.0.
pub mod tus;

/// Resumable uploads for HTTP, the draft of the IETF.
pub mod rufh;

/// What a request says that its bytes hash to, before or behind them.
pub mod integrity;

use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};

use crate::problem::{Kind, Problem};

/// Returns a field that may stand only once, as text.
///
/// # Errors
/// 400 if it stands twice or is no text.
fn single<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut lines = fields.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(None),
        (Some(line), None) => line.to_str().map(|text| Some(text.trim())).map_err(|_| bad_field(name)),
        (Some(_), Some(_)) => Err(bad_field(name)),
    }
}

fn bad_field(name: &HeaderName) -> Problem {
    Problem::new(Kind::BadField).member("field", name.as_str())
}

/// What becomes of an upload whose name is taken when it is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Conflict {
    /// It replaces what stands there, as its precondition allows.
    #[default]
    Replace,
    /// It goes under the next free name: a client that cannot be asked must not lose, and must not destroy.
    Rename,
}

/// What a dialect wants to find again of what it was told when an upload was created. Kept with the upload as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notes {
    /// What becomes of a taken name.
    #[serde(default)]
    pub conflict: Conflict,
    /// `Upload-Metadata` as received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// `Upload-Concat` as received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concat: Option<String>,
}

/// What an upload is to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Nothing: it becomes a file of its own.
    File,
    /// A piece of uploads that are composed.
    Piece,
    /// Composed of pieces; it takes no bytes of its own.
    Composed,
}

impl Notes {
    /// Returns what the upload is to others.
    pub fn role(&self) -> Role {
        match self.concat.as_deref() {
            None => Role::File,
            Some("partial") => Role::Piece,
            Some(_) => Role::Composed,
        }
    }

    /// Writes them as they are kept.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("plain text serialises")
    }

    /// Reads what [`Self::encode`] wrote; an upload without notes has the default ones.
    ///
    /// # Errors
    /// It is something else.
    pub fn decode(text: Option<&str>) -> Result<Self, serde_json::Error> {
        text.map_or_else(|| Ok(Self::default()), serde_json::from_str)
    }
}
