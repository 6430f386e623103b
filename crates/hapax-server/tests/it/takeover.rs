//! A sender that fell silent, or whose line was reset, never stands in the way of the next one, and nothing it sends
//! later is written: over both versions of HTTP, in every lane there is.

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;
use hapax_proto::digest::Algorithm;
use hapax_proto::tree::PartNumber;
use hapax_store::catalog::{LaneId, UploadId};
use http::{HeaderName, HeaderValue, Request, StatusCode, Version};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::files::{digest_field, noise};
use crate::server::{Running, outside};
use crate::wire::{Client, Wire};

/// The file, what the ghost sends of it before it falls silent, and how far the second sender comes.
const SIZE: usize = 300_000;
const SILENT: usize = 100_000;
const SECOND: usize = 200_000;

/// Where bytes go in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Tus,
    Ietf,
    Part,
}

impl Way {
    const ALL: [Self; 3] = [Self::Tus, Self::Ietf, Self::Part];

    fn method(self) -> &'static str {
        if self == Self::Part { "PUT" } else { "PATCH" }
    }

    fn target(self, id: &str, at: usize) -> String {
        match self {
            Self::Part => format!("/api/v1/uploads/{id}/parts/0?from={at}"),
            Self::Tus | Self::Ietf => format!("/uploads/{id}"),
        }
    }

    fn fields(self, at: usize) -> Vec<(&'static str, String)> {
        let patch = |media: &str| [("content-type", media.to_owned()), ("upload-offset", at.to_string())];
        match self {
            Self::Part => Vec::new(),
            Self::Tus => {
                [&patch("application/offset+octet-stream")[..], &[("tus-resumable", "1.0.0".to_owned())]]
                    .concat()
            }
            Self::Ietf => {
                [&patch("application/partial-upload")[..], &[("upload-complete", "?0".to_owned())]].concat()
            }
        }
    }
}

/// A sender that stops in the middle.
enum Ghost {
    One(Wire),
    Two(ResponseFuture, SendStream<Bytes>),
}

impl Ghost {
    /// Begins to send, and returns when the server has let it in and taken what it sent first.
    async fn begin(stage: &Stage, version: Version) -> Self {
        let (method, target) = (stage.way.method(), stage.way.target(&stage.id, 0));
        let mut fields = stage.way.fields(0);
        fields.push(("content-length", SIZE.to_string()));
        let first = &stage.content[..SILENT];
        let ghost = if version == Version::HTTP_2 {
            let stream = TcpStream::connect(stage.client.address).await.unwrap();
            let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            let uri = format!("http://{}{target}", stage.client.address);
            let mut request = Request::builder().method(method).uri(uri);
            fields.push(("authorization", stage.client.authorization.clone().unwrap()));
            for (name, value) in &fields {
                request =
                    request.header(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
            }
            let (answer, mut body) = sender.send_request(request.body(()).unwrap(), false).unwrap();
            body.send_data(Bytes::copy_from_slice(first), false).unwrap();
            Self::Two(answer, body)
        } else {
            let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let mut wire = Wire::connect(stage.client.address).await;
            wire.send(stage.client.head(method, &target, &fields) + "\r\n").await;
            wire.send(first).await;
            Self::One(wire)
        };
        while stage.server.store.lanes().count() == 0 {
            tokio::task::yield_now().await;
        }
        ghost
    }

    /// Reads what it is told when somebody took over.
    async fn told(&mut self) -> (StatusCode, String) {
        match self {
            Self::One(wire) => {
                let answer = wire.answer().await;
                (answer.status, answer.field("hapax-problem").to_owned())
            }
            Self::Two(answer, _) => {
                let answer = answer.await.unwrap();
                (answer.status(), answer.headers()["hapax-problem"].to_str().unwrap().to_owned())
            }
        }
    }

    /// Sends on all the same; it is all one whether that works.
    async fn haunt(&mut self) {
        match self {
            Self::One(wire) => drop(wire.try_send(&vec![0xEE; SIZE - SILENT]).await),
            Self::Two(_, body) => drop(body.send_data(Bytes::from(vec![0xEE; SIZE - SILENT]), true)),
        }
    }

    fn reset(self) {
        match self {
            Self::One(wire) => wire.reset(),
            Self::Two(_, mut body) => body.send_reset(h2::Reason::CANCEL),
        }
    }
}

/// An upload with a ghost in it.
struct Stage {
    server: Running,
    client: Client,
    way: Way,
    id: String,
    content: Vec<u8>,
}

impl Stage {
    async fn set(way: Way) -> Self {
        let server = Running::start().await;
        let client = server.alice();
        let create = json!({"key": "k".repeat(16), "path": "/film", "size": SIZE});
        let created: Value = client.json("POST", "/api/v1/uploads", &create).await.expect(201).read();
        let id = created["id"].as_str().unwrap().to_owned();
        Self { server, client, way, id, content: noise(SIZE) }
    }

