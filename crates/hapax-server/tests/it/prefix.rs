//! The prefix of an unfinished upload: proven before it is continued, in every algorithm; guarded by its entity tag.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use hapax_proto::dialect::native::{SpanDigest, UploadStatus};
use hapax_proto::digest::{Algorithm, Digests, Hasher};
use serde_json::{Value, json};

use crate::files::{digest_field, noise};
use crate::server::{PASSWORD, Running};
use crate::wire::{Answer, Client, Wire, curl};

const P: usize = 16 << 20;
const V: (&str, &str) = ("Tus-Resumable", "1.0.0");
const TUS_BYTES: (&str, &str) = ("Content-Type", "application/offset+octet-stream");
const MORE: (&str, &str) = ("Upload-Complete", "?0");
const IETF_BYTES: (&str, &str) = ("Content-Type", "application/partial-upload");

/// How bytes are appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Tus,
    Ietf,
}

impl Dialect {
    fn fields(self) -> [(&'static str, &'static str); 2] {
        match self {
            Self::Tus => [V, TUS_BYTES],
            Self::Ietf => [MORE, IETF_BYTES],
        }
    }
}

/// One upload.
struct Upload {
    client: Client,
    id: String,
}

impl Upload {
    async fn of(server: &Running, size: usize) -> Self {
        Self::create(server, Some(size), size).await
    }

    async fn create(server: &Running, size: Option<usize>, key: usize) -> Self {
        let client = server.alice();
        let create = json!({"key": format!("{key:016}"), "path": format!("/f{key}"), "size": size});
        let status: UploadStatus = client.json("POST", "/api/v1/uploads", &create).await.expect(201).read();
        Self { client, id: status.id }
    }

    fn api(&self, rest: &str) -> String {
        format!("/api/v1/uploads/{}{rest}", self.id)
    }

    async fn put(&self, part: usize, bytes: &[u8]) -> Answer {
        self.client.send("PUT", &self.api(&format!("/parts/{part}")), &[], bytes).await
    }

    async fn append(&self, dialect: Dialect, at: usize, fields: &[(&str, &str)], bytes: &[u8]) -> Answer {
        let at = at.to_string();
        let fields = [&dialect.fields()[..], &[("Upload-Offset", &*at)], fields].concat();
        self.client.send("PATCH", &format!("/uploads/{}", self.id), &fields, bytes).await
    }

    /// Begins an append and stops when the server reads its body.
    async fn begin(&self, dialect: Dialect, at: usize, length: usize) -> Wire {
        let (at, length) = (at.to_string(), length.to_string());
        let own = [("Upload-Offset", &*at), ("Content-Length", &*length), ("Expect", "100-continue")];
        let fields = [&dialect.fields()[..], &own].concat();
        let mut wire = Wire::connect(self.client.address).await;
        wire.send(self.client.head("PATCH", &format!("/uploads/{}", self.id), &fields) + "\r\n").await;
        assert_eq!(wire.answer_to("HEAD").await.status, 100);
        wire
    }

    async fn ask(&self, fields: &[(&str, &str)]) -> Answer {
        self.client.ask("HEAD", &format!("/uploads/{}", self.id), fields).await
    }

    async fn head(&self, fields: &[(&str, &str)]) -> Answer {
        self.ask(fields).await.expect(200)
    }

    async fn tag(&self) -> String {
        self.head(&[]).await.field("etag").to_owned()
    }

    async fn wanting(&self, want: &str) -> Answer {
        self.head(&[("Want-Repr-Digest", want)]).await
    }

    async fn digest(&self, query: &str) -> Answer {
        self.client.get(&self.api(&format!("/digest?{query}"))).await
    }
}

