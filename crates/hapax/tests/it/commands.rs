//! Every command once, and what it says.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use crate::stage::{PASSWORD, Server, bytes, program};

#[test]
fn files_go_up_and_come_back() {
    let server = Server::start();
    let client = server.client();
    for (name, size) in [("empty", 0), ("small", 5), ("part", 16 << 20), ("large", (33 << 20) + 7)] {
        let path = client.write(name, size, size as u64);
        let target = format!(":/in/{name}");
        let said = client.ok(&["put", name, &target]);
        assert!(said.starts_with(&format!("{target}: sent ")), "{said}");
        client.ok(&["get", &target, "back"]);
        assert!(fs::read(client.path("back")).unwrap() == fs::read(&path).unwrap(), "{name}");
        assert!(client.run(&["cat", &target]).stdout == fs::read(&path).unwrap(), "{name}");
        client.ok(&["verify", name, &target]);
        fs::remove_file(client.path("back")).unwrap();
    }
    assert_eq!(client.ok(&["ls", ":/in"]), "empty\nlarge\npart\nsmall\n");
    // What is here already is not received again.
    let again = client.ok(&["get", ":/in/large", "large"]);
    assert!(again.contains("there already"), "{again}");
}

#[test]
fn streams_go_up_and_come_back() {
    let server = Server::start();
    let client = server.client();
    for size in [3, (16 << 20) + 5] {
        let content = bytes(size, 11);
        let mut put = client.command(&["put", "-", ":/stream"]).stdin(Stdio::piped()).spawn().unwrap();
        put.stdin.take().unwrap().write_all(&content).unwrap();
        assert!(put.wait().unwrap().success());
        let back = client.run(&["get", ":/stream", "-"]);
        assert!(back.status.success() && back.stdout == content, "{size}");
    }
}

#[test]
fn folders_go_up_and_come_back() {
    let server = Server::start();
    let client = server.client();
    client.write("photos/a.jpg", 1_000, 1);
    client.write("photos/2025/b.jpg", 70_000, 2);
    client.write("photos/2025/ä ö.jpg", 3, 3);
    fs::create_dir_all(client.path("photos/none")).unwrap();
    let said = client.ok(&["put", "-r", "photos/", ":/photos/"]);
    assert!(said.ends_with("3 files, 69 KiB: 69 KiB sent\n"), "{said}");
    let listed = client.ok(&["ls", "-r", ":/"]);
    assert_eq!(
        listed,
        "photos/\nphotos/2025/\nphotos/2025/b.jpg\nphotos/2025/ä ö.jpg\nphotos/a.jpg\nphotos/none/\n"
    );
    client.ok(&["get", "-r", ":/photos/", "back"]);
    for name in ["a.jpg", "2025/b.jpg", "2025/ä ö.jpg"] {
        let [there, back] =
            ["photos", "back"].map(|folder| fs::read(client.path(folder).join(name)).unwrap());
        assert_eq!(there, back, "{name}");
    }
    assert!(client.path("back/none").is_dir());
    client.ok(&["get", "-r", ":/photos", "back/"]);
    assert!(client.path("back/photos/a.jpg").is_file());
    // One name for both: several files into a folder.
    client.ok(&["put", "photos/a.jpg", "photos/2025/b.jpg", ":/both/"]);
    assert_eq!(client.ok(&["ls", ":/both"]), "a.jpg\nb.jpg\n");
}

#[test]
fn entries_are_told_moved_and_removed() {
    let server = Server::start();
    let client = server.client();
    client.write("a", 1_536, 1);
    client.ok(&["put", "a", ":/x/a"]);
    let stat = client.ok(&["stat", ":/x/a"]);
    assert!(
        stat.contains("path        /@admin/x/a\n") && stat.contains("size        1536 (1.5 KiB)\n"),
        "{stat}"
    );
    assert_eq!(client.ok(&["mkdir", ":/y/z"]), "made :/y/z\n");
    assert_eq!(client.ok(&["mv", ":/x/a", ":/y/z/"]), "moved :/y/z/a\n");
    let long = client.ok(&["ls", "-l", ":/y/z"]);
    assert!(long.starts_with("  1.5 KiB  ") && long.ends_with("  a\n"), "{long}");
    assert_eq!(client.ok(&["ls", ":@admin/"]), "x/\ny/\n");
    assert!(client.fails(6, &["rm", ":/y"]).contains("hint: add -r"));
    assert_eq!(client.ok(&["rm", "-r", ":/y"]), "removed :/y\n");
    client.fails(3, &["stat", ":/y/z/a"]);
}

