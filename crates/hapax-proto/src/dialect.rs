//! The wire dialects of the upload resource: each translates its own requests and answers from and to the same
//! values of `upload`. No dialect decides anything.

/// Our own dialect under `/api/v1`: parallel parts with values.
pub mod native;

/// tus 1.0.0.
pub mod tus;

/// Resumable uploads for HTTP, the draft of the IETF.
pub mod rufh;

use serde::{Deserialize, Serialize};

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
}

impl Notes {
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
