//! The key ring, and wrapping it by the master key. Owns the key files and every value that is derived from the
//! ring; it never prints a key and never replaces a ring it cannot open.
//!
//! ```text
//!   master key (a file of the operator, or keys/master) --wraps--> keys/ring { root, fingerprint, entity tag }
//!   root         --> data keys of objects, small values
//!   fingerprint  --> identity of a blob, as the catalog keeps it
//!   entity tag   --> the entity tag of a blob
//! ```
//!
//! A rotation of the master writes the new one beside the old, re-wraps the ring, then puts the new one in place.
//! A crash leaves the ring under one of the two, and `KeyRing::open_or_create` tries both.

use std::path::{Path, PathBuf};

use hapax_proto::{
    digest::{Algorithm, Digest},
    span::{Length, Offset},
    tree::PartNumber,
};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    disk::Disk,
    error::StoreError,
    id::{ObjectId, random_bytes},
    layout::{Layout, read_small, remove_if_there, rename_durably, sync_dir, write_durably},
    seal::{Cipher, NONCE_ONCE, SecretKey, SmallCipher, TAG_LENGTH},
};

/// What a ring file begins with.
const MAGIC: &[u8; 8] = b"hapaxkey";

/// The version of the ring file.
const VERSION: u16 = 1;

/// The ring file: what is authenticated, ...
const HEAD_LENGTH: usize = 8 + 2 + SALT_LENGTH + CHECK_LENGTH;
const SALT_LENGTH: usize = 32;
/// ... a value that tells a wrong master key from a damaged file, ...
const CHECK_LENGTH: usize = 16;
/// ... the three keys, sealed, ...
const SEALED_LENGTH: usize = 3 * 32 + TAG_LENGTH;
/// ... and a plain BLAKE3 of all that, so that damage is not taken for a wrong key.
const RING_LENGTH: usize = HEAD_LENGTH + SEALED_LENGTH + 32;

/// A master key file: 64 hex digits and perhaps a line end.
const MASTER_MAX: usize = 64 + 2;

/// The contexts of the subkeys, fixed for ever.
const WRAP_RING_CONTEXT: &str = "hapax store 2026 master wraps ring v1";
const CHECK_RING_CONTEXT: &str = "hapax store 2026 master check v1";
const WRAP_OBJECT_CONTEXT: &str = "hapax store 2026 object data key wrap v1";
const MASK_VALUE_CONTEXT: &str = "hapax store 2026 part value mask v1";
const ROOT_ID_CONTEXT: &str = "hapax store 2026 root key id v1";

/// The domains of the fingerprint and entity tag keys. Those of one key never begin alike.
const FINGERPRINT_DOMAIN: &[u8; 16] = b"fingerprint v1\0\0";
const LOOKUP_DOMAIN: &[u8; 16] = b"digest lookup v1";
const IDENTITY_TAG_DOMAIN: &[u8; 16] = b"tag identity v1\0";

/// Random bytes by which one mask differs from all others of its place.
pub type MaskSalt = [u8; 16];

/// A blob's identity as the catalog keeps it: who steals the catalog cannot ask it "do you hold this file?".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// A digest of a content, together with its size, as the catalog finds it: whoever holds the digest and the key can
/// ask for it, and a thief of the catalog cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lookup {
    /// By which algorithm.
    pub algorithm: Algorithm,
    /// The keyed hash of algorithm, digest and size.
    pub value: [u8; 32],
}

/// The keys of one store.
pub struct KeyRing {
    root: SecretKey,
    fingerprint: SecretKey,
    entity_tag: SecretKey,
    wrap_object: SecretKey,
    mask_value: SecretKey,
    root_id: [u8; 8],
    small: SmallCipher,
}

/// The key that wraps the ring.
pub struct MasterKey(SecretKey);

/// Where the master key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MasterSource {
    /// A file in the keys directory, made at first start.
    Own,
    /// A file of the operator, such as a systemd credential. It is never written.
    File(PathBuf),
}

