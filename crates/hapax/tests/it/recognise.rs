//! Content that the server has and the client does not know by heart: how little of it is sent, and what is left where the
//! client, the server or the file does not hold still at that moment.

use std::fs;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::stage::{Client, Line, Server, Way};

const MIB: u64 = 1 << 20;
const SIZE: usize = 48 << 20;
/// What may be on its way before it is known that the server may have it: a part.
const IN_FLIGHT: u64 = 16 * MIB;
/// After how many bytes of answers the line is held: somewhere in the service, the creation, the probe, the claim.
const MOMENTS: [u64; 5] = [0, 300, 800, 1_100, 1_700];

/// Starts a server that has a file, and lays a line to it for somebody else who has the same file.
fn start() -> (Server, Line, Client) {
    let server = Server::start();
    let first = server.client();
    first.write("film", SIZE, 12);
    first.ok(&["put", "film", ":/first"]);
    let line = Line::to(&server);
    let client = forgetful(&server, &line);
    (server, line, client)
}

/// Returns somebody who has the file and does not know what it hashes to.
fn forgetful(server: &Server, line: &Line) -> Client {
    let client = server.client().through(line);
    client.write("film", SIZE, 12);
    client
}

/// Starts a put, and returns when its line is held behind so many bytes of answers.
fn put_until(client: &Client, line: &Line, moment: u64) -> Child {
    line.hold_after(Way::Down, moment);
    let mut put = client.command(&["put", "film", ":/film", "--json"]);
    let put = put.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    line.wait_until_held();
    put
}

#[track_caller]
fn assert_stored(client: &Client) {
    client.ok(&["verify", "film", ":/film"]);
    assert_eq!(client.ok(&["transfers"]), "", "an upload is left");
}

#[test]
fn what_the_server_has_is_hashed_before_it_is_sent() {
    let (_server, line, client) = start();
    let events = client.events(&["put", "film", ":/film", "--parallel", "1"]);
    let (up, _) = line.reset();
    assert!(up <= IN_FLIGHT + MIB, "{up} bytes went up");
    assert!(events.iter().any(|event| event["event"] == "hashing-first"), "{events:?}");
    let done = events.last().unwrap();
    assert!(done["how"] == "instant" || done["how"] == "recognised", "{done}");
    assert!(done["kept"].as_u64().unwrap() >= SIZE as u64 - IN_FLIGHT, "{done}");
    assert_stored(&client);
    let said = client.ok(&["put", "film", ":/again"]);
    assert!(said.contains(" not sent"), "{said}");
}

#[test]
fn a_client_that_is_killed_meanwhile_goes_on() {
    let (server, line, _) = start();
    for moment in MOMENTS {
        let client = forgetful(&server, &line);
        let mut killed = put_until(&client, &line, moment);
        kill_process(Pid::from_child(&killed), Signal::KILL).unwrap();
        killed.wait().unwrap();
        line.reset();
        client.ok(&["put", "film", ":/film"]);
        assert_stored(&client);
        client.ok(&["rm", ":/film"]);
    }
}

#[test]
fn a_server_that_is_killed_meanwhile_is_waited_for() {
    let (mut server, line, _) = start();
    for moment in &MOMENTS[1..] {
        let client = forgetful(&server, &line);
        let put = put_until(&client, &line, *moment);
        server = server.kill_and_start();
        line.lead_to(&server);
        line.reset();
        let ended = put.wait_with_output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
        assert_stored(&client);
        client.ok(&["rm", ":/film"]);
    }
}

#[test]
fn a_file_that_changes_meanwhile_is_one_version_and_the_next_put_the_last() {
    let (server, line, client) = start();
    let whole = fs::read(client.path("film")).unwrap();
    for moment in &MOMENTS[1..] {
        let client = forgetful(&server, &line);
        let put = put_until(&client, &line, *moment);
        let mut edited = whole.clone();
        edited[20 << 20] ^= 1;
        fs::write(client.path("film"), &edited).unwrap();
        line.reset();
        let ended = put.wait_with_output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
        client.ok(&["get", ":/film", "back"]);
        let stored = fs::read(client.path("back")).unwrap();
        assert!(stored == whole || stored == edited, "two versions in one file");
        client.ok(&["put", "film", ":/film"]);
        assert_stored(&client);
        client.ok(&["rm", ":/film"]);
    }
}