#[test]
fn the_same_content_is_not_sent_twice() {
    let server = Server::start();
    let client = server.client();
    // A file that nobody wrote to in the last seconds: younger ones are hashed again before they are believed.
    let old = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock");
    assert_eq!(client.done(&["put", old, ":/one"])["how"], "sent");
    let two = client.done(&["put", old, ":/two"]);
    assert_eq!((&two["how"], &two["moved"]), (&"instant".into(), &0.into()));
    assert!(client.ok(&["put", old, ":/three"]).contains("instant: 7"));
    client.ok(&["verify", old, ":/two"]);
}

#[test]
fn events_are_ndjson() {
    let server = Server::start();
    let client = server.client();
    client.write("film", 20 << 20, 5);
    let events = client.events(&["put", "film", ":/film"]);
    let names: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["begun", "progress", "progress", "done"]);
    let done = &events[3];
    assert_eq!(
        (&done["how"], &done["size"], &done["moved"]),
        (&"sent".into(), &(20 << 20).into(), &(20 << 20).into())
    );
    let listed = client.events(&["ls", ":/"]);
    assert_eq!(
        (&listed[0]["event"], &listed[0]["name"], &listed[0]["kind"]),
        (&"entry".into(), &"film".into(), &"file".into())
    );
    assert_eq!(listed[0]["blake3"], done["blake3"]);
    let failed = client.run(&["--json", "stat", ":/none"]);
    let told: serde_json::Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!(
        (&told["event"], &told["code"], &told["name"]),
        (&"error".into(), &3.into(), &"not-found".into())
    );
    assert_eq!(client.ok(&["-q", "put", "film", ":/film"]), "");
}

#[test]
fn hashes_are_those_of_the_published_tools() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("abc"), "abc").unwrap();
    let output = program(folder.path()).args(["hash", "abc"]).output().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "blake3:6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85  abc\n\
         sha-256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  abc\n\
         md5:900150983cd24fb0d6963f7d28e17f72  abc\n"
    );
}