impl MasterKey {
    /// Reads a master key file: 64 hex digits, so that it can be printed, kept in a safe and typed again.
    ///
    /// # Errors
    /// [`StoreError::KeyFile`] if it is missing, open to others than its owner and its group's readers, or not a key.
    pub fn from_file(disk: &dyn Disk, path: &Path) -> Result<Self, StoreError> {
        let unusable = |why| StoreError::KeyFile { path: path.display().to_string(), why };
        // A service manager hands a credential over as root's, readable through an access list, which shows as its
        // group's bits (systemd: 0440).
        refuse_modes(
            disk,
            path,
            0o027,
            "may be written by its group, or read by others: chmod it to 600 or 640",
        )?;
        let text = read_small(disk, path, MASTER_MAX)?.ok_or_else(|| unusable("is missing"))?;
        let text = Zeroizing::new(text);
        let mut key = data_encoding::HEXLOWER_PERMISSIVE
            .decode(text.trim_ascii_end())
            .map(Zeroizing::new)
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok())
            .ok_or_else(|| unusable("must hold 64 hex digits and nothing else"))?;
        let master = Self(SecretKey::from_bytes(key));
        key.zeroize();
        Ok(master)
    }

    /// Reads a master key that we made ourselves: nobody but its owner has any business with it.
    fn own(disk: &dyn Disk, path: &Path) -> Result<Self, StoreError> {
        refuse_open_to_others(disk, path)?;
        Self::from_file(disk, path)
    }

    fn write(&self, disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
        let mut text = Zeroizing::new(data_encoding::HEXLOWER.encode(self.0.as_bytes()));
        text.push('\n');
        write_durably(disk, path, text.as_bytes())
    }
}

impl KeyRing {
    /// Draws a fresh ring that is stored nowhere.
    pub fn generate() -> Result<Self, StoreError> {
        Ok(Self::of(SecretKey::random()?, SecretKey::random()?, SecretKey::random()?))
    }

    /// Returns the ring of the known answers in `fixtures/known_answers.py`.
    #[cfg(test)]
    pub(crate) fn fixed() -> Self {
        Self::of(
            SecretKey::from_bytes([1; 32]),
            SecretKey::from_bytes([2; 32]),
            SecretKey::from_bytes([3; 32]),
        )
    }

    fn of(root: SecretKey, fingerprint: SecretKey, entity_tag: SecretKey) -> Self {
        let mut root_id = [0; 8];
        root_id.copy_from_slice(&root.derive(ROOT_ID_CONTEXT).as_bytes()[..8]);
        Self {
            wrap_object: root.derive(WRAP_OBJECT_CONTEXT),
            mask_value: root.derive(MASK_VALUE_CONTEXT),
            small: SmallCipher::new(&root),
            root_id,
            root,
            fingerprint,
            entity_tag,
        }
    }

    /// Opens the ring of a data directory; at the first start, makes it and, if it is ours to make, the master key.
    ///
    /// Call it after [`Layout::open`] and before the catalog is created: a catalog without a ring is a lost ring,
    /// and a new one would not open what is stored.
    ///
    /// DURABILITY: on return the ring and our own master key survive power loss, so the first seal may follow.
    ///
    /// # Errors
    /// [`StoreError::WrongKey`] if the master key is another one, [`StoreError::KeyFile`] if a file is missing or
    /// readable by others, [`StoreError::Corrupt`] if the ring is damaged.
    pub fn open_or_create(
        disk: &dyn Disk,
        layout: &Layout,
        source: &MasterSource,
    ) -> Result<Self, StoreError> {
        // An earlier process may have died between a rename and its sync.
        sync_dir(disk, layout.keys_dir())?;
        match read_ring(disk, &layout.key_ring())? {
            Some(ring) => open(disk, layout, source, &ring),
            None => create(disk, layout, source),
        }
    }

    /// Re-wraps the ring by another master key, and nothing else: what is stored, fingerprints and entity tags stay.
    ///
    /// With [`MasterSource::Own`] a fresh master is made. With a file of the operator, our own is removed.
    ///
    /// DURABILITY: on return only the new master opens the ring, also after a power cut. After an error
    /// [`KeyRing::open_or_create`] opens it with our own, or with the old or the new file of the operator.
    pub fn rotate_master(
        &self,
        disk: &dyn Disk,
        layout: &Layout,
        source: &MasterSource,
    ) -> Result<(), StoreError> {
        match source {
            MasterSource::Own => {
                settle_rotation(disk, layout)?;
                let master = MasterKey(SecretKey::random()?);
                master.write(disk, &layout.next_master_key())?;
                self.write(disk, layout, &master)?;
                rename_durably(disk, &layout.next_master_key(), &layout.master_key())
            }
            MasterSource::File(path) => {
                self.write(disk, layout, &MasterKey::from_file(disk, path)?)?;
                remove_if_there(disk, &layout.master_key())?;
                remove_if_there(disk, &layout.next_master_key())?;
                sync_dir(disk, layout.keys_dir())
            }
        }
    }

