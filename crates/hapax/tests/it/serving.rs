//! The server's start and end, as whoever runs it sees them.

use std::fs;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::stage::{PASSWORD, Server, first_line, program};

#[test]
fn a_first_start_tells_a_password_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    // One that cannot listen tells nothing, and takes nothing from the next.
    let other = Server::start();
    let address = other.address.to_string();
    let mut taken = program(folder.path());
    taken.args(["serve", "--listen", &address, "--data"]).arg(folder.path().join("data"));
    let taken = taken.output().unwrap();
    assert_eq!((taken.status.code(), taken.stdout), (Some(6), Vec::new()));
    for _ in 0..2 {
        let mut child = Server::command(folder.path()).stdout(Stdio::piped()).spawn().unwrap();
        told.push(first_line(&mut child));
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    assert!(
        told[0].starts_with("http://127.0.0.1:") && told[0].contains("user admin, password "),
        "{told:?}"
    );
    assert!(told[1].starts_with("http://127.0.0.1:") && !told[1].contains("password"), "{told:?}");
}

#[test]
fn signals_end_a_server_in_order() {
    #[track_caller]
    fn check(signal: Signal) {
        let mut server = Server::start();
        kill_process(Pid::from_child(&server.child), signal).unwrap();
        assert_eq!(server.child.wait().unwrap().code(), Some(0));
    }
    check(Signal::TERM);
    check(Signal::INT);
}

#[test]
fn files_survive_a_kill_and_a_start() {
    let mut server = Server::start();
    let client = server.client();
    client.write("a", 1 << 20, 1);
    client.ok(&["put", "a", ":/a"]);
    kill_process(Pid::from_child(&server.child), Signal::KILL).unwrap();
    server.child.wait().unwrap();
    let folder = std::mem::replace(&mut server.folder, tempfile::tempdir().unwrap());
    let again = Server::start_in(folder);
    assert!(again.said.starts_with("http://"));
    let other = again.client();
    other.ok(&["get", ":/a"]);
    assert!(fs::read(other.path("a")).unwrap() == fs::read(client.path("a")).unwrap());
}

#[test]
fn a_data_folder_has_one_server() {
    let server = Server::start();
    let second = Server::command(server.folder.path()).output().unwrap();
    assert_eq!(second.status.code(), Some(6), "{second:?}");
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(
        said.contains("is in use by another hapax server") && said.contains("hint: end the other"),
        "{said}"
    );
    let offline =
        program(server.folder.path()).args(["offline", "check", "--data", "data"]).output().unwrap();
    assert_eq!(offline.status.code(), Some(6), "{offline:?}");
}

#[test]
fn an_address_has_one_server() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let address = server.address.to_string();
    let second =
        program(folder.path()).args(["serve", "--listen", &address, "--data", "d"]).output().unwrap();
    assert_eq!(second.status.code(), Some(6), "{second:?}");
    assert!(String::from_utf8_lossy(&second.stderr).contains("hint: end the other program"), "{second:?}");
}

#[test]
fn a_data_folder_of_another_kind_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("format"), "hapax data format 999\n").unwrap();
    let refused = Server::command(folder.path()).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("format 999") && said.contains("hint: "), "{said}");
    fs::write(data.join("format"), "").unwrap();
    fs::remove_file(data.join("format")).unwrap();
    fs::write(data.join("thesis.tex"), "").unwrap();
    let refused = Server::command(folder.path()).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is not empty"), "{refused:?}");
}

