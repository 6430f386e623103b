//! Transfers that are ended in the middle and go on: what is proven is never sent twice, counted on the wire.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::stage::{Client, Line, Server, Way};

const MIB: u64 = 1 << 20;
/// What requests and answers weigh beside the content.
const OVERHEAD: u64 = 256 * 1024;

fn send(signal: Signal, child: &Child) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Starts a transfer, and returns when some of it is safe and the line holds the rest.
fn start(client: &Client, line: &Line, arguments: &[&str]) -> Child {
    let arguments = [arguments, &["--json", "--parallel", "1"]].concat();
    let mut child = client.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let events = BufReader::new(child.stdout.take().unwrap()).lines();
    let safe = events.map_while(Result::ok).any(|event| event.contains(r#""event":"progress""#));
    assert!(safe, "the transfer ended before anything was safe: {:?}", child.wait_with_output());
    line.wait_until_held();
    child
}

#[test]
fn a_put_that_was_killed_goes_on() {
    let server = Server::start();
    let line = Line::to(&server);
    let client = server.client().through(&line);
    client.write("film", 80 << 20, 7);
    line.hold_after(Way::Up, 40 * MIB);
    let mut killed = start(&client, &line, &["put", "film", ":/film"]);
    send(Signal::KILL, &killed);
    assert_eq!(killed.wait().unwrap().signal(), Some(9));
    let listed = client.events_after(&line, &["transfers"]);
    assert_eq!((listed.len(), &listed[0]["path"]), (1, &"/@admin/film".into()));
    line.reset();
    let said = client.ok(&["put", "film", ":/film"]);
    let (up, _) = line.reset();
    assert!(said.contains("resumed at ") && said.contains("prefix proven"), "{said}");
    // 40 MiB and less than a buffer were on the wire; a part of 16 MiB was in flight at most.
    assert!(up <= (80 - 40 + 16) * MIB + OVERHEAD, "{up} bytes went up");
    client.ok(&["verify", "film", ":/film"]);
    assert_eq!(client.ok(&["transfers"]), "");
}

#[test]
fn a_get_that_was_killed_goes_on() {
    let server = Server::start();
    let line = Line::to(&server);
    let client = server.client().through(&line);
    client.write("film", 80 << 20, 8);
    client.ok(&["put", "film", ":/film"]);
    line.hold_after(Way::Down, 40 * MIB);
    let mut killed = start(&client, &line, &["get", ":/film", "back"]);
    send(Signal::KILL, &killed);
    assert_eq!(killed.wait().unwrap().signal(), Some(9));
    assert!(!client.path("back").exists(), "nothing half-finished is visible");
    line.reset();
    let said = client.ok(&["get", ":/film", "back"]);
    let (_, down) = line.reset();
    assert!(said.contains("resumed at "), "{said}");
    assert!(down <= (80 - 40 + 16 + 1) * MIB + OVERHEAD, "{down} bytes came down");
    assert!(fs::read(client.path("back")).unwrap() == fs::read(client.path("film")).unwrap());
}

#[test]
fn a_signal_ends_a_put_in_order_and_it_goes_on() {
    #[track_caller]
    fn check(signal: Signal, code: i32) {
        let server = Server::start();
        let line = Line::to(&server);
        let client = server.client().through(&line);
        client.write("film", 64 << 20, 9);
        line.hold_after(Way::Up, 32 * MIB);
        let child = start(&client, &line, &["put", "film", ":/film"]);
        send(signal, &child);
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(code), "{ended:?}");
        assert!(
            String::from_utf8_lossy(&ended.stderr).contains("hint: run the same command again"),
            "{ended:?}"
        );
        line.reset();
        let done = client.done(&["put", "film", ":/film"]);
        assert_eq!(done["how"], "resumed", "{done}");
        client.ok(&["verify", "film", ":/film"]);
    }
    check(Signal::INT, 130);
    check(Signal::TERM, 143);
}

#[test]
fn an_unfinished_upload_can_be_removed() {
    let server = Server::start();
    let line = Line::to(&server);
    let client = server.client().through(&line);
    client.write("film", 64 << 20, 10);
    line.hold_after(Way::Up, 32 * MIB);
    let mut child = start(&client, &line, &["put", "film", ":/film"]);
    send(Signal::KILL, &child);
    child.wait().unwrap();
    line.reset();
    let id = client.events(&["transfers"])[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(client.ok(&["transfers", "rm", &id]), format!("removed upload {id}\n"));
    assert_eq!(client.ok(&["transfers"]), "");
    // The checkpoint is about something that is gone: the put begins anew.
    assert_eq!(client.done(&["put", "film", ":/film"])["how"], "sent");
}

#[test]
fn a_source_that_changed_is_sent_where_it_changed() {
    let server = Server::start();
    let line = Line::to(&server);
    let client = server.client().through(&line);
    let path = client.write("film", 80 << 20, 11);
    line.hold_after(Way::Up, 56 * MIB);
    let mut child = start(&client, &line, &["put", "film", ":/film"]);
    send(Signal::KILL, &child);
    child.wait().unwrap();
    line.reset();
    let mut content = fs::read(&path).unwrap();
    content[5] ^= 1;
    fs::write(&path, content).unwrap();
    let said = client.ok(&["put", "film", ":/film"]);
    let (up, _) = line.reset();
    assert!(said.contains("source changed: "), "{said}");
    assert!(up < 80 * MIB - 16 * MIB, "{up} bytes went up");
    client.ok(&["verify", "film", ":/film"]);
}

impl Client {
    /// Runs a command when the line is free again, and returns its events.
    fn events_after(&self, line: &Line, arguments: &[&str]) -> Vec<serde_json::Value> {
        line.reset();
        self.events(arguments)
    }
}
