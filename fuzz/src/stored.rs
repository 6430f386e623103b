//! What lies on disks: what is damaged is refused, and nothing else happens.

use std::sync::{LazyLock, Mutex};

use hapax_client::checkpoint::read_log;
use hapax_proto::span::{Length, Offset};
use hapax_proto::tree::{OpenState, PartHasher, PartNumber};
use hapax_store::disk::Disk;
use hapax_store::disk::faulty::FaultyDisk;
use hapax_store::id::{DirId, ObjectId, ObjectName};
use hapax_store::intake::{decode_open, encode_open};
use hapax_store::key::{KeyRing, MasterSource};
use hapax_store::layout::Layout;
use hapax_store::object::Objects;
use hapax_store::object::memory::MemoryObjects;
use hapax_store::sealed::{SealedReader, SealedWriter};
use serde_json::Value;

/// The client's log of a transfer: whole records, and the length of what they take. Half of the time the checksums
/// are made right first, because no fuzzer guesses them.
pub fn checkpoint(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let log = if first % 2 == 0 { rest.to_vec() } else { with_checksums(rest) };
    let (records, length) = read_log::<Value>(&log);
    assert!(length <= log.len());
    let (again, same) = read_log::<Value>(&log[..length]);
    assert!(again == records && same == length, "what is kept is what was read");
}

/// Makes one record of each line.
fn with_checksums(lines: &[u8]) -> Vec<u8> {
    let mut log = b"hapaxck1".to_vec();
    for line in lines.split(|byte| *byte == b'\n') {
        let length = u32::try_from(line.len()).expect("inputs are small");
        log.extend(length.to_le_bytes());
        log.extend(&blake3::hash(line).as_bytes()[..8]);
        log.extend(line);
    }
    log
}

/// The open state of a part, alone and with its tail: what is accepted is written as it was read, and can be gone on
/// with.
pub fn open_part(data: &[u8]) {
    if let Ok(state) = OpenState::decode(data) {
        assert_eq!(state.encode(), data);
    }
    let Some((state, tail)) = decode_open(data) else { return };
    assert_eq!(encode_open(&state, &tail), data);
    if let Ok(mut hasher) = PartHasher::resume(PartNumber::FIRST, &state, &tail) {
        let length = hasher.length();
        if hasher.update(b"more").is_ok() {
            assert_eq!(hasher.length().get(), length.get() + 4);
        }
        assert!(hasher.value().is_some());
    }
}

/// A disk with a fresh key ring.
struct Keys {
    disk: FaultyDisk,
    layout: Layout,
    ring: Vec<u8>,
}

static KEYS: LazyLock<Mutex<Keys>> = LazyLock::new(|| {
    let (disk, layout) = (FaultyDisk::new(), Layout::new("/data"));
    for folder in [layout.data_dir(), layout.keys_dir()] {
        // One of them may be the parent of the other's parent, or there already.
        let _ = disk.make_dir(folder);
    }
    KeyRing::open_or_create(&disk, &layout, &MasterSource::Own).expect("nothing fails on this disk");
    let mut ring = Vec::new();
    disk.alter(&layout.key_ring(), |bytes| ring.clone_from(bytes)).expect("it was made");
    Mutex::new(Keys { disk, layout, ring })
});

/// The key ring: changed anywhere, it is refused. Each three bytes change one place; if the first byte is odd, the
/// checksum is made right again.
pub fn key_ring(data: &[u8]) {
    let Some((first, changes)) = data.split_first() else { return };
    let keys = KEYS.lock().expect("a target that panicked ends the run");
    let mut ring = keys.ring.clone();
    if first % 4 >= 2 {
        ring = changes.to_vec();
    } else {
        for change in changes.as_chunks::<3>().0 {
            let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % ring.len();
            ring[at] ^= change[2];
        }
    }
    if first % 2 == 1
        && let Some(content) = ring.len().checked_sub(32)
    {
        let sum = blake3::hash(&ring[..content]);
        ring[content..].copy_from_slice(sum.as_bytes());
    }
    keys.disk.alter(&keys.layout.key_ring(), |bytes| bytes.clone_from(&ring)).expect("it is there");
    let opened = KeyRing::open_or_create(&keys.disk, &keys.layout, &MasterSource::Own);
    assert_eq!(opened.is_ok(), ring == keys.ring, "a changed ring is refused, an unchanged one is not");
}

/// Stored objects: changed anywhere, cut or made longer, they are refused or read as they were written.
pub fn object(data: &[u8]) {
    static RING: LazyLock<KeyRing> = LazyLock::new(|| KeyRing::generate().expect("there is randomness"));
    let Some((length, changes)) = data.split_first_chunk() else { return };
    // No object is empty.
    let plaintext = vec![7; usize::from(u16::from_le_bytes(*length)) * 2 + 1];
    let (objects, ring) = (MemoryObjects::new(), &*RING);
    let name = ObjectName { dir: DirId::new(1), id: ObjectId::from_bytes([3; 16]) };
    objects.make_dir(name.dir).expect("nothing fails in memory");
    let mut writer = SealedWriter::create(&objects, ring, name).expect("nothing fails in memory");
    writer.write(&plaintext).expect("nothing fails in memory");
    writer.finish().expect("nothing fails in memory");
    let mut changed = false;
    objects.alter(name, |bytes| {
        let before = bytes.clone();
        for change in changes.as_chunks::<5>().0 {
            let [at @ .., value] = *change;
            let at = u32::from_le_bytes(at) as usize;
            match bytes.len() {
                0 => bytes.push(value),
                length if at % 7 == 0 => bytes.truncate(at / 7 % (length + 1)),
                length => bytes[at % length] ^= value,
            }
        }
        changed = *bytes != before;
    });
    let Ok(reader) = SealedReader::open(&objects, ring, name, Length::of(&plaintext)) else {
        assert!(changed, "what was not changed opens");
        return;
    };
    let mut read = vec![0; plaintext.len()];
    match reader.read(Offset::ZERO, &mut read) {
        Ok(()) => assert!(read == plaintext),
        Err(_) => assert!(changed, "what was not changed is read"),
    }
}
