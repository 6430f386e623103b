"""A second reader of the data directory, written from docs/on-disk-format.md alone, with other libraries.

    on_disk_reader.py DATA file SPACE PATH     writes the bytes of a file to standard output
    on_disk_reader.py DATA upload ID PART      writes what is kept of an open part of an upload

It opens DATA while no server runs, changes nothing, and ends with an error at the first thing that the page does not
allow. Needs the packages of tests/requirements.txt.
"""

import hashlib
import pathlib
import sqlite3
import sys

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ZERO_NONCE = bytes(12)
SEGMENT = 1 << 16
SEALED_SEGMENT = SEGMENT + 16
HEADER = 128
PART = 1 << 24
HASHLIB = {"md5": "md5", "sha": "sha1", "sha-256": "sha256", "sha-512": "sha512"}


def must(condition, what):
    if not condition:
        raise SystemExit(f"on_disk_reader: {what}")


def derive(context, secret):
    return blake3(secret, derive_key_context=context).digest()


def keyed(key, data):
    return blake3(data, key=key).digest()


def unseal(key, nonce, ad, sealed):
    return AESGCM(key).decrypt(nonce, sealed, ad)


def le(number, length=8):
    return number.to_bytes(length, "little")


# ---------------------------------------------------------------- keys


def open_ring(keys):
    ring = (keys / "ring").read_bytes()
    must(len(ring) == 202 and ring[:10] == b"hapaxkey" + le(1, 2), "keys/ring is no ring of version 1")
    must(blake3(ring[:170]).digest() == ring[170:], "keys/ring is damaged")
    salt, check = ring[10:42], ring[42:58]
    for name in ("master", "master.next"):
        if not (keys / name).exists():
            continue
        master = bytes.fromhex((keys / name).read_text().strip())
        if keyed(derive("hapax store 2026 master check v1", master), salt)[:16] == check:
            wrap = keyed(derive("hapax store 2026 master wraps ring v1", master), salt)
            opened = unseal(wrap, ZERO_NONCE, ring[:58], ring[58:170])
            return opened[:32], opened[32:64]
    raise SystemExit("on_disk_reader: no master key opens keys/ring")


# ---------------------------------------------------------------- BLAKE3's parent node, for merging values

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
MIXES = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
         (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))  # fmt: skip
PARENT, ROOT = 4, 8


def rotate(word, by):
    return (word >> by | word << 32 - by) & 0xFFFFFFFF


def parent(left, right, root):
    block = left + right
    words = [int.from_bytes(block[at : at + 4], "little") for at in range(0, 64, 4)]
    state = [*IV, *IV[:4], 0, 0, 64, PARENT | (ROOT if root else 0)]
    for _ in range(7):
        for number, (a, b, c, d) in enumerate(MIXES):
            for word, (first, second) in ((words[2 * number], (16, 12)), (words[2 * number + 1], (8, 7))):
                state[a] = (state[a] + state[b] + word) & 0xFFFFFFFF
                state[d] = rotate(state[d] ^ state[a], first)
                state[c] = (state[c] + state[d]) & 0xFFFFFFFF
                state[b] = rotate(state[b] ^ state[c], second)
        words = [words[at] for at in PERMUTATION]
    return b"".join(le(low ^ high, 4) for low, high in zip(state[:8], state[8:], strict=True))


def merge(values, root):
    if len(values) == 1:
        return values[0]
    left = 1 << (len(values) - 1).bit_length() - 1
    return parent(merge(values[:left], False), merge(values[left:], False), root)


# ---------------------------------------------------------------- the store


