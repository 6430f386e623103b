//! Content that another account of the group has: nothing of it is sent by whoever has it too; the program answers the
//! challenge by itself.

use serde_json::Value;

use crate::stage::{Client, Server, bytes};

/// Of one part, which is hashed before it is sent.
const SIZE: usize = 12 << 20;
const PASSWORD: &str = "battery staple";

/// Starts a server on which `admin` and `ann` are of one group.
fn start() -> Server {
    let claims = ["env".to_owned(), "HAPAX_CLAIMS=group".to_owned()];
    let server = Server::start_by(&claims, tempfile::tempdir().unwrap());
    let admin = server.client();
    let mut add = admin.command(&["admin", "user", "add", "ann"]);
    assert!(add.env("HAPAX_NEW_PASSWORD", PASSWORD).output().unwrap().status.success());
    for name in ["admin", "ann"] {
        let line = admin.ok(&["admin", "user", "group", name, "lab"]);
        assert!(line.contains(&format!("{name} belongs to the group lab")), "{line}");
    }
    server
}

/// Runs the program as Ann, and returns the last thing it said.
fn as_ann(client: &Client, arguments: &[&str]) -> Value {
    let mut command = client.command(arguments);
    let output =
        command.arg("--json").env("HAPAX_USER", "ann").env("HAPAX_PASSWORD", PASSWORD).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn what_a_member_of_the_group_has_is_linked_for_who_has_it_too() {
    let server = start();
    let (admin, ann) = (server.client(), server.client());
    for client in [&admin, &ann] {
        client.write("film", SIZE, 1);
    }
    admin.ok(&["put", "film", ":/film"]);
    let done = as_ann(&ann, &["put", "film", ":/mine"]);
    assert_eq!((&done["how"], &done["moved"]), (&Value::from("instant"), &Value::from(0)), "{done}");
    as_ann(&ann, &["get", ":/mine", "back"]);
    assert!(std::fs::read(ann.path("back")).unwrap() == bytes(SIZE, 1));
    // Outside of the group it is sent.
    assert!(admin.ok(&["admin", "user", "group", "ann", "none"]).contains("ann belongs to no group"));
    as_ann(&ann, &["rm", ":/mine"]);
    let done = as_ann(&ann, &["put", "film", ":/mine"]);
    assert_eq!((&done["how"], &done["moved"]), (&Value::from("sent"), &Value::from(SIZE)), "{done}");
}
