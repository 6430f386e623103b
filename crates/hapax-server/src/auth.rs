//! Who is asking. Owns reading credentials, checking them, and what a guesser costs us; what the caller may do is
//! decided by `hapax_proto::access` and nowhere else.
//!
//! ```text
//!   Authorization, Cookie --parse--> token ----> hash --> row of the catalog
//!                               `--> password -> cache of verified ones --> throttle --> argon2, one at a time
//! ```

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hapax_proto::access::{Role, Scopes, Subject};
use hapax_proto::name::UserName;
use hapax_proto::problem::Kind;
use hapax_store::catalog::{SpaceId, TokenId, UserId};
use http::HeaderMap;
use tokio::task::spawn_blocking;

use crate::metrics;
use crate::respond::Refusal;
use crate::throttle::{self, Throttle};

/// Tokens: drawing and hashing.
mod token;

/// Reading the fields of a request.
mod credentials;

/// Passwords: hashing, verifying, remembering the verified.
mod password;

/// Accounts and tokens as the store keeps them.
mod stored;

pub use credentials::{
    COOKIE_PLAIN, COOKIE_TLS, Credentials, Here, Kept, PASSWORD_BYTES_MAX, decide_origin, parse_credentials,
};
pub use password::hash_password;
pub use stored::{parse_scopes, spell_scopes};
pub use token::{Token, TokenHash};

use password::Passwords;

/// How many attempts an account stands at once, and how fast it recovers.
const ACCOUNT_ATTEMPTS: u32 = 10;
const ACCOUNT_RECOVERY: Duration = Duration::from_secs(6);
/// The same of a network, behind which there may be many people.
const NETWORK_ATTEMPTS: u32 = 40;
const NETWORK_RECOVERY: Duration = Duration::from_secs(2);

/// An account, as far as authentication needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub id: UserId,
    /// Its own space.
    pub space: SpaceId,
    /// Its name.
    pub name: UserName,
    /// What it is in the service.
    pub role: Role,
    /// Its password as a PHC string.
    pub password_hash: String,
}

/// A token that is neither revoked nor expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveToken {
    /// By which it is revoked.
    pub id: TokenId,
    /// Whose it is.
    pub account: Account,
    /// What it was made for.
    pub scopes: Scopes,
}

/// Where accounts and tokens are looked up. Both may block.
pub trait Accounts: Send + Sync + 'static {
    /// Finds an account by name.
    ///
    /// # Errors
    /// The problem to answer with when the catalog cannot say.
    fn account(&self, name: &UserName) -> Result<Option<Account>, Kind>;

    /// Finds a live token by its hash.
    ///
    /// # Errors
    /// The problem to answer with when the catalog cannot say.
    fn token(&self, hash: &TokenHash) -> Result<Option<LiveToken>, Kind>;
}

/// Who asks, after their credentials were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// What access is decided by.
    pub subject: Subject,
    /// The account; nobody has none.
    pub who: Option<Who>,
}

/// The account that asks, as far as handlers need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// Its number.
    pub user: UserId,
    /// Its own space.
    pub space: SpaceId,
    /// Its name, which is also the name of its space.
    pub name: UserName,
    /// What the token or session was made for.
    pub scopes: Scopes,
    /// The token or session; a password is none.
    pub token: Option<TokenId>,
}

/// Returns the number of an account as access decisions know it.
pub const fn access_id(user: UserId) -> hapax_proto::access::UserId {
    user.0.cast_unsigned()
}

impl Caller {
    /// Whoever gave no credentials.
    pub const NOBODY: Self = Self { subject: Subject::Anonymous, who: None };

    fn user(account: &Account, scopes: Scopes) -> Self {
        let subject = Subject::User { id: access_id(account.id), role: account.role, scopes };
        let name = account.name.clone();
        let who = Who { user: account.id, space: account.space, name, scopes, token: None };
        Self { subject, who: Some(who) }
    }

    fn bearer(token: &LiveToken) -> Self {
        let Self { subject, who } = Self::user(&token.account, token.scopes);
        Self { subject, who: who.map(|who| Who { token: Some(token.id), ..who }) }
    }
}

/// Checks credentials.
pub struct Auth {
    accounts: Arc<dyn Accounts>,
    passwords: Passwords,
    by_account: Throttle<UserName>,
    by_network: Throttle<IpAddr>,
}

