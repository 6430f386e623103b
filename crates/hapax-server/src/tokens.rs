//! Tokens: made, listed and revoked by the account they act for. The text of a token is told once.

use hapax_proto::access::{Object, Scope, Scopes};
use hapax_proto::dialect::native::{CreateToken, CreatedToken, TokenInfo};
use hapax_proto::problem::{Kind, Problem};
use hapax_store::account::NewToken;
use hapax_store::catalog::TokenId;
use http::{HeaderMap, StatusCode};

use crate::auth::{Token, Who, access_id, parse_scopes, spell_scopes};
use crate::call::{Call, bad_field};
use crate::respond::{self, Refusal, Response};
use crate::stamp;

/// The longest name of a token, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// `POST /api/v1/tokens`.
///
/// # Errors
/// 403 for a scope that the caller does not have: a token never makes a mightier one.
pub async fn create(call: &mut Call<'_>) -> Result<Response, Refusal> {
    let who = allowed(call)?;
    let create: CreateToken = call.json().await?;
    if create.name.is_empty() || create.name.len() > NAME_BYTES_MAX {
        return Err(bad_field("name"));
    }
    let scopes = parse_scopes(create.scope.iter().map(String::as_str)).ok_or_else(|| bad_field("scope"))?;
    if scopes == Scopes::NONE {
        return Err(bad_field("scope"));
    }
    if !is_within(scopes, who.scopes) {
        return Err(Problem::new(Kind::Forbidden).detail("a token has no scope that its maker lacks").into());
    }
    let expires = create.expires.map(|expires| stamp::parse("expires", &expires)).transpose()?;
    let token = Token::random().map_err(|_| Kind::Unavailable)?;
    let new = NewToken {
        user: who.user,
        name: create.name,
        hash: *token.hash().as_bytes(),
        scope: spell_scopes(scopes).join(" "),
        expires,
    };
    let id = call.store(move |store| store.add_token(new)).await?;
    let created = CreatedToken { id: id.0, token: token.reveal().to_owned(), user: who.name.to_string() };
    Ok(respond::json(StatusCode::CREATED, &created))
}

/// Tells whether no scope is wanted that is not had.
fn is_within(wanted: Scopes, had: Scopes) -> bool {
    [Scope::Read, Scope::Write, Scope::Admin].into_iter().all(|scope| had.has(scope) || !wanted.has(scope))
}

/// `GET /api/v1/tokens`.
pub async fn list(call: &Call<'_>) -> Result<Response, Refusal> {
    let user = allowed(call)?.user;
    let tokens = call.store(move |store| store.catalog().tokens(user)).await?;
    let tokens: Vec<TokenInfo> = tokens
        .into_iter()
        .map(|token| TokenInfo {
            id: token.id.0,
            name: token.name,
            scope: token.scope.split_whitespace().map(str::to_owned).collect(),
            created: stamp::spell(token.created),
            expires: token.expires.map(stamp::spell),
        })
        .collect();
    Ok(respond::json(StatusCode::OK, &tokens))
}

/// `DELETE /api/v1/tokens/<id>`.
pub async fn revoke(call: &Call<'_>, token: TokenId) -> Result<Response, Refusal> {
    let user = allowed(call)?.user;
    call.store(move |store| store.remove_token(user, token)).await?;
    Ok(respond::empty(StatusCode::NO_CONTENT, HeaderMap::new()))
}

/// Asks whether the caller may manage the tokens of the caller's account.
fn allowed(call: &Call<'_>) -> Result<Who, Refusal> {
    let who = call.who()?;
    call.allow(&Object::Account { owner: access_id(who.user) })?;
    Ok(who.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_makes_a_mightier_one() {
        let (read, write) = (Scopes::NONE.with(Scope::Read), Scopes::NONE.with(Scope::Write));
        assert!(is_within(read, Scopes::ALL));
        assert!(is_within(read, read));
        assert!(!is_within(write, read));
        assert!(!is_within(Scopes::ALL, read.with(Scope::Write)));
    }
}
