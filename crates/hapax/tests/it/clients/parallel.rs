//! tus-js-client with `parallelUploads`: pieces that go up at once, and one upload that is composed of them.

use serde_json::json;

use super::{Bench, KIB, MIB, OVERHEAD, requests};

const CLIENTS: [&str; 2] = ["tus-js-client-4", "tus-js-client-5"];

fn count(requests: &[String], method: &str) -> usize {
    requests.iter().filter(|request| request.starts_with(method)).count()
}

#[test]
fn four_pieces_become_one_file() {
    for client in CLIENTS {
        let bench = Bench::with(6 * MIB + 5);
        let options = json!({"parallelUploads": 4});
        let metadata = json!({"path": "/cut/film"});
        let asked = json!({"client": client, "act": "upload", "metadata": metadata, "options": options});
        let made = bench.run("tus.mjs", &asked);
        assert_eq!((count(&made, "POST 201"), count(&made, "PATCH 204")), (5, 4), "{made:?}");
        let (up, _) = bench.line.reset();
        assert!(up <= bench.size() + OVERHEAD, "{up} bytes went up");
        bench.stored("/cut/film");
        assert_eq!(bench.user.ok(&["ls"]), "cut/\n", "a piece is no file");
    }
}

#[test]
fn the_server_is_killed_among_the_pieces() {
    const CHUNK: u64 = 256 * KIB;
    for client in CLIENTS {
        let bench = Bench::with(8 * MIB + 5);
        let options = json!({"parallelUploads": 4, "chunkSize": CHUNK});
        let metadata = json!({"path": "/film"});
        let asked = json!({"client": client, "act": "upload", "metadata": metadata, "options": options});
        let command = bench.node("tus.mjs", &asked);
        // Of each piece one chunk is on the line at most.
        let (bench, up, output) = bench.killed_behind(4 * MIB, 4 * MIB - 4 * CHUNK - OVERHEAD, command);
        let made = requests(&output);
        assert!(count(&made, "HEAD 200") >= 1, "{made:?}");
        assert!(up <= bench.size() + 4 * CHUNK + OVERHEAD, "{up} bytes went up");
        bench.stored("/film");
    }
}
