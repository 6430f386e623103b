//! The native dialect: JSON bodies, numbers of parts, runs, values, spans.

use super::*;

/// A run of the part that every upload here has: all of what is missing of it.
fn run() -> Ask {
    Ask::new("PUT", "/api/v1/uploads/{id}/parts/0?from=10", &[], &SOURCE[BEFORE..])
}

fn at(target: &str) -> Ask {
    Ask { target: format!("/api/v1/uploads/{{id}}{target}"), ..run() }
}

fn get(target: &str) -> Ask {
    Ask { method: "GET", ..at(target) }.body(Body::None)
}

#[tokio::test(flavor = "multi_thread")]
async fn creations() {
    let stage = Stage::set().await;
    let whole = json!({"key": "k".repeat(20), "path": "/new", "size": 5});
    let with = |member: &str, value: Value| {
        let mut body = whole.clone();
        body[member] = value;
        Ask::json("POST", "/api/v1/uploads", &body.to_string())
    };
    let raw = |body: &str| Ask::json("POST", "/api/v1/uploads", body);
    for body in ["", "{", "[]", "null", "5", "{}", "\u{feff}{}", "{\"key\":\"kkkkkkkkkkkkkkkkkkkk\"}"] {
        stage.check_creation(body, raw(body), BAD_FIELD).await;
    }
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    stage.check_creation("nested", raw(&nested), BAD_FIELD).await;
    let twice = r#"{"key":"kkkkkkkkkkkkkkkkkkkk","path":"/a","size":1,"size":2}"#;
    stage.check_creation("twice", raw(twice), BAD_FIELD).await;
    for size in [json!(-1), json!(1.5), json!("5"), json!([5]), json!(1e300), json!(true)] {
        stage.check_creation(&size.to_string(), with("size", size), BAD_FIELD).await;
    }
    for size in [1_000_000_000_000_000, u64::MAX] {
        stage.check_creation("huge", with("size", json!(size)), TOO_LARGE).await;
    }
    let beyond = whole.to_string().replace(":5", ":18446744073709551616");
    stage.check_creation("beyond all numbers", raw(&beyond), BAD_FIELD).await;
    for key in [
        "",
        "short",
        "with blanks in it here",
        "\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}",
        &"k".repeat(65),
    ] {
        stage.check_creation(key, with("key", json!(key)), BAD_FIELD).await;
    }
    for path in ["", "new", "/a/../b", "/a//b", "/\u{0}", "/@", &format!("/{}", "n".repeat(256))] {
        stage.check_creation(path, with("path", json!(path)), (400, "bad-path")).await;
    }
    stage.check_creation("the root", with("path", json!("/")), (409, "is-a-folder")).await;
    stage.check_creation("of bob", with("path", json!("/@bob/a")), (404, "not-found")).await;
    for digests in [json!({"md6": "00"}), json!({"md5": "00"}), json!({"md5": 5}), json!([])] {
        stage.check_creation(&digests.to_string(), with("digests", digests), BAD_FIELD).await;
    }
    stage.check_creation("mtime", with("mtime", json!("yesterday")), BAD_FIELD).await;
    stage.check_creation("precondition", with("precondition", json!("maybe")), BAD_FIELD).await;
    stage.check_creation("unknown", with("sise", json!(5)), (400, "unknown-member")).await;
    let text = with("size", json!(5)).with("Content-Type", "text/plain");
    stage.check_creation("text", text, (415, "media-type")).await;
    let cut = Ask { body: Body::Says("500", b"{\"key\":".to_vec()), ..with("size", json!(5)) };
    stage.check_creation("cut", cut, BAD_FIELD).await;
    let huge = with("size", json!(5)).body(Body::Says("9000000000", Vec::new()));
    stage.check_creation("a huge body", huge, TOO_LARGE).await;
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs() {
    let stage = Stage::set().await;
    for number in ["-1", "+0", "00", "01", "x", "", "0x0", "4294967296", "99999999999999999999"] {
        stage.check(number, at(&format!("/parts/{number}?from=10")), (404, "not-found")).await;
    }
    for number in ["1", "2", "4294967295"] {
        stage.check(number, at(&format!("/parts/{number}")), (404, "part-out-of-range")).await;
    }
    for from in ["-1", "x", "", "1.5", "18446744073709551616", "10&from=10", "%ff"] {
        stage.check(from, at(&format!("/parts/0?from={from}")), BAD_FIELD).await;
    }
    for from in ["9", "11", "100", "18446744073709551615"] {
        stage.check(from, at(&format!("/parts/0?from={from}")), (409, "part-offset")).await;
    }
    let long = [&SOURCE[BEFORE..], b"x"].concat();
    stage.check("too long", run().body(Body::Bytes(long)), (400, "part-length")).await;
    stage.check("nothing", run().body(Body::Bytes(Vec::new())), (400, "part-length")).await;
    stage.check("of no length", run().body(one_chunk(b"abc")), (411, "length-required")).await;
    stage.check("no body", run().body(Body::None), (411, "length-required")).await;
    for value in ["", "x", "::", ":YQ==:", ":!:", "YQ=="] {
        stage.check(value, run().and("Hapax-Part-Value", value), BAD_FIELD).await;
    }
    let value = format!(":{}=:", "A".repeat(43));
    let two = run().and("Hapax-Part-Value", &value).and("Hapax-Part-Value", &value);
    stage.check("two values", two, BAD_FIELD).await;
    stage.check("bad digest", run().and("Content-Digest", "sha-256=1"), BAD_FIELD).await;
    let digest = run().and("Content-Digest", "md5=:AAAAAAAAAAAAAAAAAAAAAA==:");
    stage.check("wrong digest", digest, (400, "digest-mismatch")).await;
    stage.check("coded", run().and("Content-Encoding", "gzip"), (415, "content-coding")).await;
    // A run that breaks off is kept if the value of the part was declared.
    let cut = run().body(Body::Says("90", SOURCE[BEFORE..BEFORE + 5].to_vec()));
    stage.check("cut", cut.clone(), CUT).await;
    stage.check_kept("cut, declared", cut.and("Hapax-Part-Value", &value), CUT, 5).await;
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resizes_completions_and_questions() {
    let stage = Stage::set().await;
    let post = |verb: &str, body: &str| Ask::json("POST", &format!("/api/v1/uploads/{{id}}/{verb}"), body);
    for verb in ["resize", "complete"] {
        for body in
            ["", "{}", "[]", r#"{"size":-1}"#, r#"{"size":"100"}"#, r#"{"size":1.5}"#, r#"{"size":null}"#]
        {
            stage.check(body, post(verb, body), BAD_FIELD).await;
        }
        stage.check("unknown", post(verb, r#"{"size":100,"sise":1}"#), (400, "unknown-member")).await;
    }
    stage.check("huge", post("resize", r#"{"size":1000000000000000}"#), TOO_LARGE).await;
    stage.check("mtime", post("resize", r#"{"size":100,"mtime":"now"}"#), BAD_FIELD).await;
    for size in ["0", "10", "99", "101", "18446744073709551615"] {
        stage
            .check(size, post("complete", &format!(r#"{{"size":{size},"blake3":null}}"#)), INCONSISTENT)
            .await;
    }
    stage.check("missing", post("complete", r#"{"size":100,"blake3":null}"#), (409, "incomplete")).await;
    for hash in ["", "00", "zz", "0"] {
        let body = format!(r#"{{"size":100,"blake3":"{hash}"}}"#);
        stage.check(hash, post("complete", &body), BAD_FIELD).await;
    }
    for query in
        ["", "?end=x", "?end=-1", "?start=5&end=4", "?end=5&end=5", "?end=5&alg=md6", "?start=x&end=5"]
    {
        stage.check(query, get(&format!("/digest{query}")), BAD_FIELD).await;
    }
    for query in ["?end=11", "?start=10&end=11", "?start=50&end=60", "?start=99&end=100"] {
        stage.check(query, get(&format!("/digest{query}")), (409, "incomplete")).await;
    }
    for query in ["?from=x", "?from=-1", "?from=4294967296"] {
        stage.check(query, get(query), BAD_FIELD).await;
    }
    let list = |query: &str| Ask { target: format!("/api/v1/uploads{query}"), ..get("") };
    for query in ["?limit=x", "?limit=-1", "?after=x", "?after=", "?limit=1&limit=2"] {
        stage.check(query, list(query), BAD_FIELD).await;
    }
    stage.strike().await;
}
