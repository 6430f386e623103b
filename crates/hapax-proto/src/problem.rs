//! Every error on the wire (RFC 9457): one table of name, status, advice and members. The documentation is
//! printed from this table; nothing else in the workspace invents an error name or its status.

use std::fmt::Write as _;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The media type of a problem body.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// The field that names the problem where a response has no body (HEAD).
pub const FIELD: &str = "hapax-problem";

/// What the receiver of a problem should do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Send the same request again, after `Retry-After` if given.
    Retry,
    /// Ask for the state, then go on from it.
    Reprobe,
    /// What is held belongs to another version: begin anew.
    Restart,
    /// Repeating changes nothing.
    GiveUp,
}

impl Advice {
    /// Returns the word used in the documentation.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Reprobe => "reprobe",
            Self::Restart => "restart",
            Self::GiveUp => "give up",
        }
    }
}

macro_rules! problems {
    ($($kind:ident $name:literal $status:literal $advice:ident [$($member:literal),*] $about:literal)*) => {
        /// The kinds of problems; each is one row of the table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Kind { $(#[doc = $about] $kind,)* }

        impl Kind {
            /// Every kind, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// Returns the name on the wire.
            pub const fn name(self) -> &'static str { match self { $(Self::$kind => $name,)* } }

            /// Returns the HTTP status.
            pub fn status(self) -> StatusCode {
                let status: u16 = match self { $(Self::$kind => $status,)* };
                StatusCode::from_u16(status).expect("the table holds three-digit statuses")
            }

            /// Returns what the receiver should do next.
            pub const fn advice(self) -> Advice { match self { $(Self::$kind => Advice::$advice,)* } }

            /// Returns the names of the members that a problem of this kind carries beside the standard ones.
            pub const fn members(self) -> &'static [&'static str] { match self { $(Self::$kind => &[$($member),*],)* } }

            /// Returns one sentence on what happened; it is also the title on the wire.
            pub const fn about(self) -> &'static str { match self { $(Self::$kind => $about,)* } }
        }
    };
}

problems! {
    BadPath "bad-path" 400 GiveUp [] "The path breaks a rule of paths."
    BadField "bad-field" 400 GiveUp ["field"] "A header field or a member of the request is malformed."
    BodyDigestMismatch "digest-mismatch" 400 Retry ["expected", "actual"] "The bytes of this request differ from the digest it declared; nothing changed."
    PartLength "part-length" 400 GiveUp ["expected"] "The body does not fit into the part."
    UnknownMember "unknown-member" 400 GiveUp ["member"] "The request has a member that this version does not know."
    ContentRange "content-range" 400 GiveUp [] "A PUT with Content-Range is not accepted."
    InconsistentUploadLength "inconsistent-upload-length" 400 GiveUp [] "The length stated now differs from the one stated before."
    Unauthenticated "unauthenticated" 401 GiveUp [] "Credentials are missing or wrong."
    Forbidden "forbidden" 403 GiveUp [] "These credentials do not allow this."
    UploadUnfinished "upload-unfinished" 403 GiveUp ["offset"] "The upload is not finished; its content cannot be read yet."
    FinalUpload "final-upload" 403 GiveUp [] "A concatenated upload takes no bytes of its own."
    NotFound "not-found" 404 GiveUp [] "There is nothing here that these credentials may see."
    PartOutOfRange "part-out-of-range" 404 Reprobe ["parts"] "The upload has no part of that number."
    MethodNotAllowed "method-not-allowed" 405 GiveUp [] "The target does not support this method."
    Exists "exists" 409 GiveUp [] "Something with that name exists already."
    IsAFolder "is-a-folder" 409 GiveUp [] "The target is a folder."
    NotAFolder "not-a-folder" 409 GiveUp [] "A name on the way to the target is a file."
    NotEmpty "not-empty" 409 GiveUp [] "The folder is not empty."
    IntoItself "into-itself" 409 GiveUp [] "A folder cannot be moved into itself."
    Incomplete "incomplete" 409 Reprobe ["missing", "more"] "Bytes of the upload are still missing."
    PartOffset "part-offset" 409 Reprobe ["have"] "The part does not continue where this run begins."
    Superseded "superseded" 409 Reprobe [] "A newer request took over."
    AlreadyComplete "already-complete" 409 GiveUp [] "The upload is complete."
    MismatchingUploadOffset "mismatching-upload-offset" 409 Reprobe ["expected-offset", "provided-offset"] "The upload continues at another offset."
    UploadGone "upload-gone" 410 Restart ["state"] "The upload was cancelled, expired or spoiled."
    LengthRequired "length-required" 411 GiveUp [] "The request must state its length."
    PreconditionFailed "precondition-failed" 412 GiveUp [] "A precondition does not hold."
    Changed "changed" 412 Restart ["etag"] "The file is no longer the version asked for."
    TusVersion "tus-version" 412 GiveUp [] "This version of tus is not supported."
    TooLarge "too-large" 413 GiveUp ["limit"] "The body is larger than the limit."
    MediaType "media-type" 415 GiveUp [] "The body has a media type that the target does not take."
    ContentCoding "content-coding" 415 GiveUp [] "The body has a content coding; send it plain."
    Range "range" 416 Restart ["size"] "No byte of the range exists."
    FinalDigestMismatch "digest-mismatch" 422 Reprobe ["expected", "actual"] "The assembled content differs from the declared digest; the upload stays open."
    Busy "busy" 423 Retry [] "Another request holds this for the moment."
    TooMany "too-many" 429 Retry [] "Too many requests, or too many of these at once."
    FieldsTooLarge "fields-too-large" 431 GiveUp [] "The header fields are too large."
    ChecksumMismatch "checksum-mismatch" 460 Retry [] "The chunk differs from its checksum; the offset is unchanged."
    Internal "internal" 500 GiveUp [] "The server failed; its log says how."
    Damaged "damaged" 500 GiveUp [] "Stored bytes failed authentication and were not served."
    Unavailable "unavailable" 503 Retry [] "The server cannot do this just now."
    OutOfSpace "out-of-space" 507 Retry [] "The server's disk is full."
    Quota "quota" 507 GiveUp ["limit", "used"] "The account's quota is used up."
}

