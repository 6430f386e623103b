//! Accounts and housekeeping, for admins. The role opens nobody's files. Long work (check, sweep, compact) runs on a
//! blocking thread beside everything else, one at a time; a scrub in background.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hapax_proto::access::Object;
use hapax_proto::name::UserName;
use hapax_proto::problem::{Kind, Problem};
use hapax_proto::span::{Length, SIZE_MAX};
use hapax_store::catalog::{Refusal as StoreRefusal, User};
use hapax_store::check::{Depth, Report};
use hapax_store::clock::Timestamp;
use hapax_store::compact::Compacted;
use hapax_store::error::StoreError;
use hapax_store::job::Go;
use hapax_store::scrub::Pass;
use hapax_store::store::Store;
use hapax_store::sweep::Keep;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Deserializer, Serialize};
use tokio::task::spawn_blocking;

use crate::app::Phase;
use crate::auth::{PASSWORD_BYTES_MAX, access_id, hash_password};
use crate::call::{Call, bad_field};
use crate::pace::{Job, Numbers};
use crate::respond::{self, Refusal, Response};
use crate::stamp;

/// The shortest password that is taken, in bytes; the longest is that of authentication.
const PASSWORD_BYTES_MIN: usize = 8;

/// `POST /api/v1/admin/users`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// The login name, which is also the name of the space.
    pub name: String,
    /// The password.
    pub password: String,
    /// Whether the user may administer the service.
    #[serde(default)]
    pub admin: bool,
    /// The most bytes that may lie in the space; no limit if absent.
    #[serde(default)]
    pub quota: Option<u64>,
}

/// `PATCH /api/v1/admin/users/<name>`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeUser {
    /// The new password, if it changes.
    #[serde(default)]
    pub password: Option<String>,
    /// The new quota, if it changes; null lifts it.
    #[serde(default, deserialize_with = "present")]
    pub quota: Option<Option<u64>>,
    /// The group, if it changes; null is none. It is named like an account.
    #[serde(default, deserialize_with = "present")]
    pub group: Option<Option<String>>,
}

/// Keeps `null` and absent apart: it is only called for a member that is there.
#[expect(clippy::option_option, reason = "absent, null and a value are three things")]
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// One account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInfo {
    /// The login name.
    pub name: String,
    /// Whether the user may administer the service.
    pub admin: bool,
    /// The group, within which claims may reach from one account to another.
    #[serde(default)]
    pub group: Option<String>,
    /// When the account was made, RFC 3339.
    pub created: String,
    /// The most bytes that may lie in the space.
    pub quota: Option<u64>,
    /// The bytes of its files.
    pub used: u64,
    /// The bytes promised to unfinished uploads.
    pub reserved: u64,
}

/// `GET /api/v1/admin/users`.
pub async fn list_users(call: &Call<'_>) -> Result<Response, Refusal> {
    call.allow(&Object::Service)?;
    let users = call
        .store(|store| {
            let users = store.catalog().users()?;
            users.iter().map(|user| describe(store, user)).collect::<Result<Vec<_>, StoreError>>()
        })
        .await?;
    Ok(respond::json(StatusCode::OK, &users))
}

fn describe(store: &Store, user: &User) -> Result<UserInfo, StoreError> {
    let space = store.catalog().space_by_id(user.space)?;
    let count =
        |length: fn(&hapax_store::catalog::Space) -> Length| space.as_ref().map_or(0, |s| length(s).get());
    Ok(UserInfo {
        name: user.name.clone(),
        admin: user.admin,
        group: user.group.clone(),
        created: stamp::spell(user.created),
        quota: space.as_ref().and_then(|space| space.quota).map(Length::get),
        used: count(|space| space.used),
        reserved: count(|space| space.reserved),
    })
}

/// `POST /api/v1/admin/users`.
pub async fn create_user(call: &mut Call<'_>) -> Result<Response, Refusal> {
    call.allow(&Object::Service)?;
    let CreateUser { name, password, admin, quota } = call.json().await?;
    let name = UserName::parse(&name).ok_or_else(|| bad_field("name"))?;
    let quota = quota.map(parse_quota).transpose()?;
    let hash = hashed(password).await?;
    let created = call
        .store(move |store| {
            store.create_user(name.to_string(), hash, admin)?;
            let user = store.catalog().user(name.as_str())?;
            let Some(user) = user else { return Ok(None) };
            if quota.is_some() {
                store.set_quota(user.space, quota)?;
            }
            describe(store, &user).map(Some)
        })
        .await?;
    Ok(respond::json(StatusCode::CREATED, &created.ok_or(Kind::NotFound)?))
}

