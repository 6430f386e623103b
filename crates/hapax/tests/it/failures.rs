//! Exit codes and hints, each by the failure that people meet.

use std::fs;

use crate::stage::{Server, program};

#[test]
fn each_failure_has_its_code_and_its_words() {
    let server = Server::start();
    let client = server.client();
    client.write("a", 100, 1);
    client.ok(&["put", "a", ":/a"]);
    client.ok(&["mkdir", ":/folder"]);
    fs::write(client.path("other"), "something else").unwrap();
    let check = |code: i32, arguments: &[&str], told: &str| {
        let said = client.fails(code, arguments);
        assert!(said.contains(told), "{arguments:?}: {said}");
        assert!(said.starts_with("hapax: ") || code == 2, "{said}");
    };
    check(2, &["put", "a"], "required");
    check(2, &["put", "a", "b"], "must be a remote path");
    check(2, &["put", ":/a", ":/b"], "must be a local path");
    check(2, &["put", "a", ":/x//y"], "no remote path");
    check(2, &["put", "-", ":/folder/"], "hint: name the file");
    check(2, &["put", ".", ":/x"], "hint: add -r");
    check(2, &["get", ":/folder/"], "hint: add -r");
    check(2, &["get", ":/folder", "here"], "hint: add -r");
    check(2, &["get", "https://any.example/big.iso"], "is not on a hapax server");
    check(2, &["get", "--json", ":/a", "-"], "standard output");
    check(2, &["--log", "a=b=c", "ls"], "--log");
    check(3, &["put", "none", ":/none"], "cannot read none");
    check(3, &["get", ":/none"], "nothing here");
    check(3, &["stat", ":/none"], "nothing here");
    check(3, &["rm", ":/none"], "nothing here");
    check(3, &["mv", ":/none", ":/b"], "nothing here");
    check(3, &["ls", ":@nobody/"], "nothing here");
    check(3, &["transfers", "rm", "AAAAAAAAAAAAAAAAAAAAAA"], "no unfinished upload");
    check(6, &["get", ":/a", "other"], "exists already");
    check(6, &["put", "--no-overwrite", "other", ":/a"], "hint: add --overwrite");
    check(6, &["mv", ":/a", ":/folder"], "hapax: ");
    check(6, &["put", "a", ":/folder"], "hint: end the path with a slash");
    check(7, &["verify", "other", ":/a"], "differ");
    check(1, &["put", "none", "a", ":/folder/"], "1 of 2 files failed");
    assert_eq!(client.ok(&["ls", ":/folder"]), "a\n", "what could be sent was");
    assert_eq!(fs::read(client.path("other")).unwrap(), b"something else");
    let bad =
        client.command(&["ls"]).env("HAPAX_PASSWORD", "wrong").env("HAPAX_USER", "ann").output().unwrap();
    assert_eq!(bad.status.code(), Some(4), "{bad:?}");
    let bad = client.command(&["ls"]).env("HAPAX_TOKEN", "hapax_wrong").output().unwrap();
    assert_eq!(bad.status.code(), Some(4), "{bad:?}");
    assert!(String::from_utf8_lossy(&bad.stderr).contains("hint: run `hapax login URL` again"), "{bad:?}");
}

#[test]
fn without_a_server_one_is_told_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let output = program(folder.path()).args(["ls"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no server is known") && said.contains("hint: run `hapax login URL`"), "{said}");
}

#[test]
fn a_setting_that_nothing_knows_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("hapax.toml"), "[serve]\nlisen = \"x\"\n").unwrap();
    let output = program(folder.path()).args(["--config", "hapax.toml", "ls"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("there is no setting serve.lisen; did you mean listen?"), "{said}");
}
