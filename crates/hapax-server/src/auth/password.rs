//! Passwords: hashing and verifying them, one at a time, and remembering the verified for a while, so that a
//! client that sends Basic with each request does not cost a hash with each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::password_hash::{CustomizedPasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Block, Params, Version, password_hash};
use hapax_proto::problem::Kind;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::auth::{Account, Kept};
use crate::respond::Refusal;

/// How many hashes are computed at once: each takes 19 MiB and a thread for some tens of milliseconds.
const HASHES_AT_ONCE: usize = 1;
/// The length of a fresh salt.
const SALT_BYTES: usize = 16;
/// How many different passwords can be on their way to a hash at once.
const QUEUES: usize = 64;
/// How long one waits for its turn.
const TURN: Duration = Duration::from_secs(5);
/// How long a verified password is remembered.
const REMEMBERED: Duration = Duration::from_mins(5);
/// How many are remembered.
const REMEMBERED_MAX: usize = 4_096;

/// Hashes a password with argon2id and a random salt. Takes tens of milliseconds: not for an async thread.
///
/// # Errors
/// The operating system gave no random bytes, or the password is longer than the algorithm takes.
pub fn hash_password(password: &str) -> Result<String, password_hash::Error> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|_| password_hash::Error::Crypto)?;
    Ok(Hasher
        .hash_password_customized(password.as_bytes(), &salt, None, None, Params::default())?
        .to_string())
}

/// Returns a hash that no known password has: random bytes, not computed, because a server that starts has better to
/// do.
fn dummy_hash() -> Result<String, password_hash::Error> {
    let (mut salt, mut output) = ([0; SALT_BYTES], [0; Params::DEFAULT_OUTPUT_LEN]);
    getrandom::fill(&mut salt)
        .and_then(|()| getrandom::fill(&mut output))
        .map_err(|_| password_hash::Error::Crypto)?;
    Ok(phc(&Params::default(), &salt, &output)?.to_string())
}

/// Joins parameters, salt and output of argon2id into the form that is stored.
fn phc(params: &Params, salt: &[u8], output: &[u8]) -> password_hash::Result<PasswordHash> {
    Ok(PasswordHash {
        algorithm: Algorithm::default().ident(),
        version: Some(Version::default().into()),
        params: ParamsString::try_from(params)?,
        salt: Some(Salt::new(salt)?),
        hash: Some(Output::new(output)?),
    })
}

/// Tells whether a password is the one that was hashed; what is no hash fits none.
fn is_password(password: &[u8], hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Hasher.verify_password(password, &hash).is_ok())
}

/// Held by whoever hashes: one working memory at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How much working memory is asked for at least, in blocks of 1 KiB. glibc gives what is larger than 32 MiB back to the
/// system when it is freed, whatever came before; smaller pieces it learns to keep, and the 19 MiB that argon2id
/// touches would be half of what an idle server weighs. What is not touched costs nothing.
const CAPACITY_MIN: usize = 33 << 10;

/// argon2id, over memory that is given back.
struct Hasher;

impl CustomizedPasswordHasher<PasswordHash> for Hasher {
    type Params = Params;

    fn hash_password_customized(
        &self,
        password: &[u8],
        salt: &[u8],
        algorithm: Option<&str>,
        version: Option<u32>,
        params: Params,
    ) -> password_hash::Result<PasswordHash> {
        let algorithm = algorithm.map(Algorithm::try_from).transpose()?.unwrap_or_default();
        let version = version.map(Version::try_from).transpose()?.unwrap_or_default();
        let argon2 = Argon2::new(algorithm, version, params);
        let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
        let blocks = argon2.params().block_count();
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut memory = Vec::with_capacity(blocks.max(CAPACITY_MIN));
        memory.resize(blocks, Block::default());
        argon2.hash_password_into_with_memory(password, salt, &mut output, &mut memory)?;
        // What is left there would do to try passwords against.
        memory.fill(Block::default());
        let hash = phc(argon2.params(), salt, &output)?;
        Ok(PasswordHash { algorithm: algorithm.ident(), version: Some(version.into()), ..hash })
    }
}

/// Verifies passwords.
pub(super) struct Passwords {
    turns: Arc<Semaphore>,
    /// Keys the memory of verified passwords, so that a core dump holds nothing that could be searched offline.
    memory_key: [u8; 32],
    verified: Mutex<HashMap<[u8; 32], Instant>>,
    /// One lock for every so many passwords: of requests that bring the same one, one has it hashed and the others
    /// find it verified.
    queues: [tokio::sync::Mutex<()>; QUEUES],
    /// What an unknown account is verified against, to take as long as a known one.
    dummy_hash: String,
}

