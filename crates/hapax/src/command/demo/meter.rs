//! A line between a client and a server whose bytes are counted, and that can be held. Owns the counting, so that
//! what the demonstration says of the wire is measured on the wire; understands nothing of what passes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How much is passed on at a time.
const PIECE: usize = 64 * 1024;

/// The line.
pub(super) struct Meter {
    address: SocketAddr,
    counts: Arc<Counts>,
    /// Ends with the line.
    _lines: JoinSet<()>,
}

struct Counts {
    up: AtomicU64,
    down: AtomicU64,
    /// How many bytes may go up in all.
    up_max: watch::Sender<u64>,
    /// Whether some wait for more to be allowed.
    held: watch::Sender<bool>,
    /// How many clients may still have bytes on their way up.
    rising: watch::Sender<usize>,
}

impl Meter {
    /// Lays a line to `server`.
    pub(super) async fn to(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts {
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            up_max: watch::Sender::new(u64::MAX),
            held: watch::Sender::new(false),
            rising: watch::Sender::new(0),
        });
        let mut lines = JoinSet::new();
        let shared = Arc::clone(&counts);
        lines.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                open.spawn(join(client, server, Arc::clone(&shared)));
            }
        });
        Ok(Self { address, counts, _lines: lines })
    }

    /// Returns where clients connect to.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns how many bytes went up and down since the last call.
    pub(super) fn read(&self) -> (u64, u64) {
        (self.counts.up.swap(0, Ordering::Relaxed), self.counts.down.swap(0, Ordering::Relaxed))
    }

    /// Lets no more than this go up from the last reading on, until [`release`](Self::release).
    pub(super) fn hold_after(&self, bytes: u64) {
        self.counts.up_max.send_replace(bytes);
    }

    /// Resolves when bytes wait that may not go up.
    pub(super) async fn held(&self) {
        // The sender lives as long as this does.
        let _ = self.counts.held.subscribe().wait_for(|held| *held).await;
    }

    /// Lets everything pass again.
    pub(super) fn release(&self) {
        self.counts.up_max.send_replace(u64::MAX);
        self.counts.held.send_replace(false);
    }

    /// Resolves when no client has bytes on their way up any more: those of a process that is gone may still lie in
    /// the buffers of the system.
    pub(super) async fn quiet(&self) {
        // The sender lives as long as this does.
        let _ = self.counts.rising.subscribe().wait_for(|rising| *rising == 0).await;
    }
}

/// A client that may have bytes on their way up.
struct Rising<'a>(&'a Counts);

impl<'a> Rising<'a> {
    fn count(counts: &'a Counts) -> Self {
        counts.rising.send_modify(|rising| *rising += 1);
        Self(counts)
    }
}

impl Drop for Rising<'_> {
    fn drop(&mut self) {
        self.0.rising.send_modify(|rising| *rising -= 1);
    }
}

/// Passes bytes both ways until either side ends.
async fn join(client: TcpStream, server: SocketAddr, counts: Arc<Counts>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((client_reads, client_writes), (server_reads, server_writes)) =
        (client.into_split(), server.into_split());
    tokio::select! {
        _ = pass_up(client_reads, server_writes, &counts) => {}
        _ = pass_down(server_reads, client_writes, &counts) => {}
    }
}

async fn pass_up(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, counts: &Counts) -> io::Result<()> {
    let rising = Rising::count(counts);
    let mut piece = vec![0; PIECE];
    let mut up_max = counts.up_max.subscribe();
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            drop(rising);
            // The answer may still come.
            to.shutdown().await?;
            return std::future::pending().await;
        }
        if counts.up.load(Ordering::Relaxed) > *up_max.borrow_and_update() {
            counts.held.send_replace(true);
            let allowed = up_max.wait_for(|max| counts.up.load(Ordering::Relaxed) <= *max).await;
            drop(allowed);
        }
        to.write_all(&piece[..read]).await?;
        counts.up.fetch_add(read as u64, Ordering::Relaxed);
    }
}

async fn pass_down(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, counts: &Counts) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&piece[..read]).await?;
        counts.down.fetch_add(read as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_are_counted_and_held() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let meter = Meter::to(listener.local_addr().unwrap()).await.unwrap();
        let mut client = TcpStream::connect(meter.address()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut got = [0; 3];
        client.write_all(b"abc").await.unwrap();
        server.read_exact(&mut got).await.unwrap();
        server.write_all(b"de").await.unwrap();
        client.read_exact(&mut got[..2]).await.unwrap();
        drop(server);
        assert_eq!(client.read(&mut got).await.unwrap(), 0, "the line ends with its other end");
        meter.quiet().await;
        assert_eq!(meter.read(), (3, 2));

        meter.hold_after(0);
        let mut client = TcpStream::connect(meter.address()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        client.write_all(b"x").await.unwrap();
        server.read_exact(&mut got[..1]).await.unwrap();
        client.write_all(b"yz").await.unwrap();
        meter.held().await;
        meter.release();
        server.read_exact(&mut got[..2]).await.unwrap();
        assert_eq!(&got[..2], b"yz");
        drop(server);
        assert_eq!(client.read(&mut got).await.unwrap(), 0);
        assert_eq!(meter.read().0, 3);
    }
}
