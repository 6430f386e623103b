//! `hapax admin`: accounts, tokens and housekeeping of the running server. Each is one request; what the answers
//! are is said by the server's own types.

use std::time::{Duration, SystemTime};

use hapax_client::client::Client;
use hapax_client::wire::Ask;
use hapax_proto::dialect::native::{API, CreateToken};
use hapax_proto::name::UserName;
use hapax_server::admin::{
    CheckReport, CompactReport, ScrubPass, ScrubState, StoreStats, SweepReport, UserInfo,
};
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::context::Context;
use crate::args::{Admin, Token, User};
use crate::exit::{Code, Failure};
use crate::remote::Alias;
use crate::secrets::ask_password;
use crate::server::variable;
use crate::words;

/// Where a new password may be read from, so that it stands in no list of processes.
const NEW_PASSWORD: &str = "HAPAX_NEW_PASSWORD";

/// How often the server is asked how far a scrub has come, and how many hundredths are worth a line.
const SCRUB_INTERVAL: Duration = Duration::from_millis(300);
const SCRUB_STEP: u64 = 10;

/// Does an administrator's work.
pub(super) async fn run(context: &Context, admin: &Admin) -> Result<(), Failure> {
    let client = context.servers().client(&Alias::default()).await?;
    match admin {
        Admin::User(command) => user(context, &client, command).await,
        Admin::Token(command) => token(context, &client, command).await,
        Admin::Check { read_data } => {
            let body = json!({ "data": read_data });
            let report: CheckReport = ask(&client, Method::POST, "/admin/check", Some(&body)).await?;
            say_check(context, &report)
        }
        Admin::Stats => {
            let stats: StoreStats = ask(&client, Method::GET, "/admin/stats", None).await?;
            context.screen.result(&measured(&stats), &About { event: "stats", what: &stats });
            Ok(())
        }
        Admin::Scrub { status } => {
            let state = if *status { scrub_state(&client).await? } else { scrub(context, &client).await? };
            say_scrub(context, &state)
        }
        Admin::Compact => {
            let report: CompactReport = ask(&client, Method::POST, "/admin/compact", None).await?;
            context.screen.outcome(&compacted(&report), &About { event: "compacted", what: &report });
            Ok(())
        }
        Admin::Sweep { now } => {
            let body = json!({ "now": now });
            let report: SweepReport = ask(&client, Method::POST, "/admin/sweep", Some(&body)).await?;
            context.screen.outcome(&swept(&report), &About { event: "swept", what: &report });
            Ok(())
        }
    }
}

#[derive(Serialize)]
struct About<'a, T> {
    event: &'static str,
    #[serde(flatten)]
    what: &'a T,
}

/// Sends one request below the API's path, and reads the answer.
async fn ask<T: DeserializeOwned>(
    client: &Client,
    method: Method,
    target: &str,
    body: Option<&Value>,
) -> Result<T, Failure> {
    let ask = Ask::new(method, format!("{API}{target}"));
    let ask = match body {
        Some(body) => ask.json(body),
        None => ask,
    };
    Ok(client.api().wire().ask(ask).await?.json().await?)
}

async fn user(context: &Context, client: &Client, command: &User) -> Result<(), Failure> {
    let say = |line: String, user: &UserInfo| {
        context.screen.outcome(&line, &About { event: "user", what: user });
    };
    match command {
        User::Ls => {
            let users: Vec<UserInfo> = ask(client, Method::GET, "/admin/users", None).await?;
            for user in &users {
                context.screen.result(&user_line(user), &About { event: "user", what: user });
            }
        }
        User::Add { name, admin } => {
            account(name)?;
            let body = json!({ "name": name, "password": new_password().await?, "admin": admin });
            let user = ask(client, Method::POST, "/admin/users", Some(&body)).await?;
            say(format!("made the account {name}"), &user);
        }
        User::Password { name } => {
            let target = account(name)?;
            let body = json!({ "password": new_password().await? });
            let user = ask(client, Method::PATCH, &target, Some(&body)).await?;
            say(format!("{name} has another password; tokens stay as they are"), &user);
        }
        User::Quota { name, limit } => {
            let target = account(name)?;
            let quota = match limit.as_str() {
                "none" => None,
                limit => Some(words::parse_bytes(limit).ok_or_else(|| {
                    Failure::usage(format!("{limit} is no number of bytes")).hint("write 500GiB, or none")
                })?),
            };
            let user = ask(client, Method::PATCH, &target, Some(&json!({ "quota": quota }))).await?;
            let limit = quota.map_or_else(|| "as much as there is room".to_owned(), words::bytes);
            say(format!("{name} may store {limit}"), &user);
        }
        User::Group { name, group } => {
            let target = account(name)?;
            let group = (group != "none").then_some(group);
            let user = ask(client, Method::PATCH, &target, Some(&json!({ "group": group }))).await?;
            let said = group.map_or_else(|| "no group".to_owned(), |group| format!("the group {group}"));
            say(format!("{name} belongs to {said}"), &user);
        }
        User::Rm { name } => {
            let request = Ask::new(Method::DELETE, format!("{API}{}", account(name)?));
            client.api().wire().ask(request).await?.success().await?;
            let event = json!({ "event": "removed", "user": name });
            context.screen.outcome(&format!("removed the account {name} with all that was its own"), &event);
        }
    }
    Ok(())
}

