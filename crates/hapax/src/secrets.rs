//! Tokens on disk and passwords from a terminal. Owns the two files of tokens, readable by their user alone, and the
//! asking without echo; knows no server.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::exit::{Code, Failure};

/// A server that a token is kept for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Login {
    /// The address.
    pub(crate) server: String,
    /// The account.
    pub(crate) user: String,
    /// The credential.
    pub(crate) token: String,
}

/// A file of tokens by name: of an alias, or of a server and account.
#[derive(Debug)]
pub(crate) struct Logins {
    file: PathBuf,
    /// As it was when it was read, or changed.
    by_name: BTreeMap<String, Login>,
}

impl Logins {
    /// Reads the file; without one, nothing is kept yet.
    pub(crate) fn read(file: PathBuf) -> Result<Self, Failure> {
        let by_name = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                let failure = Failure::usage(format!("{} is damaged: {error}", file.display()));
                failure.hint("remove it and log in again")
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(Failure::io("read", &file, &error)),
        };
        Ok(Self { file, by_name })
    }

    /// Returns what is kept under a name.
    pub(crate) fn find(&self, name: &str) -> Option<&Login> {
        self.by_name.get(name)
    }

    /// Returns a login to this server, of this user or of any, whatever its name.
    pub(crate) fn find_server(&self, server: &str, user: Option<&str>) -> Option<&Login> {
        let server = server.trim_end_matches('/');
        let fits = |login: &&Login| {
            login.server.trim_end_matches('/') == server && user.is_none_or(|user| user == login.user)
        };
        self.by_name.values().find(fits)
    }

    /// Keeps a login, and writes the file.
    pub(crate) fn keep(&mut self, name: &str, login: Login) -> Result<(), Failure> {
        self.change(|by_name| by_name.insert(name.to_owned(), login))
    }

    /// Forgets a login, and writes the file.
    pub(crate) fn forget(&mut self, name: &str) -> Result<(), Failure> {
        self.change(|by_name| by_name.remove(name))
    }

    /// Changes what the file says now: other commands may have changed it since it was read.
    fn change<T>(&mut self, change: impl FnOnce(&mut BTreeMap<String, Login>) -> T) -> Result<(), Failure> {
        // Given back when this returns.
        let _lock = self.lock().map_err(|error| Failure::io("lock", &self.file, &error))?;
        *self = Self::read(self.file.clone())?;
        change(&mut self.by_name);
        self.write().map_err(|error| Failure::io("write", &self.file, &error))
    }

    /// Waits until no other command changes the file. What is locked lies beside it and stays: the file itself is another one
    /// after each change.
    fn lock(&self) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.folder())?;
        let beside = self.file.with_extension("lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(beside)?;
        lock.lock()?;
        Ok(lock)
    }

    fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("."))
    }

    /// Replaces the file in one move: whoever reads meanwhile sees the old one or the new one.
    fn write(&self) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(&self.by_name).expect("names and texts always serialise");
        // Such a file is made with mode 0600.
        let mut new = tempfile::NamedTempFile::new_in(self.folder())?;
        new.write_all(&text)?;
        new.as_file().sync_all()?;
        new.persist(&self.file).map(drop).map_err(|failed| failed.error)
    }
}

/// Asks a question on the terminal, whatever standard input is. Dropping the future takes the question back.
///
/// # Errors
/// There is no terminal.
pub(crate) async fn ask(question: &str) -> Result<String, Failure> {
    ask_terminal(question, Echo::On).await
}

/// Asks for a password on the terminal; what is typed is not shown. Dropping the future takes the question back, and the
/// terminal shows again what is typed.
///
/// # Errors
/// There is no terminal.
pub(crate) async fn ask_password(question: &str) -> Result<String, Failure> {
    ask_terminal(question, Echo::Off).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    On,
    Off,
}

