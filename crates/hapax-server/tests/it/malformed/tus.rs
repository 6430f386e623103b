//! tus 1.0.0: offsets, lengths, metadata, checksums, versions, methods, bodies.

use super::*;

fn patch() -> Ask {
    let fields = [
        ("Tus-Resumable", "1.0.0"),
        ("Content-Type", "application/offset+octet-stream"),
        ("Upload-Offset", "10"),
    ];
    Ask::new("PATCH", "/tus/{id}", &fields, &SOURCE[BEFORE..BEFORE + 5])
}

fn post() -> Ask {
    Ask::new("POST", "/tus/", &[("Tus-Resumable", "1.0.0"), ("Upload-Length", "100")], b"")
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets() {
    let stage = Stage::set().await;
    for value in NO_NUMBERS {
        stage.check(value, patch().with("Upload-Offset", value), BAD_FIELD).await;
    }
    stage.check("missing", patch().without("Upload-Offset"), BAD_FIELD).await;
    stage.check("twice", patch().and("Upload-Offset", "10"), BAD_FIELD).await;
    for value in ["0", "9", "11", "100", "101", "999999999999999"] {
        stage.check(value, patch().with("Upload-Offset", value), MISMATCH).await;
    }
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lengths() {
    let stage = Stage::set().await;
    for value in NO_NUMBERS {
        stage.check(value, patch().with("Upload-Length", value), BAD_FIELD).await;
        stage.check_creation(value, post().with("Upload-Length", value), BAD_FIELD).await;
    }
    for value in ["99", "101", "0", "9"] {
        stage.check(value, patch().with("Upload-Length", value), INCONSISTENT).await;
    }
    stage.check("twice", patch().with("Upload-Length", "100").and("Upload-Length", "100"), BAD_FIELD).await;
    stage.check_creation("twice", post().and("Upload-Length", "100"), BAD_FIELD).await;
    stage.check_creation("none", post().without("Upload-Length"), BAD_FIELD).await;
    stage.check_creation("both", post().and("Upload-Defer-Length", "1"), BAD_FIELD).await;
    for value in ["", "0", "2", "true", "1, 1"] {
        let deferred = post().without("Upload-Length").and("Upload-Defer-Length", value);
        stage.check_creation(value, deferred, BAD_FIELD).await;
    }
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata() {
    let stage = Stage::set().await;
    let long = format!("a {}", "A".repeat(17 << 10));
    for value in ["a !", "a YQ===", "a Y*==", ",", "a YQ==,", "a YQ==,a YQ==", "\u{e4} YQ==", &long] {
        stage.check_creation(value, post().and("Upload-Metadata", value), BAD_FIELD).await;
    }
    let twice = post().and("Upload-Metadata", "a YQ==").and("Upload-Metadata", "b YQ==");
    stage.check_creation("twice", twice, BAD_FIELD).await;
    for path in ["..", "../a", "a/../b", "a//b", "a\0b", "./a", "a/"] {
        let value = format!("path {}", data_encoding::BASE64.encode(path.as_bytes()));
        stage.check_creation(path, post().and("Upload-Metadata", &value), (400, "bad-path")).await;
    }
    stage.check_creation("the root", post().and("Upload-Metadata", "path Lw=="), (409, "is-a-folder")).await;
    let of_bob = format!("path {}", data_encoding::BASE64.encode(b"/@bob/a"));
    stage.check_creation("of bob", post().and("Upload-Metadata", &of_bob), (404, "not-found")).await;
    for value in ["blake3 YWJj", "sha256 YWJj", "mtime bm93"] {
        stage.check_creation(value, post().and("Upload-Metadata", value), BAD_FIELD).await;
    }
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_and_what_is_made_of_them() {
    let stage = Stage::set().await;
    let concat = |value: &str| post().without("Upload-Length").and("Upload-Concat", value);
    let many = format!("final;{}", "/tus/a ".repeat(1_001));
    for value in [
        "",
        "Partial",
        "final",
        "final;",
        "final; ",
        "final /tus/a",
        "final;/tus/",
        "whole",
        "partial;/tus/a",
        &many,
    ] {
        stage.check_creation(value, concat(value), BAD_FIELD).await;
    }
    let unknown = format!("final;/tus/{}", "0".repeat(32));
    for value in [&*unknown, "final;a", "final;/tus/../..", "final;%00", "final;/tus/a,/tus/b"] {
        stage.check_creation(value, concat(value), (404, "not-found")).await;
    }
    stage.check_creation("a length", concat(&unknown).and("Upload-Length", "5"), BAD_FIELD).await;
    stage.check_creation("told later", concat(&unknown).and("Upload-Defer-Length", "1"), BAD_FIELD).await;
    stage.check_creation("a piece of no length", concat("partial"), BAD_FIELD).await;
    stage.check_creation("twice", concat(&unknown).and("Upload-Concat", &unknown), BAD_FIELD).await;
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checksums() {
    let stage = Stage::set().await;
    for value in [
        "",
        "sha1",
        "sha1 ",
        "sha1 !!!",
        "sha1 YQ==",
        "sha512 YQ==",
        "SHA1 YQ==",
        "crc32 YWJj",
        "crc32",
        "md5  ",
    ] {
        stage.check(value, patch().and("Upload-Checksum", value), BAD_FIELD).await;
        let brings = post().with("Content-Type", "application/offset+octet-stream");
        stage.check_creation(value, brings.and("Upload-Checksum", value), BAD_FIELD).await;
    }
    let wrong = "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=";
    let sum = |value: &str| patch().and("Upload-Checksum", value);
    stage.check("wrong", sum(wrong), (460, "checksum-mismatch")).await;
    stage.check("crc32", sum("crc32 AAAAAA=="), (460, "checksum-mismatch")).await;
    stage.check("twice", sum(wrong).and("Upload-Checksum", wrong), BAD_FIELD).await;
    let digest = patch().and("Content-Digest", "md5=:AAAAAAAAAAAAAAAAAAAAAA==:");
    stage.check("as RFC 9530 has it", digest, (400, "digest-mismatch")).await;
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_types_and_methods() {
    let stage = Stage::set().await;
    for value in ["", "0.2.2", "1.0", "2.0.0", "1.0.0, 1.0.0"] {
        stage.check(value, patch().with("Tus-Resumable", value), (412, "tus-version")).await;
        stage.check_creation(value, post().with("Tus-Resumable", value), (412, "tus-version")).await;
    }
    stage.check("none", patch().without("Tus-Resumable"), (412, "tus-version")).await;
    stage.check("none", patch().without("Content-Type"), (415, "media-type")).await;
    for value in ["", "application/octet-stream", "application/offset+octet-stream; a=b", "*/*"] {
        stage.check(value, patch().with("Content-Type", value), (415, "media-type")).await;
    }
    stage.check("coded", patch().and("Content-Encoding", "gzip"), (415, "content-coding")).await;
    let meant = |method: &str| Ask { method: "POST", ..patch() }.and("X-HTTP-Method-Override", method);
    for (method, expected) in [("", BAD_FIELD), ("A B", BAD_FIELD), ("GET", (405, "method-not-allowed"))] {
        stage.check(method, meant(method), expected).await;
    }
    stage.check("put", meant("PUT"), (405, "method-not-allowed")).await;
    stage.check("post", Ask { method: "POST", ..patch() }, (405, "method-not-allowed")).await;
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies() {
    let stage = Stage::set().await;
    let long = [&SOURCE[BEFORE..], b"x"].concat();
    stage.check("longer than fits", patch().body(Body::Bytes(long.clone())), TOO_LARGE).await;
    // How long it is shows only when what fits has been taken.
    stage.check_kept("longer than fits, in chunks", patch().body(one_chunk(&long)), TOO_LARGE, 90).await;
    for (what, body, kept) in broken_bodies() {
        stage.check_kept(what, patch().body(body), CUT, kept).await;
    }
    stage.strike().await;
}