impl Auth {
    /// Makes a checker over these accounts.
    ///
    /// # Errors
    /// The operating system gave no random bytes.
    pub fn new(accounts: Arc<dyn Accounts>) -> Result<Self, getrandom::Error> {
        Ok(Self {
            accounts,
            passwords: Passwords::new()?,
            by_account: Throttle::new(ACCOUNT_ATTEMPTS, ACCOUNT_RECOVERY),
            by_network: Throttle::new(NETWORK_ATTEMPTS, NETWORK_RECOVERY),
        })
    }

    /// Finds out who sent these fields.
    ///
    /// # Errors
    /// 401 for credentials that are malformed, unknown or wrong (never which), 429 for too many of them, 503 when
    /// the catalog cannot say.
    pub async fn caller(&self, fields: &HeaderMap, peer: IpAddr) -> Result<Caller, Refusal> {
        match parse_credentials(fields)? {
            Credentials::None => Ok(Caller::NOBODY),
            Credentials::Bearer(token) => self.by_token(&token, None).await,
            // A browser keeps sending the cookie of a session that ended; whoever has none is nobody.
            Credentials::Cookie(token) => match self.by_token(&token, None).await {
                Err(refusal) if refusal.problem().kind == Kind::Unauthenticated => Ok(Caller::NOBODY),
                told => told,
            },
            Credentials::Basic { user, password } => match Token::parse(&password) {
                Some(token) => self.by_token(&token, Some(user.as_str())).await,
                None => self.by_password(&user, password, peer).await,
            },
        }
    }

    async fn by_token(&self, token: &Token, user: Option<&str>) -> Result<Caller, Refusal> {
        let hash = token.hash();
        let accounts = Arc::clone(&self.accounts);
        let found = blocking(move || accounts.token(&hash)).await?;
        // With Basic the name in front is free text unless it names somebody else.
        match found {
            Some(token) if user.is_none_or(|user| user.is_empty() || user == token.account.name.as_str()) => {
                Ok(Caller::bearer(&token))
            }
            _ => Err(refused()),
        }
    }

    /// Checks a password, which costs an attacker an attempt and us a hash, so in the order of what is cheap: a
    /// password verified lately, then the throttle, then the hash. An account that does not exist costs the same.
    ///
    /// One that is longer than any account has is wrong, and costs nothing.
    ///
    /// # Errors
    /// As [`Self::caller`].
    pub async fn by_password(&self, user: &str, password: Kept, peer: IpAddr) -> Result<Caller, Refusal> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(refused());
        }
        let name = UserName::parse(user);
        let accounts = Arc::clone(&self.accounts);
        let account = match name.clone() {
            Some(name) => blocking(move || accounts.account(&name)).await?,
            None => None,
        };
        let was_verified =
            |now| account.as_ref().filter(|account| self.passwords.was_verified(account, &password, now));
        if let Some(account) = was_verified(Instant::now()) {
            return Ok(Caller::user(account, Scopes::ALL));
        }
        let alone = self.passwords.alone(user, &password).await;
        let now = Instant::now();
        if let Some(account) = was_verified(now) {
            return Ok(Caller::user(account, Scopes::ALL));
        }
        let network = throttle::network(peer);
        self.by_network.admit(&network, 1, now).map_err(too_many)?;
        // Names without an account count too: else the throttle would tell which names have one.
        if let Some(name) = &name {
            self.by_account.admit(name, 1, now).map_err(too_many)?;
        }
        let is_right = self.passwords.verify(account.as_ref(), password.clone(), now).await?;
        drop(alone);
        if !is_right {
            return Err(refused());
        }
        self.by_network.forgive(&network, 1);
        if let Some(name) = &name {
            self.by_account.forgive(name, 1);
        }
        let account = account.expect("only a known account has a password that verifies");
        Ok(Caller::user(&account, Scopes::ALL))
    }
}

/// Asks the catalog on a thread that may block.
async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, Kind> + Send + 'static,
) -> Result<T, Refusal> {
    let answer = spawn_blocking(ask).await;
    let answer = answer.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    answer.map_err(Refusal::from)
}

fn refused() -> Refusal {
    metrics::credentials_refused();
    Kind::Unauthenticated.into()
}

