//! Where the program keeps files that are the user's: settings and logins, the state of transfers, the data of a
//! server. Owns these paths; creates and reads nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// The folders of this user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    config: PathBuf,
    state: PathBuf,
    data: PathBuf,
}

impl Places {
    /// Finds the folders by the environment: our own variables first, then those of the XDG base directories, then
    /// their defaults below the home folder.
    ///
    /// # Errors
    /// None of them says where a folder is.
    pub(crate) fn find() -> Result<Self, Failure> {
        Self::find_in(|name| std::env::var_os(name))
    }

    fn find_in(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Failure> {
        let folder = |ours: Option<&str>, theirs: &str, below_home: &str| {
            let named = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
            if let Some(path) = ours.and_then(named) {
                return Ok::<_, Failure>(path);
            }
            // A relative path there is invalid and to be ignored, says the specification.
            if let Some(path) = named(theirs).filter(|path| path.is_absolute()) {
                return Ok(path.join("hapax"));
            }
            let home = named("HOME").ok_or_else(|| {
                let sentence = format!("neither HOME nor {theirs} says where files of yours are kept");
                Failure::usage(sentence).hint("set HOME")
            })?;
            Ok(home.join(below_home).join("hapax"))
        };
        Ok(Self {
            config: folder(Some("HAPAX_CONFIG_DIR"), "XDG_CONFIG_HOME", ".config")?,
            state: folder(Some("HAPAX_STATE_DIR"), "XDG_STATE_HOME", ".local/state")?,
            data: folder(None, "XDG_DATA_HOME", ".local/share")?,
        })
    }

    /// Returns the file of settings.
    pub(crate) fn settings(&self) -> PathBuf {
        self.config.join("hapax.toml")
    }

    /// Returns the file of what was logged in to.
    pub(crate) fn logins(&self) -> PathBuf {
        self.config.join("logins.json")
    }

    /// Returns the file of tokens that were got for a password of the environment.
    pub(crate) fn tokens(&self) -> PathBuf {
        self.state.join("tokens.json")
    }

    /// Returns the folder of the checkpoints of transfers.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.state.join("checkpoints")
    }

    /// Returns the file of digests of known local files.
    pub(crate) fn digests(&self) -> PathBuf {
        self.state.join("digests.db")
    }

    /// Returns the data folder of a server that is told no other.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(variables: &[(&str, &str)], expected: Option<[&str; 3]>) {
        let found = Places::find_in(|name| {
            variables.iter().find(|(set, _)| *set == name).map(|(_, value)| OsString::from(value))
        });
        let expected = expected.map(|[config, state, data]| Places {
            config: config.into(),
            state: state.into(),
            data: data.into(),
        });
        assert_eq!(found.ok(), expected);
    }

    #[test]
    fn folders_are_found_by_the_environment() {
        check(
            &[("HOME", "/ann")],
            Some(["/ann/.config/hapax", "/ann/.local/state/hapax", "/ann/.local/share/hapax"]),
        );
        check(
            &[
                ("HOME", "/h"),
                ("XDG_CONFIG_HOME", "/c"),
                ("XDG_STATE_HOME", "relative"),
                ("XDG_DATA_HOME", "/d"),
            ],
            Some(["/c/hapax", "/h/.local/state/hapax", "/d/hapax"]),
        );
        check(
            &[
                ("HAPAX_CONFIG_DIR", "c"),
                ("HAPAX_STATE_DIR", "/s"),
                ("XDG_CONFIG_HOME", "/x"),
                ("HOME", "/h"),
            ],
            Some(["c", "/s", "/h/.local/share/hapax"]),
        );
        check(&[("HAPAX_CONFIG_DIR", ""), ("HOME", "")], None);
        check(
            &[("HAPAX_CONFIG_DIR", "/c"), ("HAPAX_STATE_DIR", "/s"), ("XDG_DATA_HOME", "/d")],
            Some(["/c", "/s", "/d/hapax"]),
        );
    }
}