impl Passwords {
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut memory_key = [0; 32];
        getrandom::fill(&mut memory_key)?;
        Ok(Self {
            turns: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
            memory_key,
            verified: Mutex::default(),
            queues: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            dummy_hash: dummy_hash().map_err(|_| getrandom::Error::UNEXPECTED)?,
        })
    }

    /// Tells whether this very password was verified lately. A changed password is another one.
    pub(super) fn was_verified(&self, account: &Account, password: &Kept, now: Instant) -> bool {
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.get(&self.memory(account, password)).is_some_and(|until| now < *until)
    }

    /// Waits until nobody else is having this password hashed. Whether the account exists makes no difference.
    pub(super) async fn alone(&self, user: &str, password: &Kept) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hasher = blake3::Hasher::new_keyed(&self.memory_key);
        hasher.update(&(user.len() as u64).to_le_bytes()).update(user.as_bytes()).update(password.as_bytes());
        let queue = usize::from(hasher.finalize().as_bytes()[0]) % QUEUES;
        self.queues[queue].lock().await
    }

    /// Verifies a password, and remembers it if it is right. `None` is an account that does not exist: it takes as
    /// long and fails.
    ///
    /// # Errors
    /// 503 when too many wait already.
    pub(super) async fn verify(
        &self,
        account: Option<&Account>,
        password: Kept,
        now: Instant,
    ) -> Result<bool, Refusal> {
        let turn = timeout(TURN, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| Kind::Unavailable)?.expect("the semaphore is never closed");
        let hash = account.map_or(&self.dummy_hash, |account| &account.password_hash).clone();
        let memory = account.map(|account| self.memory(account, &password));
        let matches = spawn_blocking(move || {
            let _turn = turn;
            is_password(password.as_bytes(), &hash)
        });
        let matches = matches.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        match memory {
            Some(memory) if matches => self.remember(memory, now),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn remember(&self, memory: [u8; 32], now: Instant) {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= REMEMBERED_MAX {
            verified.retain(|_, until| now < *until);
            if verified.len() >= REMEMBERED_MAX {
                verified.clear();
            }
        }
        verified.insert(memory, now + REMEMBERED);
    }

    /// What a verified password is remembered by. The stored hash is part of it, so that changing the password
    /// forgets the old one.
    fn memory(&self, account: &Account, password: &Kept) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.memory_key);
        hasher.update(&account.id.0.to_le_bytes());
        hasher.update(blake3::hash(account.password_hash.as_bytes()).as_bytes());
        hasher.update(password.as_bytes());
        hasher.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::PasswordHasher;

    use hapax_proto::access::Role;
    use hapax_proto::name::UserName;
    use hapax_store::catalog::{SpaceId, UserId};

    use super::*;

    fn account(password: &str) -> Account {
        Account {
            id: UserId(1),
            space: SpaceId(1),
            name: UserName::parse("a").unwrap(),
            role: Role::User,
            password_hash: hash_password(password).unwrap(),
        }
    }

    fn kept(text: &str) -> Kept {
        Kept::new(text.to_owned())
    }

    #[tokio::test]
    async fn only_a_right_password_is_remembered_and_not_for_ever() {
        let passwords = Passwords::new().unwrap();
        let account = account("right");
        let now = Instant::now();
        assert!(!passwords.was_verified(&account, &kept("right"), now));
        assert!(!passwords.verify(Some(&account), kept("wrong"), now).await.unwrap());
        assert!(!passwords.was_verified(&account, &kept("wrong"), now));
        assert!(passwords.verify(Some(&account), kept("right"), now).await.unwrap());
        assert!(passwords.was_verified(&account, &kept("right"), now));
        assert!(!passwords.was_verified(&account, &kept("right"), now + REMEMBERED));
    }

    #[tokio::test]
    async fn a_changed_password_is_forgotten() {
        let passwords = Passwords::new().unwrap();
        let now = Instant::now();
        let before = account("right");
        assert!(passwords.verify(Some(&before), kept("right"), now).await.unwrap());
        let after = account("right");
        assert_ne!(before.password_hash, after.password_hash);
        assert!(!passwords.was_verified(&after, &kept("right"), now));
    }

    #[tokio::test]
    async fn an_account_that_does_not_exist_never_verifies() {
        let passwords = Passwords::new().unwrap();
        assert!(!passwords.verify(None, kept(""), Instant::now()).await.unwrap());
        let broken = Account { password_hash: "!".into(), ..account("x") };
        assert!(!passwords.verify(Some(&broken), kept("x"), Instant::now()).await.unwrap());
    }

    #[test]
    fn a_hash_is_what_the_library_makes_of_it() {
        let ours = hash_password("right").unwrap();
        let ours = PasswordHash::new(&ours).unwrap();
        Argon2::default().verify_password(b"right", &ours).unwrap();
        let theirs = Argon2::default().hash_password(b"right").unwrap().to_string();
        assert!(is_password(b"right", &theirs));
        assert!(!is_password(b"wrong", &theirs));
        assert!(!is_password(b"right", "no hash"));
    }

    #[test]
    fn a_dummy_costs_what_a_real_hash_costs_and_fits_nothing() {
        let (dummy, real) = (dummy_hash().unwrap(), hash_password("right").unwrap());
        let (dummy, real) = (PasswordHash::new(&dummy).unwrap(), PasswordHash::new(&real).unwrap());
        assert_eq!(
            (dummy.algorithm, dummy.version, &dummy.params),
            (real.algorithm, real.version, &real.params)
        );
        assert_eq!(Hasher.verify_password(b"right", &dummy), Err(password_hash::Error::PasswordInvalid));
    }
}