/// Reads a quota: more than the longest file is as good as no limit, and is to be said so.
fn parse_quota(quota: u64) -> Result<Length, Refusal> {
    if quota > SIZE_MAX { Err(bad_field("quota")) } else { Ok(Length::new(quota)) }
}

/// Checks the length of a password, or says what is wrong with it.
pub(crate) fn check_password(password: &str) -> Result<(), String> {
    if (PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password.len()) {
        return Ok(());
    }
    Err(format!("a password has {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} bytes"))
}

/// Checks the length of a password and hashes it.
async fn hashed(password: String) -> Result<String, Refusal> {
    if let Err(detail) = check_password(&password) {
        return Err(Problem::new(Kind::BadField).member("field", "password").detail(detail).into());
    }
    let hashed = spawn_blocking(move || hash_password(&password)).await;
    let hashed = hashed.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    hashed.map_err(|error| {
        tracing::error!(%error, "a password could not be hashed");
        Kind::Internal.into()
    })
}

/// `PATCH /api/v1/admin/users/<name>`. Tokens stay when the password changes.
pub async fn change_user(call: &mut Call<'_>, name: UserName) -> Result<Response, Refusal> {
    let user = find(call, name).await?;
    let change: ChangeUser = call.json().await?;
    if let Some(Some(group)) = &change.group
        && UserName::parse(group).is_none()
    {
        return Err(bad_field("group"));
    }
    let quota = change.quota.map(|quota| quota.map(parse_quota).transpose()).transpose()?;
    let hash = match change.password {
        Some(password) => Some(hashed(password).await?),
        None => None,
    };
    let info = call
        .store(move |store| {
            if let Some(hash) = hash {
                store.set_password(user.id, hash)?;
            }
            if let Some(quota) = quota {
                store.set_quota(user.space, quota)?;
            }
            if let Some(group) = change.group {
                store.set_group(user.id, group)?;
            }
            // Read again: it is not what it was.
            let user = store.catalog().user(&user.name)?.ok_or(StoreRefusal::NotFound)?;
            describe(store, &user)
        })
        .await?;
    Ok(respond::json(StatusCode::OK, &info))
}

/// `DELETE /api/v1/admin/users/<name>`: with everything that is theirs. Nobody removes themselves, so that there is
/// always an admin left.
pub async fn remove_user(call: &Call<'_>, name: UserName) -> Result<Response, Refusal> {
    let user = find(call, name).await?;
    if user.id == call.who()?.user {
        return Err(Problem::new(Kind::Forbidden).detail("nobody removes their own account").into());
    }
    call.store(move |store| store.remove_user(user.id)).await?;
    Ok(respond::empty(StatusCode::NO_CONTENT, HeaderMap::new()))
}

/// Finds an account that the caller may manage.
async fn find(call: &Call<'_>, name: UserName) -> Result<User, Refusal> {
    // Whoever manages no accounts is refused alike for names that exist and names that do not.
    call.allow(&Object::Service)?;
    let user = call.store(move |store| store.catalog().user(name.as_str())).await?.ok_or(Kind::NotFound)?;
    call.allow(&Object::Account { owner: access_id(user.id) })?;
    Ok(user)
}

/// `POST /api/v1/admin/check`: what to look at.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Whether every byte is read, authenticated and hashed too.
    #[serde(default)]
    pub data: bool,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// What is wrong, in words; empty if all is well.
    pub findings: Vec<String>,
    /// Objects looked at.
    pub objects: u64,
    /// Blobs looked at.
    pub blobs: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// `POST /api/v1/admin/check`.
pub async fn check(call: &mut Call<'_>) -> Result<Response, Refusal> {
    call.allow(&Object::Service)?;
    let check: Check = call.json().await?;
    let _turn = call.app.housework.try_lock().map_err(|_| Kind::Busy)?;
    let depth = if check.data { Depth::Data } else { Depth::Structure };
    let found = call.store(move |store| store.check(depth)).await?;
    Ok(respond::json(StatusCode::OK, &report(found)))
}

