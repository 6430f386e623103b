//! Bodies that are read piece by piece: what comes out does not depend on how the bytes were cut.

use hapax_proto::batch::{Decoder, Limits, Piece, encode_header};

/// What a decoder gave: the bytes of the records written again, how many were whole, and how it ended.
#[derive(Debug, PartialEq)]
struct Read {
    again: Vec<u8>,
    whole: usize,
    mistake: Option<String>,
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Read {
    let mut decoder = Decoder::new(Limits { records: 20, ..Limits::default() });
    let (mut again, mut whole, mut left) = (Vec::new(), 0, 0);
    for mut input in pieces {
        loop {
            match decoder.next(&mut input) {
                Ok(Some(Piece::Begin(record))) => {
                    left = record.size;
                    match encode_header(&record) {
                        Ok(header) => again.extend(header),
                        // Escapes may make what is written longer than what was read.
                        Err(_) => again.extend(record.path.as_bytes()),
                    }
                }
                Ok(Some(Piece::Content(bytes))) => {
                    left -= bytes.len() as u64;
                    again.extend_from_slice(bytes);
                }
                Ok(Some(Piece::Whole)) => {
                    assert_eq!(left, 0, "a record is whole when all of it came");
                    whole += 1;
                }
                Ok(None) => break,
                Err(bad) => return Read { again, whole, mistake: Some(bad.to_string()) },
            }
        }
        assert!(input.is_empty(), "nothing is left over");
    }
    Read { again, whole, mistake: decoder.finish().err().map(|bad| bad.to_string()) }
}

/// A batch of small files; the first byte says how long the pieces are.
pub fn batch(data: &[u8]) {
    let Some((step, bytes)) = data.split_first() else { return };
    let at_once = read(std::iter::once(bytes));
    let cut = read(bytes.chunks(usize::from(*step).max(1)));
    assert_eq!(at_once, cut, "the cuts show");
}
