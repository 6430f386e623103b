//! One upload through all dialects at once, in random order: whatever the requests are, the server holds what the
//! reference model holds, answers what it answers, and the file in the end is the one it says.
//!
//! ```text
//!   steps of a script --> requests (tus, IETF draft, native) --> answers
//!          \--> model                                             | compared after each step
//! ```
//!
//! Requests may be held open with half of their body sent, while others run; then it shows who takes over from whom.

/// What an upload must be.
mod model;
/// What is done to it.
mod script;
/// The steps that bring no bytes.
mod asking;

use data_encoding::BASE64;
use hapax_proto::dialect::native::{StoredPart, UploadStatus};
use hapax_proto::digest::Algorithm;
use hapax_proto::tree::PartValue;
use hapax_proto::upload::State;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use self::model::{Life, Model, P, Part, source};
use self::script::{Amount, Append, Declared, Dialect, Ends, Run, Script, Step, any_script};
use crate::files::digest_field;
use crate::server::Running;
use crate::wire::{Answer, Client, Wire};

const V: (&str, &str) = ("Tus-Resumable", "1.0.0");
/// Longer bodies are sent when they are asked for: more than a lingering close takes.
const WAITS_FROM: usize = 512 << 10;
/// Cases in CI; `PROPTEST_CASES` asks for more.
const CASES: u32 = 64;

#[test]
fn whatever_the_order_of_requests_the_file_is_what_they_say() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let server = runtime.block_on(Running::start());
    let number = std::cell::Cell::new(0);
    let cases = Config {
        cases: Config::default().cases.min(cases_max()),
        failure_persistence: None,
        max_shrink_time: 90_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new(cases);
    runner
        .run(&any_script(), |script| {
            number.set(number.get() + 1);
            runtime.block_on(async {
                let mut play = Play::begin(&server, &script, number.get()).await;
                for step in &script.steps {
                    play.take(*step).await;
                }
                play.end().await;
            });
            Ok(())
        })
        .unwrap_or_else(|failed| panic!("{failed}"));
    runtime.block_on(server.end());
}

/// As many as are asked for, or few.
fn cases_max() -> u32 {
    if std::env::var_os("PROPTEST_CASES").is_some() { u32::MAX } else { CASES }
}

/// A request whose body is half sent.
struct Held {
    wire: Wire,
    what: What,
    /// How many bytes of the body the server may have.
    sent: u64,
    length: u64,
    version: usize,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Append {
        dialect: Dialect,
        /// What it is told in the end if its digest is of other bytes.
        mismatch: Option<Expected>,
        /// Whether it says that it is the last one.
        last: bool,
    },
    Part {
        number: u32,
        from: u64,
        declared: Declared,
    },
}

/// A script at work.
struct Play {
    script: Script,
    clients: [Client; 2],
    turn: usize,
    id: String,
    model: Model,
    held: Option<Held>,
}

