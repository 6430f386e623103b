//! Folders of small files: many in a request, each for itself, and the same command again finishes.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::stage::{Client, Line, PASSWORD, Server, Way, bytes};

/// Returns how many requests a route answered so far.
pub(crate) fn requests(server: &Server, route: &str) -> u64 {
    let credentials = data_encoding::BASE64.encode(format!("admin:{PASSWORD}").as_bytes());
    let mut stream = TcpStream::connect(server.address).unwrap();
    let ask = format!("GET /metrics HTTP/1.0\r\nAuthorization: Basic {credentials}\r\n\r\n");
    stream.write_all(ask.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
    let named = format!("hapax_requests_total{{route=\"{route}\"");
    let lines = answer.lines().filter(|line| line.starts_with(&named));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Compares what `get -r` brings back with the folder.
fn assert_same(client: &Client, remote: &str, folder: &str, files: usize) {
    let back = format!("back-{folder}");
    client.ok(&["get", "-r", remote, &back]);
    let mut seen = 0;
    for entry in fs::read_dir(client.path(folder)).unwrap() {
        let entry = entry.unwrap();
        let same =
            fs::read(client.path(&back).join(entry.file_name())).unwrap() == fs::read(entry.path()).unwrap();
        assert!(same, "{}", entry.path().display());
        seen += 1;
    }
    assert_eq!(seen, files);
}

pub(crate) fn write_many(client: &Client, folder: &str, files: usize, size: usize) {
    for number in 0..files {
        client.write(&format!("{folder}/{number}"), size + number % 7, number as u64 + 1);
    }
}

#[test]
fn five_hundred_small_files_take_few_requests() {
    let server = Server::start();
    let client = server.client();
    write_many(&client, "small", 500, 900);
    client.write("small/large", 3 << 20, 77);
    client.write("small/middle", 200_000, 78);
    client.write("small/empty", 0, 79);
    let script = client.write("small/script", 10, 80);
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let events = client.events(&["put", "-r", "small/", ":/small/"]);
    let (done, summary) =
        (events.iter().filter(|event| event["event"] == "done").count(), events.last().unwrap());
    assert_eq!((done, &summary["event"], &summary["files"]), (504, &"summary".into(), &504.into()));
    let asked = |route| requests(&server, route);
    assert_eq!(asked("StoreBatch"), 1);
    // The large file alone has a request of its own.
    assert_eq!((asked("PutFile"), asked("PatchEntry")), (1, 1));
    // One for the file that is worth it, one for the large one.
    assert!(asked("Claim") <= 2, "{} claims", asked("Claim"));
    assert_same(&client, ":/small/", "small", 504);
    let stat = client.events(&["stat", ":/small/script"]);
    assert_eq!((&stat[0]["executable"], &stat[0]["size"]), (&true.into(), &10.into()), "{stat:?}");
    assert!(stat[0]["mtime"].is_string(), "{stat:?}");
    // Under another name nothing is sent of what is worth a claim; the rest is linked by the server.
    let again = client.events(&["put", "-r", "small/", ":/other/"]);
    let how = |name: &str| {
        let done = again.iter().find(|event| event["target"] == format!(":/other/{name}"));
        done.unwrap()["how"].as_str().unwrap().to_owned()
    };
    assert_eq!((how("middle"), how("large"), how("7")), ("instant".into(), "instant".into(), "sent".into()));
    assert_eq!(requests(&server, "StoreBatch"), 2);
}

#[test]
fn what_one_file_is_refused_for_is_said_by_its_name() {
    let server = Server::start();
    let client = server.client();
    write_many(&client, "small", 20, 100);
    client.ok(&["mkdir", ":/to/3"]);
    let said = client.fails(1, &["put", "-r", "small/", ":/to/"]);
    assert!(said.contains(":/to/3") || said.contains("/to/3"), "{said}");
    assert!(said.contains("1 of 20 files failed"), "{said}");
    client.fails(1, &["put", "-r", "--no-overwrite", "small/", ":/to/"]);
    fs::remove_file(client.path("small/3")).unwrap();
    // What stands there is what would be stored: nothing is overwritten.
    client.ok(&["put", "-r", "--no-overwrite", "small/", ":/to/"]);
    fs::write(client.path("small/5"), "other").unwrap();
    let said = client.fails(1, &["put", "-r", "--no-overwrite", "small/", ":/to/"]);
    assert!(said.contains("1 of 19 files failed"), "{said}");
    assert_eq!(client.run(&["cat", ":/to/5"]).stdout.len(), 105);
}

#[test]
fn of_two_files_of_one_target_the_second_is_refused() {
    let server = Server::start();
    let client = server.client();
    for (folder, content) in [("one", "first"), ("two", "second")] {
        fs::create_dir(client.path(folder)).unwrap();
        fs::write(client.path(folder).join("x"), content).unwrap();
        fs::write(client.path(folder).join(folder), content).unwrap();
    }
    let said = client.fails(1, &["put", "one/x", "one/one", "two/x", "two/two", "one/one", ":/to/"]);
    assert!(said.contains("two/x would take the place of one/x as :/to/x"), "{said}");
    assert!(said.contains("1 of 4 files failed"), "{said}");
    assert_eq!(client.ok(&["cat", ":/to/x"]), "first");
    assert_eq!(requests(&server, "StoreBatch"), 1);
}

/// One photo after the other leaves a line with a long way idle most of the time.
#[test]
fn files_that_fit_into_no_batch_are_on_the_way_together() {
    let server = Server::start();
    let line = Line::to(&server);
    let client = server.client().through(&line);
    write_many(&client, "photos", 7, 3 << 20);
    line.hold_after(Way::Up, 1 << 20);
    let put = client.command(&["put", "-r", "--parallel", "3", "photos/", ":/photos/"]).spawn().unwrap();
    line.wait_until_held_on(3);
    line.reset();
    assert!(put.wait_with_output().unwrap().status.success());
    line.hold_after(Way::Down, 1 << 20);
    let get = client.command(&["get", "-r", "--parallel", "3", ":/photos/", "photos-again"]).spawn().unwrap();
    line.wait_until_held_on(3);
    line.reset();
    assert!(get.wait_with_output().unwrap().status.success());
    assert_same(&client, ":/photos/", "photos", 7);
}

#[test]
fn two_files_that_come_to_one_name_come_in_their_order() {
    let server = Server::start();
    let client = server.client();
    client.write("one/x", 3 << 20, 1);
    let second = client.write("two/x", 3 << 20, 2);
    client.ok(&["put", "-r", "one", "two", ":/"]);
    client.ok(&["get", "-r", "--overwrite", ":/one/", ":/two/", "both/"]);
    assert!(fs::read(client.path("both/x")).unwrap() == fs::read(second).unwrap());
}

/// The one was published while the other's temporary file had its name, which then became the other.
#[test]
fn a_file_that_is_called_like_the_temporary_file_of_another_comes_as_itself() {
    let server = Server::start();
    let client = server.client();
    for (number, name) in (1..).zip(["x", "x.part", "x.part1", "y.part"]) {
        client.write(&format!("odd/{name}"), if name == "x" { 12 << 20 } else { 2 << 20 }, number);
    }
    client.ok(&["put", "-r", "odd/", ":/odd/"]);
    client.ok(&["get", "-r", "--overwrite", ":/odd/", "back/"]);
    for name in ["x", "x.part", "x.part1", "y.part"] {
        let back = fs::read(client.path(&format!("back/{name}"))).unwrap();
        assert!(back == fs::read(client.path(&format!("odd/{name}"))).unwrap(), "{name}");
    }
    assert_eq!(fs::read_dir(client.path("back")).unwrap().count(), 4);
}

#[test]
fn a_folder_whose_put_was_killed_is_finished_by_the_same_command() {
    const FILES: usize = 700;
    const SIZE: usize = 16 << 10;
    let server = Server::start();
    let line = Line::to(&server);
    let client = server.client().through(&line);
    write_many(&client, "small", FILES, SIZE);
    line.hold_after(Way::Up, 6 << 20);
    let mut killed =
        client.command(&["put", "-r", "small/", ":/small/"]).stdout(Stdio::piped()).spawn().unwrap();
    line.wait_until_held();
    kill_process(Pid::from_child(&killed), Signal::KILL).unwrap();
    killed.wait().unwrap();
    line.reset();
    // Nothing half-finished is visible.
    for entry in client.events(&["ls", "-r", ":/"]) {
        let size = entry["size"].as_u64().unwrap_or(SIZE as u64);
        assert!(size >= SIZE as u64, "{entry}");
    }
    client.ok(&["put", "-r", "small/", ":/small/"]);
    assert_same(&client, ":/small/", "small", FILES);
}

#[test]
fn a_folder_goes_on_when_the_server_was_killed_within_a_batch() {
    const FILES: usize = 700;
    let server = Server::start();
    let line = Line::to(&server);
    let client = server.client().through(&line);
    write_many(&client, "small", FILES, 16 << 10);
    line.hold_after(Way::Up, 6 << 20);
    let put = client.command(&["put", "-r", "small/", ":/small/", "--attempts", "50"]).spawn().unwrap();
    line.wait_until_held();
    let server = server.kill_and_start();
    line.lead_to(&server);
    line.reset();
    let output = put.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_same(&client, ":/small/", "small", FILES);
}

#[test]
fn a_file_that_is_edited_while_its_batch_is_sent_goes_again_alone() {
    let server = Server::start();
    let client = server.client();
    write_many(&client, "small", 50, 100);
    let restless = client.path("small/restless");
    fs::write(&restless, bytes(900_000, 1)).unwrap();
    let line = Line::to(&server);
    let client = client.through(&line);
    // Held in the first batch, the file is edited, and goes again alone.
    line.hold_after(Way::Up, 300_000);
    let put = client.command(&["put", "-r", "small/", ":/small/"]).stdout(Stdio::piped()).spawn().unwrap();
    line.wait_until_held();
    edit(&restless);
    line.reset();
    assert!(put.wait_with_output().unwrap().status.success());
    assert_eq!(requests(&server, "PutFile"), 1);
    assert_same(&client, ":/small/", "small", 51);
}

fn edit(path: &Path) {
    fs::write(path, bytes(800_000, 2)).unwrap();
}
