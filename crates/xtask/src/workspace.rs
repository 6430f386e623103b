//! Where the workspace is, and its files as values, so that every rule is a function over text.
//!
//! Reads the work tree; never writes it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use cargo_metadata::{Metadata, MetadataCommand};

/// Returns the directory of the workspace this program was built from.
pub(crate) fn root() -> anyhow::Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .map(Path::to_path_buf)
        .context("the crate no longer lies two directories below the workspace")
}

/// Returns what cargo knows about the members of the workspace, without resolving their dependencies.
pub(crate) fn metadata(root: &Path) -> anyhow::Result<Metadata> {
    MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cargo metadata did not describe the workspace")
}

/// The text files of the workspace: path (relative, with `/`) to content.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads every file that git tracks or would track; files that are not UTF-8 text are left out.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let listing = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .context("git could not be started; tidy asks it which files belong to the project")?;
        if !listing.status.success() {
            bail!("git ls-files failed: {}", String::from_utf8_lossy(&listing.stderr).trim());
        }
        let mut tree = Self::default();
        for path in listing.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty()) {
            let path = std::str::from_utf8(path).context("a file name is not UTF-8")?;
            let file = root.join(path);
            // Deleted but still in the index, or a symbolic link: the target is judged where it lies.
            if !file.symlink_metadata().is_ok_and(|facts| facts.is_file()) {
                continue;
            }
            let bytes = std::fs::read(&file).with_context(|| format!("cannot read {path}"))?;
            if let Ok(text) = String::from_utf8(bytes) {
                tree.files.insert(path.to_owned(), text);
            }
        }
        Ok(tree)
    }

    /// Makes a tree from paths and contents.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect() }
    }

    /// Returns the content of a file, if the tree has it.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Returns every file, by path.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Returns the files with one of these extensions (no dot).
    pub(crate) fn with_extension(&self, extensions: &[&str]) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(|(path, _)| {
            path.rsplit_once('.').is_some_and(|(_, extension)| extensions.contains(&extension))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs git in `dir` without the settings of whoever runs the test.
    fn git(dir: &Path, args: &[&str]) {
        let status = Command::new("git")
            .args(args)
            .current_dir(dir)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env_remove("GIT_DIR")
            .status()
            .unwrap();
        assert!(status.success(), "git {args:?}");
    }

    #[test]
    fn the_root_holds_the_workspace_manifest() {
        assert!(root().unwrap().join("Cargo.lock").is_file());
    }

    #[test]
    fn tracked_and_new_text_is_read_and_the_rest_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
        git(dir.path(), &["init", "--quiet"]);
        write(".gitignore", b"built\n");
        write("tracked.rs", b"//! a\n");
        write("deleted.rs", b"//! b\n");
        git(dir.path(), &["add", "."]);
        std::fs::remove_file(dir.path().join("deleted.rs")).unwrap();
        write("new.md", b"# c\n");
        write("built", b"d\n");
        write("image", b"\xff\x00");

        let tree = Tree::read(dir.path()).unwrap();
        let paths = tree.files().map(|(path, _)| path).collect::<Vec<_>>();
        assert_eq!(paths, [".gitignore", "new.md", "tracked.rs"]);
        assert_eq!(tree.with_extension(&["rs"]).collect::<Vec<_>>(), [("tracked.rs", "//! a\n")]);
    }
}
