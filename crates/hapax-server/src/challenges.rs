//! Challenges that are open: what was claimed, who has to prove it and until when. Owns that each is answered at most once
//! and by whom it was posed to, and what asking beyond one's own costs an account. Time comes in as an argument; nothing
//! here is kept over a restart, after which whoever claimed claims again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use data_encoding::BASE64URL_NOPAD;
use hapax_proto::claim::{Seed, more_time};
use hapax_proto::dialect::native::Precondition;
use hapax_proto::digest::Digest;
use hapax_proto::name::EntryPath;
use hapax_proto::span::Length;
use hapax_store::catalog::{Meta, SpaceId, UserId};

use crate::throttle::Throttle;

/// The most memory that the challenges of one account take, and of all: some ten thousand, and so many accounts.
const ACCOUNT_BYTES_MAX: usize = 8 << 20;
const BYTES_MAX: usize = 64 << 20;
/// What a challenge weighs beside its texts.
const CHALLENGE_BYTES: usize = 512;

/// Claims that an account may have looked up beyond its own at once, and how soon one more.
const LOOKUPS: u32 = 10_000;
const LOOKUP_INTERVAL: Duration = Duration::from_millis(360);
/// What a proof that proves nothing costs, in lookups: who has the file is seldom wrong, who guesses almost always.
const WRONG_PROOF: u32 = 1_000;

/// What is read for an account to compare proofs and quick digests, in MiB: 256 GiB at once and in a day.
const READ_MIB: u32 = 256 << 10;
const READ_INTERVAL: Duration = Duration::from_nanos(86_400_000_000_000 / READ_MIB as u64);

/// What was claimed, and where it should appear.
#[derive(Debug, Clone)]
pub struct Challenge {
    /// What the content was called.
    pub digest: Digest,
    /// Its size.
    pub size: Length,
    /// The key of the proof.
    pub seed: Seed,
    /// The space it should appear in.
    pub space: SpaceId,
    /// Its path there.
    pub path: EntryPath,
    /// What is said about it.
    pub meta: Meta,
    /// What must hold at the target.
    pub precondition: Option<Precondition>,
}

impl Challenge {
    fn weight(&self) -> usize {
        let told = self.meta.media_type.as_ref().map_or(0, String::len);
        let guard = self.precondition.as_ref().map_or(0, |guard| format!("{guard:?}").len());
        CHALLENGE_BYTES + self.path.to_string().len() + told + guard
    }
}

/// Names a challenge.
type Token = [u8; 16];

/// What is open, in the order in which it ends.
#[derive(Debug, Default)]
struct Open {
    by_token: HashMap<Token, (UserId, Challenge)>,
    posed: BTreeMap<(Instant, Token), Posed>,
    weights: HashMap<UserId, usize>,
    weight: usize,
}

/// Stays until its time is over, answered or not: so an account cannot have more posed by answering them.
#[derive(Debug)]
struct Posed {
    to: UserId,
    weight: usize,
}

/// The challenges that are open, and what asking beyond one's own costs.
#[derive(Debug)]
pub struct Challenges {
    open: Mutex<Open>,
    lookups: Throttle<UserId>,
    reading: Throttle<UserId>,
    lifetime: Duration,
}

