//! The format page is complete: `tests/on_disk_reader.py`, written from `docs/on-disk-format.md` alone and with other
//! libraries, reads what this crate wrote.

use std::path::Path;
use std::process::{Command, Output};

use hapax_proto::digest::{Algorithm, FileHash};
use hapax_proto::span::Length;
use hapax_proto::tree::PART;
use hapax_store::catalog::Expect;
use hapax_store::job::UNPACED;
use hapax_store::upload::Ending;

use crate::composed::compose;
use crate::world::{World, noise};

const READER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/on_disk_reader.py");

/// Which Python to run; `test.sh` makes one that has the packages.
fn python() -> String {
    std::env::var("HAPAX_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

fn run(data: &Path, arguments: &[&str]) -> Output {
    let python = python();
    Command::new(&python)
        .arg(READER)
        .arg(data)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{python} does not run: {error}. {HOW}"))
}

const HOW: &str = "Run `./test.sh second_reader`, which installs what the second reader needs, or set \
                   HAPAX_TEST_PYTHON to a Python that has the packages of tests/requirements.txt.";

#[track_caller]
fn check(data: &Path, arguments: &[&str], expected: &[u8]) {
    let output = run(data, arguments);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(!words.contains("ModuleNotFoundError"), "a Python package is missing. {HOW}\n{words}");
    assert!(output.status.success(), "{arguments:?}: {words}");
    assert!(output.stdout == expected, "{arguments:?} came out different");
}

fn part_len() -> usize {
    usize::try_from(PART.get()).unwrap()
}

/// Sends a file in parts: the first whole, the second in two runs, so that it is two extents.
fn put_in_parts(world: &World, path: &str, bytes: &[u8]) {
    let upload = world.create(path, bytes.len() as u64);
    let (first, second) = bytes.split_at(part_len());
    world.send(&upload, 0, 0, first, Ending::Complete);
    let have = world.send(&upload, 1, 0, &second[..second.len() / 2], Ending::Complete);
    let kept = usize::try_from(have.get()).unwrap();
    world.send(&upload, 1, have.get(), &second[kept..], Ending::Complete);
    let upload = world.store.upload(upload.id).unwrap();
    let declared = Some(FileHash::of(bytes));
    world.store.finish_upload(&upload, Length::of(bytes), Expect::Nothing, declared).unwrap();
}

#[test]
fn a_reader_written_from_the_format_page_opens_every_kind_of_file() {
    let world = World::new();
    let object = noise((2 << 20) + 12_345, 1);
    let packed = noise(70_000, 2);
    let inline = noise(4_096, 3);
    let long = noise(part_len() + 300_000, 4);
    let longest = noise(3 * part_len() + 1, 5);
    world.put("/films/object", &object);
    world.put("/packed", &packed);
    world.put("/films/old/inline", &inline);
    world.put("/empty", b"");
    put_in_parts(&world, "/long", &long);
    world.put("/longest", &longest);
    let composed = [long.as_slice(), &packed].concat();
    compose(&world, "/composed", &[&long, &packed]);
    world.store.identify_pending(UNPACED).unwrap();
    let lookups = [Algorithm::Sha256, Algorithm::Md5, Algorithm::Sha1];
    world.store.compute_lookups(&lookups, UNPACED).unwrap();
    compose(&world, "/pending", &[&packed, &long]);
    let open = world.create("/open", 2 * PART.get());
    let kept = noise(200_000, 6);
    world.send(&open, 1, 0, &kept, Ending::Complete);

    let data = world.close();
    check(data.path(), &["file", "ann", "/films/object"], &object);
    check(data.path(), &["file", "ann", "/packed"], &packed);
    check(data.path(), &["file", "ann", "/films/old/inline"], &inline);
    check(data.path(), &["file", "ann", "/empty"], b"");
    check(data.path(), &["file", "ann", "/long"], &long);
    check(data.path(), &["file", "ann", "/longest"], &longest);
    check(data.path(), &["file", "ann", "/composed"], &composed);
    check(data.path(), &["file", "ann", "/pending"], &[packed.as_slice(), &long].concat());
    check(data.path(), &["upload", &open.id.to_string(), "1"], &kept);
}

/// What makes the test above worth something: the reader does not take everything.
#[test]
fn the_second_reader_refuses_what_was_changed() {
    let world = World::new();
    world.put("/film", &noise(200_000, 1));
    let data = world.close();
    let object = only_object(data.path());
    let mut bytes = std::fs::read(&object).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&object, bytes).unwrap();
    let output = run(data.path(), &["file", "ann", "/film"]);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && words.contains("InvalidTag"), "{words}\n{HOW}");
}

fn only_object(data: &Path) -> std::path::PathBuf {
    let only = |dir: &Path| {
        let mut names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let first = names.next().unwrap();
        assert_eq!(names.next(), None, "there is one name in {}", dir.display());
        first
    };
    only(&only(&data.join("objects")))
}
