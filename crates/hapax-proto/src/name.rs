//! Names: of entries, of paths inside a space, of users. Owns their rules and their spelling in URLs, and the
//! reduction of a foreign name to one that may be created on a disk. It never touches a file system: to the
//! server a name is a key of the catalog and nothing else.
//!
//! ```text
//!   /files /@alice /video/a%20b.mkv      what follows the route is split on `/`, then decoded once per segment
//!          '-----' '--------------'
//!           space        path            UrlPath { space, path, folder }
//! ```

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use thiserror::Error;

/// The longest name of an entry, in bytes: what every common file system can hold.
pub const NAME_BYTES_MAX: usize = 255;
/// The longest path inside a space, in bytes, with its slashes and without percent-encoding.
pub const PATH_BYTES_MAX: usize = 4_096;
/// The most names in a path.
pub const DEPTH_MAX: usize = 128;
/// The longest name of a user, in bytes.
pub const USER_NAME_BYTES_MAX: usize = 64;

/// What stands before the name of a space in a URL; therefore no entry at the root may begin with it.
const SPACE_MARK: char = '@';

/// What is percent-encoded in a URL: everything but the unreserved characters (RFC 3986 §2.3).
const ENCODED_IN_URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The rule of paths that a text breaks; on the wire all of them are the problem `bad-path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadPath {
    /// The path does not begin with a slash.
    #[error("a path begins with a slash")]
    NotAbsolute,
    /// A `%` is not followed by two hexadecimal digits.
    #[error("a percent sign is not followed by two hexadecimal digits")]
    Triplet,
    /// The decoded bytes are not UTF-8.
    #[error("a name is not UTF-8")]
    NotUtf8,
    /// Two slashes follow each other, or a name is empty.
    #[error("a name is empty")]
    Empty,
    /// A name is `.` or `..`.
    #[error("a name is . or ..")]
    Dots,
    /// A name holds a slash, which in a URL was written `%2F`.
    #[error("a name holds a slash")]
    Slash,
    /// A name holds a character of U+0000 to U+001F, or U+007F.
    #[error("a name holds a control character")]
    Control,
    /// A name has more than [`NAME_BYTES_MAX`] bytes.
    #[error("a name is longer than {NAME_BYTES_MAX} bytes")]
    NameTooLong,
    /// The path has more than [`PATH_BYTES_MAX`] bytes.
    #[error("the path is longer than {PATH_BYTES_MAX} bytes")]
    PathTooLong,
    /// The path has more than [`DEPTH_MAX`] names.
    #[error("the path is deeper than {DEPTH_MAX} names")]
    TooDeep,
    /// The first name begins with the mark of a space.
    #[error("a name at the root of a space begins with {SPACE_MARK}")]
    RootMark,
    /// What follows the mark of a space is no name of a user.
    #[error("what follows {SPACE_MARK} is not the name of a space")]
    Space,
}

/// The name of an entry in its folder. Names compare as bytes and are kept as given: NFC and NFD are two names.
///
/// INVARIANT: 1 to 255 bytes, no slash, no C0 character, no DEL, neither `.` nor `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryName(String);

impl EntryName {
    /// Checks a name that is not percent-encoded.
    pub fn parse(name: &str) -> Result<Self, BadPath> {
        match name {
            "" => return Err(BadPath::Empty),
            "." | ".." => return Err(BadPath::Dots),
            _ => {}
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(BadPath::NameTooLong);
        }
        if name.contains('/') {
            return Err(BadPath::Slash);
        }
        if name.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(BadPath::Control);
        }
        Ok(Self(name.to_owned()))
    }

    /// Returns the name as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An absolute path inside a space; the root has no names.
///
/// INVARIANT: at most 128 names and 4,096 bytes as displayed; the first name does not begin with `@`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryPath(Vec<EntryName>);

impl EntryPath {
    /// Returns the root of a space.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Reads a path as it stands in JSON, `/video/a.mkv`: the rules of URLs without percent-encoding. There is
    /// one spelling of each path, so only the root ends with a slash.
    pub fn parse(text: &str) -> Result<Self, BadPath> {
        let names = text.strip_prefix('/').ok_or(BadPath::NotAbsolute)?;
        if names.is_empty() {
            return Ok(Self::root());
        }
        names.split('/').try_fold(Self::root(), |path, name| path.join(EntryName::parse(name)?))
    }

