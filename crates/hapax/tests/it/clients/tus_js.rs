//! tus-js-client, versions 4 and 5: tus 1.0 and the drafts of the IETF that it speaks.

use serde_json::{Value, json};

use super::overtaking::Overtaking;
use super::{Bench, KIB, MIB, OVERHEAD, requests};

const CLIENTS: [&str; 2] = ["tus-js-client-4", "tus-js-client-5"];
const DRAFTS: [&str; 2] = ["ietf-draft-03", "ietf-draft-05"];

/// What an upload to `name` asks for; `more` is merged over it.
fn asked(client: &str, act: &str, name: &str, more: &Value) -> Value {
    let mut asked = json!({"client": client, "act": act, "metadata": {"filename": name}});
    asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    asked
}

fn count(requests: &[String], method: &str) -> u64 {
    requests.iter().filter(|request| request.starts_with(method)).count() as u64
}

#[test]
fn chunks_of_any_size() {
    let bench = Bench::with(3 * MIB + 5);
    for client in CLIENTS {
        for (chunk, expected) in [(Some(64 * KIB), 49), (Some(MIB), 4), (None, 1)] {
            let name = format!("{client} {expected}");
            let options = chunk.map_or(json!({}), |chunk| json!({"chunkSize": chunk}));
            let made = bench.run("tus.mjs", &asked(client, "upload", &name, &json!({"options": options})));
            assert_eq!((count(&made, "POST"), count(&made, "PATCH")), (1, expected), "{made:?}");
            bench.stored(&format!("/{client}%20{expected}"));
        }
    }
}

#[test]
fn a_stream_that_does_not_tell_its_length() {
    let bench = Bench::with(3 * MIB + 5);
    for client in CLIENTS {
        let more = json!({"options": {"chunkSize": MIB}});
        let made = bench.run("tus.mjs", &asked(client, "stream", client, &more));
        assert!(made.last().unwrap().ends_with(&bench.size().to_string()), "{made:?}");
        bench.stored(&format!("/{client}"));
    }
}

#[test]
fn bytes_that_come_with_the_creation() {
    let bench = Bench::with(3 * MIB + 5);
    for client in CLIENTS {
        let more = json!({"options": {"uploadDataDuringCreation": true}});
        let made = bench.run("tus.mjs", &asked(client, "buffer", client, &more));
        assert_eq!(made, [format!("POST 201 {}", bench.size())]);
        bench.stored(&format!("/{client}"));
        let name = format!("{client}-chunks");
        let more = json!({"options": {"uploadDataDuringCreation": true, "chunkSize": MIB}});
        let made = bench.run("tus.mjs", &asked(client, "upload", &name, &more));
        assert_eq!((count(&made, "POST"), count(&made, "PATCH")), (1, 3), "{made:?}");
        bench.stored(&format!("/{name}"));
    }
}

#[test]
fn an_upload_that_was_left_is_found_again() {
    let bench = Bench::with(4 * MIB + 5);
    for client in CLIENTS {
        bench.line.reset();
        let more = json!({"stopBehind": 2 * MIB - 1, "options": {"chunkSize": MIB}});
        let made = bench.run("tus.mjs", &asked(client, "resume", client, &more));
        let (up, _) = bench.line.reset();
        let again: Vec<_> = made.iter().skip_while(|request| *request != "aborted").collect();
        assert_eq!(again[1], &format!("HEAD 200 {}", 2 * MIB), "{made:?}");
        assert!(up <= bench.size() + OVERHEAD, "{up} bytes went up");
        bench.stored(&format!("/{client}"));
    }
}

#[test]
fn an_upload_that_was_terminated_is_gone() {
    let bench = Bench::with(4 * MIB + 5);
    for client in CLIENTS {
        let more = json!({"stopBehind": 2 * MIB - 1, "options": {"chunkSize": MIB}});
        let made = bench.run("tus.mjs", &asked(client, "terminate", client, &more));
        assert!(made.last().unwrap().starts_with("DELETE 204"), "{made:?}");
        bench.absent(&format!("/{client}"));
        assert_eq!(bench.user.ok(&["transfers"]), "");
    }
}

#[test]
fn the_drafts_of_the_ietf() {
    let bench = Bench::with(3 * MIB + 5);
    for client in CLIENTS {
        for draft in DRAFTS {
            for (act, chunk) in [("upload", None), ("upload", Some(MIB)), ("buffer", Some(MIB))] {
                let path = format!("/{client}-{draft}-{act}-{}", chunk.is_some());
                let mut options = json!({"protocol": draft});
                if let Some(chunk) = chunk {
                    options["chunkSize"] = chunk.into();
                }
                let more = json!({"endpoint": bench.url(&format!("/files{path}")), "options": options});
                bench.run("tus.mjs", &asked(client, act, "unused", &more));
                bench.stored(&path);
            }
        }
    }
}