impl Kind {
    /// Returns the kind with this name and status, if the table has it.
    pub fn find(name: &str, status: StatusCode) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name && kind.status() == status)
    }

    /// Tells whether an answer of this kind carries `Retry-After`.
    pub fn retries_later(self) -> bool {
        self.advice() == Advice::Retry && matches!(self.status().as_u16(), 423 | 429 | 503 | 507)
    }
}

/// One problem as it stands on the wire.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Which row of the table.
    pub kind: Kind,
    /// What happened in this case, for people; never a path or a key of the server.
    pub detail: Option<String>,
    /// The members of the table's row.
    pub members: Map<String, Value>,
}

/// The body of a problem, as read from or written to the wire. Unknown members are kept: they are the row's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Body {
    #[serde(rename = "type")]
    kind: String,
    title: Option<String>,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(flatten)]
    members: Map<String, Value>,
}

/// What stands before the name in a problem's `type`.
const TYPE_PREFIX: &str = "urn:hapax:problem:";
/// The registered types of the IETF draft, by which its clients know the two problems it defines.
const IANA_PREFIX: &str = "https://iana.org/assignments/http-problem-types#";

impl Problem {
    /// Makes a problem without detail or members.
    pub fn new(kind: Kind) -> Self {
        Self { kind, detail: None, members: Map::new() }
    }

    /// Adds a sentence for people.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a member of the table's row.
    #[must_use]
    pub fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        debug_assert!(self.kind.members().contains(&name), "{name} is not a member of {}", self.kind.name());
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Writes the body of RFC 9457 §3.
    pub fn encode(&self) -> Vec<u8> {
        let prefix = match self.kind {
            Kind::MismatchingUploadOffset | Kind::InconsistentUploadLength => IANA_PREFIX,
            _ => TYPE_PREFIX,
        };
        let body = Body {
            kind: format!("{prefix}{}", self.kind.name()),
            title: Some(self.kind.about().to_owned()),
            status: self.kind.status().as_u16(),
            detail: self.detail.clone(),
            members: self.members.clone(),
        };
        serde_json::to_vec(&body).expect("strings and JSON values always serialise")
    }

    /// Reads a body that `encode` wrote; `None` if it is no problem of the table.
    pub fn decode(status: StatusCode, body: &[u8]) -> Option<Self> {
        let body: Body = serde_json::from_slice(body).ok()?;
        let name = body.kind.strip_prefix(TYPE_PREFIX).or_else(|| body.kind.strip_prefix(IANA_PREFIX))?;
        Some(Self { kind: Kind::find(name, status)?, detail: body.detail, members: body.members })
    }
}

impl From<Kind> for Problem {
    fn from(kind: Kind) -> Self {
        Self::new(kind)
    }
}

/// Prints the table as it stands in `docs/protocol.md`.
pub fn table_markdown() -> String {
    let mut table =
        String::from("| status | name | members | what a client does | meaning |\n|---|---|---|---|---|\n");
    for kind in Kind::ALL {
        let members =
            kind.members().iter().map(|member| format!("`{member}`")).collect::<Vec<_>>().join(", ");
        let (status, name, advice, about) =
            (kind.status().as_u16(), kind.name(), kind.advice().word(), kind.about());
        writeln!(table, "| {status} | `{name}` | {members} | {advice} | {about} |")
            .expect("a String takes every write");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name_and_status() {
        for kind in Kind::ALL {
            assert_eq!(Kind::find(kind.name(), kind.status()), Some(*kind));
        }
    }

    #[test]
    fn a_problem_survives_the_wire() {
        let problem = Problem::new(Kind::PartOffset).detail("the part has 7 bytes").member("have", 7);
        assert_eq!(Problem::decode(StatusCode::CONFLICT, &problem.encode()), Some(problem));
    }

    #[test]
    fn the_draft_knows_its_own_problems_by_their_registered_type() {
        let body = Problem::new(Kind::MismatchingUploadOffset).encode();
        assert!(
            String::from_utf8(body)
                .unwrap()
                .contains("https://iana.org/assignments/http-problem-types#mismatching-upload-offset")
        );
    }

    #[test]
    fn what_is_no_problem_of_the_table_is_not_read_as_one() {
        #[track_caller]
        fn check(status: u16, body: &str) {
            assert_eq!(Problem::decode(StatusCode::from_u16(status).unwrap(), body.as_bytes()), None);
        }
        check(404, "");
        check(404, "<html>");
        check(404, r#"{"type":"about:blank","status":404}"#);
        check(500, r#"{"type":"urn:hapax:problem:not-found","status":404}"#);
    }
}
