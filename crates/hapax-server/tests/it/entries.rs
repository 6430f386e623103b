//! Folders, listings, moves, copies, and the hash tree.

use hapax_proto::dialect::native::{Completed, EntryInfo, EntryKind, EntryList, Tree};
use hapax_proto::digest::FileHash;
use hapax_proto::tree::merge_parts;
use serde_json::{Value, json};

use crate::files::noise;
use crate::server::Running;
use crate::wire::{Answer, Client};

async fn operate(client: &Client, path: &str, operation: Value) -> Answer {
    client.json("POST", &format!("/api/v1/entries{path}"), &operation).await
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_are_made_listed_moved_and_removed() {
    let server = Running::start().await;
    let alice = server.alice();
    let made: EntryInfo = operate(&alice, "/a/b", json!({"op": "mkdir"})).await.expect(201).read();
    assert_eq!((made.path.as_str(), made.kind), ("/@alice/a/b", EntryKind::Folder));
    operate(&alice, "/a/b", json!({"op": "mkdir"})).await.expect(200);
    for name in ["1", "2", "3"] {
        alice.send("PUT", &format!("/files/a/{name}"), &[], name).await.expect(201);
    }
    let names = async |query: &str| {
        let list: EntryList = alice.get(&format!("/api/v1/entries/?list{query}")).await.expect(200).read();
        (list.entries.into_iter().map(|entry| entry.path).collect::<Vec<_>>(), list.next)
    };
    assert_eq!(names("").await, (vec!["/@alice/a".to_owned()], None));
    let all = ["/@alice/a", "/@alice/a/1", "/@alice/a/2", "/@alice/a/3", "/@alice/a/b"];
    assert_eq!(names("&recursive=1").await.0, all);
    let (mut paged, mut after) = (Vec::new(), String::new());
    loop {
        let (page, next) = names(&format!("&recursive=1&limit=2{after}")).await;
        paged.extend(page);
        let Some(next) = next else { break };
        after = format!("&after={next}");
    }
    assert_eq!(paged, all);

    let moved = operate(&alice, "/a", json!({"op": "move", "to": "/z"})).await.expect(200);
    assert_eq!(moved.read::<EntryInfo>().path, "/@alice/z");
    assert_eq!(alice.get("/files/z/2").await.expect(200).body, b"2");
    alice.get("/api/v1/entries/a").await.refused(404, "not-found");
    operate(&alice, "/z", json!({"op": "move", "to": "/z/b/c"})).await.refused(409, "into-itself");
    alice.ask("DELETE", "/api/v1/entries/z", &[]).await.refused(409, "not-empty");
    alice.ask("DELETE", "/api/v1/entries/z?recursive=1", &[]).await.expect(204);
    alice.ask("DELETE", "/api/v1/entries/", &[]).await.refused(403, "forbidden");
    assert_eq!(names("").await.0, Vec::<String>::new());
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_the_same_content_under_another_name() {
    let server = Running::start().await;
    let alice = server.alice();
    alice.send("PUT", "/files/a", &[], noise(100_000)).await.expect(201);
    let copied = operate(&alice, "/a", json!({"op": "copy", "to": "/in/b"})).await.expect(201);
    let original: EntryInfo = alice.get("/api/v1/entries/a").await.expect(200).read();
    let copied: EntryInfo = copied.read();
    assert_eq!((copied.etag, copied.blake3, copied.size), (original.etag, original.blake3, original.size));
    operate(&alice, "/a", json!({"op": "copy", "to": "/in/b"})).await.refused(409, "exists");
    operate(&alice, "/a", json!({"op": "copy", "to": "/in/b", "overwrite": true})).await.expect(200);
    operate(&alice, "/a", json!({"op": "copy", "to": "/@bob/b"})).await.refused(404, "not-found");
    operate(&alice, "/a", json!({"op": "copy"})).await.refused(400, "bad-field");
    operate(&alice, "/in", json!({"op": "copy", "to": "/c"})).await.refused(409, "is-a-folder");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_about_a_file_can_be_changed() {
    let server = Running::start().await;
    let alice = server.alice();
    alice.send("PUT", "/files/a.txt", &[], "x").await.expect(201);
    let patch = json!({"mtime": "2001-02-03T04:05:06.789Z", "executable": true});
    let patched: EntryInfo = alice.json("PATCH", "/api/v1/entries/a.txt", &patch).await.expect(200).read();
    assert_eq!(patched.mtime.as_deref(), Some("2001-02-03T04:05:06.789Z"));
    assert!(patched.executable && patched.media_type.unwrap().starts_with("text/plain"));
    let bad = json!({"mtime": "yesterday"});
    alice.json("PATCH", "/api/v1/entries/a.txt", &bad).await.refused(400, "bad-field");
    alice.json("PATCH", "/api/v1/entries/b.txt", &patch).await.refused(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_about_a_file_is_not_said_about_the_one_that_replaced_it() {
    let server = Running::start().await;
    let alice = server.alice();
    let put = async |bytes: &str| alice.send("PUT", "/files/a", &[], bytes).await.read::<Completed>().etag;
    let patch = async |etag: &str| {
        let body = json!({"mtime": "2001-02-03T04:05:06.789Z", "executable": true}).to_string();
        alice.send("PATCH", "/api/v1/entries/a", &[("If-Match", etag)], body).await
    };
    let ours = put("ours").await;
    let theirs = put("theirs").await;
    patch(&ours).await.refused(412, "precondition-failed");
    let kept: EntryInfo = alice.get("/api/v1/entries/a").await.expect(200).read();
    assert_eq!((kept.mtime, kept.executable), (None, false));
    assert!(patch(&theirs).await.expect(200).read::<EntryInfo>().executable);
    operate(&alice, "/d", json!({"op": "mkdir"})).await.expect(201);
    let bit = json!({"executable": true}).to_string();
    alice.send("PATCH", "/api/v1/entries/d", &[("If-Match", &ours)], &bit).await.refused(409, "is-a-folder");
    alice.send("PATCH", "/api/v1/entries/b", &[("If-Match", &ours)], bit).await.refused(404, "not-found");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_values_of_a_tree_merge_to_the_root() {
    let server = Running::start().await;
    let alice = server.alice();
    let bytes = noise((32 << 20) + 1);
    let etag = alice.send("PUT", "/files/a", &[], &bytes).await.expect(201).field("etag").to_owned();
    let etag = etag.replace('"', "%22");
    let tree: Tree = alice.get(&format!("/api/v1/tree/a?etag={etag}")).await.expect(200).read();
    assert_eq!((tree.parts, tree.values.len(), tree.next), (3, 3, None));
    assert_eq!(merge_parts(&tree.values), Some(FileHash::of(&bytes)));
    let page: Tree = alice.get("/api/v1/tree/a?from=1&count=1").await.expect(200).read();
    assert_eq!((page.values, page.next), (tree.values[1..2].to_vec(), Some(2)));
    alice.get("/api/v1/tree/a?etag=%22x%22").await.refused(412, "changed");
    alice.get("/api/v1/tree/a?grain=65536").await.refused(400, "bad-field");
    alice.send("PUT", "/files/small", &[], "x").await.expect(201);
    let small: Tree = alice.get("/api/v1/tree/small").await.expect(200).read();
    assert_eq!((small.parts, small.values.len(), small.blake3), (1, 0, FileHash::of(b"x")));
}
