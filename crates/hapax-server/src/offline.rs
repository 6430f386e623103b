//! The data folder itself, without a running server: opening it for one, its first account, and what an
//! operator does to it while no server holds it. Owns the way from settings to an open store, and the words
//! for what keeps it shut; answers no request.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hapax_proto::name::UserName;
use hapax_store::check::Depth;
use hapax_store::clock::SystemClock;
use hapax_store::disk::RealDisk;
use hapax_store::error::{ErrorClass, StoreError};
use hapax_store::key::MasterSource;
use hapax_store::layout::Layout;
use hapax_store::store::{Settings, Store};

use crate::admin::{self, CheckReport};
use crate::auth::hash_password;

/// The name of the account that a new data folder gets.
pub const FIRST_ADMIN: &str = "admin";

/// Where a store lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFolder {
    /// The folder of everything.
    pub data: PathBuf,
    /// The folder of the keys, unless it lies in the folder of everything.
    pub keys: Option<PathBuf>,
    /// The file of the master key, unless it lies in the folder of the keys.
    pub master_key_file: Option<PathBuf>,
}

/// How long things are kept, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How long what was removed or replaced is kept.
    pub grace: Duration,
    /// How long an unfinished upload lives without a byte.
    pub upload_idle: Duration,
    /// Unfinished uploads of one account.
    pub uploads_max: u32,
}

impl Default for Retention {
    fn default() -> Self {
        let Settings { grace, upload_idle, uploads_max, .. } = Settings::default();
        Self { grace, upload_idle, uploads_max }
    }
}

/// Why a data folder was of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// Another process holds the folder.
    #[error("{data} is in use by another hapax server", data = data.display())]
    Held {
        /// The folder.
        data: PathBuf,
    },
    /// There is no data folder.
    #[error("{data} is no data folder of hapax", data = data.display())]
    Absent {
        /// The folder.
        data: PathBuf,
    },
    /// The folder, its format or its keys are not what this program can work with.
    #[error("{data} cannot be used", data = data.display())]
    Unusable {
        /// The folder.
        data: PathBuf,
        /// Why not.
        source: StoreError,
    },
    /// The store failed.
    #[error("the store in {data} failed", data = data.display())]
    Store {
        /// The folder.
        data: PathBuf,
        /// How.
        source: StoreError,
    },
    /// There is no such account.
    #[error("there is no account {user}")]
    NoAccount {
        /// The name.
        user: String,
    },
    /// The password is too short, too long or could not be hashed.
    #[error("{0}")]
    Password(String),
}

impl DataFolder {
    /// Opens the folder for a server, making it at the first start. Blocks.
    ///
    /// # Errors
    /// [`OfflineError::Held`], [`OfflineError::Unusable`] or [`OfflineError::Store`].
    pub fn open(&self, retention: Retention) -> Result<Arc<Store>, OfflineError> {
        let layout = Layout::new(&self.data);
        let layout = match &self.keys {
            Some(keys) => layout.with_keys(keys),
            None => layout,
        };
        let master = match &self.master_key_file {
            Some(file) => MasterSource::File(file.clone()),
            None => MasterSource::Own,
        };
        let Retention { grace, upload_idle, uploads_max } = retention;
        let settings = Settings { grace, upload_idle, uploads_max, ..Settings::default() };
        let clock = Box::new(SystemClock::start());
        let store = Store::open(Arc::new(RealDisk), &layout, &master, clock, settings);
        store.map(Arc::new).map_err(|error| self.failed(error))
    }

    /// Opens a folder that is there, for a moment in which no server holds it.
    fn open_existing(&self) -> Result<Arc<Store>, OfflineError> {
        if !Layout::new(&self.data).format().exists() {
            return Err(OfflineError::Absent { data: self.data.clone() });
        }
        self.open(Retention::default())
    }

    /// Verifies every invariant of a folder that no server holds, and with `contents` every byte. Blocks.
    pub fn check(&self, contents: bool) -> Result<CheckReport, OfflineError> {
        let depth = if contents { Depth::Data } else { Depth::Structure };
        let store = self.open_existing()?;
        store.check(depth).map(admin::report).map_err(|error| self.failed(error))
    }

