//! The draft of the IETF: completeness, offsets, lengths, types, digests, bodies.

use super::*;

fn patch() -> Ask {
    let fields =
        [("Upload-Complete", "?0"), ("Content-Type", "application/partial-upload"), ("Upload-Offset", "10")];
    Ask::new("PATCH", "/uploads/{id}", &fields, &SOURCE[BEFORE..BEFORE + 5])
}

fn put() -> Ask {
    Ask::new("PUT", "/files/new", &[("Upload-Complete", "?0")], b"")
}

#[tokio::test(flavor = "multi_thread")]
async fn completeness() {
    let stage = Stage::set().await;
    for value in ["", "1", "true", "?2", "?", "?1, ?1", "?1;a=?", "\"?1\""] {
        stage.check(value, patch().with("Upload-Complete", value), BAD_FIELD).await;
        stage.check_creation(value, put().with("Upload-Complete", value), BAD_FIELD).await;
    }
    stage.check("none", patch().without("Upload-Complete"), BAD_FIELD).await;
    stage.check("twice", patch().and("Upload-Complete", "?0"), BAD_FIELD).await;
    stage.check_creation("twice", put().and("Upload-Complete", "?0"), BAD_FIELD).await;
    let first_draft = patch().without("Upload-Complete").and("Upload-Incomplete", "yes");
    stage.check("first draft", first_draft, BAD_FIELD).await;
    stage.check("the last, and bytes are missing", patch().with("Upload-Complete", "?1"), INCONSISTENT).await;
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_and_lengths() {
    let stage = Stage::set().await;
    for value in NO_NUMBERS {
        stage.check(value, patch().with("Upload-Offset", value), BAD_FIELD).await;
        stage.check(value, patch().with("Upload-Length", value), BAD_FIELD).await;
        stage.check_creation(value, put().with("Upload-Length", value), BAD_FIELD).await;
        stage.check_creation(value, put().with("Upload-Offset", value), BAD_FIELD).await;
    }
    for value in ["0", "9", "11", "100", "101", "999999999999999"] {
        stage.check(value, patch().with("Upload-Offset", value), MISMATCH).await;
    }
    for value in ["0", "9", "99", "101"] {
        stage.check(value, patch().with("Upload-Length", value), INCONSISTENT).await;
    }
    stage.check("no offset", patch().without("Upload-Offset"), BAD_FIELD).await;
    stage.check("two offsets", patch().and("Upload-Offset", "10"), BAD_FIELD).await;
    let two = patch().and("Upload-Length", "100").and("Upload-Length", "100");
    stage.check("two lengths", two, BAD_FIELD).await;
    stage.check_creation("not at the begin", put().and("Upload-Offset", "5"), INCONSISTENT).await;
    let at_odds =
        put().with("Upload-Complete", "?1").and("Upload-Length", "5").body(Body::Bytes(b"abc".to_vec()));
    stage.check_creation("its own length", at_odds, INCONSISTENT).await;
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn types_and_digests() {
    let stage = Stage::set().await;
    stage.check("no type", patch().without("Content-Type"), (415, "media-type")).await;
    for value in ["", "application/octet-stream", "text/plain"] {
        stage.check(value, patch().with("Content-Type", value), (415, "media-type")).await;
    }
    let version = |value: &str| patch().without("Content-Type").and("Upload-Draft-Interop-Version", value);
    for value in ["6", "99", "-1", "many", ""] {
        stage.check(value, version(value), (415, "media-type")).await;
    }
    stage.check("coded", patch().and("Content-Encoding", "br"), (415, "content-coding")).await;
    stage.check_creation("coded", put().and("Content-Encoding", "br"), (415, "content-coding")).await;
    for value in [
        "sha-256",
        "sha-256=1",
        "sha-256=:YQ==:",
        "sha-256=:!:",
        "=:YQ==:",
        "md5=:AAAAAAAAAAAAAAAAAAAAAA==:,",
    ] {
        stage.check(value, patch().and("Content-Digest", value), BAD_FIELD).await;
        stage.check_creation(value, put().and("Repr-Digest", value), BAD_FIELD).await;
    }
    let wrong = patch().and("Content-Digest", "md5=:AAAAAAAAAAAAAAAAAAAAAA==:");
    stage.check("wrong", wrong, (400, "digest-mismatch")).await;
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies() {
    let stage = Stage::set().await;
    let long = [&SOURCE[BEFORE..], b"x"].concat();
    stage.check("longer than fits", patch().body(Body::Bytes(long.clone())), INCONSISTENT).await;
    for (what, body, kept) in broken_bodies() {
        stage.check_kept(what, patch().body(body.clone()), CUT, kept).await;
        let last = patch().with("Upload-Complete", "?1");
        // One that says its length says that the file is shorter than was agreed on.
        let expected = if matches!(body, Body::Says(..)) { INCONSISTENT } else { CUT };
        let kept = if expected == CUT { kept } else { 0 };
        stage.check_kept(what, last.body(body), expected, kept).await;
    }
    // A body of unknown length that turns out too long: nobody knows what of it belongs to the file.
    let upload = Upload::begun(stage.server.alice()).await;
    let answer = patch().body(one_chunk(&long)).send(&upload.client, &upload.id).await;
    assert_refused(&answer, INCONSISTENT, "longer than fits, in chunks");
    let answer = patch().send(&upload.client, &upload.id).await;
    assert_refused(&answer, (410, "upload-gone"), "spoiled");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn targets() {
    let stage = Stage::set().await;
    let at = |target: &str| Ask { target: target.to_owned(), ..put() };
    stage.server.alice().send("PUT", "/files/folder/file", &[], "x").await.expect(201);
    stage.check_creation("a folder", at("/files/folder"), (409, "is-a-folder")).await;
    stage.check_creation("the root", at("/files/"), (409, "is-a-folder")).await;
    stage.check_creation("of bob", at("/files/@bob/a"), (404, "not-found")).await;
    for path in
        ["/files/a/../b", "/files/a//b", "/files/%2e%2e/a", "/files/%ff", "/files/a%2fb", "/files/%zz"]
    {
        stage.check_creation(path, at(path), (400, "bad-path")).await;
    }
    let absent = at("/files/folder/file").and("If-None-Match", "*");
    stage.check_creation("absent", absent, (412, "precondition-failed")).await;
    stage.strike().await;
}