    /// Returns the path of the entry `name` in this folder.
    pub fn join(mut self, name: EntryName) -> Result<Self, BadPath> {
        if self.is_root() && name.as_str().starts_with(SPACE_MARK) {
            return Err(BadPath::RootMark);
        }
        if self.0.len() == DEPTH_MAX {
            return Err(BadPath::TooDeep);
        }
        self.0.push(name);
        if self.displayed_bytes() > PATH_BYTES_MAX {
            return Err(BadPath::PathTooLong);
        }
        Ok(self)
    }

    /// Tells whether this is the root of the space.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the names from the root down.
    pub fn names(&self) -> &[EntryName] {
        &self.0
    }

    /// Returns the last name; the root has none.
    pub fn name(&self) -> Option<&EntryName> {
        self.0.last()
    }

    /// Returns the folder that holds this entry; the root lies in none.
    pub fn parent(&self) -> Option<Self> {
        let (_, folder) = self.0.split_last()?;
        Some(Self(folder.to_vec()))
    }

    /// Returns the folder that holds this entry, and the entry's name in it; the root has neither.
    pub fn split_last(&self) -> Option<(Self, &EntryName)> {
        let (name, folder) = self.0.split_last()?;
        Some((Self(folder.to_vec()), name))
    }

    /// Tells whether this is `folder`, or lies somewhere below it.
    pub fn starts_with(&self, folder: &Self) -> bool {
        self.0.starts_with(&folder.0)
    }

    /// Returns the path percent-encoded for a URL, to be put behind a route and, in the long form, a space.
    pub fn to_url(&self) -> String {
        self.spelled(|name| utf8_percent_encode(name.as_str(), ENCODED_IN_URL).to_string())
    }

    fn spelled(&self, spell: impl Fn(&EntryName) -> String) -> String {
        if self.is_root() {
            return "/".to_owned();
        }
        self.0.iter().fold(String::new(), |path, name| path + "/" + &spell(name))
    }

    fn displayed_bytes(&self) -> usize {
        self.0.iter().map(|name| "/".len() + name.as_str().len()).sum()
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spelled(|name| name.as_str().to_owned()))
    }
}

/// The name of a user, and of that user's space.
///
/// INVARIANT: 1 to 64 bytes of `[a-z0-9._-]`, the first a letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName(String);

impl UserName {
    /// Checks a name of a user; `None` if it breaks the rule.
    pub fn parse(name: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let allowed = |byte: u8| is_plain(byte) || matches!(byte, b'.' | b'_' | b'-');
        let begins_plain = name.bytes().next().is_some_and(is_plain);
        (begins_plain && name.len() <= USER_NAME_BYTES_MAX && name.bytes().all(allowed))
            .then(|| Self(name.to_owned()))
    }

    /// Returns the name as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a URL names behind a route such as `/files`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlPath {
    /// The space that was named; `None` means the caller's own.
    pub space: Option<UserName>,
    /// The entry inside the space.
    pub path: EntryPath,
    /// Whether a trailing slash says that a folder is meant. The root is one with or without it.
    pub folder: bool,
}

/// Reads the raw path of a URL, without its route and its query: `/@alice/video/a%20b.mkv`, or nothing at all
/// for `/files` itself.
///
/// It is split before it is decoded, and each segment is decoded once, so an encoded slash can never move the
/// border between two names. `%40` in front is the same as `@`: encoders of whole segments write it so.
pub fn parse_url_path(raw: &str) -> Result<UrlPath, BadPath> {
    if matches!(raw, "" | "/") {
        return Ok(UrlPath { space: None, path: EntryPath::root(), folder: true });
    }
    let below = raw.strip_prefix('/').ok_or(BadPath::NotAbsolute)?;
    let (names, slash_at_end) = match below.strip_suffix('/') {
        Some(names) => (names, true),
        None => (below, false),
    };
    let (first, rest) = names.split_once('/').map_or((names, None), |(first, rest)| (first, Some(rest)));
    let (space, names) = match decode_segment(first)?.strip_prefix(SPACE_MARK) {
        Some(name) => (Some(UserName::parse(name).ok_or(BadPath::Space)?), rest),
        None => (None, Some(names)),
    };
    let path = names
        .into_iter()
        .flat_map(|names| names.split('/'))
        .try_fold(EntryPath::root(), |path, segment| {
            path.join(EntryName::parse(&decode_segment(segment)?)?)
        })?;
    let folder = slash_at_end || path.is_root();
    Ok(UrlPath { space, path, folder })
}

