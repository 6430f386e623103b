//! Exit codes and hints, each by the failure that people meet.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::stage::{Client, Line, Server, Way, program};

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
    check(6, &["put", "--no-overwrite", "other", ":/a"], "hint: leave --no-overwrite out");
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

#[test]
fn a_server_that_is_not_there_may_come_back() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::of(nobody);
    client.write("film", 40 << 20, 1);
    let said = client.fails(5, &["ls"]);
    assert!(said.contains("hint: run the same command again"), "{said}");
    // With a token nothing has to be asked for first: it is the transfer itself that tries again.
    for attempts in ["1", "3"] {
        let mut put = client.command(&["put", "--attempts", attempts, "film", ":/film"]);
        let ended = put.env("HAPAX_TOKEN", "hapax_any").output().unwrap();
        assert_eq!(ended.status.code(), Some(5), "{ended:?}");
        let said = String::from_utf8_lossy(&ended.stderr);
        let tried_again = said.matches("trying again in ").count();
        assert_eq!((tried_again + 1).to_string(), attempts, "{said}");
        assert!(said.contains("hint: run the same command again"), "{said}");
    }
}

#[test]
fn a_server_that_stops_in_the_middle_ends_a_put_that_goes_on_later() {
    let mut server = Server::start();
    let line = Line::to(&server);
    let client = server.client().through(&line);
    client.write("film", 64 << 20, 3);
    line.hold_after(Way::Up, 40 << 20);
    let put = client.command(&["put", "--attempts", "2", "--parallel", "1", "film", ":/film"]);
    let put = thread::spawn(move || {
        let mut put = put;
        put.output().unwrap()
    });
    line.wait_until_held();
    kill_process(Pid::from_child(&server.child), Signal::TERM).unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(0), "it drains and ends in order");
    line.reset();
    let ended = put.join().unwrap();
    assert_eq!(ended.status.code(), Some(5), "{ended:?}");
    let folder = std::mem::replace(&mut server.folder, tempfile::tempdir().unwrap());
    let again = Server::start_in(folder);
    line.lead_to(&again);
    let done = client.done(&["put", "film", ":/film"]);
    assert_eq!(done["how"], "resumed", "{done}");
    client.ok(&["verify", "film", ":/film"]);
}

#[test]
fn a_source_that_never_settles_is_given_up() {
    #[track_caller]
    fn check(size: usize) {
        let server = Server::start();
        let client = server.client();
        let path = client.write("log", size, 2);
        let settled = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let file = File::options().write(true).open(&path).unwrap();
                let mut byte = 0_u8;
                while !settled.load(Ordering::Relaxed) {
                    byte = byte.wrapping_add(1);
                    file.write_all_at(&[byte], 5).unwrap();
                }
            });
            let ended = client.run(&["put", "log", ":/log"]);
            settled.store(true, Ordering::Relaxed);
            assert_eq!(ended.status.code(), Some(8), "{ended:?}");
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(said.contains("hint: run the same command again when nothing writes to it"), "{said}");
        });
        client.ok(&["put", "log", ":/log"]);
        client.ok(&["verify", "log", ":/log"]);
    }
    check(8 << 20);
    check(40 << 20);
}

/// Runs a program on a terminal of its own until it asks for a password, ends it in one of two ways, and says how it ended
/// and whether the terminal shows again what is typed.
const ASKED: &str = "
import os, pty, signal, sys, termios
way, *command = sys.argv[1:]
# What is not ended by then never is.
signal.alarm(60)
program, terminal = pty.fork()
if program == 0:
    os.execv(command[0], command)
shown = lambda: bool(termios.tcgetattr(terminal)[3] & termios.ECHO)
said = b''
while b'password: ' not in said:
    said += os.read(terminal, 100)
while shown():
    pass
if way == 'ctrl-c':
    os.write(terminal, b'\\x03')
elif way == 'sigterm':
    os.kill(program, signal.SIGTERM)
else:
    os.write(terminal, way.encode() + b'\\n')
_, status = os.waitpid(program, 0)
print(os.waitstatus_to_exitcode(status), shown())
";

#[test]
fn a_signal_ends_the_question_for_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let check = |way: &str, ended: &str| {
        let hapax = program(folder.path());
        let python = std::env::var("HAPAX_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut asked = std::process::Command::new(python);
        asked.args(["-c", ASKED, way]).arg(hapax.get_program());
        asked.args(["login", "--user", "admin", &format!("http://{nobody}")]).current_dir(folder.path());
        asked.env_clear().envs(hapax.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = asked.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), ended, "{way}: {output:?}");
    };
    check("ctrl-c", "130 True");
    check("sigterm", "143 True");
    // An answer is taken: nobody listens there.
    check("secret", "5 True");
}
