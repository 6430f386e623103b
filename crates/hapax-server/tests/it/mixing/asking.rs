//! The steps that bring no bytes: they look, complete and cancel, and some of them end whoever is writing.

use hapax_proto::dialect::native::{Completed, SpanDigest, UploadList, UploadStatus};
use hapax_proto::digest::{Algorithm, FileHash};
use hapax_proto::upload::State;
use serde_json::json;

use super::model::{Life, Model, P};
use super::script::{Amount, Append, Declared, Dialect, Ends, Run};
use super::{Held, Play, SUPERSEDED, V, What, check};
use crate::files::digest_field;

impl Play {
    pub(super) async fn head(&mut self, dialect: Dialect) {
        let client = self.client();
        // The native dialect has no HEAD: it is a word of no dialect.
        let (url, version) = match dialect {
            Dialect::Tus => (format!("/tus/{}", self.id), vec![V]),
            Dialect::Ietf => (self.url(Dialect::Ietf), vec![("Upload-Draft-Interop-Version", "8")]),
            Dialect::Native => (self.url(Dialect::Ietf), vec![]),
        };
        let fields = [&version[..], &[("Want-Repr-Digest", "blake3=10")]].concat();
        let answer = client.ask("HEAD", &url, &fields).await;
        if let Some(held) = self.held.take_if(|held| matches!(held.what, What::Append { .. })) {
            self.taken_over(held).await;
        }
        match self.model.life {
            Life::Cancelled => return check(&answer, (410, "upload-gone")),
            Life::Open if dialect == Dialect::Tus && self.model.is_full() => self.model.life = Life::Done,
            Life::Open | Life::Done => {}
        }
        check(&answer, (200, ""));
        let durable = self.model.durable();
        assert_eq!(answer.field("upload-offset"), durable.to_string());
        let size = self.model.size.map(|size| size.to_string()).unwrap_or_default();
        assert_eq!(answer.field("upload-length"), size);
        let is_done = self.model.life == Life::Done;
        assert_eq!(answer.field("upload-complete"), if is_done { "?1" } else { "?0" });
        let told = answer.field("repr-digest");
        if !told.is_empty() {
            assert_eq!(told, digest_field(Algorithm::Blake3, &self.model.bytes(0..durable)));
        }
    }

    /// Finds out how much of an append had arrived when it was taken over: whatever it is, what can be seen must be what
    /// so many bytes make.
    pub(super) async fn taken_over(&mut self, mut held: Held) {
        check(&held.wire.answer().await, SUPERSEDED);
        let client = self.client();
        let status: UploadStatus = client.get(&self.url(Dialect::Native)).await.expect(200).read();
        let at = self.model.durable();
        let borders = (at / P + 1..).map(|part| part * P - at).take_while(|border| *border <= held.sent);
        let told = status.offset.saturating_sub(at);
        let mut candidates: Vec<u64> = borders.chain([0, held.sent]).collect();
        candidates.extend((told <= held.sent).then_some(told));
        candidates.extend(status.partial.iter().filter_map(|part| {
            (u64::from(part.n) * P + part.have).checked_sub(at).filter(|length| *length <= held.sent)
        }));
        let fits = |model: &Model| {
            let whole = model.parts.iter().filter(|(_, part)| part.whole);
            let values: Vec<_> = whole.map(|(n, part)| (*n, part.value(*n))).collect();
            let parts: Vec<_> = status.parts.iter().map(|part| (part.n, part.value)).collect();
            let open = model.parts.iter().filter(|(_, part)| !part.whole);
            let open: Vec<_> = open.map(|(n, part)| (*n, part.have())).collect();
            let partial: Vec<_> = status.partial.iter().map(|part| (part.n, part.have)).collect();
            model.durable() == status.offset && values == parts && open == partial
        };
        let found = candidates.iter().find_map(|length| {
            let mut model = self.model.clone();
            model.append(*length, held.version);
            fits(&model).then_some(model)
        });
        self.model =
            found.unwrap_or_else(|| panic!("{} sent behind {:?}: {status:?}", held.sent, self.model));
    }