fn all_digests(bytes: &[u8]) -> Digests {
    let mut hasher = Hasher::new(Algorithm::ALL.iter().copied());
    hasher.update(bytes);
    hasher.digests()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_is_told_in_every_algorithm_wherever_it_ends() {
    let server = Running::start().await;
    let bytes = noise(2 * P);
    for (size, key) in [(Some(bytes.len()), 1), (None, 2)] {
        let upload = Upload::create(&server, size, key).await;
        let mut from = 0;
        for to in [0, 1, 65_536, 65_537, 1_000_003, P - 1, P, P + 70_001] {
            upload.append(Dialect::Ietf, from, &[], &bytes[from..to]).await.expect(204);
            let expected = all_digests(&bytes[..to]);
            for &algorithm in Algorithm::ALL {
                let want = format!("{algorithm}=10");
                let field = Digests::from_iter(expected.get(algorithm)).format_field().unwrap();
                let neutral = upload.wanting(&want).await;
                assert_eq!(neutral.field("upload-offset"), to.to_string());
                assert_eq!(neutral.field("repr-digest"), field, "{algorithm} of {to}");
                let fields = [V, ("Want-Repr-Digest", &*want)];
                let tus =
                    upload.client.ask("HEAD", &format!("/tus/{}", upload.id), &fields).await.expect(200);
                assert_eq!(
                    (tus.field("repr-digest"), tus.field("upload-offset")),
                    (field.to_str().unwrap(), &*to.to_string())
                );
                assert_eq!(tus.field("etag"), neutral.field("etag"));
            }
            from = to;
        }
        assert_eq!(upload.head(&[]).await.field("repr-digest"), "");
        assert_eq!(upload.wanting("unixsum=10, md5=0").await.field("repr-digest"), "");
        upload.ask(&[("Want-Repr-Digest", "md5=x")]).await.refused(400, "bad-field");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_done_tells_the_digest_of_its_file() {
    let server = Running::start().await;
    let upload = Upload::of(&server, 3).await;
    upload.append(Dialect::Tus, 0, &[], b"abc").await.expect(204);
    let done = upload.wanting("md5=10").await;
    assert_eq!(
        (done.field("upload-complete"), done.field("repr-digest")),
        ("?1", &*digest_field(Algorithm::Md5, b"abc"))
    );
}

/// The numbers of an answer name the bytes of its digest also while somebody stores other bytes there.
#[tokio::test(flavor = "multi_thread")]
async fn a_digest_is_of_the_state_that_its_answer_names() {
    let server = Running::start().await;
    let upload = Upload::of(&server, 2 * P).await;
    let versions = [noise(P), vec![7; P], vec![8; P], vec![9; P]];
    let known: Vec<String> = versions.iter().map(|bytes| digest_field(Algorithm::Md5, bytes)).collect();
    upload.put(0, &versions[0]).await.expect(201);
    let (writer, url) = (upload.client.clone(), upload.api("/parts/0"));
    let sending = tokio::spawn(async move {
        for _ in 0..4 {
            for bytes in &versions {
                writer.send("PUT", &url, &[], bytes).await.expect(201);
            }
        }
    });
    let mut seen = std::collections::HashMap::new();
    while !sending.is_finished() {
        let answer = upload.wanting("md5=10").await;
        assert_eq!(answer.field("upload-offset"), P.to_string());
        let digest = answer.field("repr-digest").to_owned();
        assert!(known.contains(&digest), "{digest} is of no version");
        let first = seen.entry(answer.field("etag").to_owned()).or_insert(digest.clone());
        assert_eq!(*first, digest, "one tag, two prefixes");
    }
    sending.await.unwrap();
    assert_eq!(upload.wanting("md5=10").await.field("repr-digest"), known[3]);
    server.end().await;
}

/// Returns the files of objects that appeared since.
fn objects(server: &Running, before: &[PathBuf]) -> Vec<PathBuf> {
    let dirs = std::fs::read_dir(server.data().join("objects")).unwrap();
    let files = dirs.flat_map(|dir| std::fs::read_dir(dir.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().path()).filter(|path| !before.contains(path)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_is_computed_once_for_a_state() {
    let server = Running::start().await;
    let upload = Upload::of(&server, 2 * P).await;
    let bytes = noise(P);
    upload.put(0, &bytes).await.expect(201);
    let [object] = &objects(&server, &[])[..] else { panic!("one part is one object") };
    let first = upload.wanting("md5=10").await;
    assert_eq!(first.field("repr-digest"), digest_field(Algorithm::Md5, &bytes));
    let hidden = object.with_extension("hidden");
    std::fs::rename(object, &hidden).unwrap();
    // Nothing is read for what is known: the object is not there.
    for want in ["md5=10", "sha-256=1, md5=2", "blake3=1, sha=1"] {
        let again = upload.wanting(want).await;
        assert_ne!(again.field("repr-digest"), "", "{want}");
        assert_eq!(again.field("etag"), first.field("etag"));
    }
    upload.ask(&[("Want-Repr-Digest", "sha-256=1")]).await.refused(500, "damaged");
    std::fs::rename(&hidden, object).unwrap();
    server.end().await;
}

/// Two readings of one account that wait for an object which somebody holds back.
struct HeldBack {
    object: PathBuf,
    hidden: PathBuf,
    readings: Vec<(Wire, String)>,
}

impl HeldBack {
    /// Puts a pipe in the place of an object, and asks twice for a digest that needs it.
    async fn begin(upload: &Upload, object: &PathBuf) -> Self {
        let hidden = object.with_extension("hidden");
        std::fs::rename(object, &hidden).unwrap();
        assert!(Command::new("mkfifo").arg(object).status().unwrap().success());
        let mut readings = Vec::new();
        for algorithm in ["sha-512", "sha-256"] {
            let want = format!("{algorithm}=10");
            let fields = [("Want-Repr-Digest", want.as_str())];
            let request = upload.client.head("HEAD", &format!("/uploads/{}", upload.id), &fields) + "\r\n";
            let mut wire = Wire::connect(upload.client.address).await;
            wire.send(&request).await;
            readings.push((wire, request));
        }
        Self { object: object.clone(), hidden, readings }
    }

    /// Holds back two readings that were let in, which shows in that a third is not, and returns another upload of the account
    /// with them.
    async fn let_in(server: &Running) -> (Upload, Self) {
        let other = Upload::of(server, P + 1).await;
        other.put(0, &noise(P)).await.expect(201);
        let before = objects(server, &[]);
        let upload = Upload::of(server, P).await;
        upload.put(0, &noise(P)).await.expect(201);
        let [object] = &objects(server, &before)[..] else { panic!("one part is one object") };
        let mut held = Self::begin(&upload, object).await;
        while other.digest("end=9&alg=md5").await.status != 429 {
            held.insist().await;
        }
        (other, held)
    }

    /// Asks once more where an answer came, because there was no place at that moment.
    async fn insist(&mut self) {
        for (wire, request) in &mut self.readings {
            let answered = tokio::time::timeout(Duration::ZERO, wire.answer_to("HEAD")).await;
            if let Ok(answer) = answered {
                assert_eq!(answer.expect(200).field("repr-digest"), "");
                wire.send(&*request).await;
            }
        }
    }

    /// Lets whoever waits for the object go on, to find that it is none, and puts it back.
    async fn end(self) {
        let pipe = self.object.clone();
        // Opening a pipe waits for the other side.
        tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(pipe).unwrap())
            .await
            .unwrap();
        std::fs::rename(&self.hidden, &self.object).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_readings_of_an_account_at_once_and_none_for_a_client_that_went_away() {
    let server = Running::start().await;
    let (other, mut held) = HeldBack::let_in(&server).await;
    // A third has to do with what is known, or without.
    other.digest("end=9&alg=md5").await.refused(429, "too-many");
    assert_eq!(other.wanting("md5=10").await.field("repr-digest"), "");
    assert_eq!(
        other.wanting("md5=10, blake3=1").await.field("repr-digest"),
        digest_field(Algorithm::Blake3, &noise(P))
    );
    // Both threads still wait for the object. That the places are free says that nobody reads on for them.
    held.readings.clear();
    while other.wanting("md5=10").await.field("repr-digest").is_empty() {}
    held.end().await;
    server.end().await;
}

/// An upload whose bytes are all there, and whose file has to be read before it appears, because of what was declared.
struct Declared {
    client: Client,
    url: String,
    name: &'static str,
}

impl Declared {
    /// Tells whether the file is there.
    async fn is_file(&self) -> bool {
        self.client.get(&format!("/files/{}", self.name)).await.status == 200
    }
}

fn base64(text: &str) -> String {
    data_encoding::BASE64.encode(text.as_bytes())
}

/// Creates an upload by tus that declares the SHA-256 of `abc`, and returns the answer.
async fn declared(client: &Client, name: &str, fields: &[(&str, &str)]) -> Answer {
    let mut hasher = Hasher::new([Algorithm::Sha256]);
    hasher.update(b"abc");
    let sha256 = hasher.digests().get(Algorithm::Sha256).unwrap().hex();
    let metadata = format!("filename {},sha256 {}", base64(name), base64(&sha256));
    let own = [V, ("Upload-Metadata", metadata.as_str())];
    client.send("POST", "/tus/", &[&own[..], fields].concat(), "").await
}

async fn last_bytes(client: &Client, url: &str, fields: &[(&str, &str)]) -> Answer {
    client.send("PATCH", url, &[&[("Upload-Offset", "0")][..], fields].concat(), "abc").await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_declared_is_read_for_two_at_once_and_the_others_conclude_later() {
    let server = Running::start().await;
    let (other, mut held) = HeldBack::let_in(&server).await;

    let alice = server.alice();
    let created = declared(&alice, "whole", &[("Upload-Length", "3")]).await.expect(201);
    let whole = Declared { client: alice, url: created.field("location").to_owned(), name: "whole" };
    last_bytes(&whole.client, &whole.url, &[V, TUS_BYTES]).await.refused(429, "too-many");

    let alice = server.alice();
    let piece = [V, ("Upload-Concat", "partial"), ("Upload-Length", "3")];
    let piece = alice.send("POST", "/tus/", &piece, "").await.expect(201).field("location").to_owned();
    let concat = format!("final;{piece}");
    let created = declared(&alice, "composed", &[("Upload-Concat", &concat)]).await.expect(201);
    let composed = Declared { client: alice, url: created.field("location").to_owned(), name: "composed" };
    // It is no mistake of the piece.
    last_bytes(&composed.client, &piece, &[V, TUS_BYTES]).await.expect(204);
    declared(&composed.client, "late", &[("Upload-Concat", &concat)]).await.refused(429, "too-many");

    let alice = server.alice();
    let digest = digest_field(Algorithm::Sha256, b"abc");
    let opened = [MORE, ("Repr-Digest", digest.as_str())];
    let created = alice.send("PUT", "/files/ietf", &opened, "").await.expect(201);
    let ietf = Declared { client: alice, url: created.field("location").to_owned(), name: "ietf" };
    let last = [("Upload-Complete", "?1"), IETF_BYTES];
    last_bytes(&ietf.client, &ietf.url, &last).await.refused(429, "too-many");

    for waiting in [&whole, &composed, &ietf] {
        assert!(!waiting.is_file().await, "{}", waiting.name);
    }
    for waiting in [&whole, &composed] {
        waiting.client.ask("HEAD", &waiting.url, &[V]).await.expect(423);
    }
    held.readings.clear();
    while other.digest("end=9&alg=md5").await.status == 429 {}
    for waiting in [&whole, &composed] {
        let told = waiting.client.ask("HEAD", &waiting.url, &[V]).await.expect(200);
        assert_eq!(told.field("upload-offset"), "3");
    }
    let again = [&[("Upload-Offset", "3")][..], &last].concat();
    ietf.client.send("PATCH", &ietf.url, &again, "").await.expect(201);
    declared(&composed.client, "late", &[("Upload-Concat", &concat)]).await.expect(201);
    for done in [&whole, &composed, &ietf] {
        assert!(done.is_file().await, "{}", done.name);
    }
    held.end().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_span_that_is_there_has_a_digest_in_every_algorithm() {
    let server = Running::start().await;
    let upload = Upload::of(&server, 4 * P).await;
    let bytes = noise(4 * P);
    upload.put(0, &bytes[..P]).await.expect(201);
    upload.put(1, &bytes[P..P + 70_001]).await.expect(201);
    upload.put(3, &bytes[3 * P..]).await.expect(201);
    for (start, end) in
        [(0, 0), (0, P), (5, 65_537), (P - 1, P + 70_001), (P + 69_999, P + 70_000), (3 * P + 1, 4 * P)]
    {
        let expected = all_digests(&bytes[start..end]);
        for &algorithm in Algorithm::ALL {
            let answer = upload.digest(&format!("start={start}&end={end}&alg={algorithm}")).await.expect(200);
            let digest: SpanDigest = answer.read();
            assert_eq!((digest.start, digest.end, &*digest.alg), (start as u64, end as u64, algorithm.key()));
            assert_eq!(digest.value, expected.get(algorithm).unwrap().hex(), "{algorithm} of {start}..{end}");
        }
    }
    let check = async |query: &str, missing: Value| {
        let problem: Value = upload.digest(query).await.refused(409, "incomplete").read();
        assert_eq!((&problem["missing"], &problem["more"]), (&missing, &json!(false)), "{query}");
    };
    let stop = P + 70_001;
    check(&format!("end={}", stop + 1), json!([[stop, stop + 1]])).await;
    check(&format!("start={}&end={}&alg=md5", 2 * P, 2 * P + 1), json!([[2 * P, 2 * P + 1]])).await;
    check(&format!("end={}&alg=md5", 4 * P), json!([[stop, 3 * P]])).await;
    check(&format!("start={}&end={}", 4 * P, 4 * P + 9), json!([[4 * P, 4 * P + 9]])).await;
    for query in [
        "",
        "start=5",
        "start=5&end=4",
        "end=-1",
        "end=x",
        "end=5&alg=md6",
        "end=5&end=6",
        "start=&end=5",
        "end=99999999999999999999",
        "end=1000000000000000",
        "start=9223372036854775808&end=9223372036854775809",
        "start=18446744073709551615&end=18446744073709551615",
    ] {
        upload.digest(query).await.refused(400, "bad-field");
    }
    upload.digest(&format!("end={}&alg=md5", (8_u64 << 30) + 1)).await.refused(413, "too-large");
    server.bob().get(&upload.api("/digest?end=1")).await.refused(404, "not-found");
    upload.client.ask("DELETE", &upload.api(""), &[]).await.expect(204);
    upload.digest("end=5").await.refused(410, "upload-gone");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_tabs_the_second_gets_412_and_nothing_is_mixed() {
    let server = Running::start().await;
    let bytes = noise(300_000);
    for (dialect, key) in [(Dialect::Tus, 1), (Dialect::Ietf, 2)] {
        let upload = Upload::create(&server, Some(bytes.len()), key).await;
        upload.append(dialect, 0, &[], &bytes[..1_000]).await.expect(204);
        let [first, second] = [upload.tag().await, upload.tag().await];
        assert_eq!(first, second);
        upload.append(dialect, 1_000, &[("If-Match", &first)], &bytes[1_000..2_000]).await.expect(204);
        let late = upload.append(dialect, 1_000, &[("If-Match", &second)], &[0; 1_000]).await;
        let late = late.refused(412, "precondition-failed");
        assert_eq!((late.field("upload-offset"), late.field("upload-complete")), ("2000", "?0"));
        assert_eq!(late.field("etag"), upload.tag().await);
        // Who has the right tag and the wrong offset is out of step all the same.
        let tag = upload.tag().await;
        upload
            .append(dialect, 9, &[("If-Match", &tag)], b"x")
            .await
            .refused(409, "mismatching-upload-offset");
        for never in ["\"other\"", "W/\"0.1-1000\"", "0.1-1000", ""] {
            upload
                .append(dialect, 2_000, &[("If-Match", never)], b"x")
                .await
                .refused(412, "precondition-failed");
        }
        upload
            .append(dialect, 2_000, &[("If-None-Match", "*")], b"x")
            .await
            .refused(412, "precondition-failed");
        assert_eq!(upload.tag().await, tag, "what was refused changed nothing");
        upload
            .append(dialect, 2_000, &[("If-Match", &format!("\"a\", {tag}"))], &bytes[2_000..3_000])
            .await
            .expect(204);
        upload.append(dialect, 3_000, &[("If-Match", "*")], &bytes[3_000..4_000]).await.expect(204);
        let prefix = upload.wanting("md5=1").await;
        assert_eq!(prefix.field("repr-digest"), digest_field(Algorithm::Md5, &bytes[..4_000]));
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tag_changes_when_the_bytes_do() {
    let server = Running::start().await;
    let upload = Upload::of(&server, 2 * P).await;
    let mut tags = vec![upload.tag().await];
    upload.put(0, &noise(1_000)).await.expect(201);
    tags.push(upload.tag().await);
    // As many bytes, but others: the offset tells nothing.
    upload.put(0, &[7; 1_000]).await.expect(201);
    tags.push(upload.tag().await);
    upload.put(0, &noise(P)).await.expect(201);
    tags.push(upload.tag().await);
    upload.put(0, &vec![7; P]).await.expect(201);
    tags.push(upload.tag().await);
    let resize = json!({"size": P + 5, "mtime": null});
    upload.client.json("POST", &upload.api("/resize"), &resize).await.expect(200);
    tags.push(upload.tag().await);
    let all: std::collections::HashSet<_> = tags.iter().collect();
    assert_eq!(all.len(), tags.len(), "{tags:?}");
    assert_eq!(upload.tag().await, tags[5], "nothing happened");
    let server = server.restart().await;
    let again = Upload { client: server.alice(), id: upload.id };
    assert_eq!(again.tag().await, tags[5], "a restart changes nothing");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_precondition_disturbs_nobody() {
    let server = Running::start().await;
    let bytes = noise(200_000);
    for (dialect, key) in [(Dialect::Tus, 1), (Dialect::Ietf, 2)] {
        let upload = Upload::create(&server, Some(bytes.len()), key).await;
        let mut running = upload.begin(dialect, 0, 150_000).await;
        running.send(&bytes[..100_000]).await;
        upload
            .append(dialect, 0, &[("If-Match", "\"other\"")], b"x")
            .await
            .refused(412, "precondition-failed");
        // Whoever was writing goes on.
        running.send(&bytes[100_000..150_000]).await;
        assert_eq!(running.answer_to("HEAD").await.expect(204).field("upload-offset"), "150000");
        let prefix = upload.wanting("sha-256=1").await;
        assert_eq!(prefix.field("repr-digest"), digest_field(Algorithm::Sha256, &bytes[..150_000]));
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_is_refused_before_its_body_is_read() {
    let server = Running::start().await;
    let upload = Upload::of(&server, 64 << 20).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(64 << 20).unwrap();
    let (user, url) = (format!("alice:{PASSWORD}"), server.url(&format!("/uploads/{}", upload.id)));
    for arguments in [
        &["--http1.1", "-H", "Expect: 100-continue", "--expect100-timeout", "60"][..],
        &["--http1.1", "-H", "Expect:"],
        &["--http2-prior-knowledge"],
    ] {
        for fields in [
            &["Tus-Resumable: 1.0.0", "Content-Type: application/offset+octet-stream"][..],
            &["Upload-Complete: ?0", "Content-Type: application/partial-upload"],
        ] {
            let fields: Vec<&str> = fields
                .iter()
                .chain(&["Upload-Offset: 0", "If-Match: \"9.9-9\""])
                .flat_map(|field| ["-H", field])
                .collect();
            let path = file.path().to_str().unwrap();
            let common = [
                "-X",
                "PATCH",
                "-u",
                &user,
                "-o",
                "/dev/null",
                "-w",
                "%{http_code} %{size_upload}",
                "-T",
                path,
                &url,
            ];
            let output = curl(&[arguments, &fields, &common].concat()).await;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let (status, sent) = said.split_once(' ').unwrap();
            assert!(output.status.success(), "{arguments:?}: {output:?}");
            assert_eq!(status, "412", "{arguments:?}");
            if arguments.contains(&"Expect: 100-continue") {
                assert_eq!(sent, "0");
            }
        }
    }
    assert_eq!(upload.head(&[]).await.field("upload-offset"), "0");
    server.end().await;
}

/// A creation speaks of the file that is to be, and an append of the upload: each has its own tag.
#[tokio::test(flavor = "multi_thread")]
async fn preconditions_of_a_creation_speak_of_the_target() {
    let server = Running::start().await;
    let alice = server.alice();
    let tag = alice.send("PUT", "/files/a", &[], "old").await.expect(201).field("etag").to_owned();
    let fields = [MORE, ("If-Match", tag.as_str())];
    let created = alice.send("PUT", "/files/a", &fields, "ne").await.expect(201);
    assert_eq!(created.field("upload-offset"), "2");
    let last = [("Upload-Complete", "?1"), IETF_BYTES, ("Upload-Offset", "2"), ("If-Match", &tag)];
    let url = created.field("location").to_owned();
    alice.send("PATCH", &url, &last, "w").await.refused(412, "precondition-failed");
    let own = created.field("etag").to_owned();
    let last = [("Upload-Complete", "?1"), IETF_BYTES, ("Upload-Offset", "2"), ("If-Match", &own)];
    alice.send("PATCH", &url, &last, "w").await.expect(200);
    // The answer was lost. The tag is no longer that of the upload, and the file is there.
    alice.send("PATCH", &url, &last, "w").await.expect(200);
    assert_eq!(alice.get("/files/a").await.expect(200).body, b"new");
    server.end().await;
}
