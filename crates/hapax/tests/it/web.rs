//! `hapax get` with addresses: what is said, with which code it ends, and that it goes on after a kill. The server is
//! hapax too, but nothing of the client knows that.
//!
//! `web/certificate.pem` is for 127.0.0.1, signed by `web/authority.pem`; its key beside it protects nothing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::stage::{Client, Line, PASSWORD, Server, Way, first_line, program};

const MIB: u64 = 1 << 20;

/// Returns the address of a file for somebody who knows the password.
fn address(host: impl std::fmt::Display, path: &str) -> String {
    let password = PASSWORD.replace(' ', "%20");
    format!("http://admin:{password}@{host}/files{path}")
}

#[test]
fn a_file_of_any_server_is_received() {
    let server = Server::start();
    let client = server.client();
    let film = client.write("film", 3_000_000, 1);
    client.ok(&["put", "film", ":/film"]);
    let from = address(server.address, "/film");
    fs::create_dir(client.path("got")).unwrap();
    let said = client.ok(&["get", &from, "got"]);
    assert!(said.ends_with("got/film: received 2.8 MiB, sha-256 proven\n"), "{said}");
    assert!(fs::read(client.path("got/film")).unwrap() == fs::read(&film).unwrap());
    let said = client.fails(6, &["get", &from, "got"]);
    assert!(said.contains("exists already") && said.contains("hint: add --overwrite"), "{said}");
    let hashes = client.events(&["hash", "film"]);
    let sha256 = format!("sha-256:{}", hashes[0]["digests"]["sha-256"].as_str().unwrap());
    let said = client.ok(&["get", &from, "got/film", "--digest", &sha256]);
    assert!(said.contains("there already") && said.contains("sha-256 proven"), "{said}");
    let done = client.done(&["get", "--force", &from, "got/film", "--digest", &sha256]);
    assert_eq!((&done["how"], &done["proof"]), (&"received".into(), &"sha-256".into()), "{done}");
    assert!(!done.to_string().contains("horse"), "no secret is told: {done}");
    let streamed = client.run(&["get", &from, "-"]);
    assert!(streamed.stdout == fs::read(&film).unwrap());
    client.ok(&["put", "film", ":/more"]);
    let both = [&from, &address(server.address, "/more")];
    let said = client.ok(&["get", both[0], both[1], "other/"]);
    assert!(said.ends_with("2 files, 5.7 MiB: 5.7 MiB received\n"), "{said}");
    let said = client.fails(1, &["get", both[0], both[1], "other/"]);
    assert!(said.contains("2 of 2 files failed"), "{said}");
}

#[test]
fn each_failure_of_an_address_has_its_code_and_its_words() {
    let server = Server::start();
    let client = server.client();
    client.write("a", 100, 1);
    client.ok(&["put", "a", ":/a"]);
    let from = address(server.address, "/a");
    let bare = format!("http://{}/files/a", server.address);
    let wrong = format!("sha-256:{}", "0".repeat(64));
    let check = |code: i32, arguments: &[&str], told: &str| {
        let said = client.fails(code, arguments);
        assert!(said.contains(told), "{arguments:?}: {said}");
        assert!(!said.contains("horse"), "no secret is told: {said}");
    };
    check(2, &["get", &from, ":/b"], "cannot be received together");
    check(2, &["get", "http://"], "hint: an address is written like");
    check(2, &["get", "-r", &from], "hint: leave -r out");
    check(2, &["get", &from, &bare, "--digest", &wrong], "several files");
    check(2, &["get", &from, "--digest", "sha-256:0"], "--digest");
    check(2, &["get", ":/a", "b", "--digest", &wrong], "for files from addresses");
    check(2, &["get", "--json", &from, "-"], "standard output");
    check(3, &["get", &address(server.address, "/none"), "b"], "nothing here");
    check(4, &["get", &bare, "b"], "hapax: GET http://127.0.0.1");
    check(4, &["get", &from.replace("http:", "https:"), "b"], "no trusted connection");
    check(6, &["get", &from, "a"], "exists already");
    check(7, &["get", &from, "b", "--digest", &wrong], "hint: nothing of it was kept");
    assert!(!client.path("b").exists() && !client.path("b.part").exists());
}

#[test]
fn a_fetch_that_was_killed_goes_on() {
    let server = Server::start();
    let line = Line::to(&server);
    let client = Client::of(server.address);
    let film = client.write("film", 48 << 20, 2);
    client.ok(&["put", "film", ":/film"]);
    let from = address(line.address, "/film");
    line.hold_after(Way::Down, 24 * MIB);
    let arguments = ["get", &from, "back", "--json", "--connections", "1"];
    let mut killed = client.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    line.wait_until_held();
    // All that came is safe once the beat behind it is told.
    let events = BufReader::new(killed.stdout.take().unwrap()).lines().map_while(Result::ok);
    let safe = |event: String| {
        let event: serde_json::Value = serde_json::from_str(&event).unwrap();
        event["event"] == "progress" && event["solid"].as_u64().unwrap() > 20 * MIB
    };
    assert!(events.into_iter().any(safe));
    kill_process(Pid::from_child(&killed), Signal::KILL).unwrap();
    killed.wait().unwrap();
    assert!(!client.path("back").exists(), "nothing half-finished is visible");
    line.reset();
    let said = client.ok(&["get", &from, "back"]);
    let (_, down) = line.reset();
    assert!(said.contains("resumed at "), "{said}");
    assert!(down < 29 * MIB, "{down} bytes came down");
    assert!(fs::read(client.path("back")).unwrap() == fs::read(film).unwrap());
    assert!(!client.path("back.part").exists());
}

#[test]
fn certificates_are_believed_that_the_system_believes() {
    let file = |name: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/web").join(name);
    let folder = tempfile::tempdir().unwrap();
    let mut serving = Server::command(folder.path())
        .arg("--tls-cert")
        .arg(file("certificate.pem"))
        .arg("--tls-key")
        .arg(file("key.pem"))
        .env("HAPAX_ADMIN_PASSWORD", PASSWORD)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = first_line(&mut serving);
    let host = said.split_whitespace().next().unwrap().strip_prefix("https://").unwrap().to_owned();
    let from = address(host, "/none").replace("http:", "https:");
    let get = |trusted: bool| {
        let mut command = program(folder.path());
        command.args(["get", &from, "none"]);
        if trusted {
            command.env("SSL_CERT_FILE", file("authority.pem"));
        }
        command.output().unwrap()
    };
    let (believed, unknown) = (get(true), get(false));
    kill_process(Pid::from_child(&serving), Signal::KILL).unwrap();
    serving.wait().unwrap();
    assert_eq!(believed.status.code(), Some(3), "the server was asked: {believed:?}");
    assert_eq!(unknown.status.code(), Some(4), "{unknown:?}");
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no trusted connection"), "{unknown:?}");
}

#[test]
fn a_proxy_of_the_environment_is_used() {
    let server = Server::start();
    let client = server.client();
    let film = client.write("film", 100_000, 3);
    client.ok(&["put", "film", ":/film"]);
    // The server takes whole addresses as a proxy does. Nobody has this name, so nothing is asked of anybody else.
    let from = address("nowhere.invalid", "/film");
    let mut command = client.command(&["get", &from, "back"]);
    let got = command.env("http_proxy", format!("http://{}", server.address)).output().unwrap();
    assert!(got.status.success(), "{got:?}");
    assert!(fs::read(client.path("back")).unwrap() == fs::read(film).unwrap());
}