    /// Gives an account of a folder that no server holds another password. Blocks.
    ///
    /// # Errors
    /// As [`open`](Self::open), [`OfflineError::Absent`], [`OfflineError::NoAccount`], [`OfflineError::Password`].
    pub fn reset_password(&self, user: &str, password: &str) -> Result<(), OfflineError> {
        let hash = hashed(password)?;
        let store = self.open_existing()?;
        let failed = |error| self.failed(error);
        let account = store.catalog().user(user).map_err(failed)?;
        let account = account.ok_or_else(|| OfflineError::NoAccount { user: user.to_owned() })?;
        store.set_password(account.id, hash).map_err(failed)
    }

    /// Makes the first account, if there is none at all; tells whether it did. Blocks.
    ///
    /// # Errors
    /// [`OfflineError::Password`], [`OfflineError::Store`].
    pub fn make_first_admin(
        &self,
        store: &Store,
        password: impl FnOnce() -> String,
    ) -> Result<bool, OfflineError> {
        let failed = |error| self.failed(error);
        if !store.catalog().users().map_err(failed)?.is_empty() {
            return Ok(false);
        }
        let name = UserName::parse(FIRST_ADMIN).expect("it is a name");
        store.create_user(name.to_string(), hashed(&password())?, true).map_err(failed)?;
        Ok(true)
    }

    fn failed(&self, error: StoreError) -> OfflineError {
        let data = self.data.clone();
        match error.class() {
            _ if matches!(error, StoreError::Locked { .. }) => OfflineError::Held { data },
            ErrorClass::Setup => OfflineError::Unusable { data, source: error },
            _ => OfflineError::Store { data, source: error },
        }
    }
}

fn hashed(password: &str) -> Result<String, OfflineError> {
    admin::check_password(password).map_err(OfflineError::Password)?;
    hash_password(password).map_err(|error| OfflineError::Password(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn folder(data: &Path) -> DataFolder {
        DataFolder { data: data.to_owned(), keys: None, master_key_file: None }
    }

    #[test]
    fn a_folder_is_opened_by_one_and_gets_one_first_account() {
        let dir = tempfile::tempdir().unwrap();
        let data = folder(&dir.path().join("data"));
        let store = data.open(Retention::default()).unwrap();
        assert!(data.make_first_admin(&store, || "correct horse".to_owned()).unwrap());
        assert!(!data.make_first_admin(&store, || unreachable!("there is one already")).unwrap());
        assert!(store.catalog().user(FIRST_ADMIN).unwrap().is_some_and(|user| user.admin));
        assert!(matches!(data.check(false), Err(OfflineError::Held { .. })));
        drop(store);
        assert!(data.check(true).unwrap().findings.is_empty());
    }

    #[test]
    fn what_is_no_data_folder_is_told_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let absent = folder(&dir.path().join("absent"));
        assert!(matches!(absent.check(false), Err(OfflineError::Absent { .. })));
        assert!(!absent.data.exists());
        std::fs::write(dir.path().join("thesis.tex"), "").unwrap();
        let foreign = folder(dir.path()).open(Retention::default()).map(drop);
        assert!(matches!(foreign, Err(OfflineError::Unusable { .. })));
        let newer = folder(&dir.path().join("newer"));
        std::fs::create_dir(&newer.data).unwrap();
        std::fs::write(newer.data.join("format"), "hapax data format 999\n").unwrap();
        assert!(matches!(newer.check(false), Err(OfflineError::Unusable { .. })));
    }

    #[test]
    fn a_password_is_reset() {
        let dir = tempfile::tempdir().unwrap();
        let data = folder(dir.path());
        let store = data.open(Retention::default()).unwrap();
        data.make_first_admin(&store, || "correct horse".to_owned()).unwrap();
        let hash = |store: &Store| store.catalog().user(FIRST_ADMIN).unwrap().unwrap().password;
        let before = hash(&store);
        drop(store);
        assert!(matches!(data.reset_password(FIRST_ADMIN, "short"), Err(OfflineError::Password(_))));
        assert!(matches!(
            data.reset_password("nobody", "battery staple"),
            Err(OfflineError::NoAccount { .. })
        ));
        data.reset_password(FIRST_ADMIN, "battery staple").unwrap();
        assert_ne!(hash(&data.open(Retention::default()).unwrap()), before);
    }
}
