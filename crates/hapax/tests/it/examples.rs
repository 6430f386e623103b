//! The scripts that `docs/protocol.md` shows, run by Python against the real server, and the page
//! itself: it shows the very scripts, and what was said between them and the server in these runs. With `HAPAX_BLESS`
//! set the page is written instead of compared.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::stage::{PASSWORD, Server, bytes};

/// How long the file is, and where the line to its first sender broke.
const SIZE: usize = 40_000_000;
const CUT: usize = 30_000_000;
/// How many exchanges of a long conversation the page shows at its beginning and at its end.
const SHOWN: usize = 3;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// A message: its first line with its fields, and its body.
struct Message {
    head: String,
    body: Vec<u8>,
}

impl Message {
    /// Takes the first message off the bytes of one direction.
    fn take(bytes: &mut &[u8], has_body: bool) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole message") + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let stated =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let length: usize = stated.filter(|_| has_body).unwrap_or(0);
        let body = bytes[end..end + length].to_vec();
        *bytes = &bytes[end + length..];
        Self { head, body }
    }

    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn field(&self, name: &str) -> String {
        let line = self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("{name} is not there: {}", self.head)).to_owned()
    }
}

/// Sends one request and reads its answer.
fn ask(server: SocketAddr, head: &str, body: &[u8]) -> Message {
    let mut stream = TcpStream::connect(server).unwrap();
    write!(stream, "{head}Host: test\r\nConnection: close\r\n\r\n").unwrap();
    stream.write_all(body).unwrap();
    // What is said is said: of a body that is shorter than announced, this is the cut.
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    Message::take(&mut &answer[..], true)
}

/// Exchanges the password of the first account for a token.
fn token(server: SocketAddr) -> String {
    let basic = data_encoding::BASE64.encode(format!("admin:{PASSWORD}").as_bytes());
    let wanted = br#"{"name":"script","scope":["read","write"]}"#;
    let head = format!(
        "POST /api/v1/tokens HTTP/1.1\r\nAuthorization: Basic {basic}\r\nContent-Length: {}\r\n",
        wanted.len()
    );
    let told: serde_json::Value = serde_json::from_slice(&ask(server, &head, wanted).body).unwrap();
    told["token"].as_str().unwrap().to_owned()
}

/// An upload whose sender was cut off, and whose server was killed and started again since.
struct Interrupted {
    server: Server,
    token: String,
    id: String,
    file: PathBuf,
}

impl Interrupted {
    fn begin() -> Self {
        let mut server = Server::start();
        let token = token(server.address);
        let common = format!("Authorization: Bearer {token}\r\nTus-Resumable: 1.0.0\r\n");
        let create = format!(
            "POST /tus/ HTTP/1.1\r\n{common}Upload-Length: {SIZE}\r\nUpload-Metadata: filename ZmlsbS5ta3Y=\r\n"
        );
        let created = ask(server.address, &create, b"");
        assert_eq!(created.status(), 201, "{}", created.head);
        let url = created.field("location");
        let content = bytes(SIZE, 21);
        let patch = format!(
            "PATCH {url} HTTP/1.1\r\n{common}Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\nContent-Length: {SIZE}\r\n"
        );
        let cut = ask(server.address, &patch, &content[..CUT]);
        assert_eq!(cut.status(), 503, "{}", cut.head);
        let file = server.folder.path().join("film.mkv");
        fs::write(&file, content).unwrap();
        kill_process(Pid::from_child(&server.child), Signal::KILL).unwrap();
        server.child.wait().unwrap();
        let folder = std::mem::replace(&mut server.folder, tempfile::tempdir().unwrap());
        let server = Server::start_in(folder);
        let id = url.rsplit('/').next().unwrap().to_owned();
        Self { server, token, id, file }
    }

    /// Runs a script of the documentation against an address.
    fn run(&self, script: &str, address: SocketAddr) -> Output {
        let mut command = python("python3", script, address, &self.token);
        command.arg(&self.id).arg(&self.file).output().unwrap()
    }

    /// Runs a script, and returns what it printed and what was said on its one connection.
    fn recorded(&self, script: &str) -> (Output, Vec<(Message, Message)>) {
        recorded(self.server.address, |address| self.run(script, address))
    }

    /// Spells a conversation as the page shows it.
    fn transcript(&self, exchanges: &[(Message, Message)]) -> String {
        transcript(exchanges).replace(&self.id, "46e1be6467313ceead28582afe819f8e")
    }
}

/// Prepares to run a script of the documentation against an address.
fn python(program: &str, script: &str, address: SocketAddr, token: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(docs().join("examples").join(script)).args([&address.to_string(), token]);
    command
}

