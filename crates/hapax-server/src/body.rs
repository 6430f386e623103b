//! The bounded pumps between socket and store, one in each direction. Owns how many bytes are in memory and which
//! thread touches them; it never knows what the bytes are for.
//!
//! ```text
//!   socket --frames--> [ chunk being filled ]   [ chunk being worked on ] --> sink, on a blocking thread
//!   socket <--frame--- [ chunk being sent   ]   [ chunk being read      ] <-- source, on a blocking thread
//! ```
//!
//! One hop to a blocking thread costs as much as copying some 50 KiB, so it carries a whole chunk.

use hapax_proto::span::Length;

/// From the socket into a sink.
mod pump;

/// Chunks into the socket, one made ahead.
mod ahead;

/// From a source into the socket.
mod download;

/// Whether a peer takes what is sent to it over HTTP/2.
mod taken;

pub use ahead::{Ahead, Producer};
pub use download::{Download, Source};
pub use pump::{Bounds, Ended, Pumped, RequestBody, Sink, Stop, pump};
pub use taken::{Keeping, Streams, Taken};

/// How many bytes change threads at once: a multiple of the 64 KiB segment that is sealed as a unit.
pub const CHUNK: Length = Length::new(256 << 10);

/// [`CHUNK`] as the size of a buffer.
pub const CHUNK_BYTES: usize = 256 << 10;