/// Reads a path as it stands in a member of a JSON body: `/video/a.mkv` in the caller's own space,
/// `/@alice/video/a.mkv` in any; nothing is percent-encoded.
pub fn parse_space_path(text: &str) -> Result<(Option<UserName>, EntryPath), BadPath> {
    let below = text.strip_prefix('/').ok_or(BadPath::NotAbsolute)?;
    let Some(marked) = below.strip_prefix(SPACE_MARK) else {
        return Ok((None, EntryPath::parse(text)?));
    };
    let (space, path) =
        marked.split_once('/').map_or((marked, "/"), |(space, _)| (space, &marked[space.len()..]));
    Ok((Some(UserName::parse(space).ok_or(BadPath::Space)?), EntryPath::parse(path)?))
}

/// Decodes one segment, once. The library leaves a broken triplet as it stands; here it is an error, so that
/// each name has few spellings.
fn decode_segment(segment: &str) -> Result<String, BadPath> {
    let is_triplet = |behind: &str| {
        let digits = behind.as_bytes();
        digits.len() >= 2 && digits[..2].iter().all(u8::is_ascii_hexdigit)
    };
    if !segment.split('%').skip(1).all(is_triplet) {
        return Err(BadPath::Triplet);
    }
    percent_decode_str(segment).decode_utf8().map(String::from).map_err(|_| BadPath::NotUtf8)
}

/// Reduces a name that a server gave (in `Content-Disposition`, in a URL) to one that is safe to create in a
/// folder of any operating system, or `None` if nothing of it is left.
///
/// Only what follows the last separator counts. Control characters and those that reorder text are dropped;
/// characters that Windows forbids become `_`; blanks and dots at both ends go, so the
/// result is neither hidden nor `..`; a device name gets a `_` in front. Doing it twice changes nothing more.
pub fn safe_base_name(name: &str) -> Option<String> {
    let base = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let spelled: String = base.chars().filter(|c| !is_invisible(*c)).map(defused).collect();
    let mut safe = cut(spelled.trim_matches(is_blank_or_dot)).to_owned();
    if is_device(&safe) {
        safe.insert(0, '_');
        safe.truncate(cut(&safe).len());
    }
    (!safe.is_empty()).then_some(safe)
}

/// Cuts to what a file system can hold, between characters, and leaves no blank or dot at the new end.
fn cut(name: &str) -> &str {
    name[..name.floor_char_boundary(NAME_BYTES_MAX)].trim_end_matches(is_blank_or_dot)
}

fn is_blank_or_dot(c: char) -> bool {
    c == '.' || c.is_whitespace()
}

/// Control characters, and the marks that change the direction of text: with them `gpj.exe` reads `exe.jpg`.
fn is_invisible(c: char) -> bool {
    let reorders =
        matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}');
    c.is_control() || reorders || c == '\u{feff}'
}

fn defused(c: char) -> char {
    if matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*') { '_' } else { c }
}

