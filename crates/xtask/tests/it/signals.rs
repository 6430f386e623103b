//! A campaign that is ended by a signal takes with it what it started and made. The program it runs is a stand-in that
//! does nothing but live: whoever holds the other end of its pipe sees when the last one is gone.

use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Says what it was asked to do, tells an address if it is a server, and lives.
const STAND_IN: &str = "#!/bin/sh\nexec 3> \"$(dirname \"$0\")/alive\"\necho \"$1\" >&3\n\
    [ \"$1\" = serve ] && echo http://127.0.0.1:9\nexec sleep 3600\n";

#[track_caller]
fn check(signal: Signal, code: i32) {
    let folder = tempfile::tempdir().unwrap();
    let [program, alive] = ["hapax", "alive"].map(|name| folder.path().join(name));
    std::fs::write(&program, STAND_IN).unwrap();
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    assert!(Command::new("mkfifo").arg(&alive).status().unwrap().success());
    let mut campaign = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["campaign", "--only", "edit-between", "--size", "1MiB", "--hapax"])
        .arg(&program)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(File::open(&alive).unwrap());
    for expected in ["serve\n", "put\n"] {
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, expected);
    }
    kill_process(Pid::from_child(&campaign), signal).unwrap();
    assert_eq!(campaign.wait().unwrap().code(), Some(code));
    // The end of the pipe: nobody lives who could still write.
    assert_eq!(said.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn a_signal_ends_a_campaign_with_its_processes() {
    check(Signal::TERM, 143);
    check(Signal::INT, 130);
}
