//! Remote paths as people type them: `[alias]:/path` in one's own space, `[alias]:@space/path` in any. Owns that
//! spelling and the question which side of a transfer is meant; asks no server.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use hapax_client::api::RemotePath;
use hapax_proto::name::{EntryName, EntryPath, parse_space_path};

use crate::exit::Failure;

/// The name of a server that was logged in to. The empty one is the server that needs no name.
///
/// INVARIANT: lower-case letters, digits, `.`, `_` and `-` only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Alias(String);

impl Alias {
    /// Checks an alias.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
        };
        text.bytes().all(allowed).then(|| Self(text.to_owned()))
    }

    /// Returns the text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A path on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remote {
    /// Which server.
    pub(crate) alias: Alias,
    /// Where on it.
    pub(crate) path: RemotePath,
    /// Whether a slash at the end says that a folder is meant.
    pub(crate) is_folder: bool,
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let long = self.path.to_string();
        // The space stands right behind the colon.
        let path = if self.path.space.is_some() { &long[1..] } else { &long };
        write!(f, "{}:{path}", self.alias.0)?;
        if self.is_folder && !path.ends_with('/') { f.write_str("/") } else { Ok(()) }
    }
}

impl Remote {
    /// Reads a remote path.
    ///
    /// # Errors
    /// The text is no remote path, or its path breaks a rule of paths.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let Some((alias, path)) = split(text) else {
            let failure = Failure::usage(format!("{text} is no remote path"));
            return Err(failure.hint(format!(
                "a remote path has a colon before its slash: :/{}",
                text.trim_start_matches('/')
            )));
        };
        let is_folder = path.ends_with('/');
        let bare = path.strip_suffix('/').filter(|bare| !bare.is_empty()).unwrap_or(path);
        let absolute = if path.starts_with('@') { format!("/{bare}") } else { bare.to_owned() };
        let (space, path) = parse_space_path(&absolute)
            .map_err(|bad| Failure::usage(format!("{text} is no remote path: {bad}")))?;
        let is_folder = is_folder || path.is_root();
        Ok(Self { alias, path: RemotePath { space, path }, is_folder })
    }

    /// Returns the path of a name in this folder.
    ///
    /// # Errors
    /// The name breaks a rule of names, or the path becomes too long.
    pub(crate) fn join(&self, name: &str) -> Result<Self, Failure> {
        let unfit = |bad| Failure::usage(format!("{name} cannot be a name on a server: {bad}"));
        let path = self.path.path.clone().join(EntryName::parse(name).map_err(unfit)?).map_err(unfit)?;
        let path = RemotePath { space: self.path.space.clone(), path };
        Ok(Self { alias: self.alias.clone(), path, is_folder: false })
    }

    /// Returns the last name of the path, unless it is the root.
    pub(crate) fn name(&self) -> Option<&str> {
        self.path.path.name().map(EntryName::as_str)
    }

    /// Returns the path from this folder to an entry in it, by the names in between; `None` if it lies elsewhere.
    pub(crate) fn relative<'a>(&self, inside: &'a EntryPath) -> Option<&'a [EntryName]> {
        inside.starts_with(&self.path.path).then(|| &inside.names()[self.path.path.names().len()..])
    }
}

/// Splits a remote path behind its colon; `None` if it is none.
fn split(text: &str) -> Option<(Alias, &str)> {
    let (alias, path) = text.split_once(':')?;
    path.starts_with(['/', '@']).then_some(())?;
    Some((Alias::parse(alias)?, path))
}

/// One side of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// A path of this machine, or `-`.
    Local,
    /// A path on a server.
    Remote,
    /// An address of the web.
    Web,
}

/// Tells what a word of the command line names, by its spelling alone. A local path that looks remote is written with
/// `./` before it.
pub(crate) fn side(word: &OsStr) -> Side {
    match word.to_str() {
        Some(text) if text.starts_with("http://") || text.starts_with("https://") => Side::Web,
        Some(text) if split(text).is_some() => Side::Remote,
        _ => Side::Local,
    }
}