/// What an answer must be: a status, and the name of the problem if it is one.
type Expected = (u16, &'static str);

const SUPERSEDED: Expected = (409, "superseded");
const BROKEN: Expected = (503, "unavailable");

#[track_caller]
fn check(answer: &Answer, expected: Expected) {
    let found = (answer.status.as_u16(), answer.field("hapax-problem"));
    assert_eq!(found, expected, "{}", String::from_utf8_lossy(&answer.body));
}

impl Play {
    async fn begin(server: &Running, script: &Script, number: u32) -> Self {
        let clients = [server.alice(), server.alice()];
        let path = format!("mixed/{number}");
        let (size, is_known) = (script.size.to_string(), script.is_known);
        let created = match script.creator {
            Dialect::Tus => {
                let length = if is_known { ("Upload-Length", &*size) } else { ("Upload-Defer-Length", "1") };
                let metadata = format!("path {},overwrite", BASE64.encode(path.as_bytes()));
                let fields = [V, length, ("Upload-Metadata", &metadata)];
                clients[0].send("POST", "/tus/", &fields, "").await
            }
            Dialect::Ietf => {
                let mut fields = vec![("Upload-Complete", "?0")];
                fields.extend(is_known.then_some(("Upload-Length", &*size)));
                clients[0].send("PUT", &format!("/files/{path}"), &fields, "").await
            }
            Dialect::Native => {
                let key = format!("mixing-{number:016}");
                let size = is_known.then_some(script.size);
                let create = json!({"key": key, "path": format!("/{path}"), "size": size});
                clients[0].json("POST", "/api/v1/uploads", &create).await
            }
        };
        let created = created.expect(201);
        let id = created.field("location").rsplit('/').next().unwrap().to_owned();
        let mut model = Model::new(is_known.then_some(script.size));
        // An empty file is there as soon as tus hears of it.
        if script.creator == Dialect::Tus && model.is_full() {
            model.life = Life::Done;
        }
        Self { script: script.clone(), clients, turn: 0, id, model, held: None }
    }

    /// The next client: each sends in turn.
    fn client(&mut self) -> Client {
        self.turn += 1;
        self.clients[self.turn % 2].clone()
    }

    fn url(&self, dialect: Dialect) -> String {
        match dialect {
            Dialect::Tus if self.turn.is_multiple_of(3) => format!("/tus/{}", self.id),
            Dialect::Tus | Dialect::Ietf => format!("/uploads/{}", self.id),
            Dialect::Native => format!("/api/v1/uploads/{}", self.id),
        }
    }

    /// Returns what a request on an upload that ended is told.
    fn ended(&self) -> Option<Expected> {
        match self.model.life {
            Life::Open => None,
            Life::Done => Some((409, "already-complete")),
            Life::Cancelled => Some((410, "upload-gone")),
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Append(append) => {
                if self.gives_way_to_an_append(append.amount).await {
                    self.append(append).await;
                }
            }
            Step::Stray { dialect, off } => self.stray(dialect, off).await,
            Step::Part(run) => self.part(run).await,
            Step::Head { dialect } => self.head(dialect).await,
            Step::Digest { start, length } => self.digest(start, length).await,
            Step::List => self.list().await,
            Step::Complete { declared } => self.complete(declared).await,
            Step::Cancel { dialect } => self.cancel(dialect).await,
            Step::LetGo { breaks } => self.let_go(breaks).await,
        }
        if self.ended().is_some() {
            let ghost = self.held.take();
            self.evicted(ghost).await;
        }
        self.compare().await;
    }

    /// Returns how many bytes an amount is, in a room that begins at an offset.
    fn bytes(amount: Amount, at: u64, room: u64) -> u64 {
        let up_to = |border: u64, off: i64| (border - at % border).saturating_add_signed(off);
        let length = match amount {
            Amount::Few(length) | Amount::Some(length) => length,
            Amount::Segment(off) => up_to(64 << 10, off),
            Amount::Part(off) => up_to(P, off),
            Amount::All => room,
        };
        length.min(room)
    }

    /// Compares all that anybody can see without disturbing anybody.
    async fn compare(&mut self) {
        let client = self.client();
        let status: UploadStatus = client.get(&self.url(Dialect::Native)).await.expect(200).read();
        let life = match status.state {
            State::Open => Life::Open,
            State::Done => Life::Done,
            _ => Life::Cancelled,
        };
        assert_eq!(life, self.model.life);
        if life != Life::Open {
            return;
        }
        assert_eq!(status.size, self.model.size);
        if self.held.as_ref().is_some_and(|held| matches!(held.what, What::Append { .. })) {
            // Some of its bytes may be there.
            assert!(status.offset >= self.model.durable(), "{status:?}");
            return;
        }
        assert_eq!(status.offset, self.model.durable(), "{status:?}");
        assert_eq!(status.received, self.model.received());
        let parts: Vec<_> = status.parts.iter().map(|part| (part.n, part.value)).collect();
        let whole = self.model.parts.iter().filter(|(_, part)| part.whole);
        assert_eq!(parts, whole.map(|(n, part)| (*n, part.value(*n))).collect::<Vec<_>>());
        let partial: Vec<_> = status.partial.iter().map(|part| (part.n, part.have)).collect();
        let open = self.model.parts.iter().filter(|(_, part)| !part.whole);
        assert_eq!(partial, open.map(|(n, part)| (*n, part.have())).collect::<Vec<_>>());
    }
}

// ---------------------------------------------------------------- requests that bring bytes

impl Play {
    /// Makes an append possible beside what is held open: an append that is held is ended by a question first, a part
    /// is evicted by the append if it writes at or behind it. Returns `false` if nobody could tell what comes of it.
    async fn gives_way_to_an_append(&mut self, amount: Amount) -> bool {
        let Some(held) = &self.held else { return true };
        let at = self.model.durable();
        match held.what {
            What::Append { .. } => {
                self.head(Dialect::Ietf).await;
                true
            }
            What::Part { number, declared, .. } => {
                let room = self.model.size.unwrap_or(self.script.size).saturating_sub(at);
                let end = at + Self::bytes(amount, at, room);
                // Where both write, what is kept of the part would depend on how much of it arrived.
                declared == Declared::Nothing || u64::from(number) * P > end
            }
        }
    }

    /// Returns how a dialect says what an append is. `said` is what its digest is of.
    fn append_fields(
        &self,
        append: &Append,
        at: u64,
        last: bool,
        said: &[u8],
    ) -> Vec<(&'static str, String)> {
        let mut fields = vec![("Upload-Offset", at.to_string())];
        let declares = append.declared != Declared::Nothing;
        if append.dialect == Dialect::Tus {
            fields.push(("Tus-Resumable", "1.0.0".to_owned()));
            fields.push(("Content-Type", "application/offset+octet-stream".to_owned()));
            if append.tells_size {
                fields.push(("Upload-Length", self.script.size.to_string()));
            }
            if declares {
                let digest = digest_field(Algorithm::Md5, said);
                fields.push(("Upload-Checksum", format!("md5 {}", digest.split(':').nth(1).unwrap())));
            }
        } else {
            fields.push(("Upload-Complete", if last { "?1" } else { "?0" }.to_owned()));
            fields.push(("Content-Type", "application/partial-upload".to_owned()));
            if declares {
                fields.push(("Content-Digest", digest_field(Algorithm::Crc32c, said)));
            }
        }
        fields
    }

    async fn append(&mut self, append: Append) {
        let Append { dialect, amount, version, ends, declared, tells_size } = append;
        let at = self.model.durable();
        let room = self.model.size.unwrap_or(self.script.size).saturating_sub(at);
        let length = Self::bytes(amount, at, room);
        let body = source(version, at..at + length);
        let last = dialect == Dialect::Ietf && at + length == self.script.size && tells_size;
        let said = if declared == Declared::Wrong { b"something else" } else { body };
        let fields = self.append_fields(&append, at, last, said);
        let sent = Sent { method: "PATCH", url: self.url(dialect), fields, body };
        let ghost = self.held.take_if(|held| held.is_behind(at));
        let client = self.client();
        if let Some(refused) = self.ended() {
            let at_end = self.model.life == Life::Done && self.model.size == Some(at + length);
            let expected = match dialect {
                _ if at_end && last => (200, ""),
                Dialect::Tus if at_end && length == 0 => (204, ""),
                _ => refused,
            };
            return check(&sent.whole(&client).await, expected);
        }
        let told = self.model.size.is_none();
        if last || (dialect == Dialect::Tus && tells_size) {
            self.model.size = Some(self.script.size);
        }
        let arrived = self.send(&client, &sent, ends).await;
        if told
            && self.model.size.is_some()
            && let Some(mut outdated) = self.held.take()
        {
            // It took its own end for that of its part.
            check(&outdated.wire.answer().await, SUPERSEDED);
        }
        if let Arrived::Held(..) = arrived {
            self.evicted(ghost).await;
            // Only one request is held at a time.
            self.let_go(true).await;
        } else {
            match &arrived {
                Arrived::Cut(answer, sent) => {
                    check(answer, BROKEN);
                    self.model.append(*sent, version);
                }
                Arrived::Whole(answer) if declared == Declared::Wrong => {
                    check(answer, append.mismatch());
                }
                Arrived::Whole(answer) => {
                    self.model.append(length, version);
                    self.appended(dialect, answer, last);
                }
                Arrived::Held(..) => {}
            }
            self.evicted(ghost).await;
        }
        if let Arrived::Held(wire, sent) = arrived {
            let what = What::Append {
                dialect,
                mismatch: (declared == Declared::Wrong).then(|| append.mismatch()),
                last,
            };
            self.held = Some(Held { wire, what, sent, length, version });
        }
    }

    /// Checks the answer to an append that arrived entirely.
    #[track_caller]
    fn appended(&mut self, dialect: Dialect, answer: &Answer, last: bool) {
        // A file whose length was told is whole when all of it is there, whatever is said; one without a byte is not.
        let says_so = dialect == Dialect::Tus || last || self.model.size != Some(0);
        if self.model.is_full() && says_so {
            self.model.life = Life::Done;
        }
        check(answer, (if last { 201 } else { 204 }, ""));
        assert_eq!(answer.field("upload-offset"), self.model.durable().to_string());
    }

    async fn stray(&mut self, dialect: Dialect, off: u64) {
        let at = (self.model.durable() + off).to_string();
        let own = match dialect {
            Dialect::Tus => [V, ("Content-Type", "application/offset+octet-stream")],
            _ => [("Upload-Complete", "?0"), ("Content-Type", "application/partial-upload")],
        };
        let fields = [own[0], own[1], ("Upload-Offset", &*at)];
        if self.held.as_ref().is_some_and(|held| matches!(held.what, What::Append { .. })) {
            // It might be in step with what arrived meanwhile.
            self.head(Dialect::Native).await;
        }
        let client = self.client();
        let answer = client.send("PATCH", &self.url(dialect), &fields, "stray").await;
        match self.ended() {
            Some(refused) => check(&answer, refused),
            None if (self.model.durable() + off).to_string() == at => {
                check(&answer, (409, "mismatching-upload-offset"));
                assert_eq!(answer.field("upload-offset"), self.model.durable().to_string());
            }
            None => {
                let expected: u64 = answer.field("upload-offset").parse().unwrap();
                assert_eq!(expected, self.model.durable());
            }
        }
    }

    /// Lets a run of a part pass beside what is held open, and returns the older run of the same part that it ends.
    /// `Err` if nobody could tell what comes of it.
    fn gives_way_to_a_part(&mut self, run: &Run, length: u64) -> Result<Option<Held>, ()> {
        let takes_over = !run.goes_on
            && length > 0
            && matches!(run.ends, Ends::Whole)
            && run.declared != Declared::Wrong
            && !self.model.part(run.number).whole;
        match self.held.as_ref().map(|held| (held.what, held.length)) {
            Some((What::Append { .. }, appended))
                if u64::from(run.number) * P <= self.model.durable() + appended =>
            {
                Err(())
            }
            Some((What::Part { number, .. }, _)) if number == run.number => {
                if takes_over {
                    Ok(self.held.take())
                } else {
                    Err(())
                }
            }
            _ => Ok(None),
        }
    }

    async fn part(&mut self, run: Run) {
        let Run { number, goes_on, amount, version, ends, declared } = run;
        let start = u64::from(number) * P;
        let old = self.model.part(number);
        let limit = self.model.size.unwrap_or(self.script.size).clamp(start, start + P) - start;
        let from = if goes_on && !old.whole { old.have().min(limit) } else { 0 };
        let length = Self::bytes(amount, start + from, limit - from);
        let Ok(ghost) = self.gives_way_to_a_part(&run, length) else { return };
        let whole = self.model.whole_by(number, from + length);
        let new = self.model.with_run(number, from, length, version);
        let end = whole.unwrap_or(0).min(limit);
        let value = match declared {
            Declared::Wrong => Some(PartValue::new([7; 32])),
            Declared::Right if end > 0 => {
                Some(old.then(from, end.saturating_sub(from), version).value(number))
            }
            Declared::Nothing | Declared::Right => None,
        };
        let declared = if value.is_none() { Declared::Nothing } else { declared };
        let field = value.map(|value| value.format_field().to_str().unwrap().to_owned());
        let sent = Sent {
            method: "PUT",
            url: format!("{}/parts/{number}?from={from}", self.url(Dialect::Native)),
            fields: field.map(|value| ("Hapax-Part-Value", value)).into_iter().collect(),
            body: source(version, start + from..start + from + length),
        };
        let client = self.client();
        let early = match self.ended() {
            Some(refused) => Some(refused),
            None if whole.is_none() => Some((404, "part-out-of-range")),
            None if old.whole && value == Some(old.value(number)) => Some((200, "")),
            None if length == 0 => Some((400, "part-length")),
            None => None,
        };
        if let Some(expected) = early {
            check(&sent.whole(&client).await, expected);
            return self.evicted(ghost).await;
        }
        match self.send(&client, &sent, ends).await {
            Arrived::Held(wire, sent) => {
                self.let_go(true).await;
                let what = What::Part { number, from, declared };
                self.held = Some(Held { wire, what, sent, length, version });
            }
            Arrived::Cut(answer, sent) => {
                check(&answer, BROKEN);
                self.cut_part(number, from, sent, version, declared);
            }
            Arrived::Whole(answer) => {
                self.stored(&answer, number, new, from, declared);
                if let Some(mut ghost) = ghost {
                    check(&ghost.wire.answer().await, SUPERSEDED);
                }
            }
        }
    }

    /// Checks the answer to a run of a part that arrived entirely; `new` is what it makes of the part.
    #[track_caller]
    fn stored(&mut self, answer: &Answer, number: u32, new: Part, from: u64, declared: Declared) {
        if new.whole && declared == Declared::Wrong {
            check(answer, (400, "digest-mismatch"));
            // What it went on behind may be wrong as well as what it brought.
            if from > 0 {
                self.model.put(number, Part::default());
            }
            return;
        }
        check(answer, (201, ""));
        if new.whole || !self.model.part(number).whole {
            self.model.put(number, new);
        }
        let (stored, now) = (answer.read::<StoredPart>(), self.model.part(number));
        assert_eq!((stored.n, stored.have), (number, now.have()));
        if !matches!(self.held, Some(Held { what: What::Append { .. }, .. })) {
            assert_eq!(stored.offset, self.model.durable());
        }
    }

    /// Keeps what a part that was cut short is worth.
    fn cut_part(&mut self, number: u32, from: u64, arrived: u64, version: usize, declared: Declared) {
        let old = self.model.part(number);
        if declared != Declared::Nothing && !old.whole && from + arrived > 0 {
            self.model.put(number, old.then(from, arrived, version));
        }
    }
}

/// A request with a body.
struct Sent {
    method: &'static str,
    url: String,
    fields: Vec<(&'static str, String)>,
    body: &'static [u8],
}

impl Sent {
    fn fields(&self) -> Vec<(&str, &str)> {
        self.fields.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    /// Sends all of it, but for the body of a request that is refused before it.
    async fn whole(&self, client: &Client) -> Answer {
        let length = self.body.len().to_string();
        let mut fields = self.fields();
        fields.push(("Content-Length", &length));
        let waits = self.body.len() > WAITS_FROM;
        fields.extend(waits.then_some(("Expect", "100-continue")));
        let mut wire = Wire::connect(client.address).await;
        wire.send(client.head(self.method, &self.url, &fields) + "\r\n").await;
        if waits {
            let answer = wire.head().await;
            if answer.status.as_u16() != 100 {
                return wire.rest_of(answer, self.method).await;
            }
        }
        wire.send(self.body).await;
        wire.answer_to(self.method).await
    }
}

/// What became of a body.
enum Arrived {
    Whole(Answer),
    Cut(Answer, u64),
    Held(Wire, u64),
}

impl Append {
    /// What it is told if it arrives and its digest is of other bytes.
    fn mismatch(&self) -> Expected {
        if self.dialect == Dialect::Tus { (460, "checksum-mismatch") } else { (400, "digest-mismatch") }
    }
}

impl Held {
    /// Tells whether an append at an offset evicts it.
    fn is_behind(&self, at: u64) -> bool {
        matches!(self.what, What::Part { number, .. } if u64::from(number) >= at / P)
    }
}

impl Play {
    /// Sends a request, all of it or a share.
    async fn send(&self, client: &Client, sent: &Sent, ends: Ends) -> Arrived {
        let length = sent.body.len() as u64;
        let share = match ends {
            Ends::Cut(share) | Ends::Held(share) if length > 0 => (length * share / 1_000).min(length - 1),
            _ => return Arrived::Whole(sent.whole(client).await),
        };
        let mut wire = Wire::connect(client.address).await;
        let stated = length.to_string();
        let more = [("Content-Length", &*stated), ("Expect", "100-continue")];
        let fields = [&sent.fields()[..], &more].concat();
        wire.send(client.head(sent.method, &sent.url, &fields) + "\r\n").await;
        assert_eq!(wire.answer_to("HEAD").await.status, 100, "it is let in");
        wire.send(&sent.body[..usize::try_from(share).unwrap()]).await;
        if matches!(ends, Ends::Held(_)) {
            return Arrived::Held(wire, share);
        }
        wire.finish().await;
        Arrived::Cut(wire.answer().await, share)
    }

    /// Checks that a part request was evicted by an append, and takes over what is left of it.
    async fn evicted(&mut self, ghost: Option<Held>) {
        let Some(mut ghost) = ghost else { return };
        let answer = ghost.wire.answer().await;
        if let Some(refused) = self.ended() {
            // It was told that it was taken over, or found the upload gone.
            let told = (answer.status.as_u16(), answer.field("hapax-problem"));
            return assert!([SUPERSEDED, refused].contains(&told), "{told:?}");
        }
        let What::Part { number, from, declared } = ghost.what else { panic!("an append is no part") };
        check(&answer, SUPERSEDED);
        if declared == Declared::Nothing || self.model.part(number).whole {
            return;
        }
        let client = self.client();
        let status: UploadStatus = client.get(&self.url(Dialect::Native)).await.expect(200).read();
        let have = status.partial.iter().find(|part| part.n == number).map_or(0, |part| part.have);
        assert!((from..=from + ghost.sent).contains(&have) || have == self.model.part(number).have());
        if (from..=from + ghost.sent).contains(&have) && have > 0 {
            let old = self.model.part(number);
            // Without a byte it leaves what was there.
            if have > from || from == 0 && have != old.have() {
                self.model.put(number, old.then(from, have - from, ghost.version));
            }
        }
    }

    async fn let_go(&mut self, breaks: bool) {
        if let Some(held) = self.held.take() {
            self.settle(held, breaks).await;
        }
    }

    /// Ends a request that is held open: its line breaks, or it sends the rest.
    async fn settle(&mut self, mut held: Held, breaks: bool) {
        if breaks {
            held.wire.finish().await;
            check(&held.wire.answer().await, BROKEN);
            return match held.what {
                What::Append { .. } => self.model.append(held.sent, held.version),
                What::Part { number, from, declared } => {
                    self.cut_part(number, from, held.sent, held.version, declared);
                }
            };
        }
        match held.what {
            What::Append { dialect, mismatch, last } => {
                let at = self.model.durable();
                held.wire.send(source(held.version, at + held.sent..at + held.length)).await;
                let answer = held.wire.answer().await;
                if let Some(mismatch) = mismatch {
                    return check(&answer, mismatch);
                }
                self.model.append(held.length, held.version);
                self.appended(dialect, &answer, last);
            }
            What::Part { number, from, declared } => {
                let start = u64::from(number) * P + from;
                held.wire.send(source(held.version, start + held.sent..start + held.length)).await;
                let answer = held.wire.answer().await;
                let new = self.model.with_run(number, from, held.length, held.version);
                self.stored(&answer, number, new, from, declared);
            }
        }
    }
}