/// Runs a client of a server, and returns what it printed and what was said on its one connection.
fn recorded(server: SocketAddr, run: impl FnOnce(SocketAddr) -> Output) -> (Output, Vec<(Message, Message)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let recorder = thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let server = TcpStream::connect(server).unwrap();
        let ways = [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)];
        let ways = ways.map(|(from, to)| thread::spawn(move || carry(from, to)));
        ways.map(|way| way.join().unwrap())
    });
    let output = run(address);
    let [up, down] = recorder.join().unwrap();
    (output, exchanges(&up, &down))
}

/// Leaves out what is new in every run, and what says nothing.
fn spelled(message: &Message, mark: char) -> String {
    let quiet =
        ["host", "accept-encoding", "date", "content-type: application/json", "x-content-type-options"];
    let mut text = String::new();
    for line in message.head.lines().filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap_or((line, ""));
        let lower = name.to_lowercase();
        let line = match lower.as_str() {
            "authorization" => "authorization: Bearer hapax_…".to_owned(),
            "upload-expires" => "upload-expires: Sat, 28 Nov 2026 23:05:28 GMT".to_owned(),
            "upload-limit" => "upload-limit: max-size=999999999999999, max-age=604799".to_owned(),
            _ if value.is_empty() => line.to_owned(),
            _ => format!("{lower}: {value}"),
        };
        if !quiet.iter().any(|quiet| line.starts_with(quiet)) {
            writeln!(text, "{mark} {line}").unwrap();
        }
    }
    if message.body.first() == Some(&b'{') {
        writeln!(text, "{}", undated(&String::from_utf8_lossy(&message.body))).unwrap();
    }
    text
}

/// Spells a conversation as the page shows it.
fn transcript(exchanges: &[(Message, Message)]) -> String {
    let spelled = exchanges
        .iter()
        .map(|(request, answer)| format!("{}\n{}", spelled(request, '>'), spelled(answer, '<')));
    let mut all: Vec<String> = spelled.collect();
    if all.len() > 2 * SHOWN {
        let left_out = all.len() - 2 * SHOWN;
        all.splice(SHOWN..all.len() - SHOWN, [format!("… {left_out} more of these\n")]);
    }
    all.join("\n")
}