fn too_many(wait: Duration) -> Refusal {
    Refusal::from(Kind::TooMany).retry_after(wait)
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;

    use super::*;

    /// One account with the password `right`, and one token of it.
    struct One {
        account: Account,
        token: TokenHash,
    }

    impl Accounts for One {
        fn account(&self, name: &UserName) -> Result<Option<Account>, Kind> {
            Ok((*name == self.account.name).then(|| self.account.clone()))
        }

        fn token(&self, hash: &TokenHash) -> Result<Option<LiveToken>, Kind> {
            let scopes = Scopes::NONE.with(hapax_proto::access::Scope::Read);
            Ok((*hash == self.token).then(|| LiveToken {
                id: TokenId(1),
                account: self.account.clone(),
                scopes,
            }))
        }
    }

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn auth() -> (Auth, String) {
        let token = Token::random().unwrap();
        let account = Account {
            id: UserId(7),
            space: SpaceId(8),
            name: UserName::parse("alice").unwrap(),
            role: Role::User,
            password_hash: hash_password("right").unwrap(),
        };
        let one = One { account, token: token.hash() };
        (Auth::new(Arc::new(one)).unwrap(), token.reveal().to_owned())
    }

    fn authorization(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    fn basic(user: &str, password: &str) -> HeaderMap {
        let pair = data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes());
        authorization(&format!("Basic {pair}"))
    }

    async fn scopes(auth: &Auth, fields: HeaderMap) -> Result<Scopes, Kind> {
        match auth.caller(&fields, PEER).await {
            Ok(Caller { subject: Subject::User { id: 7, role: Role::User, scopes }, who: Some(who) }) => {
                assert_eq!((who.name.as_str(), who.space, who.scopes), ("alice", SpaceId(8), scopes));
                Ok(scopes)
            }
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal.problem().kind),
        }
    }

    #[tokio::test]
    async fn a_password_or_a_token_says_who_asks() {
        let (auth, token) = auth();
        let read = Ok(Scopes::NONE.with(hapax_proto::access::Scope::Read));
        assert_eq!(auth.caller(&HeaderMap::new(), PEER).await.unwrap(), Caller::NOBODY);
        assert_eq!(scopes(&auth, basic("alice", "right")).await, Ok(Scopes::ALL));
        assert_eq!(scopes(&auth, authorization(&format!("Bearer {token}"))).await, read);
        assert_eq!(scopes(&auth, basic("alice", &token)).await, read);
        assert_eq!(scopes(&auth, basic("", &token)).await, read);
    }

    #[tokio::test]
    async fn wrong_credentials_are_refused_alike() {
        let (auth, token) = auth();
        let other = Token::random().unwrap();
        for fields in [
            basic("alice", "wrong"),
            basic("bob", "right"),
            basic("Not A Name", "right"),
            basic("bob", &token),
            authorization(&format!("Bearer {}", other.reveal())),
            authorization("Bearer x"),
            authorization("Basic !"),
            authorization("Digest a=b"),
        ] {
            assert_eq!(scopes(&auth, fields.clone()).await, Err(Kind::Unauthenticated), "{fields:?}");
        }
    }

    #[tokio::test]
    async fn the_throttle_does_not_tell_which_accounts_exist() {
        let (auth, _) = auth();
        for name in ["alice", "bob"] {
            for _ in 0..ACCOUNT_ATTEMPTS {
                assert_eq!(scopes(&auth, basic(name, "wrong")).await, Err(Kind::Unauthenticated));
            }
            assert_eq!(scopes(&auth, basic(name, "wrong")).await, Err(Kind::TooMany), "{name}");
        }
    }

    #[tokio::test]
    async fn a_guesser_is_slowed_and_whoever_was_verified_is_not() {
        let (auth, _) = auth();
        assert_eq!(scopes(&auth, basic("alice", "right")).await, Ok(Scopes::ALL));
        let mut refused = 0;
        let problem = loop {
            match scopes(&auth, basic("alice", "wrong")).await {
                Err(Kind::Unauthenticated) if refused < 100 => refused += 1,
                other => break other,
            }
        };
        assert_eq!(problem, Err(Kind::TooMany));
        assert_eq!(scopes(&auth, basic("alice", "right")).await, Ok(Scopes::ALL));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_crowd_with_the_right_password_is_let_in() {
        let auth = Arc::new(auth().0);
        let mut crowd = tokio::task::JoinSet::new();
        for _ in 0..3 * ACCOUNT_ATTEMPTS {
            let auth = Arc::clone(&auth);
            crowd.spawn(async move { scopes(&auth, basic("alice", "right")).await });
        }
        for answer in crowd.join_all().await {
            assert_eq!(answer, Ok(Scopes::ALL));
        }
    }
}
