//! What is told of an upload while others fill, complete and read it. Nobody waits for anybody here: each round is a race,
//! and whoever wins it, what is told has to be true.

use std::future::Future;

use data_encoding::BASE64;
use hapax_proto::dialect::native::{Completed, UploadStatus};
use hapax_proto::upload::State;
use serde_json::{Value, json};

use crate::server::Running;
use crate::wire::{Answer, Client};

const V: (&str, &str) = ("Tus-Resumable", "1.0.0");
const TUS_BYTES: (&str, &str) = ("Content-Type", "application/offset+octet-stream");
const SIZE: usize = 70_000;
const ROUNDS: u8 = 25;

/// An upload of one part.
struct Upload {
    client: Client,
    id: String,
    bytes: Vec<u8>,
}

impl Upload {
    async fn create(client: Client, round: u8) -> Self {
        let create = json!({"key": format!("{round:016}"), "path": format!("/f{round}"), "size": SIZE});
        let created = client.json("POST", "/api/v1/uploads", &create).await.expect(201);
        Self { client, id: created.read::<UploadStatus>().id, bytes: vec![round; SIZE] }
    }

    async fn full(client: Client, round: u8) -> Self {
        let upload = Self::create(client, round).await;
        upload.fill().await;
        upload
    }

    async fn fill(&self) {
        let url = format!("/api/v1/uploads/{}/parts/0", self.id);
        self.client.send("PUT", &url, &[], &self.bytes).await.expect(201);
    }

    async fn complete(&self) {
        let url = format!("/api/v1/uploads/{}/complete", self.id);
        let completed = self.client.json("POST", &url, &json!({"size": SIZE, "blake3": null})).await;
        assert_eq!(completed.expect(201).read::<Completed>().size, SIZE as u64);
    }

    async fn state(&self) -> State {
        let status = self.client.get(&format!("/api/v1/uploads/{}", self.id)).await.expect(200);
        status.read::<UploadStatus>().state
    }

    /// Asks where it stands until a future is done, and once more, and checks each answer.
    async fn ask_while(
        &self,
        fields: &[(&str, &str)],
        act: impl Future<Output = ()>,
        check: impl AsyncFn(&Answer),
    ) {
        let mut act = std::pin::pin!(act);
        let door = if fields.contains(&V) { "tus" } else { "uploads" };
        let (url, mut is_over) = (format!("/{door}/{}", self.id), false);
        loop {
            let head = self.client.ask("HEAD", &url, fields);
            let mut head = std::pin::pin!(head);
            let answer = loop {
                tokio::select! {
                    () = &mut act, if !is_over => is_over = true,
                    answer = &mut head => break answer,
                }
            };
            check(&answer.expect(200)).await;
            if is_over {
                return;
            }
        }
    }
}

const DIGEST: (&str, &str) = ("Want-Repr-Digest", "blake3=1");

/// A client of tus takes an offset that equals the length for success and never asks again; it was once told that of an
/// upload whose last bytes came between two looks, and that nobody completed then.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_tus_is_told_of_the_last_byte_once_the_file_is_there() {
    let server = Running::start().await;
    for round in 0..ROUNDS * 4 {
        let upload = Upload::create(server.alice(), round).await;
        let fields = if round % 2 == 0 { &[V][..] } else { &[V, DIGEST] };
        let is_true = async |answer: &Answer| {
            if answer.field("upload-offset") == SIZE.to_string() {
                assert_eq!(upload.state().await, State::Done, "round {round}");
            }
        };
        upload.ask_while(fields, upload.fill(), is_true).await;
    }
    server.end().await;
}

/// It was once refused as already complete, because it tried to complete the upload itself, or looked for the digest of
/// a prefix.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_completed_may_be_asked_for() {
    let server = Running::start().await;
    for round in 0..ROUNDS * 4 {
        let upload = Upload::full(server.alice(), round).await;
        let fields = [&[V][..], &[V, DIGEST], &[DIGEST], &[]][usize::from(round % 4)];
        let is_whole = async |answer: &Answer| {
            assert_eq!(answer.field("upload-offset"), SIZE.to_string(), "round {round}");
        };
        upload.ask_while(fields, upload.complete(), is_whole).await;
    }
    server.end().await;
}

/// It was once told that nothing was there: the state was read before the upload was done, and the offset after.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_to_an_upload_that_is_completed_is_told_where_it_stands() {
    let server = Running::start().await;
    for round in 0..ROUNDS {
        let upload = Upload::full(server.alice(), round).await;
        let url = format!("/uploads/{}", upload.id);
        let appends = async {
            while upload.state().await == State::Open {
                let fields = [
                    ("Upload-Complete", "?0"),
                    ("Content-Type", "application/partial-upload"),
                    ("Upload-Offset", "5"),
                ];
                let answer = upload.client.send("PATCH", &url, &fields, "").await.expect(409);
                let told = (answer.field("hapax-problem"), answer.field("upload-offset"));
                let size = SIZE.to_string();
                // Superseded: the completion ended it while it looked.
                let stated =
                    [("mismatching-upload-offset", &*size), ("already-complete", ""), ("superseded", "")];
                assert!(stated.contains(&told), "round {round}: {told:?}");
            }
        };
        tokio::join!(appends, upload.complete());
    }
    server.end().await;
}

/// It was once not found, because it was looked up by what it was called until it was identified.
#[tokio::test(flavor = "multi_thread")]
async fn a_composed_file_that_is_identified_may_be_read_through_its_upload() {
    let server = Running::start().await;
    let alice = server.alice();
    for round in 0..ROUNDS {
        let piece = [V, ("Upload-Concat", "partial"), ("Upload-Length", "9"), TUS_BYTES];
        let piece = alice.send("POST", "/tus/", &piece, [round; 9]).await.expect(201);
        let concat = format!("final;{}", piece.field("location"));
        let metadata = format!("filename {}", BASE64.encode(format!("f{round}").as_bytes()));
        let fields = [V, ("Upload-Concat", &*concat), ("Upload-Metadata", &*metadata)];
        let whole = alice.send("POST", "/tus/", &fields, "").await.expect(201);
        let url = whole.field("location").replace("tus", "uploads");
        loop {
            let read = alice.ask("GET", &url, &[("Want-Repr-Digest", "md5=1")]).await.expect(200);
            assert_eq!(read.body, [round; 9]);
            let entry: Value = alice.get(&format!("/api/v1/entries/f{round}")).await.expect(200).read();
            if entry["blake3"].is_string() {
                break;
            }
        }
    }
    server.end().await;
}