impl Challenges {
    /// Begins with none; each may be answered for so long, and [more](more_time) if the content is large.
    pub fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            open: Mutex::default(),
            lookups: Throttle::new(LOOKUPS, LOOKUP_INTERVAL),
            reading: Throttle::new(READ_MIB, READ_INTERVAL),
        }
    }

    /// Returns for how long a challenge for a content of this size may be answered.
    pub fn lifetime(&self, size: Length) -> Duration {
        self.lifetime + more_time(size)
    }

    /// Tells whether an account may have a content looked up beyond its own, which counts.
    pub fn may_look_up(&self, user: UserId, now: Instant) -> bool {
        self.lookups.admit(&user, 1, now).is_ok()
    }

    /// Tells whether so much may be read for an account, which counts.
    pub fn may_read(&self, user: UserId, length: Length, now: Instant) -> bool {
        mib(length).is_some_and(|mib| self.reading.admit(&user, mib, now).is_ok())
    }

    /// Counts an answer that proved nothing.
    pub fn was_wrong(&self, user: UserId, now: Instant) {
        self.lookups.charge(&user, WRONG_PROOF, now);
    }

    /// Takes back what was read for an answer that was right: it saved as many bytes on the line.
    pub fn was_right(&self, user: UserId, length: Length) {
        if let Some(mib) = mib(length) {
            self.reading.forgive(&user, mib);
        }
    }

    /// Poses a challenge under the name of `random`; `None` if the account, or all together, have too many.
    pub fn pose(&self, to: UserId, random: Token, challenge: Challenge, now: Instant) -> Option<String> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.forget_ended(now);
        let weight = challenge.weight();
        let theirs = open.weights.get(&to).copied().unwrap_or_default();
        if theirs + weight > ACCOUNT_BYTES_MAX || open.weight + weight > BYTES_MAX {
            return None;
        }
        open.weight += weight;
        open.weights.insert(to, theirs + weight);
        let ends = now + self.lifetime(challenge.size);
        open.by_token.insert(random, (to, challenge));
        open.posed.insert((ends, random), Posed { to, weight });
        Some(BASE64URL_NOPAD.encode(&random))
    }

    /// Takes a challenge to answer it. Nobody can take it again, whoever it was that tried.
    pub fn take(&self, token: &str, by: UserId, now: Instant) -> Option<Challenge> {
        let token: Token = BASE64URL_NOPAD.decode(token.as_bytes()).ok()?.try_into().ok()?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.forget_ended(now);
        let (to, challenge) = open.by_token.remove(&token)?;
        (to == by).then_some(challenge)
    }
}

impl Open {
    fn forget_ended(&mut self, now: Instant) {
        while let Some(first) = self.posed.first_entry().filter(|first| first.key().0 <= now) {
            let ((_, token), posed) = first.remove_entry();
            self.by_token.remove(&token);
            self.weight -= posed.weight;
            let theirs = self.weights.get_mut(&posed.to).expect("what was posed was weighed");
            *theirs -= posed.weight;
            if *theirs == 0 {
                self.weights.remove(&posed.to);
            }
        }
    }
}

/// Returns a length in MiB, rounded up; `None` if there is no such file.
fn mib(length: Length) -> Option<u32> {
    u32::try_from(length.get().div_ceil(1 << 20)).ok()
}

#[cfg(test)]
mod tests {
    use hapax_proto::claim::CHALLENGE_LIFETIME;
    use hapax_proto::digest::FileHash;

    use super::*;

    const ANN: UserId = UserId(1);
    const BOB: UserId = UserId(2);

    fn challenge(path: &str) -> Challenge {
        Challenge {
            digest: FileHash::new([7; 32]).into(),
            size: Length::new(1),
            seed: Seed::new([8; 32]),
            space: SpaceId(1),
            path: EntryPath::parse(path).unwrap(),
            meta: Meta::default(),
            precondition: None,
        }
    }

    #[test]
    fn a_challenge_is_taken_once_and_by_whom_it_was_posed_to() {
        let (challenges, now) = (Challenges::new(CHALLENGE_LIFETIME), Instant::now());
        let pose = |n| challenges.pose(ANN, [n; 16], challenge("/a"), now).unwrap();
        let token = pose(1);
        assert!(challenges.take(&token, ANN, now).is_some());
        assert!(challenges.take(&token, ANN, now).is_none(), "replayed");
        let token = pose(2);
        assert!(challenges.take(&token, BOB, now).is_none(), "foreign");
        assert!(challenges.take(&token, ANN, now).is_none(), "burnt by the foreign one");
        let token = pose(3);
        assert!(challenges.take(&token, ANN, now + CHALLENGE_LIFETIME).is_none(), "late");
        for nonsense in ["", "AAAA", "not base64", &pose(4)[1..]] {
            assert!(challenges.take(nonsense, ANN, now).is_none(), "{nonsense}");
        }
    }