/// Says what a check found as it stands on the wire.
pub(crate) fn report(found: Report) -> CheckReport {
    let Report { findings, objects, blobs, bytes } = found;
    CheckReport { findings, objects, blobs, bytes }
}

/// `POST /api/v1/admin/sweep`: how much to keep.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Whether what was given up goes at once, without the grace.
    #[serde(default)]
    pub now: bool,
}

/// What a sweep did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepReport {
    /// Uploads whose time ran out.
    pub uploads_expired: usize,
    /// Ended uploads that no longer answer.
    pub uploads_forgotten: usize,
    /// Blobs that nothing pointed to.
    pub blobs_buried: usize,
    /// Objects whose files were deleted.
    pub objects_deleted: usize,
    /// Files of crashed runs.
    pub strays_deleted: usize,
    /// Second copies that were settled.
    pub spares_settled: usize,
}

/// `POST /api/v1/admin/sweep`.
pub async fn sweep(call: &mut Call<'_>) -> Result<Response, Refusal> {
    call.allow(&Object::Service)?;
    let sweep: Sweep = call.json().await?;
    let _turn = call.app.housework.try_lock().map_err(|_| Kind::Busy)?;
    let keep = if sweep.now { Keep::Nothing } else { Keep::Grace };
    let job = &call.app.jobs.sweep;
    job.begin();
    let swept = call.store(move |store| store.sweep(keep)).await;
    job.end(swept.is_err());
    let swept = swept?;
    let report = SweepReport {
        uploads_expired: swept.uploads_expired,
        uploads_forgotten: swept.uploads_forgotten,
        blobs_buried: swept.blobs_buried,
        objects_deleted: swept.objects_deleted,
        strays_deleted: swept.strays_deleted,
        spares_settled: swept.spares_settled,
    };
    Ok(respond::json(StatusCode::OK, &report))
}

/// What a compaction did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactReport {
    /// Parts that are one piece now, or lie in another object.
    pub parts: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Whether everything was looked at: not if space ran short or the server ended.
    pub ended: bool,
}

/// `POST /api/v1/admin/compact`: at once, and as fast as it goes.
pub async fn compact(call: &Call<'_>) -> Result<Response, Refusal> {
    call.allow(&Object::Service)?;
    let job = &call.app.jobs.compact;
    if job.numbers().running {
        return Err(Kind::Busy.into());
    }
    let told = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&told);
    job.begin();
    let mut working = pin!(call.store(move |store| {
        store.compact(&|_| if ended.load(Ordering::Relaxed) { Go::Stop } else { Go::On })
    }));
    let done = tokio::select! {
        done = &mut working => done,
        () = call.app.life.reached(Phase::Draining) => {
            told.store(true, Ordering::Relaxed);
            working.await
        }
    };
    job.end(done.is_err());
    let Compacted { parts, bytes, ended, .. } = done?;
    Ok(respond::json(StatusCode::OK, &CompactReport { parts, bytes, ended }))
}

/// A pass of the scrub through everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubPass {
    /// When it began, RFC 3339.
    pub started: String,
    /// When it ended, if it did.
    pub ended: Option<String>,
    /// How many bytes there were to read when it began.
    pub total: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Objects of them.
    pub objects: u64,
    /// Objects that could not be read as they should.
    pub damaged: u64,
    /// Unfinished uploads that lost bytes by that.
    pub uploads: Vec<String>,
}

/// A damaged content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedContent {
    /// Some of the files that show it.
    pub paths: Vec<String>,
    /// How long it is.
    pub size: u64,
}

/// How far the scrub has come, and what is damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubState {
    /// Whether it runs.
    pub running: bool,
    /// How often it came to its end since the server started.
    pub runs: u64,
    /// How often it failed; the log says why.
    pub failures: u64,
    /// The pass that was begun and has not ended.
    pub now: Option<ScrubPass>,
    /// The pass before.
    pub last: Option<ScrubPass>,
    /// What is damaged, whoever found it, and not healed yet: the first thousand.
    pub damaged: Vec<DamagedContent>,
}