    /// Returns what the catalog keeps of a blob's identity.
    pub fn fingerprint(&self, blake3: &[u8; 32], size: Length) -> Fingerprint {
        Fingerprint(self.fingerprint.hash(&[FINGERPRINT_DOMAIN, blake3, &size.get().to_le_bytes()]))
    }

    /// Returns what the catalog finds the contents of this size by that have this digest.
    pub fn lookup(&self, digest: &Digest, size: Length) -> Lookup {
        let algorithm = digest.algorithm();
        let key = algorithm.key().as_bytes();
        // The length of the key stands before it, so that no two digests are spelled alike.
        let (size, length) = (size.get().to_le_bytes(), (key.len() as u64).to_le_bytes());
        let value = self.fingerprint.hash(&[LOOKUP_DOMAIN, &size, &length, key, digest.value()]);
        Lookup { algorithm, value }
    }

    /// Returns the opaque bytes of a blob's entity tag: the same for the same bytes, on every node, after a restore.
    pub fn entity_tag(&self, fingerprint: &Fingerprint) -> [u8; 16] {
        first_16(self.entity_tag.hash(&[IDENTITY_TAG_DOMAIN, &fingerprint.0]))
    }

    /// Returns the cipher for small values.
    pub fn small(&self) -> &SmallCipher {
        &self.small
    }

    /// Returns the name of the root key, which is no secret: an object says by it which ring it needs.
    pub fn root_id(&self) -> [u8; 8] {
        self.root_id
    }

    /// Masks the subtree value of a part whose bytes begin at `start` in an object's plaintext; masking twice unmasks.
    ///
    /// A mask must meet one value only: a one-time pad. An object is written once, and what is written there for a part has one
    /// value; but the parts of composed files may begin in the same place and go on elsewhere, so theirs have a salt. A
    /// stolen catalog thereby cannot be asked whether it holds a file of which somebody knows the values.
    pub fn mask_value(
        &self,
        object: ObjectId,
        start: Offset,
        part: PartNumber,
        salt: Option<&MaskSalt>,
        value: [u8; 32],
    ) -> [u8; 32] {
        let place = [start.get().to_le_bytes(), u64::from(part.get()).to_le_bytes()].concat();
        let mask = self.mask_value.hash(&[object.as_bytes(), &place, salt.map_or(&[], |salt| &salt[..])]);
        std::array::from_fn(|i| value[i] ^ mask[i])
    }

    /// Returns the key that wraps the data key of one object. It is used once, because an id is.
    pub(crate) fn object_wrap(&self, object: ObjectId) -> SecretKey {
        SecretKey::from_bytes(self.wrap_object.hash(&[object.as_bytes()]))
    }

    fn write(&self, disk: &dyn Disk, layout: &Layout, master: &MasterKey) -> Result<(), StoreError> {
        let bytes = self.encode(master, &random_bytes()?);
        write_durably(disk, &layout.key_ring(), &bytes)
    }

    fn encode(&self, master: &MasterKey, salt: &[u8; SALT_LENGTH]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(RING_LENGTH);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(salt);
        bytes.extend_from_slice(&master.check(salt));
        // Filled to its capacity and sealed in place, so that no copy of the keys stays behind.
        for key in [&self.root, &self.fingerprint, &self.entity_tag] {
            bytes.extend_from_slice(key.as_bytes());
        }
        bytes.resize(HEAD_LENGTH + SEALED_LENGTH, 0);
        let (head, sealed) = bytes.split_at_mut(HEAD_LENGTH);
        master.cipher(salt).seal_in_place(NONCE_ONCE, head, sealed);
        let sum = blake3::hash(&bytes);
        bytes.extend_from_slice(sum.as_bytes());
        bytes
    }

