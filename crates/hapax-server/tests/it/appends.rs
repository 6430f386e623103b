//! Ten thousand appends of one byte to one upload: each is durable when it is answered, and none leaves a file behind.

use std::path::Path;

use hapax_proto::dialect::native::{Completed, StoredPart, UploadStatus};
use hapax_proto::digest::FileHash;
use hapax_proto::tree::{PartHasher, PartNumber};
use hapax_server::admin::StoreStats;
use serde_json::json;

use crate::files::noise;
use crate::server::Running;
use crate::wire::{Client, Wire};

const APPENDS: usize = 10_000;
/// What is there before: the appends cross the border of a segment, so that a tail becomes a fragment meanwhile.
const BEFORE: usize = (64 << 10) - APPENDS / 2;
/// Objects after it all: the run before the appends, what the border of the segment makes, one to spare.
const OBJECTS_MAX: u64 = 3;
/// What the data directory may hold besides the ballast: far less than a page for every append.
const BYTES_MAX: u64 = 8 << 20;

/// One upload of one part, over a connection that stays open.
struct Trickle {
    wire: Wire,
    client: Client,
    url: String,
    value: String,
}

impl Trickle {
    async fn append(&mut self, at: usize, bytes: &[u8]) -> StoredPart {
        let length = bytes.len().to_string();
        let fields = [("Content-Length", length.as_str()), ("Hapax-Part-Value", &self.value)];
        let target = format!("{}/parts/0?from={at}", self.url);
        let mut request = (self.client.head("PUT", &target, &fields) + "\r\n").into_bytes();
        request.extend_from_slice(bytes);
        self.wire.send(request).await;
        self.wire.answer().await.expect(201).read()
    }
}

/// Returns how many files lie below a folder, and their bytes.
fn weigh(folder: &Path) -> (u64, u64) {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.fold((0, 0), |(files, bytes), entry| {
        let metadata = entry.metadata().unwrap();
        let (more, weight) = if metadata.is_dir() { weigh(&entry.path()) } else { (1, metadata.len()) };
        (files + more, bytes + weight)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_appends_of_a_byte_leave_a_handful_of_files() {
    let server = Running::start().await;
    let content = noise(BEFORE + APPENDS);
    let create = json!({"key": "trickle".repeat(3), "path": "/trickle", "size": content.len()});
    let client = server.alice();
    let created: UploadStatus = client.json("POST", "/api/v1/uploads", &create).await.expect(201).read();
    let mut hasher = PartHasher::new(PartNumber::new(0));
    hasher.update(&content).unwrap();
    let value = hasher.value().unwrap();
    let mut trickle = Trickle {
        wire: server.connect().await,
        client: client.clone(),
        url: format!("/api/v1/uploads/{}", created.id),
        value: value.format_field().to_str().unwrap().to_owned(),
    };
    let before = weigh(&server.data());
    trickle.append(0, &content[..BEFORE]).await;
    for at in BEFORE..content.len() {
        let stored = trickle.append(at, &content[at..=at]).await;
        assert_eq!((stored.have, stored.offset), (at as u64 + 1, at as u64 + 1));
        assert_eq!(stored.value, (at + 1 == content.len()).then_some(value), "at {at}");
    }
    let hash = FileHash::of(&content);
    let complete = json!({"size": content.len(), "blake3": hash.to_string()});
    let completed: Completed =
        client.json("POST", &format!("{}/complete", trickle.url), &complete).await.expect(201).read();
    assert_eq!(completed.blake3, hash);
    assert!(client.get("/files/trickle").await.expect(200).body == content);

    let stats: StoreStats = server.root().get("/api/v1/admin/stats").await.expect(200).read();
    assert!(stats.objects <= OBJECTS_MAX, "{stats:?}");
    let after = weigh(&server.data());
    assert!(after.0 <= before.0 + OBJECTS_MAX, "{before:?}, then {after:?}");
    assert!(after.1 <= before.1 + BYTES_MAX, "{before:?}, then {after:?}");
    server.end().await;
}
