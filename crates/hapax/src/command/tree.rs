//! Folders of this machine: walking one that is sent, and making those that are received. Follows no symbolic link,
//! so that nothing outside the named folder is read or written.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hapax_client::source::Facts;
use icu_normalizer::ComposingNormalizerBorrowed;

use crate::exit::{Code, Failure};

/// A file below a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Where it is.
    pub(super) path: PathBuf,
    /// The names from the folder down to it.
    pub(super) names: Vec<String>,
    /// What it is.
    pub(super) facts: Facts,
}

/// What lies below a folder, in byte order of the names.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Files.
    pub(super) files: Vec<Found>,
    /// Folders with nothing in them, by their names from the folder down; no file brings them along.
    pub(super) folders: Vec<Vec<String>>,
    /// Links, devices and pipes.
    pub(super) skipped: Vec<PathBuf>,
    /// Names of one folder that look the same and are not: they differ in the form of Unicode.
    pub(super) alike: Vec<(PathBuf, PathBuf)>,
    /// What could not be looked at.
    pub(super) failures: Vec<Failure>,
    /// Folders that could not be read.
    pub(super) closed: Vec<Failure>,
}

/// Walks a folder.
///
/// # Errors
/// The folder itself cannot be read; what cannot be read below it is in the result.
pub(super) fn walk(folder: &Path) -> Result<Walked, Failure> {
    let mut walked = Walked::default();
    enter(folder, &[], &mut walked).map_err(|error| Failure::io("read", folder, &error))?;
    Ok(walked)
}

fn enter(folder: &Path, names: &[String], walked: &mut Walked) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    if entries.is_empty() {
        walked.folders.push(names.to_vec());
    }
    let mut by_look: HashMap<String, PathBuf> = HashMap::new();
    for entry in entries {
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else {
            let failure = Failure::usage(format!("the name of {} is not UTF-8", path.display()));
            walked.failures.push(failure.hint("rename it, or put it alone and name the remote file"));
            continue;
        };
        if !name.is_ascii() {
            match by_look.entry(composed(&name).into_owned()) {
                Entry::Occupied(first) => walked.alike.push((first.get().clone(), path.clone())),
                Entry::Vacant(free) => drop(free.insert(path.clone())),
            }
        }
        let names = [names, &[name]].concat();
        // Of the entry itself, not of what a link points to.
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => {
                if let Err(error) = enter(&path, &names, walked) {
                    walked.closed.push(Failure::io("read", &path, &error));
                }
            }
            Ok(metadata) if metadata.is_file() => {
                walked.files.push(Found { path, names, facts: Facts::of(&metadata) });
            }
            Ok(_) => walked.skipped.push(path),
            Err(error) => walked.failures.push(Failure::io("read", &path, &error)),
        }
    }
    Ok(())
}

/// Makes the folders of these names below `root`, and returns the last of them.
///
/// # Errors
/// One of the names is taken by something else; a link to a folder is something else.
pub(super) fn make_folders<'a>(
    root: &Path,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<PathBuf, Failure> {
    let mut folder = root.to_owned();
    fs::create_dir_all(&folder).map_err(|error| Failure::io("create", &folder, &error))?;
    for name in names {
        folder.push(name);
        match fs::create_dir(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let metadata = fs::symlink_metadata(&folder);
                if !metadata.map_err(|error| Failure::io("read", &folder, &error))?.is_dir() {
                    let sentence = format!("{} is there already and is no folder", folder.display());
                    return Err(Failure::new(Code::Conflict, sentence).hint("name another target"));
                }
            }
            Err(error) => return Err(Failure::io("create", &folder, &error)),
        }
    }
    Ok(folder)
}

/// Returns what a file system that folds names makes of one: the composed form of Unicode, in small letters. Names that
/// differ in this are different everywhere.
pub(super) fn folded(name: &str) -> String {
    composed(name).to_lowercase()
}

/// Returns the composed form of a name: names that differ only in their form of Unicode look the same.
pub(super) fn composed(name: &str) -> Cow<'_, str> {
    ComposingNormalizerBorrowed::new_nfc().normalize(name)
}

/// Tells whether two local names are one file or folder here: what is written under the one is what stands under the other.
pub(super) fn is_one(one: &Path, other: &Path) -> bool {
    match (fs::symlink_metadata(one), fs::symlink_metadata(other)) {
        (Ok(one), Ok(other)) => (one.ino(), one.dev()) == (other.ino(), other.dev()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_folder_is_walked_in_order_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("b/empty")).unwrap();
        fs::write(root.join("b/x"), "12").unwrap();
        fs::write(root.join("a"), "1").unwrap();
        symlink(root, root.join("loop")).unwrap();
        let walked = walk(root).unwrap();
        let files: Vec<_> =
            walked.files.iter().map(|found| (found.names.join("/"), found.facts.size().get())).collect();
        assert_eq!(files, [("a".to_owned(), 1), ("b/x".to_owned(), 2)]);
        assert_eq!(walked.folders, [["b", "empty"]]);
        assert_eq!(walked.skipped, [root.join("loop")]);
        assert!(walked.failures.is_empty());
        assert_eq!(walk(&root.join("a/none")).unwrap_err().code, Code::Conflict);
        assert_eq!(walk(&root.join("none")).unwrap_err().code, Code::NotFound);
    }

    #[test]
    fn names_that_only_look_the_same_are_both_walked_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let (nfc, nfd) = ("caf\u{e9}", "cafe\u{301}");
        for name in [nfc, nfd, "cafe"] {
            fs::write(root.join(name), name).unwrap();
        }
        fs::create_dir_all(root.join("sub").join(nfd)).unwrap();
        let walked = walk(root).unwrap();
        assert_eq!(walked.files.len(), 3);
        assert_eq!(walked.alike, [(root.join(nfd), root.join(nfc))]);
    }

    #[test]
    fn names_fold_as_file_systems_fold_them() {
        #[track_caller]
        fn check(one: &str, other: &str, is_same: bool) {
            assert_eq!(folded(one) == folded(other), is_same);
        }
        check("a", "A", true);
        check("\u{c4}", "a\u{308}", true);
        check("\u{c4}", "\u{e4}", true);
        check("a", "\u{e4}", false);
        check("a b", "a_b", false);
        check("\u{1f4}", "\u{1f5}", true);
    }

    #[test]
    fn one_file_is_known_by_itself_and_not_through_links() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, hard, soft] = ["a", "b", "hard", "soft"].map(|name| folder.path().join(name));
        fs::write(&a, "").unwrap();
        fs::write(&b, "").unwrap();
        fs::hard_link(&a, &hard).unwrap();
        symlink(&a, &soft).unwrap();
        assert!(is_one(&a, &a) && is_one(&a, &hard));
        assert!(!is_one(&a, &b) && !is_one(&a, &soft) && !is_one(&a, &folder.path().join("none")));
    }

    #[test]
    fn folders_are_made_but_not_through_links() {
        let folder = tempfile::tempdir().unwrap();
        let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
        fs::create_dir(&outside).unwrap();
        let made = make_folders(&root, ["a", "b"]).unwrap();
        assert!(made.ends_with("root/a/b") && made.is_dir());
        assert_eq!(make_folders(&root, ["a", "b"]).unwrap(), made);
        symlink(&outside, root.join("link")).unwrap();
        assert_eq!(make_folders(&root, ["link", "c"]).unwrap_err().code, Code::Conflict);
        assert!(!outside.join("c").exists());
    }
}
