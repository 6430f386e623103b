//! Uploads that take nothing: finished, deleted, foreign and unknown ones, asked in every dialect.

use super::*;

const TUS: [(&str, &str); 3] = [
    ("Tus-Resumable", "1.0.0"),
    ("Content-Type", "application/offset+octet-stream"),
    ("Upload-Offset", "10"),
];
const IETF: [(&str, &str); 3] =
    [("Upload-Complete", "?0"), ("Content-Type", "application/partial-upload"), ("Upload-Offset", "10")];

/// Every request to an upload.
fn requests() -> Vec<Ask> {
    let native = |method, rest: &str| Ask::new(method, &format!("/api/v1/uploads/{{id}}{rest}"), &[], b"x");
    let json = |verb: &str| Ask::json("POST", &format!("/api/v1/uploads/{{id}}/{verb}"), r#"{"size":7}"#);
    vec![
        Ask::new("PATCH", "/tus/{id}", &TUS, b"x"),
        Ask::new("PATCH", "/uploads/{id}", &TUS, b"x"),
        Ask::new("PATCH", "/uploads/{id}", &IETF, b"x"),
        native("PUT", "/parts/0?from=10"),
        json("resize"),
        native("GET", "/digest?end=5").body(Body::None),
        json("complete"),
        Ask::new("HEAD", "/tus/{id}", &TUS[..1], b"").body(Body::None),
        Ask::new("HEAD", "/uploads/{id}", &[], b"").body(Body::None),
        native("GET", "").body(Body::None),
        Ask::new("GET", "/uploads/{id}", &[], b"").body(Body::None),
        native("DELETE", "").body(Body::None),
        Ask::new("DELETE", "/uploads/{id}", &[], b"").body(Body::None),
        Ask::new("DELETE", "/tus/{id}", &TUS[..1], b"").body(Body::None),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_and_unknown_uploads_are_not_there() {
    let stage = Stage::set().await;
    let upload = Upload::begun(stage.server.alice()).await;
    let before = upload.stands().await;
    for ask in requests() {
        let what = format!("{} {}", ask.method, ask.target);
        let foreign = ask.send(&stage.server.bob(), &upload.id).await;
        assert_refused(&foreign, (404, "not-found"), &what);
        let unknown = ask.send(&stage.server.bob(), &"0".repeat(32)).await;
        assert_refused(&unknown, (404, "not-found"), &what);
        assert_eq!(foreign.body, unknown.body, "{what}");
        for id in ["0", "..", "%00", "é", &"0".repeat(33), &"G".repeat(32), &upload.id.to_uppercase()] {
            let odd = percent_encoding::utf8_percent_encode(id, percent_encoding::CONTROLS).to_string();
            // In capitals it may be the same number, but it is no name of it.
            if odd != upload.id {
                assert_refused(
                    &ask.send(&upload.client, &odd).await,
                    (404, "not-found"),
                    &format!("{what} {id}"),
                );
            }
        }
        let nobody = ask.send(&stage.server.nobody(), &upload.id).await;
        assert_refused(&nobody, (401, "unauthenticated"), &what);
    }
    assert_eq!(upload.stands().await, before);
    upload.finish("foreign").await;
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_upload_takes_nothing_more() {
    let stage = Stage::set().await;
    let upload = Upload::begun(stage.server.alice()).await;
    upload.finish("it").await;
    for ask in requests() {
        let what = format!("{} {}", ask.method, ask.target);
        let answer = ask.send(&upload.client, &upload.id).await;
        match (ask.method, &*ask.target) {
            ("HEAD", _) => assert_eq!(answer.expect(200).field("upload-offset"), "100", "{what}"),
            ("GET", target) if !target.contains("digest") => drop(answer.expect(200)),
            ("POST", target) if target.ends_with("complete") => assert_refused(&answer, INCONSISTENT, &what),
            _ => assert_refused(&answer, (409, "already-complete"), &what),
        }
        assert_eq!(upload.client.get("/files/it").await.expect(200).body, SOURCE, "{what}");
    }
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_upload_is_gone() {
    let stage = Stage::set().await;
    let upload = Upload::begun(stage.server.alice()).await;
    upload.client.ask("DELETE", &format!("/uploads/{}", upload.id), &[]).await.expect(204);
    for ask in requests() {
        let what = format!("{} {}", ask.method, ask.target);
        let answer = ask.send(&upload.client, &upload.id).await;
        match (ask.method, &*ask.target) {
            ("DELETE", _) => drop(answer.expect(204)),
            ("GET", target) if target.starts_with("/api") && !target.contains("digest") => {
                assert_eq!(answer.expect(200).read::<Value>()["state"], "cancelled", "{what}");
            }
            _ => assert_refused(&answer, (410, "upload-gone"), &what),
        }
    }
    upload.client.get("/files/it").await.refused(404, "not-found");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_made_of_others_takes_no_bytes() {
    let stage = Stage::set().await;
    let client = stage.server.alice();
    let piece = [TUS[0], ("Upload-Length", "5"), ("Upload-Concat", "partial")];
    let piece = client.send("POST", "/tus/", &piece, "").await.expect(201).field("location").to_owned();
    let made = format!("final;{piece} {piece}");
    let made = [TUS[0], ("Upload-Concat", &*made), ("Upload-Metadata", "filename aXQ=")];
    let made = client.send("POST", "/tus/", &made, "").await.expect(201).field("location").to_owned();
    let id = made.rsplit('/').next().unwrap();
    for ask in requests().iter().filter(|ask| ask.method != "DELETE") {
        let what = format!("{} {}", ask.method, ask.target);
        let answer = ask.send(&client, id).await;
        match (ask.method, &*ask.target) {
            ("HEAD", _) => drop(answer.expect(200)),
            ("GET", target) if target.contains("digest") => {
                assert_refused(&answer, (409, "incomplete"), &what);
            }
            ("GET", target) if target.starts_with("/api") => drop(answer.expect(200)),
            ("GET", _) => assert_refused(&answer, (403, "upload-unfinished"), &what),
            _ => assert_refused(&answer, (403, "final-upload"), &what),
        }
    }
    let fields = [TUS[0], TUS[1], ("Upload-Offset", "0")];
    client.send("PATCH", &piece, &fields, "abcde").await.expect(204);
    assert_eq!(client.get("/files/it").await.expect(200).body, b"abcdeabcde");
    stage.strike().await;
}
