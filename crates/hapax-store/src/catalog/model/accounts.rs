//! Users, tokens and spaces, and the one place that counts a quota.

use std::num::NonZero;

use hapax_proto::span::Length;
use hapax_proto::upload::State;

use super::tables::{EntryRow, SpaceRow, Tables, sum};
use crate::catalog::{
    Answer, Counted, Outcome, Refusal, SPACE_MAX, Space, SpaceId, TOKENS_MAX, Token, TokenId, Upload,
    UploadId, User, UserId,
};
use crate::clock::Moment;

/// In what steps an upload of unknown size reserves.
const RESERVE_STEP: NonZero<u64> = NonZero::new(64 * 1024 * 1024).expect("not zero");

impl Tables {
    pub(super) fn create_user(&mut self, name: &str, password: &str, admin: bool, now: Moment) -> Answer {
        let taken = self.users.values().any(|user| user.name == name)
            || self.spaces.values().any(|space| space.name == name);
        if taken {
            return Err(Refusal::Exists);
        }
        let (user, space, root) = (self.next_user(), self.next_space(), self.next_entry());
        let row = User {
            id: user,
            name: name.to_owned(),
            password: password.to_owned(),
            admin,
            space,
            group: None,
            created: now.wall,
        };
        self.users.insert(user, row);
        self.spaces.insert(space, SpaceRow { name: name.to_owned(), owner: user, quota: None });
        let row =
            EntryRow { space, place: None, version: 1, time: now.wall, weak: false, lost: None, file: None };
        self.entries.insert(root, row);
        Ok(Outcome::User(user))
    }

    pub(super) fn set_password(&mut self, user: UserId, password: &str) -> Answer {
        password.clone_into(&mut self.users.get_mut(&user).ok_or(Refusal::NotFound)?.password);
        Ok(Outcome::Done)
    }

    pub(super) fn set_group(&mut self, user: UserId, group: Option<&str>) -> Answer {
        self.users.get_mut(&user).ok_or(Refusal::NotFound)?.group = group.map(str::to_owned);
        Ok(Outcome::Done)
    }

    pub(super) fn set_quota(&mut self, space: SpaceId, quota: Option<Length>) -> Answer {
        self.spaces.get_mut(&space).ok_or(Refusal::NotFound)?.quota = quota;
        Ok(Outcome::Done)
    }

    pub(super) fn remove_user(&mut self, user: UserId, now: Moment) -> Answer {
        let space = self.users.remove(&user).ok_or(Refusal::NotFound)?.space;
        let leaving = |upload: &Upload| upload.user == user || upload.space == space;
        let uploads: Vec<(UploadId, State)> = self
            .uploads
            .values()
            .filter(|row| leaving(&row.upload))
            .map(|row| (row.upload.id, row.upload.state))
            .collect();
        for (id, state) in uploads {
            if state == State::Open {
                self.end(id, State::Cancelled, now.steady);
            }
            self.uploads.remove(&id);
        }
        self.entries.retain(|_, entry| entry.space != space);
        self.orphan_blobs(now.steady);
        self.tokens.retain(|_, token| token.user != user);
        self.spaces.remove(&space);
        Ok(Outcome::Done)
    }

    pub(super) fn add_token(&mut self, hash: [u8; 32], token: Token) -> Answer {
        if !self.users.contains_key(&token.user) {
            return Err(Refusal::NotFound);
        }
        if self.tokens.contains_key(&hash) {
            return Err(Refusal::Exists);
        }
        let most = TOKENS_MAX as usize;
        if self.tokens_of(token.user).len() >= most {
            let ended = |row: &Token| row.expires.is_some_and(|expires| expires <= token.created);
            self.tokens.retain(|_, row| row.user != token.user || !ended(row));
            if self.tokens_of(token.user).len() >= most {
                return Err(Refusal::TooManyTokens);
            }
        }
        let id = token.id;
        self.tokens.insert(hash, token);
        Ok(Outcome::Token(id))
    }

    pub(super) fn remove_token(&mut self, user: UserId, token: TokenId) -> Answer {
        let before = self.tokens.len();
        self.tokens.retain(|_, row| row.user != user || row.id != token);
        if self.tokens.len() == before { Err(Refusal::NotFound) } else { Ok(Outcome::Done) }
    }

    pub(super) fn token(&self, hash: &[u8; 32]) -> Option<(Token, User)> {
        let token = self.tokens.get(hash)?;
        Some((token.clone(), self.users[&token.user].clone()))
    }

    pub(super) fn tokens_of(&self, user: UserId) -> Vec<Token> {
        let mut tokens: Vec<_> = self.tokens.values().filter(|token| token.user == user).cloned().collect();
        tokens.sort_by_key(|token| token.id);
        tokens
    }

    pub(super) fn space(&self, id: SpaceId) -> Option<Space> {
        let row = self.spaces.get(&id)?;
        Some(Space {
            id,
            name: row.name.clone(),
            owner: row.owner,
            quota: row.quota,
            used: self.used(id),
            reserved: self.reserved(id),
        })
    }

    /// Returns the sum of the sizes of a space's files.
    pub(super) fn used(&self, space: SpaceId) -> Length {
        let files = self.entries.values().filter(|entry| entry.space == space);
        sum(files.filter_map(|entry| Some(self.blobs[&entry.file.as_ref()?.blob].size)))
    }

    /// Returns what is promised to the open uploads into a space.
    pub(super) fn reserved(&self, space: SpaceId) -> Length {
        let open = self.uploads.values().filter(|row| row.upload.state == State::Open);
        sum(open.filter(|row| row.upload.space == space).map(|row| self.reservation(row.upload.id)))
    }

    /// Returns what is promised to one upload.
    pub(super) fn reservation(&self, upload: UploadId) -> Length {
        let upload = &self.uploads[&upload].upload;
        if upload.state != State::Open || upload.counted != Counted::Here {
            return Length::ZERO;
        }
        upload.size.unwrap_or_else(|| {
            let covered = self.contents[&upload.content].covered().get();
            Length::new(covered.next_multiple_of(RESERVE_STEP.get()))
        })
    }

    /// Refuses a change that has been made, if it filled the space further, and past its quota. `was` is what lay in
    /// the space or was promised before.
    pub(super) fn check_quota(&self, space: SpaceId, was: Length) -> Result<(), Refusal> {
        let total = self.filled(space);
        let limit = self.spaces[&space].quota.unwrap_or(SPACE_MAX);
        if total > limit && total > was { Err(Refusal::Quota { limit, used: was }) } else { Ok(()) }
    }

    /// Returns what lies in a space or is promised.
    pub(super) fn filled(&self, space: SpaceId) -> Length {
        sum([self.used(space), self.reserved(space)])
    }
}