    fn decode(ring: &RingFile, master: &MasterKey) -> Result<Self, StoreError> {
        let (head, sealed) = ring.bytes[..HEAD_LENGTH + SEALED_LENGTH].split_at(HEAD_LENGTH);
        let salt = head[10..].first_chunk().expect("the salt lies inside the head");
        if head[HEAD_LENGTH - CHECK_LENGTH..] != master.check(salt) {
            return Err(StoreError::WrongKey);
        }
        let mut keys = Zeroizing::new([0; 3 * 32]);
        master
            .cipher(salt)
            .open(NONCE_ONCE, head, sealed, &mut *keys)
            .map_err(|_| ring.damaged("the keys do not authenticate"))?;
        let key = |number: usize| {
            let bytes = keys[number * 32..].first_chunk().expect("there are three keys of 32 bytes");
            SecretKey::from_bytes(*bytes)
        };
        Ok(Self::of(key(0), key(1), key(2)))
    }
}

impl MasterKey {
    /// The salt is fresh for every ring file, so its key is used once.
    fn cipher(&self, salt: &[u8; SALT_LENGTH]) -> Cipher {
        Cipher::new(&SecretKey::from_bytes(self.0.derive(WRAP_RING_CONTEXT).hash(&[salt])))
    }

    fn check(&self, salt: &[u8; SALT_LENGTH]) -> [u8; CHECK_LENGTH] {
        first_16(self.0.derive(CHECK_RING_CONTEXT).hash(&[salt]))
    }
}

/// A ring file that is whole, not yet opened.
struct RingFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl RingFile {
    fn damaged(&self, why: &'static str) -> StoreError {
        StoreError::Corrupt { what: self.path.display().to_string(), why }
    }
}

fn read_ring(disk: &dyn Disk, path: &Path) -> Result<Option<RingFile>, StoreError> {
    let Some(bytes) = read_small(disk, path, RING_LENGTH)? else { return Ok(None) };
    refuse_open_to_others(disk, path)?;
    let ring = RingFile { path: path.to_owned(), bytes };
    if ring.bytes.len() != RING_LENGTH || &ring.bytes[..8] != MAGIC {
        return Err(ring.damaged("it is no key ring"));
    }
    let (content, sum) = ring.bytes.split_at(RING_LENGTH - 32);
    if blake3::hash(content).as_bytes() != sum {
        return Err(ring.damaged("its checksum does not match"));
    }
    if ring.bytes[8..10] != VERSION.to_le_bytes() {
        let path = path.display().to_string();
        return Err(StoreError::KeyFile { path, why: "is of a version this program does not know" });
    }
    Ok(Some(ring))
}

fn open(
    disk: &dyn Disk,
    layout: &Layout,
    source: &MasterSource,
    ring: &RingFile,
) -> Result<KeyRing, StoreError> {
    if let MasterSource::File(path) = source {
        return KeyRing::decode(ring, &MasterKey::from_file(disk, path)?);
    }
    let next = layout.next_master_key();
    let next_is_there = disk.facts(&next).map_err(StoreError::disk("look at", &next))?.is_some();
    let by_current =
        MasterKey::own(disk, &layout.master_key()).and_then(|master| KeyRing::decode(ring, &master));
    match by_current {
        // A rotation that died before it re-wrapped the ring. It never happened.
        Ok(keys) if next_is_there => {
            remove_if_there(disk, &next)?;
            sync_dir(disk, layout.keys_dir())?;
            Ok(keys)
        }
        // A rotation that died after it re-wrapped the ring, or one from a file of the operator to our own.
        Err(StoreError::WrongKey | StoreError::KeyFile { .. }) if next_is_there => {
            let keys = KeyRing::decode(ring, &MasterKey::own(disk, &next)?)?;
            rename_durably(disk, &next, &layout.master_key())?;
            Ok(keys)
        }
        opened => opened,
    }
}

/// Finishes a rotation that failed after it re-wrapped the ring: its master is about to be overwritten.
fn settle_rotation(disk: &dyn Disk, layout: &Layout) -> Result<(), StoreError> {
    let next = layout.next_master_key();
    if disk.facts(&next).map_err(StoreError::disk("look at", &next))?.is_none() {
        return Ok(());
    }
    // The ring on the medium must be the one that is read here before a master key moves.
    sync_dir(disk, layout.keys_dir())?;
    let Some(ring) = read_ring(disk, &layout.key_ring())? else { return Ok(()) };
    match KeyRing::decode(&ring, &MasterKey::own(disk, &next)?) {
        Ok(_) => rename_durably(disk, &next, &layout.master_key()),
        Err(StoreError::WrongKey) => Ok(()),
        Err(error) => Err(error),
    }
}