#[test]
fn a_login_is_kept_and_used() {
    let server = Server::start();
    let client = server.client();
    let url = format!("http://{}", server.address);
    let login = |user: &str, arguments: &[&str]| {
        let mut command = program(client.folder.path());
        command.args(["login", &url]).args(arguments);
        command.env("HAPAX_USER", user).env("HAPAX_PASSWORD", PASSWORD).output().unwrap()
    };
    let refused = login("nobody", &[]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert!(login("admin", &[]).status.success());
    assert!(login("admin", &["--alias", "nas"]).status.success());
    let plain = |arguments: &[&str]| program(client.folder.path()).args(arguments).output().unwrap();
    client.write("a", 10, 1);
    assert!(plain(&["put", "a", ":/a"]).status.success());
    assert_eq!(plain(&["ls", "nas:/"]).stdout, b"a\n");
    assert_eq!(plain(&["ls", "nos:/"]).status.code(), Some(2));
    let kept = fs::read_to_string(client.path(".config/hapax/logins.json")).unwrap();
    assert!(kept.contains("hapax_") && !kept.contains(PASSWORD));
    // Nobody's files are touched in the name of somebody else who is logged in.
    let as_ann = |variables: &[(&str, &str)]| {
        let mut command = program(client.folder.path());
        command.args(["put", "a", ":/b"]).env("HAPAX_USER", "ann").envs(variables.iter().copied());
        command.output().unwrap()
    };
    for variables in [&[][..], &[("HAPAX_SERVER", &*url)], &[("HAPAX_PASSWORD", "wrong")]] {
        let refused = as_ann(variables);
        assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    }
    assert_eq!(plain(&["ls", ":/"]).stdout, b"a\n");
    // Two logins, and nothing was exchanged behind the user's back.
    let tokens = String::from_utf8(plain(&["admin", "token", "ls"]).stdout).unwrap();
    assert_eq!(tokens.lines().count(), 2, "{tokens}");
}

#[test]
fn a_password_of_the_environment_is_exchanged_once() {
    let server = Server::start();
    let client = server.client();
    client.ok(&["ls"]);
    client.ok(&["ls"]);
    assert_eq!(client.ok(&["admin", "token", "ls"]).lines().count(), 1);
    // A token that was revoked is replaced by the next command.
    let id = client.events(&["admin", "token", "ls"])[0]["id"].to_string();
    client.ok(&["admin", "token", "rm", &id]);
    client.ok(&["ls"]);
    assert_ne!(client.events(&["admin", "token", "ls"])[0]["id"].to_string(), id);
}

#[test]
fn an_administrator_administrates() {
    let server = Server::start();
    let client = server.client();
    let with_password = |arguments: &[&str]| {
        client.command(arguments).env("HAPAX_NEW_PASSWORD", "battery staple").output().unwrap()
    };
    assert!(with_password(&["admin", "user", "add", "ann"]).status.success());
    assert_eq!(with_password(&["admin", "user", "add", "ann"]).status.code(), Some(6));
    assert!(with_password(&["admin", "user", "password", "ann"]).status.success());
    client.ok(&["admin", "user", "quota", "ann", "1MiB"]);
    let users = client.ok(&["admin", "user", "ls"]);
    assert!(users.lines().any(|line| line.starts_with("ann ") && line.ends_with("0 B of 1 MiB")), "{users}");
    client.write("a", 2 << 20, 1);
    let as_ann = |arguments: &[&str]| {
        let mut command = client.command(arguments);
        command.env("HAPAX_USER", "ann").env("HAPAX_PASSWORD", "battery staple").output().unwrap()
    };
    assert_eq!(as_ann(&["put", "a", ":/a"]).status.code(), Some(9));
    assert_eq!(as_ann(&["admin", "stats"]).status.code(), Some(4));
    client.ok(&["put", "a", ":/a"]);
    assert!(client.ok(&["admin", "stats"]).contains("files                    1\n"));
    assert!(client.ok(&["admin", "check", "--read-data"]).starts_with("all is well: "));
    client.ok(&["rm", ":/a"]);
    let swept = client.ok(&["admin", "sweep", "--now"]);
    assert!(swept.contains("removed 1 content"), "{swept}");
    client.ok(&["admin", "user", "rm", "ann"]);
    assert_eq!(as_ann(&["ls"]).status.code(), Some(4));
    let token = client.ok(&["admin", "token", "add", "ci", "--scope", "read"]);
    let with_token =
        |arguments: &[&str]| client.command(arguments).env("HAPAX_TOKEN", token.trim()).output().unwrap();
    assert!(with_token(&["ls"]).status.success());
    assert_eq!(with_token(&["mkdir", ":/no"]).status.code(), Some(4));
}

/// Flips a bit in the middle of every object of a server.
fn rot_everything(server: &Server) {
    for dir in fs::read_dir(server.folder.path().join("data/objects")).unwrap() {
        for object in fs::read_dir(dir.unwrap().path()).unwrap() {
            let path = object.unwrap().path();
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }
    }
}

#[test]
fn a_damaged_file_is_named_until_it_is_put_again() {
    let server = Server::start();
    let client = server.client();
    assert_eq!(client.ok(&["admin", "scrub", "--status"]), "nothing was scrubbed yet\n");
    client.write("film", 3 << 20, 1);
    client.ok(&["put", "film", ":/film"]);
    let clean = client.ok(&["admin", "scrub"]);
    assert!(clean.starts_with("everything was read by 20"), "{clean}");
    assert!(clean.ends_with("Z: 1 object with 3 MiB\n"), "{clean}");
    rot_everything(&server);
    let found = client.run(&["admin", "scrub"]);
    assert_eq!(found.status.code(), Some(7));
    let said = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(said.starts_with("/@admin/film: damaged, 3 MiB\neverything was read by 20"), "{said}");
    let told = String::from_utf8_lossy(&found.stderr).into_owned();
    assert!(
        told.contains("1 content is damaged") && told.contains("hint: put one of the files again"),
        "{told}"
    );
    assert!(client.ok(&["admin", "stats"]).contains("damaged contents         1\n"));
    assert_eq!(client.run(&["get", ":/film", "back"]).status.code(), Some(7));
    // The same command, although the same file stands there.
    let healed = client.ok(&["put", "film", ":/film"]);
    assert!(healed.starts_with(":/film: sent 3 MiB"), "{healed}");
    client.ok(&["get", ":/film", "back"]);
    assert!(fs::read(client.path("back")).unwrap() == fs::read(client.path("film")).unwrap());
    let events = client.events(&["admin", "scrub"]);
    let last = events.last().unwrap();
    assert_eq!((&last["event"], last["damaged"].as_array().unwrap().len()), (&"scrubbed".into(), 0));
    let compacted = client.ok(&["admin", "compact"]);
    assert_eq!(compacted, "wrote 0 parts anew, 0 B\n");
}

#[test]
fn the_shell_is_helped() {
    #[track_caller]
    fn check(arguments: &[&str], told: &str) {
        let folder = tempfile::tempdir().unwrap();
        let output = program(folder.path()).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains(told), "{said}");
    }
    check(&["completions", "zsh"], "#compdef hapax");
    check(&["completions", "bash"], "_hapax()");
    check(&["man"], ".TH hapax");
    check(&["man"], "transfers");
    check(&["--help"], "Exit codes: 0 ok");
}

#[test]
fn the_demonstration_holds_its_promise() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let demo =
        program(folder.path()).args(["demo", "--size", "64"]).env("TMPDIR", &temporary).output().unwrap();
    let said = String::from_utf8_lossy(&demo.stdout);
    assert!(demo.status.success(), "{demo:?}");
    assert!(said.contains("resumed at") && said.contains("instant, 64 MiB not sent"), "{said}");
    assert_eq!(fs::read_dir(temporary).unwrap().count(), 0, "nothing is left");
}