/// Gives a status the time that all of them have on the page.
fn undated(json: &str) -> String {
    let mark = r#""expires":""#;
    match json.split_once(mark).and_then(|(before, rest)| Some((before, rest.split_once('"')?.1))) {
        Some((before, after)) => format!(r#"{before}{mark}2026-11-28T23:05:27.760Z"{after}"#),
        None => json.to_owned(),
    }
}

/// Carries one direction of a connection, and returns what went by.
fn carry(mut from: TcpStream, mut to: TcpStream) -> Vec<u8> {
    let (mut all, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    while let Ok(read @ 1..) = from.read(&mut piece) {
        all.extend_from_slice(&piece[..read]);
        if to.write_all(&piece[..read]).is_err() {
            break;
        }
    }
    // The other side may be gone already.
    let _ = to.shutdown(Shutdown::Write);
    all
}

/// Takes a conversation apart.
fn exchanges(mut up: &[u8], mut down: &[u8]) -> Vec<(Message, Message)> {
    let mut all = Vec::new();
    while !up.is_empty() {
        let request = Message::take(&mut up, true);
        let answer = Message::take(&mut down, !request.head.starts_with("HEAD "));
        all.push((request, answer));
    }
    assert!(down.is_empty(), "an answer to nothing");
    all
}

/// Compares what stands between two marks of the page, or writes it.
#[track_caller]
fn check_page(mark: &str, language: &str, text: &str) {
    let path = docs().join("protocol.md");
    // Several tests, each perhaps in a process of its own, may want to write it.
    let turn = fs::File::open(&path).unwrap();
    turn.lock().unwrap();
    let page = fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {mark}:begin -->\n"), format!("<!-- {mark}:end -->"));
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("{mark} is not on the page"));
    let (shown, after) = rest.split_once(&end).unwrap();
    let text = format!("```{language}\n{}\n```\n", text.trim_end());
    if std::env::var_os("HAPAX_BLESS").is_some() {
        fs::write(&path, format!("{before}{begin}{text}{end}{after}")).unwrap();
    } else {
        assert_eq!(shown, text, "the page shows something else: run the tests with HAPAX_BLESS=1");
    }
}

#[track_caller]
fn said(output: &Output) -> &str {
    assert!(output.status.success(), "{output:?}");
    std::str::from_utf8(&output.stdout).unwrap().trim_end()
}

#[test]
fn the_page_shows_the_very_scripts() {
    for script in ["resume.py", "mend.py", "instant.py"] {
        check_page(script, "python", &fs::read_to_string(docs().join("examples").join(script)).unwrap());
    }
}

#[test]
fn a_script_proves_the_prefix_by_md5_and_goes_on() {
    let upload = Interrupted::begin();
    let (output, exchanges) = upload.recorded("resume.py");
    assert_eq!(said(&output), format!("went on at {CUT}: 204"));
    let [_, (patch, done)] = &exchanges[..] else { panic!("one HEAD and one PATCH") };
    assert_eq!(patch.body.len(), SIZE - CUT, "only what was missing was sent");
    assert_eq!(done.field("content-location"), "/files/@admin/film.mkv");
    let client = upload.server.client();
    client.ok(&["verify", upload.file.to_str().unwrap(), ":/film.mkv"]);
    check_page("transcript of resume.py", "text", &upload.transcript(&exchanges));
}

#[test]
fn a_script_finds_where_the_source_was_changed_and_sends_that_again() {
    let upload = Interrupted::begin();
    let mut content = fs::read(&upload.file).unwrap();
    for at in [20_000_000, 20_000_001, SIZE - 1] {
        content[at] ^= 1;
    }
    fs::write(&upload.file, content).unwrap();
    // It is never mixed.
    let refused = upload.run("resume.py", upload.server.address);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert_eq!(String::from_utf8_lossy(&refused.stderr), format!("the first {CUT} bytes differ\n"));
    let (output, exchanges) = upload.recorded("mend.py");
    let expected = format!("byte 20000000 differs: sending part 1 again\nthe first {CUT} bytes are the same");
    assert_eq!(said(&output), expected);
    let sent: usize = exchanges.iter().map(|(request, _)| request.body.len()).sum();
    assert_eq!(sent, CUT - (16 << 20), "only that part was sent again");
    let output = upload.run("resume.py", upload.server.address);
    assert_eq!(said(&output), format!("went on at {CUT}: 204"));
    let client = upload.server.client();
    client.ok(&["verify", upload.file.to_str().unwrap(), ":/film.mkv"]);
    check_page("transcript of mend.py", "text", &upload.transcript(&exchanges));
}

/// Several parts differ, a whole one and the one that is begun.
#[test]
fn a_script_mends_every_part_that_differs() {
    let upload = Interrupted::begin();
    let mut content = fs::read(&upload.file).unwrap();
    for at in [0, (16 << 20) - 1, CUT - 1] {
        content[at] ^= 1;
    }
    fs::write(&upload.file, content).unwrap();
    let output = upload.run("mend.py", upload.server.address);
    let expected = [
        "byte 0 differs: sending part 0 again".to_owned(),
        format!("byte {} differs: sending part 1 again", CUT - 1),
        format!("the first {CUT} bytes are the same"),
    ];
    assert_eq!(said(&output), expected.join("\n"));
    assert_eq!(said(&upload.run("resume.py", upload.server.address)), format!("went on at {CUT}: 204"));
    upload.server.client().ok(&["verify", upload.file.to_str().unwrap(), ":/film.mkv"]);
}

/// Returns how many contents the server still has to hash for the digests they are found by.
fn unhashed(server: SocketAddr) -> u64 {
    let basic = data_encoding::BASE64.encode(format!("admin:{PASSWORD}").as_bytes());
    let head = format!("GET /api/v1/admin/stats HTTP/1.1\r\nAuthorization: Basic {basic}\r\n");
    let told: serde_json::Value = serde_json::from_slice(&ask(server, &head, b"").body).unwrap();
    told["unhashed"].as_u64().unwrap()
}

#[test]
fn a_script_stores_by_md5_what_the_server_has() {
    let server = Server::start();
    let (client, token) = (server.client(), token(server.address));
    let file = server.folder.path().join("film.mkv");
    let run = |path: &str, address: SocketAddr| {
        let program = std::env::var("HAPAX_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let output = python(&program, "instant.py", address, &token).arg(&file).arg(path).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(!words.contains("ModuleNotFoundError"), "run ./test.sh, which installs blake3: {words}");
        output
    };
    fs::write(&file, bytes(SIZE, 22)).unwrap();
    assert_eq!(said(&run("/copy.mkv", server.address)), "upload", "nobody has it");
    client.ok(&["put", file.to_str().unwrap(), ":/film.mkv"]);
    // The server hashes it by itself, sooner or later.
    while unhashed(server.address) > 0 {}
    let (output, exchanges) = recorded(server.address, |address| run("/copy.mkv", address));
    assert_eq!(said(&output), "linked");
    let sent: usize = exchanges.iter().map(|(request, _)| request.body.len()).sum();
    assert!(sent < 1_000, "{sent} bytes for a file that the server has");
    client.ok(&["verify", file.to_str().unwrap(), ":/copy.mkv"]);
    let linked: serde_json::Value = serde_json::from_slice(&exchanges[1].1.body).unwrap();
    let etag = linked["results"][0]["etag"].as_str().unwrap().trim_matches('"');
    let shown = transcript(&exchanges).replace(etag, "1Lh_5rOqns5K5g77Ei243g");
    check_page("transcript of instant.py", "text", &shown);
}
