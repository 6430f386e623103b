//! A line on which every answer overtakes the bytes behind it: one small piece goes up, and the next one waits until
//! the server said something. What a client has to send before it can know better is counted here, and nothing else.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use crate::stage::Server;

/// How much goes up before an answer: the head of a request fits.
const PIECE: usize = 1 << 10;

/// The line.
pub(crate) struct Overtaking {
    pub(crate) address: SocketAddr,
    up: Arc<AtomicU64>,
}

impl Overtaking {
    /// Lays a line to a server.
    pub(crate) fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (up, upstream) = (Arc::new(AtomicU64::new(0)), server.address);
        let counted = Arc::clone(&up);
        // What a client still wants to send is neither read nor refused, which would take the answer from it.
        let open = Arc::new(Mutex::new(Vec::new()));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(upstream).unwrap();
                let (answered, answers) = mpsc::channel();
                let down = [&server, &client].map(|stream| stream.try_clone().unwrap());
                open.lock().unwrap().push(client.try_clone().unwrap());
                let counted = Arc::clone(&counted);
                thread::spawn(move || carry_up(client, server, &counted, &answers));
                thread::spawn(move || carry_down(down, &answered));
            }
        });
        Self { address, up }
    }

    /// Returns how many bytes went up so far.
    pub(crate) fn up(&self) -> u64 {
        self.up.load(Ordering::SeqCst)
    }
}

fn carry_up(mut client: TcpStream, mut server: TcpStream, up: &AtomicU64, answers: &mpsc::Receiver<()>) {
    let mut piece = [0; PIECE];
    while let Ok(read @ 1..) = client.read(&mut piece) {
        up.fetch_add(read as u64, Ordering::SeqCst);
        if server.write_all(&piece[..read]).is_err() || answers.recv().is_err() {
            break;
        }
    }
    // The server may have ended the connection already.
    let _ = server.shutdown(Shutdown::Write);
}

fn carry_down([mut server, mut client]: [TcpStream; 2], answered: &mpsc::Sender<()>) {
    let mut piece = [0; PIECE];
    while let Ok(read @ 1..) = server.read(&mut piece) {
        if client.write_all(&piece[..read]).is_err() || answered.send(()).is_err() {
            break;
        }
    }
    // The client may be gone already.
    let _ = client.shutdown(Shutdown::Write);
}