/// Returns the target of an account, whose name is checked because it becomes part of a path.
fn account(name: &str) -> Result<String, Failure> {
    let name = UserName::parse(name).ok_or_else(|| {
        let failure = Failure::usage(format!("{name} cannot be the name of an account"));
        failure.hint("use lower-case letters, digits, `.`, `_` and `-`, a letter or digit first")
    })?;
    Ok(format!("/admin/users/{name}"))
}

async fn new_password() -> Result<String, Failure> {
    if let Some(password) = variable(NEW_PASSWORD) {
        return Ok(password);
    }
    let asked = ask_password("new password").await;
    asked.map_err(|failure| failure.hint(format!("set {NEW_PASSWORD}")))
}

fn user_line(user: &UserInfo) -> String {
    let role = if user.admin { "admin" } else { "user" };
    let quota =
        user.quota.map_or_else(|| "no limit".to_owned(), |quota| format!("of {}", words::bytes(quota)));
    let group = user.group.as_deref().unwrap_or("-");
    format!("{:<20}  {role:<5}  {group:<12}  {:>9} {quota}", user.name, words::bytes(user.used))
}

async fn token(context: &Context, client: &Client, command: &Token) -> Result<(), Failure> {
    match command {
        Token::Ls => {
            for token in client.api().tokens().await? {
                let ends = token.expires.as_deref().unwrap_or("for ever");
                let line = format!(
                    "{:>4}  {:<16}  {ends:<20}  {}",
                    token.id,
                    token.scope.join(","),
                    words::printable(&token.name)
                );
                context.screen.result(&line, &About { event: "token", what: &token });
            }
        }
        Token::Add { name, scope, expires } => {
            let expires = expires.and_then(|life| SystemTime::now().checked_add(life));
            let expires = expires.map(|end| humantime::format_rfc3339_seconds(end).to_string());
            let create = CreateToken { name: name.clone(), scope: scope.clone(), expires };
            let created = client.api().create_token(&create).await?;
            context.screen.result(&created.token, &About { event: "token", what: &created });
            context.screen.note("this token is told only now; keep it like a password");
        }
        Token::Rm { id } => {
            client.api().delete_token(*id).await?;
            context
                .screen
                .outcome(&format!("revoked token {id}"), &json!({ "event": "removed", "token": id }));
        }
    }
    Ok(())
}

/// Says what a check found, and fails if it found anything.
pub(super) fn say_check(context: &Context, report: &CheckReport) -> Result<(), Failure> {
    for finding in &report.findings {
        context.screen.result(&words::printable(finding), &json!({ "event": "finding", "what": finding }));
    }
    let looked = format!(
        "{}, {}, {} read",
        words::count(report.objects, "object", "objects"),
        words::count(report.blobs, "blob", "blobs"),
        words::bytes(report.bytes)
    );
    if report.findings.is_empty() {
        context.screen.outcome(&format!("all is well: {looked}"), &About { event: "checked", what: report });
        return Ok(());
    }
    let findings = words::count(report.findings.len() as u64, "thing is wrong", "things are wrong");
    let failure = Failure::new(Code::Integrity, format!("{findings} ({looked})"));
    Err(failure.hint("put the damaged files again: that heals the stored copies"))
}

async fn scrub_state(client: &Client) -> Result<ScrubState, Failure> {
    ask(client, Method::GET, "/admin/scrub", None).await
}

/// Has everything scrubbed, and waits until it was. If this ends before, the scrub goes on.
async fn scrub(context: &Context, client: &Client) -> Result<ScrubState, Failure> {
    let before: ScrubState = ask(client, Method::POST, "/admin/scrub", None).await?;
    let mut told = 0;
    loop {
        let state = scrub_state(client).await?;
        if state.failures > before.failures {
            let failure = Failure::new(Code::Failed, "the scrub stopped");
            return Err(failure.hint("the log of the server says why"));
        }
        if state.runs > before.runs {
            return Ok(state);
        }
        if let Some(pass) = &state.now
            && words::percent(pass.bytes, pass.total.max(1)) >= told + SCRUB_STEP
        {
            told = words::percent(pass.bytes, pass.total) / SCRUB_STEP * SCRUB_STEP;
            context.screen.event(&About { event: "scrubbing", what: pass });
            context.screen.note(&format!("{told} %: {}", read(pass)));
        }
        tokio::time::sleep(SCRUB_INTERVAL).await;
    }
}

