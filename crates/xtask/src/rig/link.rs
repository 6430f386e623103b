//! The line between a client and a server: a TCP proxy that counts the bytes of each direction, wakes whoever
//! waits for a number of them, and cuts its connections on demand. Owns sockets and counts; it looks at no byte.
//!
//! ```text
//!   client ⇄ listener ─┬─ pump up   ──▶ server      counts ──▶ whoever waits
//!                      └─ pump down ◀──
//! ```

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::dice::Dice;
use super::weather::Weather;

/// How many bytes a pump carries at once.
const CARRIED: usize = 64 << 10;

/// How often a waiting thread looks whether what it waits for can still come.
const LOOK: Duration = Duration::from_millis(5);

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// How many bytes went each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) up: u64,
    pub(crate) down: u64,
}

impl Counts {
    /// Returns the count of one way.
    pub(crate) fn of(self, way: Way) -> u64 {
        match way {
            Way::Up => self.up,
            Way::Down => self.down,
        }
    }

    /// Returns what was added since an earlier look.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { up: self.up - earlier.up, down: self.down - earlier.down }
    }
}

/// A moment: when so many bytes have gone this way, counted from the link's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) way: Way,
    pub(crate) bytes: u64,
}

#[derive(Debug)]
struct State {
    upstream: SocketAddr,
    counts: Counts,
    /// Both ends of every connection that is open, under numbers that are never used twice.
    open: Vec<(u64, TcpStream, TcpStream)>,
    connections: u64,
    delay: Duration,
    weather: Option<Weather>,
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    moved: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what a connection carries, and returns how long it has to wait; nothing if the line was cut: then what
    /// was on it is lost, and was never carried.
    fn count(&self, (way, number): (Way, u64), bytes: usize) -> Option<Duration> {
        let mut state = self.lock();
        if !state.open.iter().any(|(open, ..)| *open == number) {
            return None;
        }
        match way {
            Way::Up => state.counts.up += bytes as u64,
            Way::Down => state.counts.down += bytes as u64,
        }
        self.moved.notify_all();
        Some(state.delay)
    }
}

/// A running proxy. Dropping it ends the listener and all connections.
#[derive(Debug)]
pub(crate) struct Link {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Link {
    /// Listens on a free port and carries every connection to `upstream`.
    pub(crate) fn open(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = State {
            upstream,
            counts: Counts::default(),
            open: Vec::new(),
            connections: 0,
            delay: Duration::ZERO,
            weather: None,
            closed: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), moved: Condvar::new() });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Ok(Self { shared, address })
    }

    /// Returns where clients connect to. It stays the same when the server moves.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads new connections to another place: a restarted server has another port.
    pub(crate) fn lead_to(&self, upstream: SocketAddr) {
        self.shared.lock().upstream = upstream;
    }

    /// Makes every piece wait before it goes on: a long line.
    pub(crate) fn delay(&self, delay: Duration) {
        self.shared.lock().delay = delay;
    }

    /// Makes new connections long and lossy. Their losses depend on nothing but their order.
    pub(crate) fn weather(&self, weather: Weather) {
        self.shared.lock().weather = Some(weather);
    }

    /// Returns how many bytes went each way so far.
    pub(crate) fn counts(&self) -> Counts {
        self.shared.lock().counts
    }

    /// Cuts every connection that is open now, as a line does that breaks; returns how many there were.
    pub(crate) fn cut(&self) -> usize {
        let open = std::mem::take(&mut self.shared.lock().open);
        for (_, client, server) in &open {
            hang_up(client);
            hang_up(server);
        }
        open.len()
    }

    /// Waits for a moment; false if `hopeless` said first that it will not come.
    pub(crate) fn wait(&self, moment: Moment, mut hopeless: impl FnMut() -> bool) -> bool {
        let mut state = self.shared.lock();
        while state.counts.of(moment.way) < moment.bytes {
            let waited = self.shared.moved.wait_timeout(state, LOOK);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            if !timeout.timed_out() {
                state = woken;
                continue;
            }
            // `hopeless` may take its time: nobody should wait for the counts meanwhile.
            drop(woken);
            let given_up = hopeless();
            state = self.shared.lock();
            if given_up {
                return state.counts.of(moment.way) >= moment.bytes;
            }
        }
        true
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.cut();
        // Wakes the listener, which then sees that it is over; if this fails, the port is gone already.
        drop(TcpStream::connect(self.address));
    }
}

/// Ends both directions. An error means that the other side was faster.
fn hang_up(stream: &TcpStream) {
    drop(stream.shutdown(Shutdown::Both));
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let upstream = {
            let state = shared.lock();
            if state.closed {
                return;
            }
            state.upstream
        };
        // A server that is down shows as a connection that ends at once, a line that broke.
        if let (Ok(client), Ok(server)) = (client, TcpStream::connect(upstream)) {
            drop(carry(client, server, shared));
        }
    }
}