    pub(super) async fn digest(&mut self, start: u64, length: u64) {
        if self.held.is_some() {
            return;
        }
        let durable = self.model.durable();
        let start = start % (durable + 1);
        let end = (start + length).min(durable);
        let client = self.client();
        let url = format!("{}/digest?start={start}&end={end}", self.url(Dialect::Native));
        let answer = client.get(&url).await;
        match self.ended() {
            Some(refused) => check(&answer, refused),
            // The tail of an open part is no span that can be read.
            None if answer.status.as_u16() == 409 => {
                check(&answer, (409, "incomplete"));
                let open = self.model.parts.iter().find(|(_, part)| !part.whole);
                let tail =
                    open.map(|(n, part)| u64::from(*n) * P + (part.have() - 1) / (64 << 10) * (64 << 10));
                assert!(tail.is_some_and(|tail| end > tail), "{start}..{end}");
            }
            None => {
                let told: SpanDigest = answer.expect(200).read();
                assert_eq!(told.value, FileHash::of(&self.model.bytes(start..end)).to_string());
            }
        }
    }

    pub(super) async fn list(&mut self) {
        let client = self.client();
        let list: UploadList = client.get("/api/v1/uploads?limit=1000").await.expect(200).read();
        if let Some(line) = list.uploads.iter().find(|line| line.id == self.id) {
            assert_eq!(
                line.size,
                if self.model.life == Life::Cancelled { line.size } else { self.model.size }
            );
            assert_eq!(line.state == State::Open, self.model.life == Life::Open);
        } else {
            assert!(list.next.is_some(), "it is on a page");
        }
    }

    pub(super) async fn complete(&mut self, declared: Declared) {
        if self.held.is_some() {
            return;
        }
        let size = self.model.size.unwrap_or(self.script.size);
        let hash = match declared {
            Declared::Nothing => None,
            Declared::Wrong => Some(FileHash::of(b"something else").to_string()),
            Declared::Right => Some(self.model.prefix_digest().to_string()),
        };
        let client = self.client();
        let complete = json!({"size": size, "blake3": hash});
        let url = format!("{}/complete", self.url(Dialect::Native));
        let answer = client.json("POST", &url, &complete).await;
        match self.model.life {
            Life::Cancelled => check(&answer, (410, "upload-gone")),
            Life::Done if declared == Declared::Wrong => check(&answer, (422, "digest-mismatch")),
            Life::Done => check(&answer, (201, "")),
            Life::Open if self.model.durable() != size => check(&answer, (409, "incomplete")),
            Life::Open if declared == Declared::Wrong => {
                check(&answer, (422, "digest-mismatch"));
                self.model.close(size);
            }
            Life::Open => {
                check(&answer, (201, ""));
                assert_eq!(answer.read::<Completed>().blake3, self.model.prefix_digest());
                self.model.life = Life::Done;
                self.model.size = Some(size);
            }
        }
    }

    pub(super) async fn cancel(&mut self, dialect: Dialect) {
        let client = self.client();
        let (url, fields) = match dialect {
            Dialect::Tus => (format!("/tus/{}", self.id), vec![V]),
            dialect => (self.url(dialect), vec![]),
        };
        let answer = client.ask("DELETE", &url, &fields).await;
        if self.model.life == Life::Done {
            return check(&answer, (409, "already-complete"));
        }
        check(&answer, (204, ""));
        self.model.life = Life::Cancelled;
    }

    /// Sends what is missing and compares the file with the model.
    pub(super) async fn end(mut self) {
        self.let_go(false).await;
        self.compare().await;
        if self.model.life == Life::Open {
            self.finish().await;
        }
        let client = self.client();
        let read = client.get(&format!("/uploads/{}", self.id)).await;
        match self.model.life {
            Life::Open => panic!("it was finished"),
            Life::Cancelled => check(&read, (410, "upload-gone")),
            Life::Done => {
                assert!(read.expect(200).body == self.model.bytes(0..self.script.size), "the file");
            }
        }
    }

    pub(super) async fn finish(&mut self) {
        let version = self.script.version;
        match self.script.last {
            Dialect::Native => {
                for number in 0..u32::try_from(self.script.size.div_ceil(P)).unwrap() {
                    let start = u64::from(number) * P;
                    let length = (self.script.size - start).min(P);
                    if self.model.part(number).have() < length {
                        let (amount, ends, declared) = (Amount::All, Ends::Whole, Declared::Right);
                        self.part(Run { number, goes_on: false, amount, version, ends, declared }).await;
                    }
                }
                self.complete(Declared::Right).await;
            }
            dialect => {
                let (amount, ends, declared) = (Amount::All, Ends::Whole, Declared::Right);
                self.append(Append { dialect, amount, version, ends, declared, tells_size: true }).await;
            }
        }
        assert_eq!(self.model.life, Life::Done);
    }
}
