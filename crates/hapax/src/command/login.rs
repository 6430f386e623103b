//! `hapax login`: exchanges a password once for a token that is kept. The password itself is kept nowhere.

use serde::Serialize;

use super::context::Context;
use crate::args::Login;
use crate::exit::Failure;
use crate::remote::Alias;
use crate::secrets::{Logins, ask, ask_password};
use crate::server::{exchange, variable};

/// Logs in.
pub(super) async fn run(context: &Context, login: &Login) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Told<'a> {
        event: &'static str,
        server: &'a str,
        user: &'a str,
        alias: &'a str,
    }
    let name = login.alias.as_deref().unwrap_or_default();
    let alias = Alias::parse(name).ok_or_else(|| {
        let failure = Failure::usage(format!("{name} cannot stand before the colon of a remote path"));
        failure.hint("use lower-case letters, digits, `.`, `_` and `-`")
    })?;
    let user = match &login.user {
        Some(user) => user.clone(),
        None => ask("user").await?,
    };
    let password = match variable("HAPAX_PASSWORD") {
        Some(password) => password,
        None => ask_password("password").await?,
    };
    let mut logins = Logins::read(context.places.logins())?;
    let kept = exchange(&context.places, &login.url, user, password).await?;
    let line = format!("logged in to {} as {}; remote paths begin with {name}:", kept.server, kept.user);
    let event = Told { event: "login", server: &kept.server, user: &kept.user, alias: name };
    logins.keep(alias.as_str(), kept.clone())?;
    context.screen.outcome(&line, &event);
    Ok(())
}