/// `POST /api/v1/admin/scrub`: at once, and as fast as it goes, in background.
pub async fn scrub(call: &Call<'_>) -> Result<Response, Refusal> {
    call.allow(&Object::Service)?;
    // Told as it was before, so that whoever waits sees when a run ends.
    let state = look_at_scrub(call).await?;
    call.app.jobs.hurry_scrub();
    Ok(respond::json(StatusCode::ACCEPTED, &state))
}

/// `GET /api/v1/admin/scrub`.
pub async fn scrub_state(call: &Call<'_>) -> Result<Response, Refusal> {
    call.allow(&Object::Service)?;
    Ok(respond::json(StatusCode::OK, &look_at_scrub(call).await?))
}

async fn look_at_scrub(call: &Call<'_>) -> Result<ScrubState, Refusal> {
    let Numbers { running, runs, failures, .. } = call.app.jobs.scrub.numbers();
    call.store(move |store| {
        let progress = store.scrub_progress()?;
        let pass = |pass: Pass| {
            let spell = |millis| stamp::spell(store.wall_time_of(Timestamp::from_millis(millis)));
            let Pass { started, ended, total, objects, bytes, damaged, uploads } = pass;
            let (started, ended) = (spell(started), ended.map(spell));
            ScrubPass { started, ended, total, bytes, objects, damaged, uploads }
        };
        let damaged = store.damage()?.into_iter();
        let damaged = damaged.map(|found| DamagedContent { paths: found.paths, size: found.size.get() });
        Ok(ScrubState {
            running,
            runs,
            failures,
            now: progress.now.map(pass),
            last: progress.last.map(pass),
            damaged: damaged.collect(),
        })
    })
    .await
}

/// What is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStats {
    /// Accounts.
    pub users: u64,
    /// Files.
    pub files: u64,
    /// Folders, the roots of spaces included.
    pub folders: u64,
    /// Different contents.
    pub blobs: u64,
    /// Bytes of the files as users see them.
    pub logical: u64,
    /// Bytes of the different contents.
    pub unique: u64,
    /// Objects.
    pub objects: u64,
    /// Bytes in objects.
    pub stored: u64,
    /// Unfinished uploads.
    pub uploads: u64,
    /// Contents still to be hashed for a digest that they should be found by.
    #[serde(default)]
    pub unhashed: u64,
    /// Contents that were found damaged and are not healed yet.
    #[serde(default)]
    pub damaged: u64,
    /// Pieces that contents lie in beyond one for each part.
    #[serde(default)]
    pub fragments: u64,
    /// Bytes in objects that nothing holds and that share the object with others: a compaction leaves them behind.
    #[serde(default)]
    pub dead: u64,
    /// Bytes of objects that were given up: a sweep removes them after the grace.
    #[serde(default)]
    pub given_up: u64,
    /// Background jobs, and what they did since the server started.
    #[serde(default)]
    pub jobs: Vec<JobStats>,
}

/// What a background job did since the server started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStats {
    /// What it is called.
    pub name: String,
    /// Whether it runs.
    pub running: bool,
    /// How often it ran to its end.
    pub runs: u64,
    /// How often it failed; the log says why.
    pub failures: u64,
    /// How many bytes it read.
    pub bytes: u64,
}

impl From<&Job> for JobStats {
    fn from(job: &Job) -> Self {
        let Numbers { running, runs, failures, bytes } = job.numbers();
        Self { name: job.name.to_owned(), running, runs, failures, bytes }
    }
}

/// `GET /api/v1/admin/stats`.
pub async fn stats(call: &Call<'_>) -> Result<Response, Refusal> {
    call.allow(&Object::Service)?;
    let lookups = call.app.config.claims.lookups.clone();
    let counted = call.store(move |store| Ok((store.catalog().stats()?, store.lookup_backlog(&lookups)?)));
    let (stats, unhashed) = counted.await?;
    let stats = StoreStats {
        users: stats.users,
        files: stats.files,
        folders: stats.folders,
        blobs: stats.blobs,
        logical: stats.logical,
        unique: stats.unique,
        objects: stats.objects,
        stored: stats.stored,
        uploads: stats.uploads,
        damaged: stats.damaged,
        fragments: stats.fragments,
        dead: stats.dead,
        given_up: stats.given_up,
        unhashed,
        jobs: call.app.jobs.all().map(JobStats::from).collect(),
    };
    Ok(respond::json(StatusCode::OK, &stats))
}
