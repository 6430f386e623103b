//! Digests computed by another process than the one that is tested: `b3sum` if it is installed, else the `blake3`
//! package of the tests' Python, else this program's own `hash` command. Owns the choice and the calling.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use super::bytes::MIB;

/// A BLAKE3, as 64 lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Digest(String);

impl Digest {
    /// Hashes a text, for tests of what is made of digests.
    #[cfg(test)]
    pub(crate) fn of(text: &str) -> Self {
        Self(blake3::hash(text.as_bytes()).to_hex().to_string())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", &self.0[..12])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The program that hashes: its words, and what to call it in reports.
#[derive(Debug, Clone)]
pub(crate) struct Hashing {
    words: Vec<String>,
    /// The same for a file that is named, mapped and hashed on all cores, where the program can do that.
    at_once: Option<Vec<String>>,
    pub(crate) name: &'static str,
}

const PYTHON: &str = "import blake3,sys\nh=blake3.blake3()\n\
    while b:=sys.stdin.buffer.read(1<<20): h.update(b)\nprint(h.hexdigest())";

const PYTHON_AT_ONCE: &str = "import blake3,sys\nprint(blake3.blake3(max_threads=blake3.blake3.AUTO).update_mmap(sys.argv[1]).hexdigest())";

impl Hashing {
    /// Finds a program that computes BLAKE3.
    pub(crate) fn find(root: &Path) -> anyhow::Result<Self> {
        let python = std::env::var("HAPAX_TEST_PYTHON")
            .unwrap_or_else(|_| root.join("target/test-venv/bin/python").to_string_lossy().into_owned());
        let own = std::env::current_exe().context("this program cannot find itself")?;
        let own = own.to_str().context("the path of this program is not UTF-8")?.to_owned();
        let candidates = [
            Self {
                words: vec!["b3sum".into(), "-".into()],
                at_once: Some(vec!["b3sum".into()]),
                name: "b3sum",
            },
            Self {
                words: vec![python.clone(), "-c".into(), PYTHON.into()],
                at_once: Some(vec![python, "-c".into(), PYTHON_AT_ONCE.into()]),
                name: "python with blake3",
            },
            Self { words: vec![own, "hash".into()], at_once: None, name: "xtask hash, another process" },
        ];
        let works = |candidate: &Self| {
            let empty = candidate.spawn(Stdio::null(), Stdio::null()).and_then(collect);
            empty.is_ok_and(|digest| digest.0 == blake3::Hasher::new().finalize().to_hex().as_str())
        };
        candidates.into_iter().find(works).context("nothing here can compute a BLAKE3")
    }

    /// Hashes a file.
    pub(crate) fn file(&self, path: &Path) -> anyhow::Result<Digest> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        self.stream(file.into())
    }

    /// Hashes a file as fast as the program can.
    pub(crate) fn file_at_once(&self, path: &Path) -> anyhow::Result<Digest> {
        let Some(words) = &self.at_once else { return self.file(path) };
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(path).stdin(Stdio::null()).stdout(Stdio::piped());
        collect(command.spawn().with_context(|| format!("cannot start {}", self.name))?)
    }

    /// Hashes what comes out of a file or of another process, to its end.
    pub(crate) fn stream(&self, input: Stdio) -> anyhow::Result<Digest> {
        collect(self.spawn(input, Stdio::inherit())?)
    }

    fn spawn(&self, input: Stdio, errors: Stdio) -> anyhow::Result<std::process::Child> {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).stdin(input).stdout(Stdio::piped()).stderr(errors);
        command.spawn().with_context(|| format!("cannot start {}", self.name))
    }
}

fn collect(child: std::process::Child) -> anyhow::Result<Digest> {
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the hashing process failed: {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    let digest = text.split_whitespace().next().unwrap_or_default();
    ensure!(digest.len() == 64, "the hashing process printed no BLAKE3: {text:?}");
    Ok(Digest(digest.to_owned()))
}

/// Prints the BLAKE3 of standard input: what `xtask hash` does.
pub(crate) fn hash_standard_input() -> io::Result<()> {
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0; usize::try_from(MIB).expect("a mebibyte fits")];
    let mut input = io::stdin().lock();
    loop {
        match input.read(&mut block)? {
            0 => break,
            read => hasher.update(&block[..read]),
        };
    }
    println!("{}", hasher.finalize().to_hex());
    Ok(())
}