class Store:
    def __init__(self, data):
        self.data = data
        must((data / "format").read_bytes() == b"hapax data format 1\n", "the data directory is of another format")
        self.root, self.fingerprint_key = open_ring(data / "keys")
        self.db = sqlite3.connect(f"{(data / 'catalog.db').resolve().as_uri()}?mode=ro", uri=True)
        must(self.one("PRAGMA user_version") in ((1,), (2,), (3,), (4,), (5,), (6,)), "the catalog is of another schema")

    def one(self, query, *values):
        return self.db.execute(query, values).fetchone()

    def small(self, sealed, purpose, table, key, version):
        must(sealed[0] == 1, "a small value is of another version")
        salt = sealed[1:25]
        own = keyed(derive("hapax store 2026 small value v1", self.root), salt + purpose)
        ad = b"\1" + le(len(table)) + table + le(len(key)) + key + le(version)
        return unseal(own, ZERO_NONCE, ad, sealed[25:])

    def unmask(self, masked, object_id, object_start, part):
        masked, salt = masked[:32], masked[32:]
        must(len(salt) in (0, 16), "the value of a part has another length")
        key = derive("hapax store 2026 part value mask v1", self.root)
        mask = keyed(key, object_id + le(object_start) + le(part) + salt)
        return bytes(a ^ b for a, b in zip(masked, mask, strict=True))

    def object_span(self, object_id, start, length):
        """Yields the plaintext of a span of one object, segment by segment."""
        must(start >= 0 and length > 0, "an extent is empty")
        found = self.one("SELECT dir, length, state FROM objects WHERE id = ?", object_id)
        must(found and found[2] == 0, f"no live object {object_id.hex()}")
        directory, total, _ = found
        must(start + length <= total, "an extent reaches behind its object")
        path = self.data / "objects" / f"{directory:08x}" / object_id.hex()
        last = -(-total // SEGMENT) - 1
        must(path.stat().st_size == HEADER + total + 16 * (last + 1), f"{path} has another length")
        with path.open("rb") as file:
            head = file.read(HEADER)
            root_id = derive("hapax store 2026 root key id v1", self.root)[:8]
            expected = b"hapaxobj" + le(1, 2) + bytes(6) + object_id + root_id + bytes(40)
            must(head[:80] == expected, f"{path} has another header")
            wrap = keyed(derive("hapax store 2026 object data key wrap v1", self.root), object_id)
            data_key = unseal(wrap, ZERO_NONCE, head[:80], head[80:])
            for index in range(start // SEGMENT, (start + length - 1) // SEGMENT + 1):
                file.seek(HEADER + index * SEALED_SEGMENT)
                nonce = index.to_bytes(8, "big") + bytes([index == last]) + bytes(3)
                ad = b"hapax segment\0\0" + le(1, 2) + object_id + nonce
                plain = unseal(data_key, nonce, ad, file.read(SEALED_SEGMENT))
                begin = index * SEGMENT
                yield plain[max(start - begin, 0) : start + length - begin]

    def extents(self, content, start, end):
        """Checks that the extents of a content cover `[start, end)` without a hole, and returns them."""
        rows = self.db.execute(
            "SELECT start, length, object, object_start, value FROM extents"
            " WHERE content = ? AND start >= ? AND start < ? ORDER BY start",
            (content, start, end),
        ).fetchall()
        at = start
        for begin, length, *_ in rows:
            must(begin == at, f"a hole at {at}")
            must(begin // PART == (begin + length - 1) // PART, "an extent reaches over the border of a part")
            at += length
        must(at == end, f"the content ends at {at} and not at {end}")
        return rows

    def file(self, space, path):
        """Yields the bytes of a file; the caller has them all before the last check has passed."""
        found = self.one("SELECT root FROM spaces WHERE name = ?", space)
        must(found, f"no space {space}")
        entry, blob = found[0], None
        for name in path.strip("/").split("/"):
            found = self.one("SELECT id, blob FROM entries WHERE parent = ? AND name = ?", entry, name)
            must(found, f"no entry {name} in {path}")
            entry, blob = found
        must(blob is not None, f"{path} is a folder")
        fingerprint, sealed, size, content = self.one(
            "SELECT fingerprint, identity, size, content FROM blobs WHERE id = ?", blob
        )
        identity = None
        if sealed:
            identity = self.small(sealed, b"identity", b"blobs", fingerprint, 0)
            domain = b"fingerprint v1".ljust(16, b"\0")
            known = keyed(self.fingerprint_key, domain + identity + le(size))
            must(known == fingerprint, "the fingerprint is another")
        hasher, kept = blake3(), dict(self.digests(blob, fingerprint, size))
        others = {name: hashlib.new(HASHLIB[name]) for name in kept if name in HASHLIB}
        for piece in self.content(content, fingerprint, size, identity):
            for each in (hasher, *others.values()):
                each.update(piece)
            yield piece
        must(all(each.digest() == kept[name] for name, each in others.items()), "a digest is of other bytes")
        must(identity in (None, hasher.digest()), "the bytes are not what the identity says")

    def digests(self, blob, fingerprint, size):
        """Yields the digests that are kept of a blob; what each is found by must follow from it."""
        if self.one("PRAGMA user_version") < (5,):
            return
        rows = self.db.execute("SELECT algorithm, sealed, lookup FROM digests WHERE blob = ?", (blob,)).fetchall()
        for name, sealed, lookup in rows:
            key = name.encode()
            value = self.small(sealed, b"digest", b"digests", fingerprint + key, 0)
            known = keyed(self.fingerprint_key, b"digest lookup v1" + le(size) + le(len(key)) + key + value)
            must(lookup in (None, known), f"the {name} is found by something else")
            yield name, value

    def content(self, content, fingerprint, size, identity):
        inline = self.one("SELECT sealed FROM inline WHERE content = ?", content)
        if inline:
            plain = self.small(inline[0], b"inline", b"inline", fingerprint, 0)
            must(len(plain) == size <= 4096, "an inline content has another length than its blob")
            yield plain
            return
        rows = self.extents(content, 0, size)
        values = []
        for begin, length, object_id, object_start, masked in rows:
            must(identity is None or (masked is None) == (begin % PART != 0), "a value stands where none belongs, or is missing")
            if masked is not None:
                values.append(self.unmask(masked, object_id, object_start, begin // PART))
            yield from self.object_span(object_id, object_start, length)
        if identity is not None and len(values) > 1:
            must(merge(values, True) == identity, "the values of the parts do not merge to the identity")

    def upload(self, upload, part):
        """Yields the prefix that is kept of an open part: whole segments from objects, the tail from the lane."""
        content, state = self.one("SELECT content, state FROM uploads WHERE id = ?", upload)
        must(state == 0, "the upload is not open")
        lane = part + 1
        found = self.one("SELECT part, have, tail, sealed FROM lanes WHERE upload = ? AND lane = ?", upload, lane)
        must(found and found[0] == part, f"part {part} is not open")
        _, have, tail, sealed = found
        opened = self.small(sealed, b"tail", b"lanes", upload + le(lane), have)
        state_length = int.from_bytes(opened[:2], "big")
        state, kept = opened[2 : 2 + state_length], opened[2 + state_length :]
        groups = int.from_bytes(state[:2], "big")
        must(len(state) == 2 + 32 * groups.bit_count(), "the state has another length")
        must(len(kept) == tail and 1 <= tail <= SEGMENT and SEGMENT * groups + tail == have, "the tail does not fit")
        start = part * PART
        for _, length, object_id, object_start, value in self.extents(content, start, start + SEGMENT * groups):
            must(value is None, "an open part has no value")
            yield from self.object_span(object_id, object_start, length)
        yield kept


def main(data, what, *rest):
    store = Store(pathlib.Path(data))
    if what == "file":
        space, path = rest
        pieces = store.file(space, path)
    else:
        must(what == "upload", f"no such command: {what}")
        upload, part = rest
        pieces = store.upload(bytes.fromhex(upload), int(part))
    for piece in pieces:
        sys.stdout.buffer.write(piece)


if __name__ == "__main__":
    main(*sys.argv[1:])
