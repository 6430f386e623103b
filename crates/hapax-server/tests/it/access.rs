//! Who may do what, at every route: the cases come from the table of routes, so a new row is tested by being there.

use hapax_proto::access::{Access, Object, Role, Scopes, Subject, Verb, decide_access};
use hapax_proto::batch;
use hapax_proto::dialect::native::{
    BatchOutcome, BatchResult, ClaimResult, ClaimResults, FetchOutcome, FetchRecord,
};
use hapax_server::routes::{Row, TABLE};
use http::Method;
use serde_json::json;

use crate::server::Running;
use crate::wire::{Client, Wire};

/// What a verb is done to in the rows of the table, as the owner of everything sees it.
fn object(verb: Verb, owner: u64) -> Object {
    match verb {
        Verb::ReadEntry
        | Verb::WriteEntry
        | Verb::DeleteEntry
        | Verb::ListFolder
        | Verb::CreateUpload
        | Verb::Claim => Object::Space { owner },
        Verb::ReadUpload | Verb::WriteUpload | Verb::CancelUpload => Object::Upload { owner },
        Verb::ListUploads | Verb::ManageOwnTokens => Object::Account { owner },
        _ => Object::Service,
    }
}

/// Asks as somebody, for what is Alice's.
async fn ask(client: &Client, row: &Row, method: &Method, upload: &str) -> (u16, String) {
    let target = row
        .pattern
        .replace("{upload}", upload)
        .replace("{part}", "0")
        .replace("{token}", "999999")
        .replace("{user}", "nobody")
        .replace("{path}", "@alice/file");
    let body = match row.name {
        "CreateUpload" => json!({"key": "k".repeat(16), "path": "/@alice/up", "size": 1}),
        "Claim" => json!({"items": [{"path": "/@alice/up", "size": 1, "digest": null}]}),
        "ProveClaims" => json!({"items": []}),
        "OperateOnEntry" => json!({"op": "move", "to": "/@alice/other"}),
        "FetchBatch" => json!({"items": [{"id": 1, "path": "/@alice/file"}]}),
        _ => json!({}),
    };
    let metadata = format!("path {}", data_encoding::BASE64.encode(b"/@alice/up"));
    let fields = [
        ("Content-Type", "application/json"),
        ("Tus-Resumable", "1.0.0"),
        ("Upload-Length", "1"),
        ("Upload-Metadata", &*metadata),
    ];
    if row.name == "StoreBatch" {
        return ask_batch(client, &target).await;
    }
    if row.name == "FetchBatch" {
        return ask_for_batch(client, &target, &body.to_string()).await;
    }
    // What is not of a route's dialect means nothing to it.
    let fields = if row.pattern.starts_with("/tus/") { &fields[..] } else { &fields[..1] };
    let answer = client.send(method.as_str(), &target, fields, body.to_string()).await;
    // Claims are refused one by one.
    if let (200, "Claim") = (answer.status.as_u16(), row.name)
        && let [ClaimResult::Refused { problem, status }] = &answer.read::<ClaimResults>().results[..]
    {
        return (*status, problem.clone());
    }
    (answer.status.as_u16(), answer.field("hapax-problem").to_owned())
}

/// Asks with a batch of one record, which is refused by itself.
async fn ask_batch(client: &Client, target: &str) -> (u16, String) {
    let record = json!({"id": 1, "path": "/@alice/up", "size": 0}).to_string();
    let length = u32::try_from(record.len()).unwrap().to_be_bytes();
    let body = [&length[..], record.as_bytes(), &batch::END].concat();
    let answer = client.send("POST", target, &[("Content-Type", batch::MEDIA_TYPE)], body).await;
    if answer.status.as_u16() != 200 {
        return (answer.status.as_u16(), answer.field("hapax-problem").to_owned());
    }
    match answer.read::<BatchResult>() {
        BatchResult { status, outcome: BatchOutcome::Refused { problem }, .. } => (status, problem),
        BatchResult { status, .. } => (status, String::new()),
    }
}

