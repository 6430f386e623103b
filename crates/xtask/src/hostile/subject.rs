//! The downloaders that are run: ours and those that everybody has. Owns their command lines; what comes of it is for
//! the trial.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use data_encoding::HEXLOWER;

use super::behaviour::{Behaviour, Special};
use super::version::sha256;

/// The most of a file that any downloader may write, in the 512-byte blocks of `ulimit`: 128 MiB.
const FILE_MAX_BLOCKS: u64 = 262_144;

/// A downloader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Ours, and where it is.
    Hapax(PathBuf),
    /// curl.
    Curl,
    /// GNU wget.
    Wget,
    /// aria2.
    Aria2,
}

impl Subject {
    /// Returns the name of its command.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Hapax(_) => "hapax",
            Self::Curl => "curl",
            Self::Wget => "wget",
            Self::Aria2 => "aria2c",
        }
    }

    /// Returns the first line of what it says about its version, if it is installed.
    pub(crate) fn version(&self) -> Option<String> {
        let program = match self {
            Self::Hapax(path) => path.as_path(),
            _ => Path::new(self.name()),
        };
        let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let first = text.lines().next()?;
        let end = [" (", " built on"].iter().filter_map(|mark| first.find(mark)).min();
        Some(first[..end.unwrap_or(first.len())].to_owned())
    }

    /// Returns how often its command is given while it fails. Ours has to do with one; from the others a person's
    /// patience is not withheld.
    pub(crate) fn attempts(&self) -> u32 {
        if self.is_ours() { 1 } else { 3 }
    }

    /// Tells whether it is ours: then it is killed without a word, where the others may save what they have.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Hapax(_))
    }

    /// Prepares the command that downloads `url` into the folder in which it runs.
    pub(crate) fn command(&self, behaviour: &Behaviour, url: &str, home: &Path) -> Command {
        let names = behaviour.special == Special::Names;
        let digest = (behaviour.special == Special::Digest).then(|| HEXLOWER.encode(sha256()));
        // Without a limit aria2 fills the disk when a server claims 10 TiB.
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -f {FILE_MAX_BLOCKS} && exec \"$@\""), "sh"]);
        match self {
            Self::Hapax(path) => {
                command.arg(path).args(["get", url]);
                command.args(digest.map(|digest| format!("--digest=sha-256:{digest}")));
            }
            Self::Curl => {
                command.args(["curl", "--silent", "--show-error", "--fail", "--location", "--retry", "3"]);
                command.args(["--retry-delay", "1", "--retry-connrefused", "--max-time", "20"]);
                // curl does not continue under a name that it is not told.
                let naming: &[_] = if names { &["--remote-header-name"] } else { &["--continue-at", "-"] };
                command.args(naming).args(["--remote-name", url]);
            }
            Self::Wget => {
                command.args(["wget", "--no-verbose", "--continue", "--tries=3", "--waitretry=1"]);
                command.args(["--timeout=10", "--retry-connrefused"]);
                command.args(names.then_some("--content-disposition")).arg(url);
            }
            Self::Aria2 => {
                command.args(["aria2c", "--no-conf", "--quiet", "--continue", "-x8", "--max-tries=3"]);
                command.args(["--retry-wait=1", "--timeout=10", "--connect-timeout=10"]);
                command.args(digest.map(|digest| format!("--checksum=sha-256={digest}"))).arg(url);
            }
        }
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", home);
        command.env("HAPAX_CONFIG_DIR", home.join("config")).env("HAPAX_STATE_DIR", home.join("state"));
        command.stdin(Stdio::null());
        command
    }
}
