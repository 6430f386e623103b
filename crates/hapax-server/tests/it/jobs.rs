//! Background work: what an operator sees of it, and that it stands in nobody's way.

use std::num::NonZero;
use std::time::Duration;

use hapax_proto::batch;
use hapax_proto::dialect::native::ClaimResult;
use hapax_proto::digest::FileHash;
use hapax_server::admin::{CompactReport, DamagedContent, JobStats, ScrubState, StoreStats};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::claims::{claim, item};
use crate::files::noise;
use crate::server::Running;
use crate::wire::Client;

pub(crate) async fn stats(root: &Client) -> StoreStats {
    root.get("/api/v1/admin/stats").await.expect(200).read()
}

/// Asks until what a background job is to bring about is so.
pub(crate) async fn until(root: &Client, holds: impl Fn(&StoreStats) -> bool) -> StoreStats {
    let asking = async {
        loop {
            let stats = stats(root).await;
            if holds(&stats) {
                return stats;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_mins(1), asking).await.expect("a job does its work")
}

pub(crate) fn job<'a>(stats: &'a StoreStats, name: &str) -> &'a JobStats {
    stats.jobs.iter().find(|job| job.name == name).unwrap()
}

/// At its rate the job would take minutes: it waits for its turn when the server ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_waits_for_its_turn_ends_with_the_server() {
    let slow = NonZero::new(64 << 10);
    let server = Running::start_with(|config| config.jobs.rate = slow).await;
    let bytes = noise(40 << 20);
    server.alice().send("PUT", "/files/a", &[], &bytes).await.expect(201);
    let root = server.root();
    let seen = until(&root, |stats| job(stats, "lookup").bytes > 0).await;
    assert!(job(&seen, "lookup").running && job(&seen, "lookup").bytes < bytes.len() as u64);
    assert_eq!((seen.unhashed, job(&seen, "lookup").failures), (1, 0));
    // Nobody else waits for it.
    assert!(server.alice().get("/files/a").await.expect(200).body == bytes);
    timeout(Duration::from_mins(1), server.end()).await.expect("it ends");
}

// ---------------------------------------------------------------- damage

