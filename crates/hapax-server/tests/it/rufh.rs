//! Resumable uploads for HTTP, the draft of the IETF, field by field.

use serde_json::Value;

use crate::server::Running;
use crate::wire::{Answer, Client};

const LAST: (&str, &str) = ("Upload-Complete", "?1");
const MORE: (&str, &str) = ("Upload-Complete", "?0");
const BYTES: (&str, &str) = ("Content-Type", "application/partial-upload");

/// One upload.
struct Upload {
    client: Client,
    url: String,
}

impl Upload {
    async fn create(
        client: Client,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Self {
        let created = client.send(method, target, fields, body).await.expect(201);
        let url = created.field("location").to_owned();
        assert!(url.starts_with("/uploads/"), "{url}");
        assert_eq!(created.field("upload-offset"), body.len().to_string());
        Self { client, url }
    }

    async fn patch(&self, at: usize, fields: &[(&str, &str)], bytes: &[u8]) -> Answer {
        let at = at.to_string();
        let own = [BYTES, ("Upload-Offset", &*at)];
        self.client.send("PATCH", &self.url, &[&own[..], fields].concat(), bytes).await
    }

    async fn head(&self, fields: &[(&str, &str)]) -> Answer {
        self.client.ask("HEAD", &self.url, fields).await.expect(200)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_whole_when_its_length_is_there_though_nobody_says_so() {
    let server = Running::start().await;
    let length = ("Upload-Length", "10");
    let upload = Upload::create(server.alice(), "POST", "/files/a", &[MORE, length], b"").await;
    upload.patch(0, &[MORE], b"01234").await.expect(204);
    server.alice().get("/files/a").await.refused(404, "not-found");
    let last = upload.patch(5, &[MORE], b"56789").await.expect(204);
    assert_eq!((last.field("upload-offset"), last.field("upload-complete")), ("10", "?0"));
    assert_eq!(server.alice().get("/files/a").await.expect(200).body, b"0123456789");
    assert_eq!(upload.head(&[]).await.field("upload-complete"), "?1");
    // Who does say it, after the last byte, is told that it is so.
    let said = upload.patch(10, &[LAST], b"").await.expect(200);
    assert_eq!(said.field("upload-complete"), "?1");
    // Without a length there is no end before it is said.
    let open = Upload::create(server.alice(), "POST", "/files/b", &[MORE], b"").await;
    open.patch(0, &[MORE], b"01234").await.expect(204);
    assert_eq!(open.head(&[]).await.field("upload-complete"), "?0");
    server.alice().get("/files/b").await.refused(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_begins_empty_goes_on_and_ends() {
    let server = Running::start().await;
    for method in ["PUT", "POST", "PATCH"] {
        let target = format!("/files/{method}.bin");
        let upload = Upload::create(server.alice(), method, &target, &[MORE], b"").await;
        let first = upload.patch(0, &[MORE], b"01234").await.expect(204);
        assert_eq!((first.field("upload-offset"), first.field("upload-complete")), ("5", "?0"));
        let head = upload.head(&[]).await;
        assert_eq!((head.field("upload-offset"), head.field("upload-complete")), ("5", "?0"));
        assert!(head.field("upload-limit").contains("max-size="));
        let last = upload.patch(5, &[LAST], b"56789").await.expect(201);
        assert_eq!((last.field("upload-complete"), last.field("upload-offset")), ("?1", "10"));
        assert_eq!(last.field("content-location"), format!("/files/@alice/{method}.bin"));
        assert_eq!(server.alice().get(&target).await.expect(200).body, b"0123456789");
        // The answer was lost: the same again is answered the same, and nothing changes.
        upload.patch(5, &[LAST], b"56789").await.expect(200);
        assert_eq!(upload.head(&[]).await.field("upload-complete"), "?1");
        upload.patch(10, &[MORE], b"x").await.refused(409, "already-complete");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_one_request_is_the_file() {
    let server = Running::start().await;
    let put = server.alice().send("PUT", "/files/a", &[LAST], "abc").await.expect(201);
    assert_eq!((put.field("upload-complete"), put.field("location")), ("?1", "/files/@alice/a"));
    let etag = put.field("etag").to_owned();
    assert_eq!(server.alice().get("/files/a").await.expect(200).field("etag"), etag);
    server.alice().send("PUT", "/files/a", &[LAST], "").await.expect(200);
    assert_eq!(server.alice().get("/files/a").await.expect(200).body, b"");
    // POST never replaces.
    let post = server.alice().send("POST", "/files/a", &[LAST], "new").await.expect(201);
    assert_eq!(post.field("location"), "/files/@alice/a%20%281%29");
    let named = [LAST, ("Content-Disposition", "attachment; filename=\"b.txt\"")];
    let post = server.alice().send("POST", "/files/folder/", &named, "b").await.expect(201);
    assert_eq!(post.field("location"), "/files/@alice/folder/b.txt");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_unknown_number_may_be_the_whole_or_the_rest() {
    let server = Running::start().await;
    let chunked = ("Transfer-Encoding", "chunked");
    let mut wire = server.connect().await;
    let head = server.alice().head("PUT", "/files/a", &[LAST, chunked]);
    wire.send(head + "\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").await;
    assert_eq!(wire.answer().await.expect(201).field("upload-offset"), "5");
    assert_eq!(server.alice().get("/files/a").await.expect(200).body, b"abcde");

    let upload = Upload::create(server.alice(), "PUT", "/files/b", &[MORE], b"01").await;
    let fields = [BYTES, LAST, ("Upload-Offset", "2"), chunked];
    wire.send(upload.client.head("PATCH", &upload.url, &fields) + "\r\n3\r\n234\r\n0\r\n\r\n").await;
    wire.answer().await.expect(201);
    assert_eq!(server.alice().get("/files/b").await.expect(200).body, b"01234");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_out_of_step_learns_the_offset() {
    let server = Running::start().await;
    let upload =
        Upload::create(server.alice(), "PUT", "/files/a", &[MORE, ("Upload-Length", "10")], b"012").await;
    let refused = upload.patch(5, &[MORE], b"x").await.refused(409, "mismatching-upload-offset");
    assert_eq!((refused.field("upload-offset"), refused.field("upload-complete")), ("3", "?0"));
    let problem: Value = refused.read();
    assert_eq!(
        (&problem["type"], &problem["expected-offset"], &problem["provided-offset"]),
        (
            &Value::from("https://iana.org/assignments/http-problem-types#mismatching-upload-offset"),
            &Value::from(3),
            &Value::from(5)
        )
    );
    upload.patch(3, &[LAST], b"345").await.refused(400, "inconsistent-upload-length");
    upload
        .patch(3, &[MORE, ("Upload-Length", "11")], b"345")
        .await
        .refused(400, "inconsistent-upload-length");
    upload.patch(3, &[MORE], b"34567890").await.refused(400, "inconsistent-upload-length");
    upload.patch(3, &[LAST], b"3456789").await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn preconditions_hold_in_the_beginning_and_in_the_end() {
    let server = Running::start().await;
    let absent = [MORE, ("If-None-Match", "*")];
    let upload = Upload::create(server.alice(), "PUT", "/files/a", &absent, b"").await;
    server.alice().send("PUT", "/files/a", &[], "first").await.expect(201);
    server.alice().send("PUT", "/files/a", &absent, "").await.refused(412, "precondition-failed");
    upload.patch(0, &[LAST], b"late").await.refused(412, "precondition-failed");
    assert_eq!(server.alice().get("/files/a").await.expect(200).body, b"first");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_draft_says_the_opposite() {
    let server = Running::start().await;
    let old = ("Upload-Draft-Interop-Version", "3");
    let begin = [old, ("Upload-Incomplete", "?1")];
    let upload = Upload::create(server.alice(), "POST", "/files/a", &begin, b"").await;
    assert_eq!(upload.head(&[old]).await.field("upload-incomplete"), "?1");
    let end = [old, ("Upload-Incomplete", "?0"), ("Upload-Offset", "0")];
    let done = server.alice().send("PATCH", &upload.url, &end, "abc").await.expect(201);
    assert_eq!(done.field("upload-incomplete"), "?0");
    assert_eq!(server.alice().get("/files/a").await.expect(200).body, b"abc");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_of_this_dialect() {
    let server = Running::start().await;
    let upload = Upload::create(server.alice(), "PUT", "/files/a", &[MORE], b"").await;
    let client = &upload.client;
    let plain =
        client.send("PATCH", &upload.url, &[("Upload-Offset", "0")], "a").await.refused(415, "media-type");
    assert!(plain.field("accept-patch").contains("application/partial-upload"));
    let typed = [MORE, ("Upload-Offset", "0"), ("Content-Type", "text/plain")];
    client.send("PATCH", &upload.url, &typed, "a").await.refused(415, "media-type");
    client.send("PATCH", &upload.url, &[MORE, BYTES], "a").await.refused(400, "bad-field");
    upload.patch(0, &[("Upload-Complete", "yes")], b"a").await.refused(400, "bad-field");
    upload.patch(0, &[], b"a").await.refused(400, "bad-field");
    let stranger = Upload { client: server.bob(), url: upload.url.clone() };
    stranger.patch(0, &[LAST], b"a").await.refused(404, "not-found");
    let refused = client.send("PATCH", "/files/a", &[], "a").await.refused(405, "method-not-allowed");
    assert!(!refused.field("allow").contains("PATCH"));
    client.send("PUT", "/files/", &[LAST], "a").await.refused(409, "is-a-folder");
    client.ask("DELETE", &upload.url, &[]).await.expect(204);
    upload.patch(0, &[LAST], b"a").await.refused(410, "upload-gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_longer_than_it_may_be_spoils_the_upload() {
    let server = Running::start().await;
    let upload =
        Upload::create(server.alice(), "PUT", "/files/a", &[MORE, ("Upload-Length", "3")], b"").await;
    let mut wire = server.connect().await;
    let fields = [BYTES, LAST, ("Upload-Offset", "0"), ("Transfer-Encoding", "chunked")];
    wire.send(upload.client.head("PATCH", &upload.url, &fields) + "\r\n5\r\nabcde\r\n0\r\n\r\n").await;
    wire.answer().await.refused(400, "inconsistent-upload-length");
    upload.patch(0, &[LAST], b"abc").await.refused(410, "upload-gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_one_dialect_goes_on_in_another() {
    let server = Running::start().await;
    let upload =
        Upload::create(server.alice(), "PUT", "/files/a", &[MORE, ("Upload-Length", "9")], b"012").await;
    let tus = [
        ("Tus-Resumable", "1.0.0"),
        ("Content-Type", "application/offset+octet-stream"),
        ("Upload-Offset", "3"),
    ];
    server.alice().send("PATCH", &upload.url, &tus, "345").await.expect(204);
    let id = upload.url.rsplit('/').next().unwrap();
    let part = format!("/api/v1/uploads/{id}/parts/0?from=6");
    server.alice().send("PUT", &part, &[], "67").await.expect(201);
    upload.patch(8, &[LAST], b"8").await.expect(201);
    assert_eq!(server.alice().get("/files/a").await.expect(200).body, b"012345678");
}