    /// Sends a span of the file from elsewhere, and returns the status.
    async fn send(&self, at: usize, end: usize) -> u16 {
        let fields = self.way.fields(at);
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let target = self.way.target(&self.id, at);
        self.client.send(self.way.method(), &target, &fields, &self.content[at..end]).await.status.as_u16()
    }

    /// Asks where the upload stands, which ends an append.
    async fn offset(&self) -> usize {
        let head = self.client.ask("HEAD", &format!("/uploads/{}", self.id), &[]).await.expect(200);
        head.field("upload-offset").parse().unwrap()
    }

    /// Takes over, and returns where the second sender began: a part is begun anew.
    async fn take_over(&self) {
        let at = if self.way == Way::Part { 0 } else { self.offset().await };
        assert!(at <= SILENT, "{at}");
        let status = self.send(at, SECOND).await;
        assert!(matches!(status, 201 | 204), "{status}");
    }

    /// Returns under which epoch the lane was committed last, and the version of the content.
    fn epoch(&self) -> (u64, u64) {
        outside(|| {
            let id = UploadId::parse(&self.id).unwrap();
            let lane =
                self.server.store.catalog().lane(id, LaneId::Part(PartNumber::FIRST)).unwrap().unwrap();
            (lane.epoch, self.server.store.upload(id).unwrap().content_version)
        })
    }

    /// Checks that what is there is what the second sender sent, sends the rest, and looks at the file.
    async fn end(self) {
        let head =
            self.client.ask("HEAD", &format!("/uploads/{}", self.id), &[("Want-Repr-Digest", "md5=1")]).await;
        assert_eq!(head.field("upload-offset"), SECOND.to_string());
        assert_eq!(head.field("repr-digest"), digest_field(Algorithm::Md5, &self.content[..SECOND]));
        self.send(SECOND, SIZE).await;
        let complete = json!({"size": SIZE, "blake3": null});
        let url = format!("/api/v1/uploads/{}/complete", self.id);
        let status = self.client.json("POST", &url, &complete).await.status.as_u16();
        assert!(matches!(status, 200 | 201), "{status}");
        assert!(self.client.get("/files/film").await.expect(200).body == self.content);
        self.server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_sender_is_taken_over_and_writes_nothing_afterwards() {
    for way in Way::ALL {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let stage = Stage::set(way).await;
            let mut ghost = Ghost::begin(&stage, version).await;
            stage.take_over().await;
            let told = ghost.told().await;
            assert_eq!(told, (StatusCode::CONFLICT, "superseded".to_owned()), "{way:?} {version:?}");
            let epoch = stage.epoch();
            ghost.haunt().await;
            // Its lane is free: nobody is in it who could still write.
            assert_eq!(stage.server.store.lanes().count(), 0);
            assert_eq!(stage.epoch(), epoch, "{way:?} {version:?}");
            stage.end().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_was_reset_is_in_nobodys_way() {
    for way in Way::ALL {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let stage = Stage::set(way).await;
            Ghost::begin(&stage, version).await.reset();
            stage.take_over().await;
            let epoch = stage.epoch();
            while stage.server.store.lanes().count() > 0 {
                tokio::task::yield_now().await;
            }
            assert_eq!(stage.epoch(), epoch, "{way:?} {version:?}");
            stage.end().await;
        }
    }
}

/// Whoever does not ask first learns where the ghost stopped, and goes on there.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_takes_over_without_a_question_too() {
    for way in [Way::Tus, Way::Ietf] {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let stage = Stage::set(way).await;
            let mut ghost = Ghost::begin(&stage, version).await;
            let first = stage.send(0, SECOND).await;
            assert_eq!(ghost.told().await.1, "superseded");
            // The ghost's bytes are there, if any had arrived.
            assert!(matches!(first, 204 | 409), "{first}");
            if first == 409 {
                stage.take_over().await;
            }
            ghost.haunt().await;
            stage.end().await;
        }
    }
}
