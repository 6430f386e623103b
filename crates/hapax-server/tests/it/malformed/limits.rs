//! Too many uploads, too many bytes, uploads that ran out, senders that are too slow, and too many at once.

use std::time::Duration;

use hapax_store::store::Settings;

use super::*;

/// How each dialect opens an upload; `size` is `None` where it is told later.
fn creations(number: usize, size: Option<u64>) -> Vec<Ask> {
    let path = |dialect: &str| format!("/files/{dialect}-{number}");
    let tus = match size {
        Some(size) => ("Upload-Length", size.to_string()),
        None => ("Upload-Defer-Length", "1".to_owned()),
    };
    let tus = Ask::new("POST", "/tus/", &[("Tus-Resumable", "1.0.0"), (tus.0, &tus.1)], b"");
    let mut ietf = Ask::new("PUT", &path("ietf"), &[("Upload-Complete", "?0")], b"");
    if let Some(size) = size {
        ietf = ietf.and("Upload-Length", &size.to_string());
    }
    let native = json!({"key": format!("{number:020}"), "path": format!("/native-{number}"), "size": size});
    vec![tus, ietf, Ask::json("POST", "/api/v1/uploads", &native.to_string())]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_has_so_many_uploads_and_no_more() {
    let server = Running::start_over(Settings { uploads_max: 7, ..Settings::default() }, |_| {}).await;
    let client = server.alice();
    let mut open: Vec<String> = Vec::new();
    for number in 0..100 {
        for ask in creations(number, Some(5)) {
            let answer = ask.send(&client, "").await;
            if open.len() < 7 {
                open.push(answer.expect(201).field("location").rsplit('/').next().unwrap().to_owned());
            } else {
                assert_refused(&answer, (429, "too-many"), &ask.target);
                assert!(!answer.field("retry-after").is_empty());
            }
        }
    }
    // Another account has its own, and a place that is given back can be taken.
    creations(0, Some(5))[0].send(&server.bob(), "").await.expect(201);
    for id in open {
        client.ask("DELETE", &format!("/uploads/{id}"), &[]).await.expect(204);
        for ask in creations(200, Some(5)) {
            let answer = ask.send(&client, "").await;
            if answer.status.as_u16() == 201 {
                let id = answer.field("location").rsplit('/').next().unwrap().to_owned();
                client.ask("DELETE", &format!("/uploads/{id}"), &[]).await.expect(204);
            }
        }
    }
    assert!(uploads(&client).await.iter().all(|(_, state)| *state != State::Open));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_reserved_by_creations_and_given_back() {
    let server = Running::start().await;
    let quota = json!({"quota": 1_000});
    server.root().json("PATCH", "/api/v1/admin/users/alice", &quota).await.expect(200);
    let client = server.alice();
    for (number, ask) in creations(0, Some(1_001)).into_iter().enumerate() {
        assert_refused(&ask.send(&client, "").await, (507, "quota"), &format!("{number}"));
    }
    for (number, ask) in creations(1, Some(600)).into_iter().enumerate() {
        let created = ask.send(&client, "").await.expect(201);
        // What is reserved is not there for another one.
        assert_refused(&creations(2, Some(500))[number].send(&client, "").await, (507, "quota"), "second");
        let id = created.field("location").rsplit('/').next().unwrap().to_owned();
        client.ask("DELETE", &format!("/uploads/{id}"), &[]).await.expect(204);
        creations(3, Some(500))[number].send(&client, "").await.expect(201);
        for (id, _) in uploads(&client).await.iter().filter(|(_, state)| *state == State::Open) {
            client.ask("DELETE", &format!("/uploads/{id}"), &[]).await.expect(204);
        }
    }
    // Of unknown length: refused when it grows, and what it had stays.
    for ask in creations(4, None) {
        let created = ask.send(&client, "").await.expect(201);
        let id = created.field("location").rsplit('/').next().unwrap().to_owned();
        let upload = Upload { client: client.clone(), id };
        let fields = [
            ("Upload-Complete", "?0"),
            ("Content-Type", "application/partial-upload"),
            ("Upload-Offset", "0"),
        ];
        let url = format!("/uploads/{}", upload.id);
        let much = vec![7; 200_000];
        client.send("PATCH", &url, &fields, &much).await.refused(507, "quota");
        assert_eq!(upload.offset().await, 0);
        client.send("PATCH", &url, &fields, "some").await.expect(204);
        assert_eq!(upload.offset().await, 4);
        client.ask("DELETE", &url, &[]).await.expect(204);
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_ran_out_is_gone_in_every_dialect() {
    let server =
        Running::start_over(Settings { upload_idle: Duration::ZERO, ..Settings::default() }, |_| {}).await;
    for ask in creations(0, Some(5)) {
        let created = ask.send(&server.alice(), "").await.expect(201);
        let id = created.field("location").rsplit('/').next().unwrap().to_owned();
        server.root().json("POST", "/api/v1/admin/sweep", &json!({"now": true})).await.expect(200);
        let head = [("Tus-Resumable", "1.0.0")];
        for (url, fields) in [(format!("/tus/{id}"), &head[..]), (format!("/uploads/{id}"), &[])] {
            server.alice().ask("HEAD", &url, fields).await.refused(410, "upload-gone");
        }
        let status: Value = server.alice().get(&format!("/api/v1/uploads/{id}")).await.expect(200).read();
        assert_eq!(status["state"], "expired");
        server
            .alice()
            .send("PUT", &format!("/api/v1/uploads/{id}/parts/0"), &[], "abcde")
            .await
            .refused(410, "upload-gone");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_falls_silent_is_not_waited_for() {
    let server = Running::start_with(|config| config.deadlines.idle_body = Duration::from_millis(200)).await;
    let tus = [("Tus-Resumable", "1.0.0"), ("Content-Type", "application/offset+octet-stream")];
    let ietf = [("Upload-Complete", "?0"), ("Content-Type", "application/partial-upload")];
    let value = format!(":{}=:", "A".repeat(43));
    let native = [("Hapax-Part-Value", &*value)];
    let requests = [
        ("PATCH", "/tus/{id}", &tus[..], 5),
        ("PATCH", "/uploads/{id}", &ietf, 5),
        ("PUT", "/api/v1/uploads/{id}/parts/0?from=10", &native, 5),
        ("PUT", "/files/silent", &[], 0),
        ("PUT", "/files/silent", &ietf[..1], 0),
        ("POST", "/api/v1/uploads", &[], 0),
        ("POST", "/api/v1/uploads/{id}/complete", &[], 0),
    ];
    for (method, target, fields, kept) in requests {
        let upload = Upload::begun(server.alice()).await;
        let more = [("Upload-Offset", "10"), ("Content-Length", "90")];
        let more = if target.contains("files") { &more[1..] } else { &more[..] };
        let fields = [fields, more].concat();
        let mut wire = server.connect().await;
        wire.send(upload.client.head(method, &target.replace("{id}", &upload.id), &fields) + "\r\n").await;
        wire.send(&SOURCE[BEFORE..BEFORE + 5]).await;
        assert_refused(&wire.answer().await, CUT, target);
        assert_eq!(upload.offset().await, BEFORE + kept, "{method} {target}");
        upload.finish(target).await;
    }
    server.alice().get("/files/silent").await.refused(404, "not-found");
    // HTTP/2 keeps the same time for a stream.
    let upload = Upload::begun(server.alice()).await;
    let mut http2 = crate::h2::H2::connect(server.address).await;
    let fields = [&tus[..], &[("Upload-Offset", "10")]].concat();
    let mut sending = http2.begin(&upload.client, "PATCH", &format!("/tus/{}", upload.id), &fields);
    sending.send(&SOURCE[BEFORE..BEFORE + 5]).await;
    assert_refused(&sending.answer().await, CUT, "HTTP/2");
    assert_eq!(upload.offset().await, BEFORE + 5);
    upload.finish("HTTP/2").await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_as_long_as_it_says_is_broken() {
    let server = Running::start().await;
    let fields = [
        ("Tus-Resumable", "1.0.0"),
        ("Content-Type", "application/offset+octet-stream"),
        ("Upload-Offset", "10"),
        ("Content-Length", "20"),
    ];
    for length in [5, 30] {
        let upload = Upload::begun(server.alice()).await;
        let mut http2 = crate::h2::H2::connect(server.address).await;
        let mut sending = http2.begin(&upload.client, "PATCH", &format!("/tus/{}", upload.id), &fields);
        sending.send(&SOURCE[BEFORE..BEFORE + length]).await;
        sending.end_broken().await;
        let at = upload.offset().await;
        assert!((BEFORE..=BEFORE + length.min(20)).contains(&at), "{at} after {length} of 20");
        upload.finish("HTTP/2").await;
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_appends_at_once_none_mixes_with_another() {
    let server = Running::start().await;
    for round in 0..10 {
        let upload = Upload::begun(server.alice()).await;
        let url = format!("/uploads/{}", upload.id);
        let fields = [
            ("Tus-Resumable", "1.0.0"),
            ("Content-Type", "application/offset+octet-stream"),
            ("Upload-Offset", "10"),
        ];
        let tasks: Vec<_> = (0..8)
            .map(|number| {
                let (client, url) = (upload.client.clone(), url.clone());
                tokio::spawn(async move {
                    let body = &SOURCE[BEFORE..BEFORE + 5 + number];
                    let answer = client.send("PATCH", &url, &fields, body).await;
                    (answer.status.as_u16(), answer.field("upload-offset").to_owned())
                })
            })
            .collect();
        let mut taken = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                (204, offset) => taken.push(offset.parse::<usize>().unwrap()),
                (status, _) => assert_eq!(status, 409, "round {round}"),
            }
        }
        assert_eq!(taken, [upload.offset().await], "one of them is taken, and no other");
        upload.finish("at once").await;
    }
    server.end().await;
}