/// Starts the two pumps of a connection.
fn carry(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let number = {
        let mut state = shared.lock();
        state.connections += 1;
        let number = state.connections;
        state.open.push((number, client.try_clone()?, server.try_clone()?));
        number
    };
    let up = (client.try_clone()?, server.try_clone()?, Arc::clone(shared));
    let down = (server, client, Arc::clone(shared));
    thread::spawn(move || pump(&up.0, &up.1, (Way::Up, number), &up.2));
    thread::spawn(move || {
        pump(&down.0, &down.1, (Way::Down, number), &down.2);
        // The server's side is over: nothing that the client still sends can be answered.
        hang_up(&down.0);
        hang_up(&down.1);
        down.2.lock().open.retain(|(open, ..)| *open != number);
    });
    Ok(())
}

/// Carries one way of a connection until its end, and hands the end on.
fn pump(from: &TcpStream, to: &TcpStream, (way, number): (Way, u64), shared: &Shared) {
    let weather = shared.lock().weather;
    match weather {
        Some(weather) => {
            // The client's first bytes wait for the handshake, which the listener does at once.
            let (trips, label) = match way {
                Way::Up => (3, "up"),
                Way::Down => (1, "down"),
            };
            let earliest = Instant::now() + weather.round_trip / 2 * trips;
            let dice = Dice::new(number, label);
            weather.carry((from, to), (earliest, dice), |read| shared.count((way, number), read).is_some());
        }
        None => carry_at_once((from, to), (way, number), shared),
    }
    // Half-closed connections are legal; whoever is gone already does not need to be told.
    drop(to.shutdown(Shutdown::Write));
}

fn carry_at_once((mut from, mut to): (&TcpStream, &TcpStream), connection: (Way, u64), shared: &Shared) {
    let mut piece = vec![0; CARRIED];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        let Some(delay) = shared.count(connection, read) else { break };
        if !delay.is_zero() {
            thread::sleep(delay);
        }
        if to.write_all(&piece[..read]).is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers every connection with each byte doubled, until its end.
    fn doubling() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut byte = [0];
                    while stream.read(&mut byte).is_ok_and(|read| read == 1) {
                        if stream.write_all(&[byte[0]; 2]).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        address
    }

    fn talk(link: &Link, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(link.address()).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }

    #[test]
    fn bytes_are_carried_and_counted_each_way() {
        let link = Link::open(doubling()).unwrap();
        assert_eq!(talk(&link, b"abc"), b"aabbcc");
        assert_eq!(link.counts(), Counts { up: 3, down: 6 });
        let before = link.counts();
        assert_eq!(talk(&link, &[7; 5_000]), [7; 10_000]);
        assert_eq!(link.counts().since(before), Counts { up: 5_000, down: 10_000 });
    }

    #[test]
    fn bad_weather_changes_no_byte() {
        let link = Link::open(doubling()).unwrap();
        let millisecond = Duration::from_millis(1);
        let bad = Weather { round_trip: millisecond, window: 1_000, lost_percent: 50, stall: millisecond };
        link.weather(bad);
        assert_eq!(talk(&link, &[7; 5_000]), [7; 10_000]);
        assert_eq!(link.counts(), Counts { up: 5_000, down: 10_000 });
    }

    #[test]
    fn a_moment_comes_or_is_given_up() {
        let link = Link::open(doubling()).unwrap();
        let mut stream = TcpStream::connect(link.address()).unwrap();
        stream.write_all(&[1; 100]).unwrap();
        assert!(link.wait(Moment { way: Way::Down, bytes: 200 }, || false));
        assert!(link.wait(Moment { way: Way::Up, bytes: 100 }, || false));
        assert!(!link.wait(Moment { way: Way::Up, bytes: 101 }, || true));
    }

    #[test]
    fn a_cut_ends_what_is_open_and_nothing_later() {
        let link = Link::open(doubling()).unwrap();
        let mut stream = TcpStream::connect(link.address()).unwrap();
        stream.write_all(b"a").unwrap();
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(link.cut(), 1);
        assert!(!stream.read(&mut answer).is_ok_and(|read| read > 0), "the line is cut");
        assert_eq!(talk(&link, b"b"), b"bb");
    }

    #[test]
    fn a_server_may_move() {
        let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let link = Link::open(gone).unwrap();
        let mut stream = TcpStream::connect(link.address()).unwrap();
        assert!(!stream.read(&mut [0]).is_ok_and(|read| read > 0), "nobody is there");
        link.lead_to(doubling());
        assert_eq!(talk(&link, b"b"), b"bb");
    }
}
