//! Input that is wrong, in every dialect of uploads: each case is one line, has a clear problem, and loses nothing. The
//! upload it was sent to stands as before, takes the right bytes afterwards, and becomes the file it was to be.

/// tus 1.0.0.
mod tus;
/// Resumable uploads for HTTP.
mod ietf;
/// The native dialect.
mod native;
/// Plain requests, and what HTTP itself forbids.
mod plain;
/// Uploads that take nothing: finished, deleted, foreign, unknown.
mod closed;
/// Too many, too large, too late, too slow.
mod limits;

use hapax_proto::dialect::native::UploadList;
use hapax_proto::upload::State;
use serde_json::{Value, json};

use crate::server::Running;
use crate::wire::{Answer, Client, Wire};

/// What the file is to be.
const SOURCE: &[u8; 100] =
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnopqrstuvwxyz@@";
/// How much of it is there before each case.
const BEFORE: usize = 10;

/// A status and the name of a problem; the name is empty where HTTP itself refused.
type Expected = (u16, &'static str);

const BAD_FIELD: Expected = (400, "bad-field");
const CUT: Expected = (503, "unavailable");
const TOO_LARGE: Expected = (413, "too-large");
const MISMATCH: Expected = (409, "mismatching-upload-offset");
const INCONSISTENT: Expected = (400, "inconsistent-upload-length");
/// Refused by the HTTP library, which knows no problems.
const NO_HTTP: Expected = (400, "");

/// A server and what is tried on it.
struct Stage {
    server: Running,
}

/// A request.
#[derive(Clone)]
struct Ask {
    method: &'static str,
    /// `{id}` stands for the upload's.
    target: String,
    fields: Vec<(String, String)>,
    body: Body,
}

/// How a body is sent.
#[derive(Clone)]
enum Body {
    /// With its length.
    Bytes(Vec<u8>),
    /// With a length that is another, and then the sending side ends.
    Says(&'static str, Vec<u8>),
    /// As it stands behind `Transfer-Encoding: chunked`, and then the sending side ends.
    Chunked(Vec<u8>),
    /// Not at all.
    None,
}

impl Ask {
    fn new(method: &'static str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Self {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self {
            method,
            target: target.to_owned(),
            fields: fields.collect(),
            body: Body::Bytes(body.to_owned()),
        }
    }

    fn json(method: &'static str, target: &str, body: &str) -> Self {
        Self::new(method, target, &[("Content-Type", "application/json")], body.as_bytes())
    }

    /// Without a field.
    fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    /// With a field once more.
    fn and(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With another value of a field.
    fn with(self, name: &str, value: &str) -> Self {
        self.without(name).and(name, value)
    }

    fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    async fn send(&self, client: &Client, id: &str) -> Answer {
        let target = self.target.replace("{id}", id);
        let mut fields: Vec<_> =
            self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let length;
        let (bytes, ends) = match &self.body {
            Body::Bytes(bytes) => {
                length = bytes.len().to_string();
                fields.push(("Content-Length", &length));
                (bytes.as_slice(), false)
            }
            Body::Says(length, bytes) => {
                fields.push(("Content-Length", length));
                (bytes.as_slice(), true)
            }
            Body::Chunked(bytes) => {
                fields.push(("Transfer-Encoding", "chunked"));
                (bytes.as_slice(), true)
            }
            Body::None => (&b""[..], false),
        };
        let mut wire = Wire::connect(client.address).await;
        let mut request = (client.head(self.method, &target, &fields) + "\r\n").into_bytes();
        request.extend_from_slice(bytes);
        wire.send(request).await;
        if ends {
            wire.finish().await;
        }
        wire.answer_to(self.method).await
    }
}

/// An upload of [`SOURCE`] of which the first bytes are there.
struct Upload {
    client: Client,
    id: String,
}

impl Upload {
    async fn begun(client: Client) -> Self {
        let fields = [
            ("Upload-Complete", "?0"),
            ("Upload-Length", "100"),
            ("Content-Disposition", "attachment; filename=it"),
        ];
        let created = client.send("POST", "/files/", &fields, &SOURCE[..BEFORE]).await.expect(201);
        let id = created.field("location").rsplit('/').next().unwrap().to_owned();
        Self { client, id }
    }

    /// What everybody can see of it, without ending anybody.
    async fn stands(&self) -> (Value, Option<String>) {
        let url = format!("/api/v1/uploads/{}", self.id);
        let mut status: Value = self.client.get(&url).await.expect(200).read();
        status["expires"].take();
        let want = [("Want-Repr-Digest", "blake3=10")];
        let head = self.client.ask("HEAD", &format!("/uploads/{}", self.id), &want).await;
        (status, (!head.field("repr-digest").is_empty()).then(|| head.field("repr-digest").to_owned()))
    }

    async fn offset(&self) -> usize {
        let (status, _) = self.stands().await;
        usize::try_from(status["offset"].as_u64().unwrap()).unwrap()
    }

    /// Sends what is missing and compares the file.
    #[track_caller]
    fn finish(&self, what: &str) -> impl Future<Output = ()> {
        let at = self.offset();
        async move {
            let at = at.await;
            let offset = at.to_string();
            let fields = [
                ("Upload-Complete", "?1"),
                ("Content-Type", "application/partial-upload"),
                ("Upload-Offset", &*offset),
            ];
            let url = format!("/uploads/{}", self.id);
            let done = self.client.send("PATCH", &url, &fields, &SOURCE[at..]).await;
            assert!(done.status.is_success(), "{what}: {}", String::from_utf8_lossy(&done.body));
            assert_eq!(self.client.get(&url).await.expect(200).body, SOURCE, "{what}");
        }
    }
}

/// Returns the ids and states of all uploads of somebody.
async fn uploads(client: &Client) -> Vec<(String, State)> {
    let list: UploadList = client.get("/api/v1/uploads?limit=1000").await.expect(200).read();
    list.uploads.into_iter().map(|upload| (upload.id, upload.state)).collect()
}

#[track_caller]
fn assert_refused(answer: &Answer, expected: Expected, what: &str) {
    let found = (answer.status.as_u16(), answer.field("hapax-problem"));
    assert_eq!(found, expected, "{what}: {}", String::from_utf8_lossy(&answer.body));
    if !expected.1.is_empty() && !answer.body.is_empty() {
        let problem: Value = answer.read();
        assert_eq!(problem["status"], expected.0, "{what}");
        let kind = problem["type"].as_str().unwrap();
        assert!(kind.ends_with(expected.1), "{what}: {kind}");
    }
}

impl Stage {
    async fn set() -> Self {
        Self { server: Running::start().await }
    }

    /// A request to an upload that takes nothing from it.
    async fn check(&self, what: &str, ask: Ask, expected: Expected) {
        self.check_kept(what, ask, expected, 0).await;
    }

    /// A request to an upload that takes the first bytes of it.
    async fn check_kept(&self, what: &str, ask: Ask, expected: Expected, kept: usize) {
        let upload = Upload::begun(self.server.alice()).await;
        let before = upload.stands().await;
        let answer = ask.send(&upload.client, &upload.id).await;
        assert_refused(&answer, expected, what);
        if kept == 0 {
            assert_eq!(upload.stands().await, before, "{what}");
        } else {
            assert_eq!(upload.offset().await, BEFORE + kept, "{what}");
        }
        upload.finish(what).await;
    }

    /// A creation that comes to nothing.
    async fn check_creation(&self, what: &str, ask: Ask, expected: Expected) {
        let client = self.server.alice();
        let before = uploads(&client).await;
        let answer = ask.send(&client, "").await;
        assert_refused(&answer, expected, what);
        assert_eq!(uploads(&client).await, before, "{what}");
    }

    /// The process is alive, and what it has is sound.
    async fn strike(self) {
        self.server.nobody().get("/healthz").await.expect(200);
        self.server.end().await;
    }
}

/// The body of a chunked message of one chunk.
fn one_chunk(bytes: &[u8]) -> Body {
    Body::Chunked([format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n0\r\n\r\n"].concat())
}

/// Values that are no count of bytes.
const NO_NUMBERS: [&str; 12] = [
    "",
    "-1",
    "+10",
    "10.0",
    "1e1",
    "0x0a",
    "10, 10",
    "ten",
    "\u{661}\u{660}",
    "1000000000000000",
    "18446744073709551616",
    "99999999999999999999999999999999",
];

/// How bodies break, with the bytes of them that count, for an append that begins at [`BEFORE`].
fn broken_bodies() -> Vec<(&'static str, Body, usize)> {
    let five = &SOURCE[BEFORE..BEFORE + 5];
    let chunk = |rest: &[u8]| Body::Chunked([b"5\r\n", five, b"\r\n", rest].concat());
    vec![
        ("shorter than it says", Body::Says("50", five.to_vec()), 5),
        ("nothing of what it says", Body::Says("50", Vec::new()), 0),
        ("a chunk without its end", Body::Chunked([b"7\r\n", five].concat()), 5),
        ("no chunk", Body::Chunked(b"hello".to_vec()), 0),
        ("no number in front of a chunk", chunk(b"\r\n"), 5),
        ("a negative chunk", chunk(b"-5\r\nhello\r\n"), 5),
        ("a chunk beyond all numbers", chunk(b"fffffffffffffffff\r\nhello"), 5),
        ("a chunk that is longer than it says", chunk(b"2\r\nfghij\r\n0\r\n\r\n"), 7),
        ("no last chunk", chunk(b""), 5),
        ("a last chunk without its end", chunk(b"0\r\n"), 5),
        ("a trailer that is no field", chunk(b"0\r\nnothing\r\n\r\n"), 5),
    ]
}
