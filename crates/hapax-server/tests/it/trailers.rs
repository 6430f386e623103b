//! Digests that come behind the bytes: nothing counts before they did, over HTTP/1.1 in chunks and over HTTP/2.

use data_encoding::BASE64;
use hapax_proto::digest::{Algorithm, Hasher};
use hapax_proto::tree::PART;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::files::digest_field;
use crate::h2::H2;
use crate::server::Running;
use crate::wire::{Answer, Client, Wire};

const TUS: [(&str, &str); 2] =
    [("Tus-Resumable", "1.0.0"), ("Content-Type", "application/offset+octet-stream")];
const IETF: [(&str, &str); 2] = [("Upload-Complete", "?0"), ("Content-Type", "application/partial-upload")];
const ANNOUNCED: (&str, &str) = ("Trailer", "Upload-Checksum");
const CHUNKED: (&str, &str) = ("Transfer-Encoding", "chunked");
/// How many bytes lie in front of what is sent.
const BEFORE: usize = 10;
/// Longer than one segment, and not a border of anything.
const LENGTH: usize = 200_000;

fn noise(length: usize, seed: &str) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Returns `Upload-Checksum` of bytes.
fn checksum(name: &str, bytes: &[u8]) -> String {
    let algorithm = match name {
        "sha1" => Algorithm::Sha1,
        "sha256" => Algorithm::Sha256,
        "md5" => Algorithm::Md5,
        "crc32" => {
            let sum = crc32(bytes).to_be_bytes();
            return format!("crc32 {}", BASE64.encode(&sum));
        }
        other => panic!("{other} is not asked for here"),
    };
    let mut hasher = Hasher::new([algorithm]);
    hasher.update(bytes);
    format!("{name} {}", BASE64.encode(hasher.digests().get(algorithm).unwrap().value()))
}

/// CRC-32 of ISO HDLC by the bit, so that the test shares nothing with what it tests.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xEDB8_8320 & (sum & 1).wrapping_neg()))
    })
}

/// Writes bytes as chunks of some length, without the last one.
fn chunks(bytes: &[u8]) -> Vec<u8> {
    let chunk = |chunk: &[u8]| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
    bytes.chunks(70_000).flat_map(chunk).collect()
}

/// An upload of which the first bytes are there.
struct Upload {
    client: Client,
    url: String,
    id: String,
}

impl Upload {
    async fn begun(client: Client, bytes: &[u8]) -> Self {
        let length = bytes.len().to_string();
        let fields = [TUS[0], TUS[1], ("Upload-Length", &*length), ("Upload-Metadata", "filename YQ==")];
        let created = client.send("POST", "/tus/", &fields, &bytes[..BEFORE]).await.expect(201);
        let id = created.field("location").rsplit('/').next().unwrap().to_owned();
        Self { client, url: format!("/uploads/{id}"), id }
    }

    /// What everybody can see of it.
    async fn stands(&self) -> (String, String, Value) {
        let want = [("Want-Repr-Digest", "blake3=10")];
        let head = self.client.ask("HEAD", &self.url, &want).await.expect(200);
        let native: Value = self.client.get(&format!("/api/v1/uploads/{}", self.id)).await.expect(200).read();
        let durable = json!([native["received"], native["parts"], native["partial"]]);
        (head.field("upload-offset").to_owned(), head.field("repr-digest").to_owned(), durable)
    }

    /// Appends the rest over HTTP/1.1 in chunks, with these lines behind them.
    async fn append(&self, fields: &[(&str, &str)], bytes: &[u8], trailers: &str) -> Answer {
        let mut wire = Wire::connect(self.client.address).await;
        wire.send(self.head(fields)).await;
        wire.send(chunks(bytes)).await;
        wire.send(format!("0\r\n{trailers}\r\n")).await;
        wire.answer().await
    }

    fn head(&self, fields: &[(&str, &str)]) -> String {
        let at = BEFORE.to_string();
        let own = [("Upload-Offset", at.as_str()), CHUNKED];
        self.client.head("PATCH", &self.url, &[&own[..], fields].concat()) + "\r\n"
    }
}

