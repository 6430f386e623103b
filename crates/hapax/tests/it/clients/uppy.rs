//! Uppy and its plugin for tus, without a page around them.

use serde_json::json;

use super::overtaking::Overtaking;
use super::{Bench, KIB, MIB, OVERHEAD, requests};

#[test]
fn a_file_goes_where_its_name_or_its_folder_says() {
    let bench = Bench::with(3 * MIB + 5);
    // Files that were dropped without a folder come with null.
    let asked = json!({"name": "film.mp4", "meta": {"relativePath": null}});
    bench.run("uppy.mjs", &asked);
    bench.stored("/film.mp4");
    let asked = json!({
        "name": "film.mp4", "meta": {"relativePath": "cut/film.mp4"}, "options": {"chunkSize": MIB},
    });
    bench.run("uppy.mjs", &asked);
    bench.stored("/cut/film.mp4");
}

#[test]
fn the_server_is_killed() {
    let bench = Bench::with(6 * MIB + 5);
    let asked = json!({"name": "film.mp4", "options": {"chunkSize": MIB}});
    let command = bench.node("uppy.mjs", &asked);
    let (bench, up, output) = bench.killed_behind(3 * MIB + MIB / 2, 3 * MIB, command);
    let made = requests(&output);
    assert!(made.iter().any(|request| request.starts_with("HEAD 200")), "{made:?}");
    assert!(up <= bench.size() + MIB + OVERHEAD, "{up} bytes went up");
    bench.stored("/film.mp4");
}

#[test]
fn content_that_is_there_is_not_sent() {
    let bench = Bench::with(5 * MIB + 5);
    bench.user.ok(&["put", "film.mkv", ":/film"]);
    let whole = bench.size();
    let line = Overtaking::to(&bench.server);
    let endpoint = format!("http://{}/tus/", line.address);
    let meta = json!({"blake3": bench.blake3()});
    let made = bench.run("uppy.mjs", &json!({"endpoint": endpoint, "name": "film.mp4", "meta": meta}));
    let expected = [format!("POST 201 {whole}"), format!("PATCH 409 {whole}"), format!("HEAD 200 {whole}")];
    assert_eq!(made, expected);
    assert!(line.up() <= 4 * KIB, "{} bytes went up", line.up());
    bench.stored("/film.mp4");
}
