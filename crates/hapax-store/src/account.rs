//! The verbs of accounts: users, their passwords and quotas, tokens. Secrets come in hashed; what a hash is made of is
//! the business of whoever checks it.

use hapax_proto::span::Length;

use crate::catalog::{Intent, Outcome, SpaceId, Token, TokenId, User, UserId};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::store::Store;

/// A token to be added.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Whose it is.
    pub user: UserId,
    /// A name for people.
    pub name: String,
    /// The hash of the credential.
    pub hash: [u8; 32],
    /// What it may do, in the caller's encoding.
    pub scope: String,
    /// When it ends, by the wall clock.
    pub expires: Option<Timestamp>,
}

impl Store {
    /// Makes a user with a space of the same name.
    pub fn create_user(&self, name: String, password: String, admin: bool) -> Result<UserId, StoreError> {
        match self.commit(Intent::CreateUser { name, password, admin, now: self.now() })? {
            Outcome::User(user) => Ok(user),
            other => unreachable!("a new user came to {other:?}"),
        }
    }

    /// Replaces a user's password hash. Tokens stay: they are revoked one by one.
    pub fn set_password(&self, user: UserId, password: String) -> Result<(), StoreError> {
        self.commit(Intent::SetPassword { user, password }).map(drop)
    }

    /// Puts a user into a group, or into none.
    pub fn set_group(&self, user: UserId, group: Option<String>) -> Result<(), StoreError> {
        self.commit(Intent::SetGroup { user, group }).map(drop)
    }

    /// Limits a space, or lifts the limit. What is stored stays, even if it is more.
    pub fn set_quota(&self, space: SpaceId, quota: Option<Length>) -> Result<(), StoreError> {
        self.commit(Intent::SetQuota { space, quota }).map(drop)
    }

    /// Removes a user with all that is theirs.
    pub fn remove_user(&self, user: UserId) -> Result<(), StoreError> {
        self.commit(Intent::RemoveUser { user, now: self.now() }).map(drop)
    }

    /// Adds a token.
    pub fn add_token(&self, new: NewToken) -> Result<TokenId, StoreError> {
        let NewToken { user, name, hash, scope, expires } = new;
        match self.commit(Intent::AddToken { user, name, hash, scope, now: self.now().wall, expires })? {
            Outcome::Token(token) => Ok(token),
            other => unreachable!("a new token came to {other:?}"),
        }
    }

    /// Removes a token: from now on it is worth nothing.
    pub fn remove_token(&self, user: UserId, token: TokenId) -> Result<(), StoreError> {
        self.commit(Intent::RemoveToken { user, token }).map(drop)
    }

    /// Returns the token of this hash and its user, unless it ended.
    pub fn token(&self, hash: &[u8; 32]) -> Result<Option<(Token, User)>, StoreError> {
        let now = self.now().wall;
        let found = self.catalog().token(hash)?;
        Ok(found.filter(|(token, _)| token.expires.is_none_or(|expires| now < expires)))
    }
}