#[test]
fn an_upload_of_a_draft_that_was_left_is_found_again() {
    let bench = Bench::with(4 * MIB + 5);
    for client in CLIENTS {
        for draft in DRAFTS {
            let path = format!("/{client}-{draft}");
            let options = json!({"protocol": draft, "chunkSize": MIB});
            let endpoint = bench.url(&format!("/files{path}"));
            let more = json!({"endpoint": endpoint, "stopBehind": 2 * MIB - 1, "options": options});
            let made = bench.run("tus.mjs", &asked(client, "resume", "unused", &more));
            assert!(made.contains(&format!("HEAD 200 {}", 2 * MIB)), "{made:?}");
            bench.stored(&path);
        }
    }
}

#[test]
fn the_server_is_killed_between_chunks() {
    for client in CLIENTS {
        let bench = Bench::with(6 * MIB + 5);
        let more = json!({"options": {"chunkSize": MIB}});
        let command = bench.node("tus.mjs", &asked(client, "upload", client, &more));
        let (bench, up, output) = bench.killed_behind(3 * MIB + MIB / 2, 3 * MIB, command);
        let made = requests(&output);
        assert!(made.iter().any(|request| request.starts_with("HEAD 200")), "{made:?}");
        assert!(up <= bench.size() + MIB + OVERHEAD, "{up} bytes went up");
        bench.stored(&format!("/{client}"));
    }
}

#[test]
fn the_server_is_killed_within_one_request() {
    for client in CLIENTS {
        let bench = Bench::with(20 * MIB + 5);
        let command = bench.node("tus.mjs", &asked(client, "upload", client, &json!({})));
        let (bench, up, output) = bench.killed_behind(18 * MIB, 16 * MIB, command);
        requests(&output);
        assert!(up <= bench.size() + 2 * MIB + OVERHEAD, "{up} bytes went up");
        bench.stored(&format!("/{client}"));
    }
}

#[test]
fn the_server_is_killed_during_a_draft() {
    for client in CLIENTS {
        for draft in DRAFTS {
            let bench = Bench::with(4 * MIB + 5);
            let options = json!({"protocol": draft, "chunkSize": MIB});
            let more = json!({"endpoint": bench.url("/files/film"), "options": options});
            let command = bench.node("tus.mjs", &asked(client, "buffer", "unused", &more));
            let (bench, up, output) = bench.killed_behind(2 * MIB + MIB / 2, 2 * MIB, command);
            requests(&output);
            assert!(up <= bench.size() + MIB + OVERHEAD, "{up} bytes went up");
            bench.stored("/film");
        }
    }
}

#[test]
fn content_that_is_there_is_not_sent() {
    let bench = Bench::with(5 * MIB + 5);
    bench.user.ok(&["put", "film.mkv", ":/film"]);
    let (hash, whole) = (bench.blake3(), bench.size());
    for client in CLIENTS {
        // With nothing but the digest told: the answer to the first PATCH comes before its body.
        let line = Overtaking::to(&bench.server);
        let endpoint = format!("http://{}/tus/", line.address);
        let metadata = json!({"filename": client, "blake3": hash});
        let more = json!({"endpoint": endpoint, "metadata": metadata});
        let made = bench.run("tus.mjs", &asked(client, "buffer", "", &more));
        let expected =
            [format!("POST 201 {whole}"), format!("PATCH 409 {whole}"), format!("HEAD 200 {whole}")];
        assert_eq!(made, expected);
        assert!(line.up() <= 4 * KIB, "{} bytes went up", line.up());
        bench.stored(&format!("/{client}"));
        // With the bytes in the creation.
        let line = Overtaking::to(&bench.server);
        let endpoint = format!("http://{}/tus/", line.address);
        let metadata = json!({"filename": format!("{client}-creation"), "blake3": hash});
        let options = json!({"uploadDataDuringCreation": true});
        let more = json!({"endpoint": endpoint, "metadata": metadata, "options": options});
        let made = bench.run("tus.mjs", &asked(client, "buffer", "", &more));
        assert_eq!(made, [format!("POST 201 {whole}")]);
        assert!(line.up() <= 4 * KIB, "{} bytes went up", line.up());
        bench.stored(&format!("/{client}-creation"));
        // With the two hooks of docs/uploading.md: no PATCH at all, on any line.
        bench.line.reset();
        let more = json!({"metadata": {"filename": format!("{client}-hooks"), "blake3": hash}});
        let made = bench.run("tus.mjs", &asked(client, "instant", "", &more));
        let (up, _) = bench.line.reset();
        assert_eq!(made, [format!("POST 201 {whole}"), format!("HEAD 200 {whole}")]);
        assert!(up <= 4 * KIB, "{up} bytes went up");
        bench.stored(&format!("/{client}-hooks"));
    }
}
