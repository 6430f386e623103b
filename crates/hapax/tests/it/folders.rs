//! Folders there and back: what comes together, what stays as it is, what is left out and said so, and what a run that was
//! killed leaves to the next one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::batch::{requests, write_many};
use crate::stage::{Client, Line, Server, Way};

/// What a folder holds: by the path below it, each file's content, time in milliseconds, and executable bit.
type Tree = BTreeMap<String, (Vec<u8>, u128, bool)>;

fn tree(folder: &Path) -> Tree {
    let mut found = Tree::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.is_file() {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                let executable = metadata.permissions().mode() & 0o100 != 0;
                let modified = metadata.modified().unwrap().duration_since(UNIX_EPOCH).unwrap().as_millis();
                found.insert(name, (fs::read(&path).unwrap(), modified, executable));
            }
        }
    }
    found
}

#[track_caller]
fn assert_same(client: &Client, one: &str, other: &str) {
    let [one, other] = [one, other].map(|folder| tree(&client.path(folder)));
    let names = |tree: &Tree| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&one), names(&other));
    for (name, file) in one {
        assert!(
            file == other[&name],
            "{name} differs: {:?} and {:?}",
            (file.1, file.2),
            (other[&name].1, other[&name].2)
        );
    }
}

fn how(events: &[Value], how: &str) -> usize {
    events.iter().filter(|event| event["event"] == "done" && event["how"] == how).count()
}

#[test]
fn a_folder_comes_back_in_few_requests_and_what_is_here_not_again() {
    let server = Server::start();
    let client = server.client();
    write_many(&client, "small/sub", 500, 900);
    client.write("small/large", 3 << 20, 77);
    client.write("small/empty", 0, 79);
    let script = client.write("small/sub/script", 10, 80);
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    for (number, path) in [script, client.path("small/large"), client.path("small/empty")].iter().enumerate()
    {
        let modified = UNIX_EPOCH + Duration::new(1_000_000_000 + number as u64, 123_456_789);
        fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
    }
    client.ok(&["put", "-r", "small", ":/to/"]);
    let got = client.events(&["get", "-r", ":/to/small", "back"]);
    assert_eq!((how(&got, "received"), got.last().unwrap()["files"].as_u64()), (503, Some(503)));
    assert_same(&client, "small", "back/small");
    // One answer for the small files; the large one has a request of its own.
    assert_eq!((requests(&server, "FetchBatch"), requests(&server, "ReadFile")), (1, 1));
    // The same command again finds all of it, in the same place.
    let again = client.events(&["get", "-r", ":/to/small", "back"]);
    assert_eq!((how(&again, "there"), again.last().unwrap()["moved"].as_u64()), (503, Some(0)));
    assert_eq!((requests(&server, "FetchBatch"), requests(&server, "ReadFile")), (1, 1));
    assert_same(&client, "small", "back/small");
    // What is missing is all that comes.
    for number in 0..7 {
        fs::remove_file(client.path(&format!("back/small/sub/{number}"))).unwrap();
    }
    let again = client.events(&["get", "-r", ":/to/small", "back"]);
    assert_eq!((how(&again, "there"), how(&again, "received")), (496, 7));
    assert_same(&client, "small", "back/small");
}

#[test]
fn an_edited_folder_is_brought_up_to_date_both_ways() {
    let server = Server::start();
    let client = server.client();
    write_many(&client, "small", 100, 2_000);
    client.ok(&["put", "-r", "small/", ":/small/"]);
    client.ok(&["get", "-r", ":/small/", "back"]);
    // Edited, added, removed, made executable, moved.
    client.write("small/5", 3_000, 991);
    client.write("small/new/file", 10, 992);
    fs::remove_file(client.path("small/6")).unwrap();
    fs::set_permissions(client.path("small/7"), PermissionsExt::from_mode(0o700)).unwrap();
    fs::rename(client.path("small/8"), client.path("small/eight")).unwrap();
    client.ok(&["put", "-r", "small/", ":/small/"]);
    client.ok(&["get", "-r", ":/small/", "fresh"]);
    // put takes nothing away: what was removed or moved here is still there.
    for left in ["6", "8"] {
        fs::rename(client.path("fresh").join(left), client.path(left)).unwrap();
    }
    assert_same(&client, "small", "fresh");
    // What is here in another version is not replaced unless that is asked for; the rest comes.
    let said = client.fails(1, &["get", "-r", ":/small/", "back"]);
    assert!(said.contains("back/5 exists already") && said.contains("1 of 102 files failed"), "{said}");
    assert!(client.path("back/new/file").is_file());
    client.ok(&["get", "-r", "--overwrite", ":/small/", "back"]);
    assert!(fs::read(client.path("back/5")).unwrap() == fs::read(client.path("small/5")).unwrap());
}

