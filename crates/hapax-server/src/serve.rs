//! The accept loop: sockets in, connections driven, an orderly end. It never looks at a request.
//!
//! ```text
//!   accept -> [TLS] -> recognise -> HTTP/1.1 or HTTP/2 -> a task per request -> service
//! ```
//!
//! Each request runs in a task of its own: when a client vanishes, the HTTP library forgets the request at once,
//! but what arrived of it is still to be made durable.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hapax_proto::problem::Kind;
use hapax_store::error::StoreError;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use crate::app::{App, Phase};
use crate::body::Streams;
use crate::config::TlsFiles;
use crate::job;
use crate::line::{Line, Peer};
use crate::metrics::OpenConnection;
use crate::respond::{self, Response};
use crate::service;
use crate::socket::{Peek, Protocol, Socket, recognise};

/// The largest header, in bytes; more is 431.
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// HTTP/1: how much is read from a socket at once. Each connection may hold that much; a header must fit.
const READ_BYTES_MAX: usize = 128 << 10;
/// HTTP/2: how many bytes a stream and a connection may have on their way to us, and how much goes in a frame.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const FRAME_BYTES_MAX: u32 = 64 << 10;
/// HTTP/2: how many requests a connection may have under way.
const STREAMS_MAX: u32 = 128;
/// HTTP/2: how often a silent peer is asked whether it is still there, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long accepting pauses after it failed: most causes (no file descriptor left) pass with time only.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a server did not start, or could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("could not listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file of the certificate cannot be read.
    #[error("could not read {what} from {path}")]
    Pem {
        /// What should be in it.
        what: &'static str,
        /// The file.
        path: String,
        /// What is wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key cannot be used.
    #[error("the certificate cannot be used")]
    Tls(#[source] rustls::Error),
    /// The store failed for good.
    #[error("the store failed")]
    Store(#[source] Arc<StoreError>),
}

/// A server that listens, and does not answer yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    app: Arc<App>,
}

impl Server {
    /// Begins to listen.
    ///
    /// # Errors
    /// The address is taken or not ours; the certificate cannot be used.
    pub async fn bind(app: App) -> Result<Self, ServeError> {
        let address = app.config.listen;
        let failed = |source| ServeError::Listen { address, source };
        let tls = app.config.tls.as_ref().map(acceptor).transpose()?;
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, tls, app: Arc::new(app) })
    }

    /// Returns where it listens, with the port that was taken if none was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `shutdown` resolves, and then ends in order: it takes no more, lets requests end by
    /// themselves, cuts bodies still arriving so that what they brought becomes durable, and returns when all
    /// ended or their time is up. Runs the background jobs meanwhile.
    ///
    /// # Errors
    /// The store failed for good: the process must end and not start again by itself without a look at the log.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let app = Arc::clone(&self.app);
        let mut failure = app.store.failure();
        let failed = async {
            // If the sender is gone, so is the store, without having failed.
            failure.wait_for(Option::is_some).await.ok().and_then(|cause| cause.clone())
        };
        let (busy, idle) = mpsc::channel::<()>(1);
        let jobs = job::start(&app);
        let told = async {
            tokio::select! {
                () = shutdown => None,
                Some(cause) = failed => Some(cause),
            }
        };
        let (connections, cause) = self.accept_until(told, busy).await;
        drop(jobs);
        drain(&app, connections, idle).await;
        cause.map_or(Ok(()), |cause| Err(ServeError::Store(cause)))
    }

    /// Accepts connections until it is told to end; the listener is closed on return.
    async fn accept_until<T>(
        self,
        told: impl Future<Output = T>,
        busy: mpsc::Sender<()>,
    ) -> (JoinSet<()>, T) {
        let mut told = pin!(told);
        let mut connections = JoinSet::new();
        let places = Arc::new(Semaphore::new(self.app.config.caps.connections as usize));
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                let place = place.expect("the semaphore is never closed");
                (self.listener.accept().await, place)
            };
            tokio::select! {
                told = &mut told => return (connections, told),
                Some(_) = connections.join_next() => {}
                (accepted, place) = accepted => match accepted {
                    Ok((stream, peer)) => {
                        let visit = Visit { app: Arc::clone(&self.app), peer, busy: busy.clone() };
                        let tls = self.tls.clone();
                        connections.spawn(async move {
                            let _place = place;
                            visit.receive(stream, tls).await;
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "could not accept a connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

/// Lets what runs come to its end, in two steps.
async fn drain(app: &App, mut connections: JoinSet<()>, mut idle: mpsc::Receiver<()>) {
    let deadlines = app.config.deadlines;
    let deadline = Instant::now() + deadlines.drain;
    app.life.enter(Phase::Draining);
    let ended = async {
        // The channel closes with its last sender: each connection and each request holds one.
        while idle.recv().await.is_some() {}
    };
    let mut ended = pin!(ended);
    if timeout(deadlines.drain.saturating_sub(deadlines.flush), &mut ended).await.is_ok() {
        return;
    }
    app.life.enter(Phase::Cutting);
    if timeout_at(deadline, &mut ended).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests were still running at the end");
        connections.shutdown().await;
    }
}

/// Reads the certificate and makes what accepts TLS with it.
fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, ServeError> {
    let failed = |what, path: &std::path::Path| {
        let path = path.display().to_string();
        move |source| ServeError::Pem { what, path, source }
    };
    let chain = CertificateDer::pem_file_iter(&files.certificates)
        .and_then(Iterator::collect)
        .map_err(failed("certificates", &files.certificates))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(failed("a private key", &files.key))?;
    // Named, not taken from the process: another crate may have installed another.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(ServeError::Tls)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// One connection.
struct Visit {
    app: Arc<App>,
    peer: SocketAddr,
    /// Held by whatever a shutdown waits for.
    busy: mpsc::Sender<()>,
}

impl Visit {
    /// Converses with a peer until either ends.
    async fn receive(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        let _open = OpenConnection::count();
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "could not turn delays off");
        }
        let deadline = self.app.config.deadlines.header;
        match tls {
            None => self.converse(stream).await,
            // Boxed: a connection without TLS must not weigh what one with it does.
            Some(tls) => match Box::pin(timeout(deadline, tls.accept(stream))).await {
                Ok(Ok(stream)) => Box::pin(self.converse(stream)).await,
                Ok(Err(error)) => tracing::debug!(peer = %self.peer, %error, "no TLS"),
                Err(_) => tracing::debug!(peer = %self.peer, "no TLS in time"),
            },
        }
    }

    async fn converse<S: AsyncRead + AsyncWrite + Peek + Unpin + Send + 'static>(self, mut stream: S) {
        let deadlines = self.app.config.deadlines;
        let draining = self.app.life.reached(Phase::Draining);
        let recognised = tokio::select! {
            recognised = recognise(&mut stream, deadlines.header) => recognised,
            () = draining => return,
        };
        let Ok((protocol, replay)) = recognised else {
            return;
        };
        let socket = Socket::new(stream, replay, deadlines.idle_body);
        let line = Arc::clone(socket.line());
        let socket = TokioIo::new(socket);
        let asked = Arc::new(AtomicBool::new(false));
        let service = service_fn({
            let (app, busy, peer, asked) =
                (Arc::clone(&self.app), self.busy.clone(), self.peer, Arc::clone(&asked));
            let line = Arc::clone(&line);
            move |request| {
                asked.store(true, Ordering::Relaxed);
                let (peer, waits) = Peer::of(peer, &line);
                answer(Arc::clone(&app), (peer, waits), busy.clone(), request)
            }
        });
        let outcome = match protocol {
            Protocol::Http1 => {
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(deadlines.header)
                    .max_header_size(HEADER_BYTES_MAX as usize)
                    .max_buf_size(READ_BYTES_MAX)
                    .half_close(true)
                    .serve_connection(socket, service);
                self.drive(pin!(connection), http1::Connection::graceful_shutdown, (&asked, &line)).await
            }
            Protocol::Http2 => {
                let connection = http2::Builder::new(Streams::new(deadlines.idle_body))
                    .timer(TokioTimer::new())
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .max_frame_size(FRAME_BYTES_MAX)
                    .max_concurrent_streams(STREAMS_MAX)
                    .max_header_list_size(HEADER_BYTES_MAX)
                    .keep_alive_interval(PING_INTERVAL)
                    .keep_alive_timeout(PING_TIMEOUT)
                    .serve_connection(socket, service);
                self.drive(pin!(connection), http2::Connection::graceful_shutdown, (&asked, &line)).await
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(peer = %self.peer, %error, "a connection ended");
        }
    }

    /// Drives a connection to its end, which a shutdown hastens. A peer that asks for nothing in time is dropped:
    /// the HTTP library has no such deadline for HTTP/2.
    async fn drive<C: Future<Output = hyper::Result<()>>>(
        &self,
        mut connection: Pin<&mut C>,
        end_gracefully: impl Fn(Pin<&mut C>),
        (asked, line): (&AtomicBool, &Line),
    ) -> hyper::Result<()> {
        let mut draining = pin!(self.app.life.reached(Phase::Draining));
        let mut first = pin!(sleep(self.app.config.deadlines.header));
        let (mut ends, mut checked) = (false, false);
        loop {
            tokio::select! {
                outcome = connection.as_mut() => return outcome,
                // The socket looks for the peer's end when the connection is polled, which the loop does now.
                () = line.watched() => {}
                () = &mut draining, if !ends => {
                    ends = true;
                    end_gracefully(connection.as_mut());
                }
                () = &mut first, if !checked => {
                    checked = true;
                    if !asked.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Answers a request in a task of its own, which goes on when the connection does not. It can ask whether this future
/// still lives, which `_waits` tells.
async fn answer(
    app: Arc<App>,
    (peer, _waits): (Peer, watch::Sender<()>),
    busy: mpsc::Sender<()>,
    request: Request<Incoming>,
) -> Result<Response, std::convert::Infallible> {
    let task = tokio::spawn(async move {
        let _busy = busy;
        service::answer(&app, &peer, request).await
    });
    let response = task.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a handler failed");
        respond::refusal(Kind::Internal.into())
    });
    Ok(respond::watch(response))
}