/// Tells whether Windows would open a device under this name; whatever follows the first dot does not count.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_uppercase();
    let is_port = |number: &str| {
        let mut characters = number.chars();
        matches!((characters.next(), characters.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
    };
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$")
        || stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT")).is_some_and(is_port)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_url_names_a_space_a_path_and_perhaps_a_folder() {
        #[track_caller]
        fn check(raw: &str, space: Option<&str>, path: &str, folder: bool) {
            let url = parse_url_path(raw).unwrap();
            let space = space.map(|name| UserName::parse(name).unwrap());
            assert_eq!((url.space, url.path.to_string().as_str(), url.folder), (space, path, folder));
        }
        check("", None, "/", true);
        check("/", None, "/", true);
        check("/a", None, "/a", false);
        check("/a/", None, "/a", true);
        check("/a/b.mkv", None, "/a/b.mkv", false);
        check("/@alice", Some("alice"), "/", true);
        check("/@alice/", Some("alice"), "/", true);
        check("/@alice/a/b", Some("alice"), "/a/b", false);
        check("/%40alice/a", Some("alice"), "/a", false);
        check("/a/@b", None, "/a/@b", false);
        check("/a@b", None, "/a@b", false);
        check("/a%20b", None, "/a b", false);
        check("/a%2520b", None, "/a%20b", false);
        check("/a+b;c\\d", None, "/a+b;c\\d", false);
        check("/%E7%BD%91%e7%9b%98", None, "/网盘", false);
        check("/网盘", None, "/网盘", false);
        check("/...", None, "/...", false);
        check("/.hidden", None, "/.hidden", false);
        check("/%C2%85", None, "/\u{85}", false);
    }

    #[test]
    fn a_url_that_breaks_a_rule_is_refused() {
        #[track_caller]
        fn check(raw: &str, why: BadPath) {
            assert_eq!(parse_url_path(raw), Err(why));
        }
        check("a", BadPath::NotAbsolute);
        check("//", BadPath::Empty);
        check("/a//b", BadPath::Empty);
        check("/a//", BadPath::Empty);
        check("//a", BadPath::Empty);
        check("/@alice//", BadPath::Empty);
        check("/.", BadPath::Dots);
        check("/a/..", BadPath::Dots);
        check("/a/%2e%2E/b", BadPath::Dots);
        check("/a/.%2e/", BadPath::Dots);
        check("/a%2Fb", BadPath::Slash);
        check("/a%2fb", BadPath::Slash);
        check("/..%2f..", BadPath::Slash);
        check("/a%00", BadPath::Control);
        check("/a%0ab", BadPath::Control);
        check("/a%1F", BadPath::Control);
        check("/a%7f", BadPath::Control);
        check("/a\u{7f}", BadPath::Control);
        check("/a%", BadPath::Triplet);
        check("/a%2", BadPath::Triplet);
        check("/a%2/b", BadPath::Triplet);
        check("/a%zz", BadPath::Triplet);
        check("/a%+1", BadPath::Triplet);
        check("/a%%20", BadPath::Triplet);
        check("/%ff", BadPath::NotUtf8);
        check("/%c0%ae", BadPath::NotUtf8);
        check("/%ed%a0%80", BadPath::NotUtf8);
        check("/@", BadPath::Space);
        check("/@Alice", BadPath::Space);
        check("/@al%20ice/a", BadPath::Space);
        check("/@alice/@b", BadPath::RootMark);
        check("/@alice/%40b", BadPath::RootMark);
    }

    #[test]
    fn limits_count_decoded_bytes_and_names() {
        #[track_caller]
        fn check(raw: &str, refused: Option<BadPath>) {
            assert_eq!(parse_url_path(raw).err(), refused);
        }
        let names = |count: usize, bytes: usize| format!("/{}", "x".repeat(bytes)).repeat(count);
        check(&names(1, 255), None);
        check(&names(1, 256), Some(BadPath::NameTooLong));
        check(&format!("/{}", "%41".repeat(255)), None);
        check(&format!("/{}", "%41".repeat(256)), Some(BadPath::NameTooLong));
        check(&names(128, 1), None);
        check(&names(129, 1), Some(BadPath::TooDeep));
        check(&names(16, 255), None);
        check(&format!("{}/", names(16, 255)), None);
        check(&format!("{}/x", names(16, 255)), Some(BadPath::PathTooLong));
        check(&format!("/@alice{}", names(16, 255)), None);
        check(&"/x".repeat(1 << 20), Some(BadPath::TooDeep));
    }

    #[test]
    fn json_has_one_spelling_of_each_path() {
        #[track_caller]
        fn check(text: &str, refused: Option<BadPath>) {
            let parsed = EntryPath::parse(text);
            assert_eq!(parsed.as_ref().err(), refused.as_ref());
            assert!(parsed.is_err() || parsed.unwrap().to_string() == text);
        }
        check("/", None);
        check("/video/a.mkv", None);
        check("/100%/%2F", None);
        check("", Some(BadPath::NotAbsolute));
        check("video", Some(BadPath::NotAbsolute));
        check("/video/", Some(BadPath::Empty));
        check("//", Some(BadPath::Empty));
        check("/a/../b", Some(BadPath::Dots));
        check("/a\0", Some(BadPath::Control));
        check("/@alice/a", Some(BadPath::RootMark));
        check("/a/@alice", None);
    }

    #[test]
    fn a_path_knows_its_folder_and_its_name() {
        let path = EntryPath::parse("/video/a b.mkv").unwrap();
        assert_eq!(path.name().map(EntryName::as_str), Some("a b.mkv"));
        assert_eq!(path.parent(), EntryPath::parse("/video").ok());
        assert_eq!(path.to_url(), "/video/a%20b.mkv");
        assert_eq!(path.names().len(), 2);
        assert_eq!(EntryPath::root().parent(), None);
        assert_eq!(EntryPath::root().name(), None);
        assert_eq!(EntryPath::root().to_url(), "/");
    }

    #[test]
    fn user_names_are_plain() {
        #[track_caller]
        fn check(name: &str, accepted: bool) {
            assert_eq!(UserName::parse(name).is_some(), accepted, "{name:?}");
        }
        check("alice", true);
        check("a", true);
        check("7up", true);
        check("a.b_c-d", true);
        check(&"a".repeat(64), true);
        check(&"a".repeat(65), false);
        check("", false);
        check(".alice", false);
        check("-alice", false);
        check("_alice", false);
        check("Alice", false);
        check("al ice", false);
        check("al/ice", false);
        check("älice", false);
    }

    #[test]
    fn a_foreign_name_is_reduced_to_a_safe_one() {
        #[track_caller]
        fn check(name: &str, safe: &str) {
            assert_eq!(safe_base_name(name), (!safe.is_empty()).then(|| safe.to_owned()));
        }
        check("film.mkv", "film.mkv");
        check("网盘 1.zip", "网盘 1.zip");
        check("../../etc/passwd", "passwd");
        check("..\\..\\boot.ini", "boot.ini");
        check("C:\\x\\y.txt", "y.txt");
        check("C:y.txt", "C_y.txt");
        check("file.txt:stream", "file.txt_stream");
        check("a/b/", "");
        check("..", "");
        check(".", "");
        check("", "");
        check(" . . ", "");
        check("a/..", "");
        check(".bashrc", "bashrc");
        check("name. . ", "name");
        check("a\0b\r\nc\u{7f}\u{9b}d", "abcd");
        check("photo\u{202e}gpj.exe", "photogpj.exe");
        check("what?.mkv", "what_.mkv");
        check("CON", "_CON");
        check("con.txt", "_con.txt");
        check("Nul .tar.gz", "_Nul .tar.gz");
        check("LPT9", "_LPT9");
        check("com¹", "_com¹");
        check("COM10", "COM10");
        check("CONSOLE", "CONSOLE");
        check("COM", "COM");
        check(&"é".repeat(200), &"é".repeat(127));
        check(&format!("CON{}x", " ".repeat(300)), "_CON");
        check(&format!("aux.{}", "x".repeat(300)), &format!("_aux.{}", "x".repeat(250)));
    }

    proptest! {
        #[test]
        fn what_a_url_encodes_it_decodes(names in prop::collection::vec("[^/\\x00-\\x1f\\x7f]{1,20}", 0..6)) {
            let parsed = names
                .iter()
                .try_fold(EntryPath::root(), |path, name| path.join(EntryName::parse(name)?));
            if let Ok(path) = parsed {
                let url = parse_url_path(&path.to_url()).unwrap();
                prop_assert_eq!(&url.path, &path);
                prop_assert_eq!(url.space, None);
                prop_assert_eq!(EntryPath::parse(&path.to_string()), Ok(path));
            }
        }

        #[test]
        fn no_url_yields_a_name_that_breaks_a_rule(raw in "(/|@|\\.|%2[eEfF]|%00|%c3|%a9|[a-z\\\\%;+]){0,40}") {
            if let Ok(url) = parse_url_path(&raw) {
                for name in url.path.names() {
                    prop_assert_eq!(&EntryName::parse(name.as_str()).unwrap(), name);
                }
                prop_assert_eq!(EntryPath::parse(&url.path.to_string()), Ok(url.path));
            }
        }

        #[test]
        fn a_safe_name_is_an_entry_name_and_stays_itself(name in "(\\PC|[. /\\\\:*CONcon\\x00\u{202e}]){0,300}") {
            if let Some(safe) = safe_base_name(&name) {
                prop_assert!(EntryName::parse(&safe).is_ok());
                prop_assert!(!safe.contains(['\\', ':']) && !safe.starts_with(is_blank_or_dot));
                prop_assert_eq!(safe_base_name(&safe), Some(safe));
            }
        }
    }
}