#[test]
fn what_is_no_file_is_left_out_and_said() {
    let server = Server::start();
    let client = server.client();
    client.write("odd/file", 10, 1);
    client.write("outside/secret", 10, 2);
    fs::create_dir(client.path("odd/none")).unwrap();
    symlink(client.path("outside"), client.path("odd/folder-link")).unwrap();
    symlink(client.path("odd"), client.path("odd/loop")).unwrap();
    symlink(client.path("outside/secret"), client.path("odd/link")).unwrap();
    symlink("nowhere", client.path("odd/dangling")).unwrap();
    let pipe = client.path("odd/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(client.path("odd/socket")).unwrap();
    let output = client.run(&["put", "-r", "odd/", ":/odd/"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    for name in ["folder-link", "loop", "link", "dangling", "pipe", "socket"] {
        let what = if ["pipe", "socket"].contains(&name) {
            "neither a file nor a folder"
        } else {
            "a symbolic link"
        };
        assert!(said.contains(&format!("odd/{name} is {what}: left out")), "{said}");
    }
    assert_eq!(client.ok(&["ls", "-r", ":/odd"]), "file\nnone/\n");
}

#[test]
fn a_name_that_no_server_takes_cannot_move_the_cursor() {
    let server = Server::start();
    let client = server.client();
    client.write("odd/file", 10, 1);
    client.write("odd/new\nline\u{1b}[31m", 10, 2);
    let said = client.fails(1, &["put", "-r", "odd/", ":/odd/"]);
    assert!(said.contains("new\\nline\\u{1b}[31m cannot be a name on a server"), "{said:?}");
    assert!(said.chars().all(|c| c == '\n' || !c.is_control()), "{said:?}");
    assert_eq!(client.ok(&["ls", "-r", ":/odd"]), "file\n");
}

#[test]
fn a_name_cannot_turn_the_direction_of_what_is_shown() {
    let server = Server::start();
    let client = server.client();
    client.write("odd/invoice\u{202e}fdp.exe", 10, 1);
    for line in [&["put", "-r", "odd", ":/"][..], &["ls", "-r", ":/odd"], &["get", "-r", ":/odd", "got"]] {
        let said = client.ok(line);
        assert!(said.contains("invoice\\u{202e}fdp.exe"), "{said:?}");
        assert!(!said.contains('\u{202e}'), "{said:?}");
    }
}

/// What to do about a failure is said once, however many files it is about.
#[test]
fn a_failed_file_is_one_line() {
    let server = Server::start();
    let client = server.client();
    for (seed, name) in (1..).zip(["one", "two", "three"]) {
        client.write(&format!("t/{name}"), 10, seed);
    }
    client.ok(&["put", "-r", "t", ":/"]);
    for (seed, name) in (5..).zip(["one", "two"]) {
        client.write(&format!("t/{name}"), 11, seed);
    }
    let said = client.fails(1, &["put", "-r", "--no-overwrite", "t", ":/"]);
    let lines: Vec<_> = said.lines().filter(|line| !line.starts_with("hint: ")).collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[2].contains("2 of 3 files failed"), "{said}");
    assert_eq!(said.matches("overwrite").count(), 1, "{said}");
}

#[test]
fn what_lies_in_a_folder_that_cannot_be_made_is_counted_and_the_folder_is_no_file() {
    let server = Server::start();
    let client = server.client();
    for (seed, name) in (1..).zip(["one", "sub/two", "sub/three", "sub/deep/four"]) {
        client.write(&format!("t/{name}"), 10, seed);
    }
    client.ok(&["put", "-r", "t", ":/"]);
    client.write("got/t/sub", 3, 9);
    let said = client.fails(1, &["get", "-r", ":/t", "got"]);
    assert_eq!(said.matches("is there already and is no folder").count(), 1, "{said}");
    assert!(said.contains("3 of 4 files and 1 folder failed"), "{said}");
    client.write("u/one", 10, 1);
    fs::create_dir_all(client.path("u/sub")).unwrap();
    client.ok(&["put", "-r", "u", ":/"]);
    client.write("got/u/sub", 3, 9);
    let said = client.fails(1, &["get", "-r", ":/u", "got"]);
    assert!(said.contains("hapax: 1 folder failed"), "{said}");
}

#[test]
fn names_are_kept_as_they_are_and_those_that_look_the_same_are_told() {
    let server = Server::start();
    let client = server.client();
    let names =
        ["caf\u{e9}", "cafe\u{301}", "CAFE\u{301}", "\u{212b}", "\u{c5}", "日本 \u{1f980}", "a\\b", "%41+;"];
    for (seed, name) in names.iter().enumerate() {
        client.write(&format!("odd/{name}"), 20, seed as u64);
    }
    let output = client.run(&["put", "-r", "odd/", ":/odd/"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    // Two pairs: the small cafés, and the two that are an A with a ring.
    assert_eq!(said.matches("look the same and are two names").count(), 2, "{said}");
    // A listing tells them as well, each pair once.
    let output = client.run(&["ls", "-r", ":/"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr).matches("look the same and are two names").count(), 2);
    let listed: Vec<_> = client
        .events(&["ls", ":/odd"])
        .iter()
        .map(|entry| entry["name"].as_str().unwrap().to_owned())
        .collect();
    let mut expected = names.map(str::to_owned);
    expected.sort();
    assert_eq!(listed, expected);
    client.ok(&["get", "-r", ":/odd/", "back"]);
    assert_same(&client, "odd", "back");
}

#[test]
fn names_that_are_one_here_are_told_and_nothing_is_replaced() {
    let server = Server::start();
    let client = server.client();
    for (name, content) in [("odd/Name", "first"), ("odd/name", "second"), ("odd/other", "third")] {
        client.write(name, 0, 0);
        fs::write(client.path(name), content).unwrap();
    }
    client.ok(&["put", "-r", "odd/", ":/odd/"]);
    // Two names of one file: what a file system that folds case makes of them.
    fs::create_dir(client.path("back")).unwrap();
    fs::write(client.path("back/Name"), "first").unwrap();
    fs::hard_link(client.path("back/Name"), client.path("back/name")).unwrap();
    let said = client.fails(1, &["get", "-r", "--overwrite", ":/odd/", "back"]);
    assert!(said.contains("back/Name and back/name are one name on this file system"), "{said}");
    assert!(said.contains("1 of 3 files failed"), "{said}");
    assert_eq!(fs::read_to_string(client.path("back/Name")).unwrap(), "first");
    assert_eq!(fs::read_to_string(client.path("back/other")).unwrap(), "third");
    // Where they are two, both come.
    client.ok(&["get", "-r", ":/odd/", "two"]);
    assert_same(&client, "odd", "two");
    assert_ne!(
        fs::metadata(client.path("two/Name")).unwrap().ino(),
        fs::metadata(client.path("two/name")).unwrap().ino()
    );
}

#[test]
fn nothing_is_received_through_a_link() {
    let server = Server::start();
    let client = server.client();
    write_many(&client, "small/sub", 5, 100);
    write_many(&client, "small/other", 5, 100);
    client.ok(&["put", "-r", "small/", ":/small/"]);
    fs::create_dir_all(client.path("outside")).unwrap();
    fs::create_dir_all(client.path("back/other")).unwrap();
    symlink(client.path("outside"), client.path("back/sub")).unwrap();
    fs::write(client.path("outside-file"), "outside").unwrap();
    symlink(client.path("outside-file"), client.path("back/other/2")).unwrap();
    let said = client.fails(1, &["get", "-r", ":/small/", "back"]);
    assert!(said.contains("back/sub is there already and is no folder"), "{said}");
    assert!(said.contains("back/other/2 exists already"), "{said}");
    assert_eq!(fs::read_dir(client.path("outside")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(client.path("outside-file")).unwrap(), "outside");
    assert!(client.path("back/other/4").is_file());
    // Replacing a link replaces the link.
    client.fails(1, &["get", "-r", "--overwrite", ":/small/", "back"]);
    assert_eq!(fs::read_to_string(client.path("outside-file")).unwrap(), "outside");
    assert!(fs::symlink_metadata(client.path("back/other/2")).unwrap().is_file());
}

/// Kills a command each time so many more bytes passed, and lets the same command finish.
fn killed_again_and_again(
    client: &Client,
    line: &Line,
    way: Way,
    (step, kills): (u64, u64),
    command: &[&str],
) {
    for kill in 1..=kills {
        line.hold_after(way, kill * step);
        let mut child = client.command(command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        line.wait_until_held();
        kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
        child.wait().unwrap();
        line.reset();
    }
    client.ok(command);
}

#[test]
fn a_folder_whose_get_was_killed_at_any_moment_is_finished_by_the_same_command() {
    const FILES: usize = 900;
    let server = Server::start();
    let line = Line::to(&server);
    let client = server.client().through(&line);
    write_many(&client, "small", FILES, 12 << 10);
    client.write("small/large", 5 << 20, 5_000);
    client.ok(&["put", "-r", "small/", ":/small/"]);
    let get = ["get", "-r", ":/small/", "back"];
    killed_again_and_again(&client, &line, Way::Down, (700_000, 8), &get);
    assert_same(&client, "small", "back");
    // No stage, no part: what killed runs left is gone, here and among the checkpoints.
    let names = fs::read_dir(client.path("back")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_str().unwrap().contains(".part")));
    line.reset();
    client.ok(&get);
    let (_, down) = line.reset();
    assert!(down < 600_000, "{down} bytes for a folder that is here");
}

#[test]
fn a_folder_whose_put_was_killed_at_any_moment_is_finished_by_the_same_command() {
    const FILES: usize = 900;
    let server = Server::start();
    let line = Line::to(&server);
    let client = server.client().through(&line);
    write_many(&client, "small/sub", FILES, 12 << 10);
    client.write("small/large", 5 << 20, 5_000);
    let put = ["put", "-r", "small/", ":/small/"];
    killed_again_and_again(&client, &line, Way::Up, (700_000, 8), &put);
    client.ok(&["get", "-r", ":/small/", "back"]);
    assert_same(&client, "small", "back");
}
