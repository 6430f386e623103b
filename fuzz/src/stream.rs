//! Bodies that are read piece by piece: what comes out does not depend on how the bytes were cut.

use hapax_proto::batch::{Decoder, Header, Limits, Piece, encode_header};
use hapax_proto::dialect::native::{BatchRecord, FetchRecord};

/// What a decoder gave: the bytes of the records written again, how many were whole, and how it ended.
#[derive(Debug, PartialEq)]
struct Read {
    again: Vec<u8>,
    whole: usize,
    mistake: Option<String>,
}

fn read<'a, H: Header>(pieces: impl Iterator<Item = &'a [u8]>) -> Read {
    let mut decoder = Decoder::<H>::new(Limits { records: 20, ..Limits::default() });
    let (mut again, mut whole, mut left) = (Vec::new(), 0, 0);
    for mut input in pieces {
        loop {
            match decoder.next(&mut input) {
                Ok(Some(Piece::Begin(record))) => {
                    left = record.size();
                    match encode_header(&*record) {
                        Ok(header) => again.extend(header),
                        // Escapes may make what is written longer than what was read.
                        Err(_) => again.extend(record.id().to_be_bytes()),
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

/// A batch of small files, on its way up or down; the first byte says how long the pieces are.
pub fn batch(data: &[u8]) {
    let Some((step, bytes)) = data.split_first() else { return };
    both_ways::<BatchRecord>(*step, bytes);
    both_ways::<FetchRecord>(*step, bytes);
}

fn both_ways<H: Header>(step: u8, bytes: &[u8]) {
    let at_once = read::<H>(std::iter::once(bytes));
    let cut = read::<H>(bytes.chunks(usize::from(step).max(1)));
    assert_eq!(at_once, cut, "the cuts show");
}