fn create(disk: &dyn Disk, layout: &Layout, source: &MasterSource) -> Result<KeyRing, StoreError> {
    let exists = |path: &Path| disk.facts(path).map_err(StoreError::disk("look at", path));
    if exists(&layout.catalog())?.is_some() {
        let path = layout.key_ring().display().to_string();
        return Err(StoreError::KeyFile {
            path,
            why: "is missing, and what is stored cannot be read without it",
        });
    }
    let master = match source {
        MasterSource::File(path) => MasterKey::from_file(disk, path)?,
        // A first start that died after it made the master.
        MasterSource::Own if exists(&layout.master_key())?.is_some() => {
            MasterKey::own(disk, &layout.master_key())?
        }
        MasterSource::Own => {
            let master = MasterKey(SecretKey::random()?);
            master.write(disk, &layout.master_key())?;
            master
        }
    };
    let keys = KeyRing::generate()?;
    keys.write(disk, layout, &master)?;
    Ok(keys)
}

/// Refuses a key file that its group or the world can read, write or run; a missing one passes.
fn refuse_open_to_others(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    refuse_modes(disk, path, 0o077, "is open to others than its owner: chmod it to 600")
}

/// Refuses a file that has any of the forbidden permission bits.
fn refuse_modes(disk: &dyn Disk, path: &Path, forbidden: u32, why: &'static str) -> Result<(), StoreError> {
    let facts = disk.facts(path).map_err(StoreError::disk("look at", path))?;
    match facts {
        Some(facts) if facts.mode & forbidden != 0 => {
            Err(StoreError::KeyFile { path: path.display().to_string(), why })
        }
        _ => Ok(()),
    }
}

