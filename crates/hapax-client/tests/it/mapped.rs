//! Files that somebody writes to through a mapping while they are looked at.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hapax_client::source::Source;

/// Makes a file of one page, maps it, and stores a byte at each line that comes in; each time the clock has ticked since the
/// file last changed.
const WRITER: &str = "
import mmap, os, sys, time
path = sys.argv[1]
with open(path, 'w+b') as file:
    file.write(bytes(4096))
    file.flush()
    page = mmap.mmap(file.fileno(), 4096)
    for at, _ in enumerate(sys.stdin):
        while time.time_ns() < os.stat(path).st_ctime_ns + 20_000_000:
            pass
        page[at] = 1
        print(at, flush=True)
";

/// A process that writes through a mapping.
struct Writer(Child);

impl Writer {
    fn start(path: &Path) -> Self {
        let program = std::env::var("HAPAX_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut command = Command::new(program);
        command.args(["-c", WRITER]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Lets it store one byte more.
    fn store(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        let mut line = String::new();
        BufReader::with_capacity(1, self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the writer ended");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It ended by itself if it cannot be ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_store_through_a_mapping_changes_the_facts_of_a_source() {
    // In memory no file system would show it.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("a");
    let mut writer = Writer::start(&path);
    writer.store();
    let (source, facts) = Source::open(&path).await.unwrap();
    writer.store();
    assert_ne!(source.facts_now().await.unwrap(), facts, "the page was dirty already");
}