/// Demands that a word names something remote, and reads it.
///
/// # Errors
/// It does not; the message says what is wrong with `role`, such as "the target of put".
pub(crate) fn expect_remote(word: &Path, role: &str) -> Result<Remote, Failure> {
    let shown = word.display();
    match (side(word.as_os_str()), word.to_str()) {
        (Side::Remote, Some(text)) => Remote::parse(text),
        (Side::Web, _) => {
            let failure = Failure::usage(format!("{role} must be a remote path, but {shown} is an address"));
            Err(failure.hint("log in to the server with `hapax login URL`, then write :/path"))
        }
        _ => {
            let failure = Failure::usage(format!("{role} must be a remote path, but {shown} is a local one"));
            Err(failure.hint("a remote path has a colon before its slash: :/path, alias:/path, :@space/path"))
        }
    }
}

/// Demands that a word names something local.
///
/// # Errors
/// It names something remote.
pub(crate) fn expect_local(word: &Path, role: &str) -> Result<(), Failure> {
    if side(word.as_os_str()) == Side::Local {
        return Ok(());
    }
    let shown = word.display();
    let failure = Failure::usage(format!("{role} must be a local path, but {shown} is a remote one"));
    Err(failure.hint(format!("if it is a local file, write ./{shown}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_path_has_one_meaning() {
        #[track_caller]
        fn check(text: &str, read: Option<(&str, &str, bool)>) {
            let found = Remote::parse(text).ok();
            let shown = found
                .as_ref()
                .map(|remote| (remote.alias.as_str().to_owned(), remote.path.to_string(), remote.is_folder));
            let read = read.map(|(alias, path, folder)| (alias.to_owned(), path.to_owned(), folder));
            assert_eq!(shown, read);
            if let Some(remote) = found {
                assert_eq!(Remote::parse(&remote.to_string()).unwrap(), remote);
            }
        }
        check(":/", Some(("", "/", true)));
        check(":/a", Some(("", "/a", false)));
        check(":/a b/c/", Some(("", "/a b/c", true)));
        check("nas:/a", Some(("nas", "/a", false)));
        check(":@ann/x", Some(("", "/@ann/x", false)));
        check("nas.lan:@ann/", Some(("nas.lan", "/@ann/", true)));
        check(":@ann", Some(("", "/@ann/", true)));
        check("/a", None);
        check("a", None);
        check("a:b", None);
        check("NAS:/a", None);
        check(":/a//b", None);
        check(":/a/../b", None);
        check(":/@ann/x", Some(("", "/@ann/x", false)));
        check(":@/x", None);
    }

    #[test]
    fn a_word_names_one_side() {
        #[track_caller]
        fn check(word: &str, expected: Side) {
            assert_eq!(side(OsStr::new(word)), expected);
            assert_eq!(expect_local(Path::new(word), "it").is_ok(), expected == Side::Local);
            assert_eq!(expect_remote(Path::new(word), "it").is_ok(), expected == Side::Remote);
        }
        check("film.mkv", Side::Local);
        check("./a:/b", Side::Local);
        check("a/b:/c", Side::Local);
        check("a:b", Side::Local);
        check("-", Side::Local);
        check(":/film.mkv", Side::Remote);
        check("nas:/film.mkv", Side::Remote);
        check(":@ann/film.mkv", Side::Remote);
        check("https://any.example/big.iso", Side::Web);
    }

    #[test]
    fn names_are_joined_and_taken_apart() {
        let folder = Remote::parse("nas:@ann/a/").unwrap();
        let inside = folder.join("b c").unwrap();
        assert_eq!(inside.to_string(), "nas:@ann/a/b c");
        assert_eq!(inside.name(), Some("b c"));
        assert!(folder.join("b/c").is_err());
        assert!(folder.join("..").is_err());
        let names = folder.relative(&inside.path.path).unwrap();
        assert_eq!(names.iter().map(EntryName::as_str).collect::<Vec<_>>(), ["b c"]);
        assert!(inside.relative(&folder.path.path).is_none());
    }
}