/// What comes behind the bytes, and what becomes of them.
struct Case {
    name: &'static str,
    fields: Vec<(&'static str, String)>,
    trailers: Vec<(&'static str, String)>,
    refused: Option<(u16, &'static str)>,
}

impl Case {
    fn new(
        name: &'static str,
        fields: &[(&'static str, &str)],
        trailers: &[(&'static str, &str)],
        refused: Option<(u16, &'static str)>,
    ) -> Self {
        let owned = |pairs: &[(&'static str, &str)]| {
            pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
        };
        Self { name, fields: owned(fields), trailers: owned(trailers), refused }
    }

    fn fields(&self) -> Vec<(&str, &str)> {
        self.fields.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    fn trailer_lines(&self) -> String {
        let lines: Vec<_> =
            self.trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        lines.concat()
    }

    fn trailer_map(&self) -> HeaderMap {
        let pairs = self.trailers.iter();
        pairs.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }
}

/// Every case, for an append of these bytes.
fn cases(bytes: &[u8]) -> Vec<Case> {
    let sum = |name| checksum(name, bytes);
    let (sha1, wrong) = (sum("sha1"), checksum("sha1", b"other"));
    let tus = |more: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
        let all = [&TUS[..], &[ANNOUNCED], more].concat();
        all.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
    };
    let behind = |name, value: &str, refused| Case {
        fields: tus(&[]),
        ..Case::new(name, &[], &[("Upload-Checksum", value)], refused)
    };
    let mismatch = Some((460, "checksum-mismatch"));
    let bad = Some((400, "bad-field"));
    let digest = digest_field(Algorithm::Sha256, bytes);
    let content = [IETF[0], IETF[1], ("Trailer", "content-digest")];
    vec![
        behind("sha1", &sha1, None),
        behind("sha256", &sum("sha256"), None),
        behind("md5", &sum("md5"), None),
        behind("crc32", &sum("crc32"), None),
        behind("of other bytes", &wrong, mismatch),
        behind("crc32 of other bytes", &checksum("crc32", b"other"), mismatch),
        behind("an algorithm nobody announced", "sha512 YQ==", bad),
        behind("bad base64", "sha1 !!!", bad),
        behind("too short", "sha1 YQ==", bad),
        behind("no value", "sha1", bad),
        Case { fields: tus(&[]), ..Case::new("no trailer at all", &[], &[], bad) },
        Case { fields: tus(&[]), ..Case::new("another trailer", &[], &[("Expires", "0")], bad) },
        Case {
            fields: tus(&[("Upload-Checksum", &sum("md5"))]),
            ..Case::new("right before and behind", &[], &[("Upload-Checksum", &sha1)], None)
        },
        Case {
            fields: tus(&[("Upload-Checksum", &wrong)]),
            ..Case::new("wrong before, right behind", &[], &[("Upload-Checksum", &sha1)], mismatch)
        },
        Case {
            fields: tus(&[("Upload-Checksum", &sha1)]),
            ..Case::new("right before, missing behind", &[], &[], bad)
        },
        Case::new("nobody announced it", &TUS, &[("Upload-Checksum", &wrong)], None),
        Case::new("RFC 9530", &content, &[("Content-Digest", &digest)], None),
        Case::new(
            "RFC 9530 of other bytes",
            &content,
            &[("Content-Digest", &digest_field(Algorithm::Md5, b"other"))],
            Some((400, "digest-mismatch")),
        ),
        Case::new("RFC 9530, malformed", &content, &[("Content-Digest", "sha-256=x")], bad),
        Case::new("RFC 9530, missing", &content, &[], bad),
        Case::new(
            "a digest of the whole behind a piece",
            &[IETF[0], IETF[1], ("Trailer", "Repr-Digest")],
            &[("Repr-Digest", &digest)],
            bad,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_count_once_what_comes_behind_them_fits() {
    let server = Running::start().await;
    let bytes = noise(LENGTH, "a");
    let mut http2 = H2::connect(server.address).await;
    for case in cases(&bytes[BEFORE..]) {
        for over_http2 in [false, true] {
            let upload = Upload::begun(server.alice(), &bytes).await;
            let before = upload.stands().await;
            let answer = if over_http2 {
                let at = BEFORE.to_string();
                let fields = [&[("Upload-Offset", at.as_str())], &case.fields()[..]].concat();
                let mut request = http2.begin(&upload.client, "PATCH", &upload.url, &fields);
                request.send(&bytes[BEFORE..]).await;
                request.finish(case.trailer_map()).await
            } else {
                upload.append(&case.fields(), &bytes[BEFORE..], &case.trailer_lines()).await
            };
            let what = format!("{}, HTTP/2: {over_http2}", case.name);
            match case.refused {
                Some((status, problem)) => {
                    assert_eq!(
                        (answer.status.as_u16(), answer.field("hapax-problem")),
                        (status, problem),
                        "{what}"
                    );
                    assert_eq!(upload.stands().await, before, "{what}");
                    // Nothing is lost: the same bytes without a word about them go on.
                    let at = BEFORE.to_string();
                    let fields = [TUS[0], TUS[1], ("Upload-Offset", &*at)];
                    upload.client.send("PATCH", &upload.url, &fields, &bytes[BEFORE..]).await.expect(204);
                }
                None => assert_eq!(
                    (answer.status.as_u16(), answer.field("upload-offset")),
                    (204, LENGTH.to_string().as_str()),
                    "{what}"
                ),
            }
            upload.finish_as(&bytes, &what).await;
        }
    }
    server.end().await;
}

impl Upload {
    /// Completes the upload, which some dialects do by themselves, and compares the file with its source.
    async fn finish_as(&self, bytes: &[u8], what: &str) {
        let complete = json!({"size": bytes.len(), "blake3": null});
        let url = format!("/api/v1/uploads/{}/complete", self.id);
        let done = self.client.json("POST", &url, &complete).await;
        assert!(done.status.is_success(), "{what}: {}", String::from_utf8_lossy(&done.body));
        assert!(self.client.get(&self.url).await.expect(200).body == bytes, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_before_its_trailer_leaves_nothing() {
    let server = Running::start().await;
    let bytes = noise(LENGTH, "b");
    // Where the line breaks: within the bytes, behind them, within the trailer.
    let sent = [&chunks(&bytes[BEFORE..])[..], b"0\r\nUpload-Check"].concat();
    for end in [1_000, sent.len() - 15, sent.len() - 12, sent.len()] {
        let upload = Upload::begun(server.alice(), &bytes).await;
        let before = upload.stands().await;
        let mut wire = server.connect().await;
        wire.send(upload.head(&[TUS[0], TUS[1], ANNOUNCED])).await;
        wire.send(&sent[..end]).await;
        wire.finish().await;
        wire.answer().await.refused(503, "unavailable");
        assert_eq!(upload.stands().await, before, "{end}");
        // Killed without a word: whoever asks next sees nothing of it either.
        let mut wire = server.connect().await;
        let fields = [TUS[0], TUS[1], ANNOUNCED, ("Expect", "100-continue")];
        wire.send(upload.head(&fields)).await;
        assert_eq!(wire.answer_to("HEAD").await.status, 100);
        wire.send(&sent[..end]).await;
        drop(wire);
        assert_eq!(upload.stands().await, before, "{end}");
        upload.append(&TUS, &bytes[BEFORE..], "").await.expect(204);
        upload.finish_as(&bytes, &format!("cut at {end}")).await;
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_reset_before_its_trailer_leaves_nothing() {
    let server = Running::start().await;
    let bytes = noise(LENGTH, "c");
    let upload = Upload::begun(server.alice(), &bytes).await;
    let before = upload.stands().await;
    let mut http2 = H2::connect(server.address).await;
    let fields = [TUS[0], TUS[1], ANNOUNCED, ("Upload-Offset", "10")];
    let mut request = http2.begin(&upload.client, "PATCH", &upload.url, &fields);
    request.send(&bytes[BEFORE..]).await;
    request.reset().await;
    assert_eq!(upload.stands().await, before);
    // The connection goes on.
    let mut request = http2.begin(&upload.client, "PATCH", &upload.url, &fields);
    request.send(&bytes[BEFORE..]).await;
    let sum = checksum("sha1", &bytes[BEFORE..]);
    let trailers = HeaderMap::from_iter([("upload-checksum".parse().unwrap(), sum.parse().unwrap())]);
    request.finish(trailers).await.expect(204);
    upload.finish_as(&bytes, "after a reset").await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_trailer_section_is_a_broken_body() {
    let server = Running::start().await;
    let bytes = noise(LENGTH, "d");
    let long = format!("Upload-Checksum: sha1 {}\r\n", "A".repeat(64 << 10));
    for trailers in ["Upload-Checksum\r\n", "Upload Checksum: sha1 YQ==\r\n", "\0: a\r\n", long.as_str()] {
        let upload = Upload::begun(server.alice(), &bytes).await;
        let before = upload.stands().await;
        let fields = [TUS[0], TUS[1], ANNOUNCED];
        let answer = upload.append(&fields, &bytes[BEFORE..], trailers).await;
        assert!(matches!(answer.status.as_u16(), 400 | 503), "{trailers:.20}: {answer:?}");
        assert_eq!(upload.stands().await, before, "{trailers:.20}");
        upload.append(&TUS, &bytes[BEFORE..], "").await.expect(204);
        upload.finish_as(&bytes, trailers).await;
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_append_that_waits_for_its_trailer_is_taken_over_without_a_trace() {
    let server = Running::start().await;
    let part = usize::try_from(PART.get()).unwrap();
    let bytes = noise(2 * part + 5, "e");
    let upload = Upload::begun(server.alice(), &bytes).await;
    let before = upload.stands().await;
    let mut ghost = server.connect().await;
    ghost.send(upload.head(&[TUS[0], TUS[1], ANNOUNCED, ("Expect", "100-continue")])).await;
    assert_eq!(ghost.answer_to("HEAD").await.status, 100);
    ghost.send(chunks(&bytes[BEFORE..])).await;
    assert_eq!(upload.stands().await, before);
    ghost.answer().await.refused(409, "superseded");
    let sum = format!("Upload-Checksum: {}\r\n", checksum("sha256", &bytes[BEFORE..]));
    upload.append(&[TUS[0], TUS[1], ANNOUNCED], &bytes[BEFORE..], &sum).await.expect(204);
    upload.finish_as(&bytes, "taken over").await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_may_bring_its_checksum_behind_its_bytes() {
    let server = Running::start().await;
    let create = async |name: &str, sum: &str| {
        let client = server.alice();
        let metadata = format!("filename {}", BASE64.encode(name.as_bytes()));
        let fields =
            [TUS[0], TUS[1], ANNOUNCED, CHUNKED, ("Upload-Length", "3"), ("Upload-Metadata", &*metadata)];
        let mut wire = server.connect().await;
        wire.send(client.head("POST", "/tus/", &fields) + "\r\n").await;
        wire.send(format!("3\r\nabc\r\n0\r\nUpload-Checksum: {sum}\r\n\r\n")).await;
        wire.answer().await
    };
    let created = create("right", &checksum("sha1", b"abc")).await.expect(201);
    assert_eq!(created.field("upload-offset"), "3");
    let refused = create("wrong", &checksum("sha1", b"abd")).await.refused(460, "checksum-mismatch");
    let url = refused.field("location").to_owned();
    let head = server.alice().ask("HEAD", &url, &TUS).await.expect(200);
    assert_eq!(head.field("upload-offset"), "0");
    server.alice().get("/files/wrong").await.refused(404, "not-found");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_may_bring_its_digests_behind_its_bytes() {
    let server = Running::start().await;
    let client = server.alice();
    client.send("PUT", "/files/a", &[], "old").await.expect(201);
    let put = async |fields: &[(&str, &str)], trailers: &str| {
        let mut wire = server.connect().await;
        let fields = [&[CHUNKED][..], fields].concat();
        wire.send(client.head("PUT", "/files/a", &fields) + "\r\n3\r\nnew\r\n0\r\n").await;
        wire.send(format!("{trailers}\r\n")).await;
        wire.answer().await
    };
    let line =
        |field: &str, algorithm, bytes: &[u8]| format!("{field}: {}\r\n", digest_field(algorithm, bytes));
    let whole = ("Upload-Complete", "?1");
    for extra in [&[][..], &[whole]] {
        for (field, algorithm) in [
            ("Repr-Digest", Algorithm::Blake3),
            ("Repr-Digest", Algorithm::Sha256),
            ("Content-Digest", Algorithm::Blake3),
            ("Content-Digest", Algorithm::Crc32c),
        ] {
            let fields = [extra, &[("Trailer", field)]].concat();
            let wrong = line(field, algorithm, b"other");
            put(&fields, &wrong).await.refused(400, "digest-mismatch");
            put(&fields, "").await.refused(400, "bad-field");
            put(&fields, &format!("{field}: !\r\n")).await.refused(400, "bad-field");
            assert_eq!(client.get("/files/a").await.expect(200).body, b"old");
            put(&fields, &line(field, algorithm, b"new")).await.expect(200);
            assert_eq!(client.get("/files/a").await.expect(200).body, b"new");
            client.send("PUT", "/files/a", &[], "old").await.expect(200);
        }
    }
    // Two fields that speak of the same bytes and disagree.
    let before = digest_field(Algorithm::Blake3, b"new");
    let behind = line("Content-Digest", Algorithm::Blake3, b"old");
    let fields = [("Repr-Digest", &*before), ("Trailer", "Content-Digest")];
    put(&fields, &behind).await.refused(400, "digest-mismatch");
    assert_eq!(client.get("/files/a").await.expect(200).body, b"old");
    server.end().await;
}