async fn ask_terminal(question: &str, echo: Echo) -> Result<String, Failure> {
    let asked = async {
        let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        write!(terminal, "{question}: ")?;
        terminal.flush()?;
        let _silenced = if echo == Echo::Off { Some(Silenced::begin(terminal.try_clone()?)?) } else { None };
        let (sender, answer) = oneshot::channel();
        // On a thread that nobody waits for: a signal may end the command before anything is typed.
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(terminal).read_line(&mut line);
            // Who asked may be gone.
            let _ = sender.send(read.map(|_| line));
        });
        answer.await.expect("the thread sends what it read")
    };
    let answer: io::Result<String> = asked.await;
    answer.map(|line| line.trim_end_matches(['\r', '\n']).to_owned()).map_err(|error| {
        let sentence = format!("there is no terminal to ask for the {question}: {error}");
        Failure::new(Code::Usage, sentence).hint("set HAPAX_USER and HAPAX_PASSWORD")
    })
}

/// A terminal that does not show what is typed, for as long as this lives.
struct Silenced {
    terminal: File,
    before: Termios,
}

impl Silenced {
    fn begin(terminal: File) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silenced {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing, and needs no line either.
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
        let _ = writeln!(self.terminal);
    }
}

/// Draws a password that can be typed: 120 random bits.
///
/// # Errors
/// The operating system gave no random bytes.
pub(crate) fn random_password() -> Result<String, Failure> {
    // 32 letters and digits of which none looks like another.
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut random = [0; 24];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::new(Code::Failed, format!("cannot draw random bytes: {error}")))?;
    let letters: Vec<char> = random.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
    let groups: Vec<String> = letters.chunks(6).map(|group| group.iter().collect()).collect();
    Ok(groups.join("-"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn login(server: &str) -> Login {
        Login { server: server.to_owned(), user: "ann".to_owned(), token: "t".to_owned() }
    }

    #[test]
    fn logins_are_kept_for_their_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("below/logins.json");
        let mut logins = Logins::read(file.clone()).unwrap();
        assert_eq!(logins.find(""), None);
        logins.keep("", login("http://nas/")).unwrap();
        logins.keep("b", login("http://b")).unwrap();
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut logins = Logins::read(file.clone()).unwrap();
        assert_eq!(logins.find(""), Some(&login("http://nas/")));
        assert_eq!(logins.find_server("http://nas", None), Some(&login("http://nas/")));
        assert_eq!(logins.find_server("http://c", None), None);
        logins.forget("").unwrap();
        let logins = Logins::read(file.clone()).unwrap();
        assert_eq!((logins.find(""), logins.find("b")), (None, Some(&login("http://b"))));
        std::fs::write(&file, "{").unwrap();
        assert_eq!(Logins::read(file).unwrap_err().code, Code::Usage);
    }

    #[test]
    fn commands_that_log_in_at_the_same_time_lose_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("below/logins.json");
        let mut ours = Logins::read(file.clone()).unwrap();
        let mut theirs = Logins::read(file.clone()).unwrap();
        ours.keep("a", login("http://a")).unwrap();
        theirs.keep("b", login("http://b")).unwrap();
        assert_eq!(theirs.find("a"), Some(&login("http://a")));
        ours.forget("a").unwrap();
        let kept = Logins::read(file.clone()).unwrap();
        assert_eq!((kept.find("a"), kept.find("b")), (None, Some(&login("http://b"))));
        // Whatever comes between reading and writing.
        std::thread::scope(|scope| {
            for number in 0..16 {
                let file = file.clone();
                scope.spawn(move || {
                    Logins::read(file).unwrap().keep(&number.to_string(), login("http://c")).unwrap();
                });
            }
        });
        let kept = Logins::read(file).unwrap();
        assert_eq!((0..16).filter(|number| kept.find(&number.to_string()).is_some()).count(), 16);
    }

    #[test]
    fn a_random_password_is_long_and_another_each_time() {
        let [one, two] = [random_password().unwrap(), random_password().unwrap()];
        assert_eq!(one.len(), 27);
        assert_ne!(one, two);
    }
}