fn first_16(hash: [u8; 32]) -> [u8; 16] {
    *hash.first_chunk().expect("32 bytes begin with 16")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::disk::{
        RealDisk,
        faulty::{Failure, FaultyDisk, Torn},
    };

    const CUTS: [Torn; 4] = [Torn::Nothing, Torn::Seeded(1), Torn::Seeded(2), Torn::Seeded(3)];

    fn layout() -> Layout {
        Layout::new("/data")
    }

    fn fresh() -> FaultyDisk {
        let disk = FaultyDisk::new();
        drop(layout().open(&disk).unwrap());
        disk
    }

    fn start(disk: &FaultyDisk) -> Result<KeyRing, StoreError> {
        KeyRing::open_or_create(disk, &layout(), &MasterSource::Own)
    }

    /// Writes a master key file of the operator.
    fn bring(disk: &dyn Disk, name: &str, key: u8) -> MasterSource {
        let path = Path::new("/").join(name);
        MasterKey(SecretKey::from_bytes([key; 32])).write(disk, &path).unwrap();
        MasterSource::File(path)
    }

    #[test]
    fn a_ring_opens_again_after_a_power_cut() {
        let disk = fresh();
        let ring = start(&disk).unwrap();
        let again = start(&disk.power_cut(Torn::Nothing)).unwrap();
        assert_eq!(ring.root_id(), again.root_id());
        let fingerprint = ring.fingerprint(&[5; 32], Length::new(9));
        assert_eq!(fingerprint, again.fingerprint(&[5; 32], Length::new(9)));
        assert_eq!(ring.entity_tag(&fingerprint), again.entity_tag(&fingerprint));
    }

    #[test]
    fn a_first_start_that_dies_anywhere_can_be_repeated() {
        for torn in CUTS {
            for n in 0.. {
                let disk = fresh();
                disk.fail_from(n, Failure::Io);
                let made = start(&disk).map(|ring| ring.root_id());
                let killed = disk.kill();
                let ring = start(&killed).unwrap_or_else(|error| panic!("kill at {n}: {error}"));
                let after = killed.power_cut(torn);
                let again = start(&after).unwrap_or_else(|error| panic!("cut at {n}: {error}"));
                assert_eq!(ring.root_id(), again.root_id(), "a ring that was handed out is durable");

                let disk = fresh();
                disk.fail_from(n, Failure::Full);
                let _ = start(&disk);
                start(&disk.power_cut(torn)).unwrap_or_else(|error| panic!("cut at {n}: {error}"));
                if let Ok(root_id) = made {
                    assert!(n > 10 && root_id == ring.root_id());
                    break;
                }
            }
        }
    }

    #[test]
    fn a_rotation_that_dies_anywhere_keeps_the_ring() {
        for torn in CUTS {
            for n in 0.. {
                let disk = fresh();
                let ring = start(&disk).unwrap();
                disk.fail_from(n, Failure::Io);
                let rotated = ring.rotate_master(&disk, &layout(), &MasterSource::Own).is_ok();
                let killed = disk.kill();
                let again = start(&killed).unwrap_or_else(|error| panic!("kill at {n}: {error}"));
                assert_eq!(ring.root_id(), again.root_id());
                let again = start(&killed.power_cut(torn)).unwrap();
                assert_eq!(ring.root_id(), again.root_id());

                let disk = fresh();
                let ring = start(&disk).unwrap();
                disk.fail_from(n, Failure::Io);
                let _ = ring.rotate_master(&disk, &layout(), &MasterSource::Own);
                let again =
                    start(&disk.power_cut(torn)).unwrap_or_else(|error| panic!("cut at {n}: {error}"));
                assert_eq!(ring.root_id(), again.root_id());
                if rotated {
                    assert!(n > 8);
                    break;
                }
            }
        }
    }

    #[test]
    fn a_rotation_may_follow_one_that_failed_anywhere() {
        for first in 0..12 {
            for second in 0..20 {
                let disk = fresh();
                let ring = start(&disk).unwrap();
                disk.fail_once(first, Failure::Io);
                let _ = ring.rotate_master(&disk, &layout(), &MasterSource::Own);
                disk.fail_from(second, Failure::Io);
                let _ = ring.rotate_master(&disk, &layout(), &MasterSource::Own);
                for torn in CUTS {
                    let again = start(&disk.power_cut(torn)).unwrap_or_else(|error| {
                        panic!("first at {first}, second at {second}, {torn:?}: {error}")
                    });
                    assert_eq!(ring.root_id(), again.root_id());
                }
            }
        }
    }

    #[test]
    fn after_a_rotation_the_old_master_opens_nothing() {
        let disk = fresh();
        let (old, new) = (bring(&disk, "old", 1), bring(&disk, "new", 2));
        let ring = KeyRing::open_or_create(&disk, &layout(), &old).unwrap();
        ring.rotate_master(&disk, &layout(), &new).unwrap();
        assert!(matches!(KeyRing::open_or_create(&disk, &layout(), &old), Err(StoreError::WrongKey)));
        let again = KeyRing::open_or_create(&disk, &layout(), &new).unwrap();
        assert_eq!(ring.root_id(), again.root_id());
        again.rotate_master(&disk, &layout(), &MasterSource::Own).unwrap();
        assert_eq!(start(&disk).unwrap().root_id(), ring.root_id());
        assert!(matches!(KeyRing::open_or_create(&disk, &layout(), &new), Err(StoreError::WrongKey)));
        again.rotate_master(&disk, &layout(), &new).unwrap();
        assert_eq!(disk.facts(&layout().master_key()).unwrap(), None);
    }

    #[test]
    fn a_lost_key_file_is_never_replaced() {
        #[track_caller]
        fn check(lost: &Path, catalog: bool) {
            let disk = fresh();
            start(&disk).unwrap();
            if catalog {
                disk.create(&layout().catalog()).unwrap();
            }
            disk.remove(lost).unwrap();
            let names = disk.list(layout().keys_dir()).unwrap();
            assert!(matches!(start(&disk), Err(StoreError::KeyFile { .. })));
            assert_eq!(disk.list(layout().keys_dir()).unwrap(), names);
        }
        check(&layout().key_ring(), true);
        check(&layout().master_key(), true);
        check(&layout().master_key(), false);
    }

    #[test]
    fn a_damaged_ring_is_not_taken_for_a_wrong_key() {
        for byte in 0..RING_LENGTH {
            let disk = fresh();
            start(&disk).unwrap();
            disk.alter(&layout().key_ring(), |bytes| bytes[byte] ^= 4).unwrap();
            let error = start(&disk).err().unwrap();
            assert!(matches!(error, StoreError::Corrupt { .. }), "byte {byte}: {error}");
        }
    }

    #[test]
    fn a_master_key_file_holds_hex_and_nothing_else() {
        #[track_caller]
        fn check(text: &str, is_key: bool) {
            let disk = FaultyDisk::new();
            let path = Path::new("/master");
            disk.create(path).unwrap().write_at(text.as_bytes(), 0).unwrap();
            assert_eq!(MasterKey::from_file(&disk, path).is_ok(), is_key, "{text:?}");
        }
        let hex = "0123456789abcdef".repeat(4);
        check(&hex, true);
        check(&hex.to_uppercase(), true);
        check(&format!("{hex}\n"), true);
        check(&format!("{hex}\r\n"), true);
        check(&format!("{hex}\n# home"), false);
        check(&hex[..62], false);
        check(&format!("{hex}00"), false);
        check("", false);
    }

    #[test]
    fn a_key_file_open_to_others_is_refused() {
        #[track_caller]
        fn check(file: &str, mode: u32, accepted: bool) {
            let root = tempfile::tempdir().unwrap();
            let layout = Layout::new(root.path().join("data"));
            drop(layout.open(&RealDisk).unwrap());
            KeyRing::open_or_create(&RealDisk, &layout, &MasterSource::Own).unwrap();
            let path = layout.keys_dir().join(file);
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
            let opened = KeyRing::open_or_create(&RealDisk, &layout, &MasterSource::Own);
            match opened {
                Ok(_) => assert!(accepted),
                Err(error) => assert!(!accepted && matches!(error, StoreError::KeyFile { .. }), "{error}"),
            }
        }
        check("master", 0o600, true);
        check("master", 0o400, true);
        check("master", 0o640, false);
        check("master", 0o604, false);
        check("ring", 0o644, false);
    }

    #[test]
    fn a_key_file_of_the_operator_may_be_read_by_its_group() {
        #[track_caller]
        fn check(mode: u32, accepted: bool) {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join("credential");
            std::fs::write(&path, "07".repeat(32)).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(MasterKey::from_file(&RealDisk, &path).is_ok(), accepted, "{mode:o}");
        }
        check(0o400, true);
        check(0o440, true);
        check(0o640, true);
        check(0o660, false);
        check(0o604, false);
    }

    #[test]
    fn files_and_values_are_as_the_format_page_says() {
        #[track_caller]
        fn check(bytes: &[u8], known: &str) {
            assert_eq!(data_encoding::HEXLOWER.encode(bytes), known, "see fixtures/known_answers.py");
        }
        let ring = KeyRing::fixed();
        let file = ring.encode(&MasterKey(SecretKey::from_bytes([4; 32])), &[5; SALT_LENGTH]);
        check(
            blake3::hash(&file).as_bytes(),
            "def41044c72400c5164e83c64bf28c229f9df948d671b0ae7c4abafc5169a162",
        );
        check(&ring.root_id(), "28359fe3c3b3fbc4");
        let fingerprint = ring.fingerprint(&[6; 32], Length::new(7));
        check(&fingerprint.0, "8e527751efbfe9cff6384fbb9c97ed2be46608aea938a71a4cf0d23fbe12605c");
        let md5 = Digest::new(Algorithm::Md5, &[12; 16]).unwrap();
        check(
            &ring.lookup(&md5, Length::new(7)).value,
            "02030ddfed23282d51a1857e4ad975c392121c3d4d295840e6d12fe6b5361e1f",
        );
        check(&ring.entity_tag(&fingerprint), "de976966c207ddd019a49dcaa9d84fbd");
    }

    #[test]
    fn values_of_different_things_differ() {
        let (ring, other) = (KeyRing::generate().unwrap(), KeyRing::generate().unwrap());
        let fingerprint = ring.fingerprint(&[1; 32], Length::new(1));
        assert_ne!(fingerprint, ring.fingerprint(&[1; 32], Length::new(2)));
        assert_ne!(fingerprint, ring.fingerprint(&[2; 32], Length::new(1)));
        assert_ne!(fingerprint, other.fingerprint(&[1; 32], Length::new(1)));
        let sha256 = Digest::new(Algorithm::Sha256, &[1; 32]).unwrap();
        let blake3 = Digest::new(Algorithm::Blake3, &[1; 32]).unwrap();
        let lookup = ring.lookup(&sha256, Length::new(1));
        assert_ne!(lookup.value, fingerprint.0);
        assert_ne!(lookup.value, ring.lookup(&sha256, Length::new(2)).value);
        assert_ne!(lookup.value, ring.lookup(&blake3, Length::new(1)).value);
        assert_ne!(lookup.value, other.lookup(&sha256, Length::new(1)).value);
        assert_ne!(ring.entity_tag(&fingerprint), other.entity_tag(&fingerprint));
        assert_ne!(ring.root_id(), other.root_id());
    }
}