    #[test]
    fn who_has_a_large_file_on_a_slow_disk_has_the_time_to_read_it() {
        let (challenges, now) = (Challenges::new(CHALLENGE_LIFETIME), Instant::now());
        let pose = |n, size| {
            let challenge = Challenge { size: Length::new(size), ..challenge("/a") };
            challenges.pose(ANN, [n; 16], challenge, now).unwrap()
        };
        let film = pose(1, 100_000_000_000);
        let others = [pose(2, 1), pose(3, 12_000_000_000)];
        let later = now + CHALLENGE_LIFETIME;
        assert!(others.iter().all(|token| challenges.take(token, ANN, later).is_none()));
        assert!(challenges.take(&film, ANN, now + Duration::from_secs(999)).is_some());
        assert_eq!(challenges.lifetime(Length::new(100_000_000_000)), Duration::from_secs(1_000));
    }

    #[test]
    fn memory_is_bounded_for_each_account_and_comes_back_with_time() {
        let (challenges, begun) = (Challenges::new(CHALLENGE_LIFETIME), Instant::now());
        let long = format!("/{}", "n".repeat(250));
        let mut random = 0_u128;
        let mut pose = |user, now| {
            random += 1;
            challenges.pose(user, random.to_le_bytes(), challenge(&long), now)
        };
        let mut count = 0;
        while let Some(token) = pose(ANN, begun) {
            count += 1;
            // Answering them makes no room.
            assert!(challenges.take(&token, ANN, begun).is_some());
        }
        assert!((10_000..20_000).contains(&count), "{count}");
        assert!(pose(BOB, begun).is_some());
        assert!(pose(ANN, begun + CHALLENGE_LIFETIME).is_some());
        let open = challenges.open.lock().unwrap();
        assert_eq!((open.posed.len(), open.weights.len(), open.by_token.len()), (1, 1, 1));
    }

    #[test]
    fn all_accounts_together_are_bounded_too() {
        let (challenges, now) = (Challenges::new(CHALLENGE_LIFETIME), Instant::now());
        let mut random = 0_u128;
        let mut weight = 0;
        for user in 0..20 {
            loop {
                random += 1;
                let posed = challenge("/a");
                weight += posed.weight();
                if challenges.pose(UserId(user), random.to_le_bytes(), posed, now).is_none() {
                    break;
                }
            }
        }
        assert!(weight <= BYTES_MAX + 21 * ACCOUNT_BYTES_MAX / 10_000, "{weight}");
        assert!(challenges.open.lock().unwrap().weight <= BYTES_MAX);
    }

    #[test]
    fn guessing_and_reading_have_an_end() {
        let (challenges, now) = (Challenges::new(CHALLENGE_LIFETIME), Instant::now());
        let wrong = LOOKUPS / WRONG_PROOF;
        for _ in 0..wrong {
            assert!(challenges.may_look_up(BOB, now));
            challenges.was_wrong(BOB, now);
        }
        assert!(!challenges.may_look_up(BOB, now), "after so many wrong proofs");
        assert!(challenges.may_look_up(ANN, now), "others go on");
        let large = Length::new(200 << 30);
        assert!(challenges.may_read(ANN, large, now));
        assert!(!challenges.may_read(ANN, large, now));
        challenges.was_right(ANN, large);
        assert!(challenges.may_read(ANN, large, now));
        assert!(challenges.may_read(BOB, Length::new(1), now));
        assert!(!challenges.may_read(BOB, Length::new(300 << 30), now));
        assert!(!challenges.may_read(BOB, Length::new(u64::MAX), now));
    }
}