#[test]
fn offline_a_folder_is_checked_and_a_password_reset() {
    let mut server = Server::start();
    let client = server.client();
    client.write("a", 1 << 20, 1);
    client.ok(&["put", "a", ":/a"]);
    kill_process(Pid::from_child(&server.child), Signal::TERM).unwrap();
    server.child.wait().unwrap();
    let folder = std::mem::replace(&mut server.folder, tempfile::tempdir().unwrap());
    let offline = |arguments: &[&str]| {
        program(folder.path()).arg("offline").args(arguments).args(["--data", "data"]).output().unwrap()
    };
    let checked = offline(&["check", "--read-data"]);
    assert!(checked.status.success() && checked.stdout.starts_with(b"all is well: "), "{checked:?}");
    let reset = offline(&["reset-password"]);
    let said = String::from_utf8(reset.stdout).unwrap();
    let password =
        said.trim().strip_prefix("admin has another password: ").unwrap_or_else(|| panic!("{said}"));
    assert_eq!(offline(&["reset-password", "nobody"]).status.code(), Some(3));
    // Bytes of an object that were turned over are found.
    let object = walk(&folder.path().join("data/objects")).pop().unwrap();
    let mut bytes = fs::read(&object).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&object, bytes).unwrap();
    let checked = offline(&["check", "--read-data"]);
    assert_eq!(checked.status.code(), Some(7), "{checked:?}");
    assert!(String::from_utf8_lossy(&checked.stdout).contains("/a"), "{checked:?}");
    let password = password.to_owned();
    let server = Server::start_in(folder);
    let client = server.client();
    assert_eq!(client.run(&["ls"]).status.code(), Some(4), "{PASSWORD} is worth nothing any more");
    let listed = client.command(&["ls"]).env("HAPAX_PASSWORD", password).output().unwrap();
    assert_eq!(listed.stdout, b"a\n", "{listed:?}");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn settings_are_shown_with_their_sources() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join(".config/hapax")).unwrap();
    fs::write(folder.path().join(".config/hapax/hapax.toml"), "[serve]\ngrace = \"1h\"\n").unwrap();
    let output = program(folder.path())
        .args(["serve", "--print-config", "--uploads-max", "7"])
        .env("HAPAX_LISTEN", "127.0.0.1:1")
        .env("HAPAX_LOOKUPS", "")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let line = |key: &str| said.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert!(line("listen = \"127.0.0.1:1\"").ends_with("# HAPAX_LISTEN"));
    assert!(line("uploads-max = \"7\"").ends_with("# --uploads-max"));
    assert!(line("lookups = \"\"").ends_with("# HAPAX_LOOKUPS"));
    assert!(line("grace = \"1h\"").ends_with("hapax.toml"));
    assert!(line("data = ").contains(".local/share/hapax") && line("data = ").ends_with("# default"));
}

/// Folders in one request each, until the log of the catalog is long enough to be brought into its file.
const FOLDERS: usize = 400;

#[test]
fn a_checkpoint_that_fails_ends_the_server() {
    let mut server = Server::start();
    kill_process(Pid::from_child(&server.child), Signal::TERM).unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    let folder = std::mem::replace(&mut server.folder, tempfile::tempdir().unwrap());
    // Only the catalog's own file fails: commits go to the log beside it and are durable there.
    let catalog = folder.path().join("data/catalog.db");
    let tracer = ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64"];
    let tracer = tracer.map(str::to_owned).into_iter().chain([
        "-P".to_owned(),
        catalog.to_string_lossy().into_owned(),
        "-e".to_owned(),
        "inject=pwrite64:error=EIO".to_owned(),
    ]);
    let mut server = Server::start_by(&tracer.collect::<Vec<_>>(), folder);
    let client = server.client();
    for number in 0..FOLDERS {
        if server.child.try_wait().unwrap().is_some() {
            break;
        }
        // The last one is not answered.
        client.run(&["mkdir", &format!(":/{number}")]);
    }
    let ended = server.child.try_wait().unwrap().expect("a server whose catalog fails has ended");
    assert_eq!(ended.code(), Some(1));
    let folder = std::mem::replace(&mut server.folder, tempfile::tempdir().unwrap());
    let again = Server::start_in(folder);
    assert!(again.client().ok(&["ls"]).lines().count() > 1, "what was answered is there");
    assert!(again.client().ok(&["admin", "check"]).starts_with("all is well"));
}