fn read(pass: &ScrubPass) -> String {
    format!("{} of {} read", words::bytes(pass.bytes), words::bytes(pass.total.max(pass.bytes)))
}

/// Says what a scrub found, and fails if anything is damaged.
fn say_scrub(context: &Context, state: &ScrubState) -> Result<(), Failure> {
    for content in &state.damaged {
        let line = format!(
            "{}: damaged, {}",
            words::printable(&content.paths.join(", ")),
            words::bytes(content.size)
        );
        context.screen.result(&line, &About { event: "damaged", what: content });
    }
    let passes = [&state.now, &state.last];
    let uploads = passes.into_iter().flatten().flat_map(|pass| &pass.uploads);
    for upload in uploads {
        context.screen.result(
            &format!("{}: damaged", words::printable(upload)),
            &json!({ "event": "damaged", "upload": upload }),
        );
    }
    context.screen.outcome(&scrubbed(state), &About { event: "scrubbed", what: state });
    if state.damaged.is_empty() {
        return Ok(());
    }
    let damaged = words::count(state.damaged.len() as u64, "content is damaged", "contents are damaged");
    Err(Failure::new(Code::Integrity, damaged)
        .hint("put one of the files again: that heals it for everybody"))
}

fn scrubbed(state: &ScrubState) -> String {
    let last = state.last.as_ref().map(|pass| {
        let objects = words::count(pass.objects, "object", "objects");
        let ended = pass.ended.as_deref().unwrap_or_default();
        format!("everything was read by {ended}: {objects} with {}", words::bytes(pass.bytes))
    });
    let now = state.now.as_ref().map(|pass| format!("since {}: {}", pass.started, read(pass)));
    let lines: Vec<_> = now.into_iter().chain(last).collect();
    if lines.is_empty() { "nothing was scrubbed yet".to_owned() } else { lines.join("\n") }
}

fn compacted(report: &CompactReport) -> String {
    let parts = words::count(report.parts, "part", "parts");
    let done = format!("wrote {parts} anew, {}", words::bytes(report.bytes));
    if report.ended { done } else { format!("{done}; not all, for space runs short or the server ends") }
}

fn measured(stats: &StoreStats) -> String {
    let rows = [
        ("accounts", stats.users.to_string()),
        ("files", stats.files.to_string()),
        ("folders", stats.folders.to_string()),
        ("unfinished uploads", stats.uploads.to_string()),
        ("bytes as users see them", words::bytes(stats.logical)),
        ("different contents", format!("{} with {}", stats.blobs, words::bytes(stats.unique))),
        ("objects", format!("{} with {}", stats.objects, words::bytes(stats.stored))),
        ("contents to be hashed", stats.unhashed.to_string()),
        ("damaged contents", stats.damaged.to_string()),
        ("pieces to be joined", stats.fragments.to_string()),
        (
            "dead bytes",
            format!("{}, and {} given up", words::bytes(stats.dead), words::bytes(stats.given_up)),
        ),
    ];
    let lines = rows.into_iter().map(|(name, value)| format!("{name:<25}{value}"));
    let jobs = stats.jobs.iter().map(|job| {
        let running = if job.running { ", running" } else { "" };
        let runs = words::count(job.runs, "run", "runs");
        format!(
            "{:<25}{runs}, {} failed, {} read{running}",
            format!("job {}", job.name),
            job.failures,
            words::bytes(job.bytes)
        )
    });
    let lines = lines.chain(jobs);
    lines.collect::<Vec<_>>().join("\n")
}

fn swept(report: &SweepReport) -> String {
    format!(
        "ended {}, removed {} and {}",
        words::count(report.uploads_expired as u64, "upload", "uploads"),
        words::count(report.blobs_buried as u64, "content", "contents"),
        words::count((report.objects_deleted + report.strays_deleted) as u64, "object", "objects"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_an_account_is_checked_before_it_is_part_of_a_path() {
        #[track_caller]
        fn check(name: &str, target: Option<&str>) {
            assert_eq!(account(name).ok().as_deref(), target);
        }
        check("ann", Some("/admin/users/ann"));
        check("ann.b-2", Some("/admin/users/ann.b-2"));
        check("../tokens", None);
        check("Ann", None);
        check("", None);
    }

    #[test]
    fn an_account_is_one_line() {
        #[track_caller]
        fn check(quota: Option<u64>, group: Option<&str>, line: &str) {
            let user = UserInfo {
                name: "ann".to_owned(),
                admin: false,
                group: group.map(str::to_owned),
                created: "2026-11-21T22:00:00Z".to_owned(),
                quota,
                used: 1_536,
                reserved: 0,
            };
            assert_eq!(user_line(&user), line);
        }
        check(None, None, "ann                   user   -               1.5 KiB no limit");
        check(Some(5 << 30), Some("lab"), "ann                   user   lab             1.5 KiB of 5 GiB");
    }
}
