//! A line between client and server that breaks: it passes bytes on and ends a connection after some of the answer.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A line that breaks.
pub(crate) struct Link {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// How many bytes of answers the coming connections live for; the ones behind them live as long as they want.
    cuts: Mutex<VecDeque<u64>>,
    /// Bytes of answers that were passed on.
    passed: AtomicU64,
}

impl Link {
    /// Lays a line to a server.
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                let cut = state.cuts.lock().unwrap().pop_front();
                tokio::spawn(async move { carry(client, server, cut, &state).await });
            }
        });
        Self { address, state }
    }

    /// Lets the next connections break after so many bytes of answers each.
    pub(crate) fn cut_next(&self, after: impl IntoIterator<Item = u64>) {
        self.state.cuts.lock().unwrap().extend(after);
    }

    /// Mends the line.
    pub(crate) fn mend(&self) {
        self.state.cuts.lock().unwrap().clear();
    }

    /// Returns how many bytes of answers were passed on since it was asked last.
    pub(crate) fn passed(&self) -> u64 {
        self.state.passed.swap(0, Ordering::SeqCst)
    }

    /// Returns the URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// Carries one connection until either side ends or the line breaks; both ends are dropped then.
async fn carry(client: TcpStream, server: SocketAddr, cut: Option<u64>, state: &State) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pass(from_server, to_client, cut.unwrap_or(u64::MAX), Some(&state.passed)) => {}
        () = async {
            pass(from_client, to_server, u64::MAX, None).await;
            // A client that has said everything still reads.
            std::future::pending::<()>().await;
        } => {}
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut left: u64,
    count: Option<&AtomicU64>,
) {
    let mut buffer = vec![0; 64 << 10];
    while left > 0 {
        let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let Ok(read @ 1..) = from.read(&mut buffer[..room]).await else { break };
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
        left -= read as u64;
        if let Some(count) = count {
            count.fetch_add(read as u64, Ordering::SeqCst);
        }
    }
    let _ended_by_the_peer = to.shutdown().await;
}
