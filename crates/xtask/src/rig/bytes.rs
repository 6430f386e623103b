//! Files of seeded content, and edits of them. Owns the generator of content (BLAKE3's extendable output: fast,
//! incompressible, and any offset of it can be made alone).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// One mebibyte.
pub(crate) const MIB: u64 = 1 << 20;

/// A part: the unit of storage and of transfer.
pub(crate) const PART: u64 = 16 * MIB;

/// How much is made or copied at once.
const BLOCK: usize = 1 << 20;

/// Writes `size` bytes of the content of `seed`, from the content's start, to a new or emptied file.
pub(crate) fn write_file(path: &Path, seed: u64, size: u64) -> io::Result<()> {
    write_content(&mut File::create(path)?, seed, 0, size)
}

/// Appends `more` bytes to a file, the ones that its content would have gone on with.
pub(crate) fn grow_file(path: &Path, seed: u64, more: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    let size = file.metadata()?.len();
    write_content(&mut file, seed, size, more)
}

/// Makes `size` bytes of the content of `seed`, from `from` on.
pub(crate) fn content(seed: u64, from: u64, size: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(size).expect("what is made in memory fits")];
    let mut content = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    content.set_position(from);
    content.fill(&mut bytes);
    bytes
}

/// Changes one byte of a file in place.
pub(crate) fn flip_byte(path: &Path, at: u64) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[!byte[0]], at)
}

fn write_content(into: &mut impl Write, seed: u64, from: u64, size: u64) -> io::Result<()> {
    let mut content = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    content.set_position(from);
    let mut block = vec![0; BLOCK];
    let mut rest = size;
    while rest > 0 {
        let now = usize::try_from(rest).map_or(BLOCK, |rest| rest.min(BLOCK));
        content.fill(&mut block[..now]);
        into.write_all(&block[..now])?;
        rest -= now as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_seeded_and_grows_as_itself() {
        let folder = tempfile::tempdir().unwrap();
        let [whole, grown, other] = ["whole", "grown", "other"].map(|name| folder.path().join(name));
        write_file(&whole, 5, 3 * MIB + 7).unwrap();
        write_file(&grown, 5, MIB + 1).unwrap();
        grow_file(&grown, 5, 2 * MIB + 6).unwrap();
        write_file(&other, 6, 3 * MIB + 7).unwrap();
        let read = |path| std::fs::read(path).unwrap();
        assert_eq!(read(&whole).len() as u64, 3 * MIB + 7);
        assert!(read(&whole) == read(&grown));
        assert!(read(&whole) != read(&other));
        assert!(read(&whole)[1_000..] == content(5, 1_000, 3 * MIB + 7 - 1_000));
    }

    #[test]
    fn an_edit_changes_one_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        write_file(&path, 5, 1_000).unwrap();
        let before = std::fs::read(&path).unwrap();
        flip_byte(&path, 700).unwrap();
        let after = std::fs::read(&path).unwrap();
        let differing = (0..1_000).filter(|at| before[*at] != after[*at]).collect::<Vec<_>>();
        assert_eq!((after.len(), differing), (1_000, vec![700]));
    }
}
