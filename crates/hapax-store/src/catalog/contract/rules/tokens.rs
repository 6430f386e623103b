//! Tokens: how many there may be.

use super::*;
use crate::catalog::TOKENS_MAX;

fn add(user: UserId, number: u32, now: Timestamp, expires: Option<Timestamp>) -> Intent {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&number.to_be_bytes());
    Intent::AddToken { user, name: "t".into(), hash, scope: "all".into(), now, expires }
}

#[test]
fn an_account_has_so_many_tokens_and_what_ended_gives_way() {
    on_each(|catalog| {
        let ended = [2, 7, TOKENS_MAX - 1];
        for number in 0..TOKENS_MAX {
            let expires = if ended.contains(&number) { Some(at(5)) } else { Some(at(500)) };
            commit(catalog, add(ANN, number, T0, expires)).unwrap();
        }
        let next = TOKENS_MAX;
        assert_eq!(commit(catalog, add(ANN, next, at(4), None)), Err(Refusal::TooManyTokens));
        assert_eq!(catalog.tokens(ANN).unwrap().len(), TOKENS_MAX as usize);
        commit(catalog, add(UserId(2), next + 99, at(4), None)).unwrap();
        for number in next..next + 3 {
            commit(catalog, add(ANN, number, at(5), None)).unwrap();
        }
        assert_eq!(commit(catalog, add(ANN, next + 3, at(5), None)), Err(Refusal::TooManyTokens));
        let kept = catalog.tokens(ANN).unwrap();
        assert!(kept.iter().all(|token| token.expires != Some(at(5))), "{kept:?}");
        commit(catalog, Intent::RemoveToken { user: ANN, token: kept[0].id }).unwrap();
        commit(catalog, add(ANN, next + 3, at(5), None)).unwrap();
    });
}
