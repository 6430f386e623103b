//! Requests of no dialect, and what HTTP itself forbids.

use super::*;

fn put() -> Ask {
    Ask::new("PUT", "/files/plain", &[], b"new")
}

impl Stage {
    /// A PUT that changes nothing.
    async fn check_put(&self, what: &str, ask: Ask, expected: Expected) {
        let client = self.server.alice();
        client.send("PUT", "/files/plain", &[], "old").await;
        let answer = ask.send(&client, "").await;
        assert_refused(&answer, expected, what);
        assert_eq!(client.get("/files/plain").await.expect(200).body, b"old", "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_files() {
    let stage = Stage::set().await;
    for value in ["bytes 0-2/3", "x", ""] {
        stage.check_put(value, put().and("Content-Range", value), (400, "content-range")).await;
    }
    stage.check_put("coded", put().and("Content-Encoding", "gzip"), (415, "content-coding")).await;
    for field in ["Content-Digest", "Repr-Digest"] {
        for value in ["sha-256", "sha-256=1", "sha-256=:YQ==:", "blake3=:YQ==:", ","] {
            stage.check_put(value, put().and(field, value), BAD_FIELD).await;
        }
        let wrong = put().and(field, "md5=:AAAAAAAAAAAAAAAAAAAAAA==:");
        stage.check_put("wrong", wrong, (400, "digest-mismatch")).await;
    }
    for (what, body, _) in broken_bodies() {
        stage.check_put(what, put().body(body), CUT).await;
    }
    let huge = put().body(Body::Says("1000000000000000", Vec::new()));
    stage.check_put("huge", huge, TOO_LARGE).await;
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lengths_of_messages() {
    let stage = Stage::set().await;
    for length in ["-1", "+3", "x", "3, 4", "3.0", "0x3", "", "18446744073709551616"] {
        stage.check_put(length, put().body(Body::Says(length, b"new".to_vec())), NO_HTTP).await;
    }
    let two = put().and("Content-Length", "4");
    stage.check_put("two lengths", two, NO_HTTP).await;
    let coded = put().and("Transfer-Encoding", "gzip");
    stage.check_put("a coding that is not chunked", coded, NO_HTTP).await;
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_without_a_dialect() {
    let stage = Stage::set().await;
    let at = |method: &'static str, fields: &[(&str, &str)]| Ask::new(method, "/uploads/{id}", fields, b"x");
    stage.check("nothing", at("PATCH", &[]), (415, "media-type")).await;
    stage.check("an offset", at("PATCH", &[("Upload-Offset", "10")]), (415, "media-type")).await;
    stage.check("some type", at("PATCH", &[("Content-Type", "text/plain")]), (415, "media-type")).await;
    stage.check("open", at("GET", &[]).body(Body::None), (403, "upload-unfinished")).await;
    for method in ["PUT", "POST", "TRACE", "PROPFIND"] {
        stage.check(method, at(method, &[]), (405, "method-not-allowed")).await;
    }
    for value in ["blake3", "blake3=11", "blake3=-1", "blake3=x", "blake3=1.5", "=1"] {
        let head = at("HEAD", &[("Want-Repr-Digest", value)]).body(Body::None);
        stage.check(value, head, BAD_FIELD).await;
    }
    stage.strike().await;
}