/// Asks for a batch of one file, which is refused by itself.
async fn ask_for_batch(client: &Client, target: &str, body: &str) -> (u16, String) {
    // An answer of HTTP/1.0 ends with its connection.
    let head =
        client.head("POST", target, &[("Content-Type", "application/json")]).replace("HTTP/1.1", "HTTP/1.0");
    let mut wire = Wire::connect(client.address).await;
    wire.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
    let answer = wire.head().await;
    if answer.status.as_u16() != 200 {
        return (answer.status.as_u16(), answer.field("hapax-problem").to_owned());
    }
    let (body, mut decoder) =
        (wire.rest().await, batch::Decoder::<FetchRecord>::new(batch::Limits::default()));
    match decoder.next(&mut &body[..]).unwrap() {
        Some(batch::Piece::Begin(record)) => match record.outcome {
            FetchOutcome::Refused { problem } => (record.status, problem),
            FetchOutcome::File(_) => (record.status, String::new()),
        },
        other => panic!("{other:?}"),
    }
}

/// What the answer must be if access is decided so; `None` if it was let through to something else.
fn refusal(access: Access) -> Option<(u16, String)> {
    match access {
        Access::Allowed => None,
        Access::Hidden => Some((404, "not-found".to_owned())),
        Access::Forbidden => Some((403, "forbidden".to_owned())),
        Access::Unauthenticated => Some((401, "unauthenticated".to_owned())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_asks_the_one_function() {
    const ALICE: u64 = 1;
    const OTHER: u64 = 2;
    let server = Running::start().await;
    server.alice().send("PUT", "/files/file", &[], "x").await.expect(201);
    let created = json!({"key": "0".repeat(16), "path": "/a", "size": 1});
    let created = server.alice().json("POST", "/api/v1/uploads", &created).await.expect(201);
    let upload = created.read::<serde_json::Value>()["id"].as_str().unwrap().to_owned();

    let done = finished_upload(&server).await;

    let user = |id, role, scopes| Subject::User { id, role, scopes };
    let scope = |word| hapax_server::auth::parse_scopes([word]).unwrap();
    let subjects = [
        (server.nobody(), Subject::Anonymous),
        (server.bob(), user(OTHER, Role::User, Scopes::ALL)),
        (server.root(), user(OTHER, Role::Admin, Scopes::ALL)),
        (server.alice_who_may("read"), user(ALICE, Role::User, scope("read"))),
        (server.alice_who_may("write"), user(ALICE, Role::User, scope("write"))),
        (server.alice_who_may("admin"), user(ALICE, Role::User, scope("admin"))),
    ];
    // Last comes what takes the credentials away.
    let (last, first): (Vec<_>, Vec<_>) = TABLE.iter().partition(|row| row.name == "EndSession");
    for row in first.into_iter().chain(last) {
        for (client, subject) in &subjects {
            // What is listed or made without a name in the path is always the caller's own.
            let own =
                matches!(row.verb, Verb::ListUploads | Verb::ManageOwnTokens) || row.name == "ProveClaims";
            let owner = match subject {
                Subject::User { id, .. } if own => *id,
                _ => ALICE,
            };
            let expected = refusal(decide_access(subject, row.verb, &object(row.verb, owner)));
            for method in row.methods {
                let found = ask(client, row, method, &upload).await;
                match &expected {
                    Some(expected) => assert_eq!(&found, expected, "{} by {subject:?}", row.name),
                    None => assert!(
                        !matches!(found.0, 401 | 403) || found.1 == "upload-unfinished",
                        "{} by {subject:?}: {found:?}",
                        row.name
                    ),
                }
            }
            // What an upload became is an entry, and reading it is reading that.
            if row.name == "ReadUploadContent" {
                let expected = refusal(decide_access(subject, Verb::ReadEntry, &Object::Space { owner }));
                let found = ask(client, row, &Method::GET, &done).await;
                assert_eq!(found, expected.unwrap_or((200, String::new())), "a done upload by {subject:?}");
            }
        }
    }
}

/// An upload of Alice's that became a file.
async fn finished_upload(server: &Running) -> String {
    let metadata = format!("path {}", data_encoding::BASE64.encode(b"/done"));
    let fields = [
        ("Tus-Resumable", "1.0.0"),
        ("Upload-Length", "6"),
        ("Upload-Metadata", &*metadata),
        ("Content-Type", "application/offset+octet-stream"),
    ];
    let created = server.alice().send("POST", "/tus/", &fields, "secret").await.expect(201);
    created.field("location").rsplit('/').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_only_write_reads_no_content_through_a_done_upload() {
    let server = Running::start().await;
    let target = format!("/uploads/{}", finished_upload(&server).await);
    let want = [("Want-Repr-Digest", "sha-256=10")];
    let (reader, writer) = (server.alice_who_may("read"), server.alice_who_may("write"));
    writer.get(&target).await.refused(403, "forbidden");
    // Where it stands it may know, what it holds it may not.
    let told = writer.ask("HEAD", &target, &want).await.expect(200);
    assert_eq!((told.field("upload-complete"), told.field("repr-digest")), ("?1", ""));
    assert_eq!(reader.get(&target).await.expect(200).body, b"secret");
    assert!(!reader.ask("HEAD", &target, &want).await.expect(200).field("repr-digest").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_only_read_ends_no_append() {
    for dialect in ["uploads", "tus"] {
        let server = Running::start().await;
        let created = json!({"key": "0".repeat(16), "path": "/a", "size": 6});
        let created = server.alice().json("POST", "/api/v1/uploads", &created).await.expect(201);
        let id = created.read::<serde_json::Value>()["id"].as_str().unwrap().to_owned();
        let fields = [
            ("Tus-Resumable", "1.0.0"),
            ("Upload-Offset", "0"),
            ("Content-Type", "application/offset+octet-stream"),
            ("Content-Length", "3"),
            ("Expect", "100-continue"),
        ];
        let mut append = server.connect().await;
        append.send(server.alice().head("PATCH", &format!("/tus/{id}"), &fields) + "\r\n").await;
        append.head().await.expect(100);
        let tus = [("Tus-Resumable", "1.0.0")];
        let target = format!("/{dialect}/{id}");
        let told = server.alice_who_may("read").ask("HEAD", &target, &tus).await.expect(200);
        assert_eq!(told.field("upload-offset"), "0");
        append.send("abc").await;
        append.answer().await.expect(204);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_only_read_publishes_nothing() {
    let server = Running::start().await;
    let metadata = format!("path {}", data_encoding::BASE64.encode(b"/a"));
    let tus = [("Tus-Resumable", "1.0.0"), ("Upload-Length", "6"), ("Upload-Metadata", &*metadata)];
    let created = server.alice().ask("POST", "/tus/", &tus).await.expect(201);
    let target = created.field("location").to_owned();
    let id = target.rsplit('/').next().unwrap();
    // All of it is there, and nobody said that it is complete.
    server.alice().send("PUT", &format!("/api/v1/uploads/{id}/parts/0?from=0"), &[], "secret").await;
    // An offset that equals the length would say that the file is visible.
    let reader = server.alice_who_may("read");
    reader.ask("HEAD", &target, &tus[..1]).await.expect(423);
    reader.ask("HEAD", &format!("/uploads/{id}"), &[]).await.expect(200);
    reader.get("/files/a").await.refused(404, "not-found");
    server.alice().ask("HEAD", &target, &tus[..1]).await.expect(200);
    assert_eq!(reader.get("/files/a").await.expect(200).body, b"secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_space_is_answered_like_one_that_does_not_exist() {
    let server = Running::start().await;
    server.alice().send("PUT", "/files/file", &[], "x").await.expect(201);
    let bob = server.bob();
    for method in ["GET", "PUT", "DELETE"] {
        let [foreign, missing] = ["/files/@alice/file", "/files/@nobody/file"].map(|target| {
            let bob = bob.clone();
            async move { bob.send(method, target, &[], "").await.refused(404, "not-found") }
        });
        assert_eq!(foreign.await.body, missing.await.body, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn options_are_alike_for_what_is_there_and_what_is_not() {
    let server = Running::start().await;
    server.alice().send("PUT", "/files/file", &[], "x").await.expect(201);
    let mut answers = Vec::new();
    for target in ["/files/file", "/files/nothing", "/files/@alice/file", "/files/@nobody/file"] {
        let mut answer = server.nobody().ask("OPTIONS", target, &[]).await.expect(204);
        answer.fields.remove("date");
        answers.push(answer.fields);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
}
