//! The files that the hostile server has: versions with deterministic bytes, and what an honest server would say of
//! each. Owns the bytes; how they are misrepresented is for the behaviours.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;

use crate::rig::bytes;

/// How many bytes most versions have: some MiB, and no round number.
pub(crate) const SIZE: u64 = (2 << 20) + 4_321;

/// One version of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    /// What its bytes come from.
    pub(crate) seed: u64,
    /// How many it has.
    pub(crate) size: u64,
}

/// The version that every case begins with.
pub(crate) const FIRST: Version = Version { seed: 1, size: SIZE };

/// Another version of the same length: what no arithmetic can notice.
pub(crate) const SECOND: Version = Version { seed: 2, size: SIZE };

/// Another version, longer.
pub(crate) const LONGER: Version = Version { seed: 3, size: SIZE + 77_777 };

impl Version {
    /// Returns the bytes from `from` up to, not including, `end`.
    pub(crate) fn bytes(self, from: u64, end: u64) -> Vec<u8> {
        bytes::content(self.seed, from, end.min(self.size).saturating_sub(from))
    }

    /// Returns all bytes.
    pub(crate) fn whole(self) -> Vec<u8> {
        self.bytes(0, self.size)
    }

    /// Returns the strong entity tag that an honest server would give it.
    pub(crate) fn tag(self) -> String {
        format!("\"v{}-{}\"", self.seed, self.size)
    }

    /// Returns the modification date that an honest server would give it: years ago, another one for each version.
    pub(crate) fn date(self) -> String {
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(1_500_000_000 + 1_000 * self.seed))
    }
}

/// Returns the time of the answer.
pub(crate) fn now() -> String {
    httpdate::fmt_http_date(SystemTime::now())
}

/// A digest of the first version, computed by a program of the system.
fn digest(program: &str) -> Vec<u8> {
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the programs of coreutils are installed");
    let mut input = child.stdin.take().expect("it was asked for");
    input.write_all(&FIRST.whole()).expect("the program reads to the end");
    drop(input);
    let output = child.wait_with_output().expect("a child can be waited for").stdout;
    let hex = output.split(|byte| *byte == b' ').next().unwrap_or_default();
    HEXLOWER.decode(hex).expect("the program prints hexadecimal digits")
}

/// Returns the SHA-256 of the first version.
pub(crate) fn sha256() -> &'static [u8] {
    static VALUE: OnceLock<Vec<u8>> = OnceLock::new();
    VALUE.get_or_init(|| digest("sha256sum"))
}

/// Returns the MD5 of the first version.
pub(crate) fn md5() -> &'static [u8] {
    static VALUE: OnceLock<Vec<u8>> = OnceLock::new();
    VALUE.get_or_init(|| digest("md5sum"))
}
