//! Accounts and tokens as the store keeps them, and how the scopes of a token are spelled.

use hapax_proto::access::{Role, Scope, Scopes};
use hapax_proto::name::UserName;
use hapax_proto::problem::Kind;
use hapax_store::catalog::User;
use hapax_store::error::StoreError;
use hapax_store::store::Store;

use crate::auth::{Account, Accounts, LiveToken, TokenHash};
use crate::refuse::problem_of;

/// The words of scopes.
const WORDS: [(&str, Scope); 3] = [("read", Scope::Read), ("write", Scope::Write), ("admin", Scope::Admin)];

impl Accounts for Store {
    fn account(&self, name: &UserName) -> Result<Option<Account>, Kind> {
        let user = self.catalog().user(name.as_str()).map_err(|error| kind(&error))?;
        Ok(user.and_then(account))
    }

    fn token(&self, hash: &TokenHash) -> Result<Option<LiveToken>, Kind> {
        // Named in full: the store has a method of the same name.
        let found = Store::token(self, hash.as_bytes()).map_err(|error| kind(&error))?;
        Ok(found.and_then(|(token, user)| {
            let scopes = parse_scopes(token.scope.split(' '))?;
            Some(LiveToken { id: token.id, account: account(user)?, scopes })
        }))
    }
}

fn kind(error: &StoreError) -> Kind {
    problem_of(error).kind
}

fn account(user: User) -> Option<Account> {
    Some(Account {
        id: user.id,
        space: user.space,
        name: UserName::parse(&user.name)?,
        role: if user.admin { Role::Admin } else { Role::User },
        password_hash: user.password,
    })
}

/// Reads the words of scopes; `None` if one is unknown.
pub fn parse_scopes<'a>(words: impl IntoIterator<Item = &'a str>) -> Option<Scopes> {
    words.into_iter().try_fold(Scopes::NONE, |scopes, word| {
        let (_, scope) = WORDS.iter().find(|(known, _)| *known == word)?;
        Some(scopes.with(*scope))
    })
}

/// Lists the words of scopes.
pub fn spell_scopes(scopes: Scopes) -> Vec<&'static str> {
    WORDS.iter().filter(|(_, scope)| scopes.has(*scope)).map(|(word, _)| *word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_survive_their_spelling() {
        for words in [&[][..], &["read"], &["write"], &["read", "write", "admin"]] {
            assert_eq!(spell_scopes(parse_scopes(words.iter().copied()).unwrap()), words);
        }
        assert_eq!(parse_scopes(["read", "all"]), None);
        assert_eq!(parse_scopes([""]), None);
    }
}
