//! What a handler may ask about its connection: whether the peer is still there. Owns the word between the handler, which
//! runs in a task of its own, and the socket, which alone can look.
//!
//! A peer that has said everything may end its sending side and still read (RFC 9112 §9.6 does not forbid it), so its end
//! is no reason to drop a request. Somebody who works long for an answer alone may take it for one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Notify, watch};

/// What is known of one connection.
#[derive(Debug, Default)]
pub struct Line {
    /// How many handlers wait for the peer's end.
    watchers: AtomicU32,
    /// Told when one begins to.
    begun: Notify,
    ended: watch::Sender<bool>,
}

impl Line {
    /// Tells whether anybody wants to know when the peer ends.
    pub fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::Acquire) > 0
    }

    /// Resolves when somebody begins to want to know: the socket must look then.
    pub async fn watched(&self) {
        self.begun.notified().await;
    }

    /// Says that the peer ended its side.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }
}

/// The peer of one request.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it is.
    pub address: SocketAddr,
    line: Arc<Line>,
    /// Its sender lives as long as the HTTP library waits for the answer.
    waiting: watch::Receiver<()>,
}

impl Peer {
    /// Makes the peer of a request over this line, and what must live for as long as the answer is waited for.
    pub fn of(address: SocketAddr, line: &Arc<Line>) -> (Self, watch::Sender<()>) {
        let (waits, waiting) = watch::channel(());
        (Self { address, line: Arc::clone(line), waiting }, waits)
    }

    /// Resolves when nobody waits for the answer any more: the peer ended its side, or the request.
    pub async fn gone(&self) {
        let _watching = Watching::begin(&self.line);
        let (mut waiting, mut ended) = (self.waiting.clone(), self.line.ended.subscribe());
        tokio::select! {
            // Nothing is ever sent; an error says that the sender is gone.
            _ = waiting.changed() => {}
            // An error cannot be: the line lives.
            _ = ended.wait_for(|ended| *ended) => {}
        }
    }
}

/// One handler that waits for the peer's end.
struct Watching<'a>(&'a Line);

impl<'a> Watching<'a> {
    fn begin(line: &'a Line) -> Self {
        line.watchers.fetch_add(1, Ordering::AcqRel);
        line.begun.notify_one();
        Self(line)
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[tokio::test]
    async fn a_peer_is_gone_when_it_ended_or_nobody_waits() {
        let line = Arc::new(Line::default());
        let (peer, waits) = Peer::of(HERE, &line);
        let gone = tokio::spawn(async move { peer.gone().await });
        line.watched().await;
        assert!(line.is_watched());
        drop(waits);
        gone.await.unwrap();
        assert!(!line.is_watched());
        let (peer, _waits) = Peer::of(HERE, &line);
        line.end();
        peer.gone().await;
    }
}