/// Flips a bit in the middle of every object of the data directory.
fn rot_everything(server: &Running) {
    for dir in std::fs::read_dir(server.data().join("objects")).unwrap() {
        for object in std::fs::read_dir(dir.unwrap().path()).unwrap() {
            let path = object.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
}

async fn scrubbed(root: &Client) -> ScrubState {
    let before: ScrubState = root.ask("POST", "/api/v1/admin/scrub", &[]).await.expect(202).read();
    until(root, |stats| job(stats, "scrub").runs > before.runs).await;
    root.get("/api/v1/admin/scrub").await.expect(200).read()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_on_request_names_what_is_damaged() {
    let server = Running::start_with(|config| config.jobs.scrub_period = Duration::ZERO).await;
    let (alice, root) = (server.alice(), server.root());
    let nothing: ScrubState = root.get("/api/v1/admin/scrub").await.expect(200).read();
    assert_eq!((nothing.now, nothing.last, nothing.damaged.len()), (None, None, 0));
    alice.send("PUT", "/files/a", &[], noise(100_000)).await.expect(201);
    let clean = scrubbed(&root).await;
    let pass = clean.last.unwrap();
    assert_eq!((pass.objects, pass.bytes, pass.total, pass.damaged), (1, 100_000, 100_000, 0));
    assert!(pass.ended.is_some_and(|ended| ended >= pass.started));
    rot_everything(&server);
    let found = scrubbed(&root).await;
    assert_eq!(found.last.unwrap().damaged, 1);
    let expected = DamagedContent { paths: vec!["/@alice/a".to_owned()], size: 100_000 };
    assert_eq!(found.damaged, std::slice::from_ref(&expected));
    assert_eq!(stats(&root).await.damaged, 1);
    let metrics = String::from_utf8(root.get("/metrics").await.expect(200).body).unwrap();
    for told in ["hapax_damaged_contents", "hapax_job_runs_total{job=\"scrub\",outcome=\"done\"}"] {
        assert!(metrics.contains(told), "{metrics}");
    }
    // A restart forgets nothing of it.
    let server = server.restart().await;
    let root = server.root();
    let told: ScrubState = root.get("/api/v1/admin/scrub").await.expect(200).read();
    assert_eq!((told.damaged, told.last.unwrap().damaged), (vec![expected], 1));
    server.alice().send("PUT", "/files/a", &[], noise(100_000)).await.expect(200);
    assert!(server.alice().get("/files/a").await.expect(200).body == noise(100_000));
    until(&root, |stats| stats.damaged == 0).await;
    server.end().await;
}

/// The resource of the upload once said that there was no such file, though the file said that it was damaged.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_file_is_damaged_is_told_as_done() {
    let server = Running::start().await;
    let (alice, bytes) = (server.alice(), noise(100_000));
    let create = json!({"key": "0123456789abcdef", "path": "/a", "size": bytes.len()});
    let created: Value = alice.json("POST", "/api/v1/uploads", &create).await.expect(201).read();
    let (url, id) = (created["url"].as_str().unwrap(), created["id"].as_str().unwrap());
    alice.send("PUT", &format!("/api/v1/uploads/{id}/parts/0"), &[], &bytes).await.expect(201);
    let complete = json!({"size": bytes.len(), "blake3": null});
    alice.json("POST", &format!("/api/v1/uploads/{id}/complete"), &complete).await.expect(201);
    rot_everything(&server);
    alice.get("/files/a").await.refused(500, "damaged");
    until(&server.root(), |stats| stats.damaged == 1).await;
    alice.get(url).await.refused(500, "damaged");
    let told = alice.ask("HEAD", url, &[("Want-Repr-Digest", "sha-256=1")]).await.expect(200);
    let told = ["upload-complete", "upload-offset", "repr-digest"].map(|name| told.field(name).to_owned());
    assert_eq!(told, ["?1", "100000", ""]);
    // Whoever asks for nothing of it learns what it is.
    alice.ask("GET", url, &[("Range", "bytes=100000-")]).await.refused(416, "range");
}

/// Damaged content is asked for again whoever claims it, and whoever sends it makes it whole for everybody; by every verb,
/// and whoever found the damage.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_sent_again_is_whole_for_everybody() {
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Verb {
        Put,
        Batch,
        Tus,
        Native,
    }
    for verb in [Verb::Put, Verb::Batch, Verb::Tus, Verb::Native] {
        for by_scrub in [true, false] {
            let case = format!("{verb:?}, found by the scrub: {by_scrub}");
            let server = Running::start_with(|config| config.jobs.scrub_period = Duration::ZERO).await;
            let (alice, bob, root) = (server.alice(), server.bob(), server.root());
            let bytes = noise(100_000);
            alice.send("PUT", "/files/a", &[], &bytes).await.expect(201);
            let linked = claim(&alice, vec![item("/b", &bytes)]).await;
            assert!(matches!(linked[..], [ClaimResult::Linked(_)]), "{case}: {linked:?}");
            rot_everything(&server);
            if by_scrub {
                scrubbed(&root).await;
            } else {
                alice.get("/files/a").await.refused(500, "damaged");
            }
            until(&root, |stats| stats.damaged == 1).await;
            let asked = claim(&alice, vec![item("/c", &bytes), item("/a", &bytes)]).await;
            assert_eq!(asked, [ClaimResult::Upload, ClaimResult::Upload], "{case}");
            let copy = json!({"op": "copy", "to": "/c"});
            alice.json("POST", "/api/v1/entries/a", &copy).await.refused(500, "damaged");
            match verb {
                Verb::Put => drop(bob.send("PUT", "/files/x", &[], &bytes).await.expect(201)),
                Verb::Batch => {
                    let record = json!({"id": 1, "path": "/x", "size": bytes.len()}).to_string();
                    let length = u32::try_from(record.len()).unwrap().to_be_bytes();
                    let body = [&length[..], record.as_bytes(), &bytes, &batch::END].concat();
                    let fields = [("Content-Type", batch::MEDIA_TYPE)];
                    bob.send("POST", "/api/v1/batch", &fields, body).await.expect(200);
                }
                Verb::Tus => {
                    let path = data_encoding::BASE64.encode(b"/x");
                    let (length, metadata) = (bytes.len().to_string(), format!("path {path}"));
                    let fields = [
                        ("Tus-Resumable", "1.0.0"),
                        ("Upload-Length", &length),
                        ("Upload-Metadata", &metadata),
                        ("Content-Type", "application/offset+octet-stream"),
                    ];
                    bob.send("POST", "/tus/", &fields, &bytes).await.expect(201);
                }
                Verb::Native => {
                    let create = json!({"key": "1".repeat(16), "path": "/x", "size": bytes.len()});
                    let created = bob.json("POST", "/api/v1/uploads", &create).await.expect(201);
                    let id = created.read::<Value>()["id"].as_str().unwrap().to_owned();
                    let part = format!("/api/v1/uploads/{id}/parts/0");
                    bob.send("PUT", &part, &[], &bytes).await.expect(201);
                    let complete = json!({"size": bytes.len(), "blake3": FileHash::of(&bytes).to_string()});
                    let target = format!("/api/v1/uploads/{id}/complete");
                    bob.json("POST", &target, &complete).await.expect(201);
                }
            }
            for (client, path) in [(&alice, "/files/a"), (&alice, "/files/b"), (&bob, "/files/x")] {
                assert!(client.get(path).await.expect(200).body == bytes, "{case}: {path}");
            }
            until(&root, |stats| stats.damaged == 0 && job(stats, "heal").runs > 1).await;
            assert_eq!(scrubbed(&root).await.damaged, [], "{case}");
            let linked = claim(&alice, vec![item("/c", &bytes)]).await;
            assert!(matches!(linked[..], [ClaimResult::Linked(_)]), "{case}: {linked:?}");
            server.end().await;
        }
    }
}

/// The same bytes in a batch that finds its file standing already are taken all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_repeated_over_damage_stores_its_bytes() {
    let server = Running::start().await;
    let (alice, root) = (server.alice(), server.root());
    let bytes = noise(50_000);
    let record = json!({"id": 1, "path": "/x", "size": bytes.len()}).to_string();
    let length = u32::try_from(record.len()).unwrap().to_be_bytes();
    let body = [&length[..], record.as_bytes(), &bytes, &batch::END].concat();
    let fields = [("Content-Type", batch::MEDIA_TYPE)];
    alice.send("POST", "/api/v1/batch", &fields, body.clone()).await.expect(200);
    rot_everything(&server);
    // Whoever gets it in a batch finds the damage.
    let get = json!({"items": [{"id": 1, "path": "/x"}]});
    alice.json("POST", "/api/v1/batch/get", &get).await.expect(200);
    until(&root, |stats| stats.damaged == 1).await;
    alice.send("POST", "/api/v1/batch", &fields, body).await.expect(200);
    assert!(alice.get("/files/x").await.expect(200).body == bytes);
    until(&root, |stats| stats.damaged == 0).await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_on_request_joins_pieces() {
    let server = Running::start().await;
    let (alice, root) = (server.alice(), server.root());
    let bytes = noise(300_000);
    let create = json!({"key": "1".repeat(16), "path": "/x", "size": bytes.len()});
    let created = alice.json("POST", "/api/v1/uploads", &create).await.expect(201);
    let id = created.read::<Value>()["id"].as_str().unwrap().to_owned();
    for (from, to) in [(0, 100_000), (100_000, 200_000), (200_000, 300_000)] {
        let (offset, target) = (from.to_string(), format!("/uploads/{id}"));
        let fields = [
            ("Tus-Resumable", "1.0.0"),
            ("Upload-Offset", &offset),
            ("Content-Type", "application/offset+octet-stream"),
        ];
        alice.send("PATCH", &target, &fields, &bytes[from..to]).await.expect(204);
    }
    let complete = json!({"size": bytes.len(), "blake3": FileHash::of(&bytes).to_string()});
    alice.json("POST", &format!("/api/v1/uploads/{id}/complete"), &complete).await;
    assert!(stats(&root).await.fragments > 0);
    let report: CompactReport = root.ask("POST", "/api/v1/admin/compact", &[]).await.expect(200).read();
    assert_eq!(report, CompactReport { parts: 1, bytes: 300_000, ended: true });
    let after = stats(&root).await;
    assert_eq!(after.fragments, 0);
    assert!(after.given_up >= 196_608, "{after:?}");
    assert!(alice.get("/files/x").await.expect(200).body == bytes);
    server.end().await;
}
