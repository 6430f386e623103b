//! `multipart/byteranges` (RFC 9110 §14.6): how several spans of one file stand in one body. Owns the text between
//! them and the length of the whole, known before the first byte; it neither draws the boundary nor reads the file.
//!
//! ```text
//!   --boundary␍␊ Content-Type: …␍␊ Content-Range: bytes 0-99/1000␍␊ ␍␊ [ 0, 100)
//!   ␍␊--boundary␍␊ Content-Type: …␍␊ Content-Range: bytes 500-/1000␍␊ ␍␊ [500, 1000)
//!   ␍␊--boundary--␍␊
//! ```

use data_encoding::HEXLOWER;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

use crate::range::format_content_range;
use crate::span::{Length, Span};

/// What separates the parts of one body.
///
/// It is drawn afresh for each body, so that nobody can write a file which, served in parts, reads as other parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary(String);

impl Boundary {
    /// Makes a boundary of random bytes; its characters need no quotes (RFC 2046 §5.1.1).
    pub fn new(random: [u8; 16]) -> Self {
        Self(HEXLOWER.encode(&random))
    }
}

/// A piece of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Text(Vec<u8>),
    /// These bytes of the file.
    File(Span),
}

impl Piece {
    /// Returns how many bytes of the body it is.
    pub const fn length(&self) -> Length {
        match self {
            Self::Text(text) => Length::of(text.as_slice()),
            Self::File(span) => span.length(),
        }
    }
}

/// The body of a 206 with several parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Multipart {
    boundary: Boundary,
    pieces: Vec<Piece>,
}

impl Multipart {
    /// Lays spans of a file of `size` bytes out in the order given; each part states the file's `Content-Type`, as
    /// the 200 would.
    pub fn new(spans: &[Span], size: Length, content_type: &HeaderValue, boundary: Boundary) -> Self {
        let mut pieces = Vec::with_capacity(2 * spans.len() + 1);
        let mut delimiter = format!("--{}", boundary.0);
        for span in spans {
            let range = format_content_range(*span, size);
            let head = [
                delimiter.as_bytes(),
                b"\r\nContent-Type: ",
                content_type.as_bytes(),
                b"\r\nContent-Range: ",
                range.as_bytes(),
                b"\r\n\r\n",
            ];
            pieces.extend([Piece::Text(head.concat()), Piece::File(*span)]);
            delimiter = format!("\r\n--{}", boundary.0);
        }
        pieces.push(Piece::Text(format!("{delimiter}--\r\n").into_bytes()));
        Self { boundary, pieces }
    }

    /// Returns how long the body is.
    pub fn length(&self) -> Length {
        let mut lengths = self.pieces.iter().map(Piece::length);
        lengths
            .try_fold(Length::ZERO, Length::checked_add)
            .expect("spans of one file that do not overlap add up to less than a u64 holds")
    }

    /// Returns the fields that the body decides.
    pub fn fields(&self) -> HeaderMap {
        let content_type = format!("multipart/byteranges; boundary={}", self.boundary.0);
        let content_type = HeaderValue::from_str(&content_type).expect("a boundary is hexadecimal");
        HeaderMap::from_iter([(CONTENT_TYPE, content_type), (CONTENT_LENGTH, self.length().get().into())])
    }

    /// Returns the body, piece by piece.
    pub fn into_pieces(self) -> Vec<Piece> {
        self.pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::Offset;

    fn span(start: u64, end: u64) -> Span {
        Span::new(Offset::new(start), Offset::new(end)).unwrap()
    }

    fn multipart(spans: &[Span], size: u64) -> Multipart {
        let content_type = HeaderValue::from_static("text/plain");
        Multipart::new(spans, Length::new(size), &content_type, Boundary::new([0xab; 16]))
    }

    #[test]
    fn rfc9110_14_6_the_shape_of_a_body() {
        let file = b"0123456789";
        let body = multipart(&[span(8, 10), span(0, 1)], 10);
        let told = body.fields();
        let mut bytes = Vec::new();
        for piece in body.into_pieces() {
            match piece {
                Piece::Text(text) => bytes.extend(text),
                Piece::File(span) => bytes.extend(
                    &file[usize::try_from(span.start().get()).unwrap()
                        ..usize::try_from(span.end().get()).unwrap()],
                ),
            }
        }
        let expected = "--abababababababababababababababab\r\n\
             Content-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n\
             --abababababababababababababababab\r\n\
             Content-Type: text/plain\r\nContent-Range: bytes 0-0/10\r\n\r\n0\r\n\
             --abababababababababababababababab--\r\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        assert_eq!(told[CONTENT_TYPE], "multipart/byteranges; boundary=abababababababababababababababab");
        assert_eq!(told[CONTENT_LENGTH], expected.len().to_string());
    }

    #[test]
    fn the_length_of_the_largest_file_is_exact() {
        let max = crate::span::SIZE_MAX;
        let body = multipart(&[span(0, max / 2), span(max / 2 + 100, max)], max);
        let texts = body.pieces.iter().filter(|piece| matches!(piece, Piece::Text(_)));
        let around: u64 = texts.map(|piece| piece.length().get()).sum();
        assert_eq!(body.length().get(), max - 100 + around);
    }
}
