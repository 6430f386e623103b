//! The names of things in storage. Owns how an id is drawn, written and read back; knows no path and no row.

use std::fmt;

use crate::error::StoreError;

/// The name of an object: random, so that no two writers, nodes or restores ever meet in one name (R3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId([u8; 16]);

/// The number of a directory of objects: the number of its catalog row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirId(u32);

/// Where an object lies: its directory and its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// The directory the object was created in. It never moves to another.
    pub dir: DirId,
    /// The object's own id, unique by itself.
    pub id: ObjectId,
}

impl ObjectId {
    /// Draws a fresh id from the operating system.
    pub fn random() -> Result<Self, StoreError> {
        random_bytes().map(Self)
    }

    /// Wraps the bytes of an id, as the catalog keeps them.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads an id as [`fmt::Display`] writes it: 32 lower-case hex digits and nothing else.
    ///
    /// Returns `None` for every other text, so that a foreign file in a directory of objects is never taken for
    /// one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl DirId {
    /// Wraps a directory number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Returns the directory number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        data_encoding::HEXLOWER.encode_display(&self.0).fmt(f)
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectId({self})")
    }
}

impl fmt::Display for DirId {
    /// Writes eight lower-case hex digits: one width, so that a listing sorts as the numbers do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.dir, self.id)
    }
}

/// Fills an array with bytes from the operating system's generator, the only source of randomness here.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(StoreError::Randomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_written() {
        let id = ObjectId::random().unwrap();
        assert_eq!(ObjectId::parse(&id.to_string()), Some(id));
        assert_eq!(ObjectId::from_bytes(*id.as_bytes()), id);
    }

    #[test]
    fn other_texts_are_no_ids() {
        #[track_caller]
        fn check(text: &str) {
            assert_eq!(ObjectId::parse(text), None, "{text:?}");
        }
        check("");
        check("lost+found");
        check("0123456789abcdef0123456789abcde");
        check("0123456789abcdef0123456789abcdef0");
        check("0123456789ABCDEF0123456789ABCDEF");
        check("0123456789abcdef0123456789abcdeg");
        check("0123456789abcdef0123456789abcdef.new");
    }

    #[test]
    fn names_have_one_width() {
        let name = ObjectName { dir: DirId::new(0x1f), id: ObjectId::from_bytes([0xab; 16]) };
        assert_eq!(name.to_string(), "0000001f/abababababababababababababababab");
    }
}
