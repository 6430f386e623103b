//! `hapax serve`: from settings to a running server and to its orderly end. Owns what is said at the start; the
//! server itself is `hapax_server`.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use hapax_proto::claim::Rules;
use hapax_proto::span::Length;
use hapax_server::app::App;
use hapax_server::config::{Caps, Config, Deadlines, JobLimits, TlsFiles};
use hapax_server::offline::{DataFolder, FIRST_ADMIN, OfflineError, Retention};
use hapax_server::serve::{ServeError, Server};
use serde_json::json;
use tokio::task::spawn_blocking;

use super::context::Context;
use crate::args::Serve;
use crate::exit::{Code, Failure, in_one_line};
use crate::secrets::random_password;
use crate::server::variable;
use crate::signal::{Signal, signalled};

/// How long the end of a server may take.
const DRAIN: Duration = Duration::from_secs(9);

/// Runs a server until a signal ends it.
pub(super) async fn run(context: &Context, serve: &Serve) -> Result<(), Failure> {
    let folder = folder(context, serve);
    let config = config(serve)?;
    let retention =
        Retention { grace: serve.grace, upload_idle: serve.upload_idle, uploads_max: serve.uploads_max };
    // A signal that comes while the server starts is not lost: it ends it as soon as it runs.
    let signal = signalled();
    let (app, folder) = blocking(move || Ok((open(&folder, retention, config)?, folder))).await?;
    let store = Arc::clone(&app.store);
    let server = Server::bind(app).await.map_err(|error| not_served(&error))?;
    // Not before: a server that cannot listen tells nobody the password, and it is told only once.
    let password = blocking(move || {
        let (password, drawn) = first_password()?;
        let made = folder.make_first_admin(&store, || password).map_err(|error| unusable(&error))?;
        Ok(drawn.filter(|_| made))
    })
    .await?;
    let scheme = if serve.tls_cert.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}{}", server.address(), serve.base_path);
    announce(context, &url, password.as_deref());
    let ended = server
        .run(async {
            let signal: Signal = signal.await;
            tracing::info!(?signal, "ending");
        })
        .await;
    ended.map_err(|error| not_served(&error))
}

fn folder(context: &Context, serve: &Serve) -> DataFolder {
    DataFolder {
        data: serve.data.clone().unwrap_or_else(|| context.places.data().to_owned()),
        keys: serve.keys.clone(),
        master_key_file: serve.master_key_file.clone(),
    }
}

fn config(serve: &Serve) -> Result<Config, Failure> {
    let tls = match (&serve.tls_cert, &serve.tls_key) {
        (None, None) => None,
        (Some(certificates), Some(key)) => {
            Some(TlsFiles { certificates: certificates.clone(), key: key.clone() })
        }
        _ => {
            let failure = Failure::usage("a certificate is of no use without its key, nor a key without it");
            return Err(failure.hint("give both --tls-cert and --tls-key, or none"));
        }
    };
    let base_path = serve.base_path.clone();
    if !base_path.is_empty() && (!base_path.starts_with('/') || base_path.ends_with('/')) {
        let failure = Failure::usage(format!("{base_path} cannot stand before every path"));
        return Err(failure.hint("write it with a slash in front and none behind: /hapax"));
    }
    let caps = Caps {
        connections: serve.connections_max,
        uploads_per_account: serve.uploads_max,
        ..Caps::default()
    };
    let deadlines = Deadlines { drain: DRAIN, ..Deadlines::default() };
    let allowed_origins = serve.allowed_origin.clone();
    let claims = Rules {
        scope: serve.claims,
        lookups: serve.lookups.0.clone(),
        wide_min: Length::new(serve.claims_min),
        holders_max: serve.claims_holders,
    };
    let jobs = JobLimits { rate: serve.job_rate.0, scrub_period: serve.scrub_period.0 };
    Ok(Config { listen: serve.listen, base_path, tls, allowed_origins, claims, jobs, deadlines, caps })
}

/// Opens the store.
fn open(folder: &DataFolder, retention: Retention, config: Config) -> Result<App, Failure> {
    let store = folder.open(retention).map_err(|error| unusable(&error))?;
    App::new(config, store)
        .map_err(|error| Failure::new(Code::Failed, format!("cannot draw random bytes: {error}")))
}

/// Returns the password that the first account would have, and once more if it is drawn.
fn first_password() -> Result<(String, Option<String>), Failure> {
    let given = variable("HAPAX_ADMIN_PASSWORD");
    let drawn = match &given {
        Some(_) => None,
        None => Some(random_password()?),
    };
    Ok((given.or_else(|| drawn.clone()).unwrap_or_default(), drawn))
}

/// Says where the server is, in the one line that scripts wait for, and what nobody is told again.
fn announce(context: &Context, url: &str, password: Option<&str>) {
    let line = match password {
        None => url.to_owned(),
        Some(password) => format!("{url} user {FIRST_ADMIN}, password {password} (told only now)"),
    };
    if context.global.json {
        let event = json!({ "event": "ready", "url": url, "user": FIRST_ADMIN, "password": password });
        context.screen.event(&event);
        return;
    }
    let mut output = io::stdout().lock();
    // A server whose output nobody reads serves all the same.
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

/// Words what keeps a data folder shut.
pub(super) fn unusable(error: &OfflineError) -> Failure {
    let sentence = in_one_line(error);
    match error {
        OfflineError::Held { .. } => Failure::new(Code::Conflict, sentence)
            .hint("end the other server, or name another folder with --data"),
        OfflineError::Absent { .. } => {
            Failure::new(Code::NotFound, sentence).hint("name the data folder of a server with --data")
        }
        OfflineError::Unusable { .. } => Failure::usage(sentence)
            .hint("name another folder with --data, or use the version of hapax that wrote this one"),
        OfflineError::NoAccount { .. } => Failure::new(Code::NotFound, sentence),
        OfflineError::Password(_) => Failure::usage(sentence),
        _ => Failure::new(Code::Failed, sentence),
    }
}

fn not_served(error: &ServeError) -> Failure {
    let sentence = in_one_line(error);
    match error {
        ServeError::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
            Failure::new(Code::Conflict, sentence)
                .hint("end the other program, or name another address with --listen")
        }
        ServeError::Pem { .. } | ServeError::Tls(_) => Failure::usage(sentence),
        _ => Failure::new(Code::Failed, sentence),
    }
}

/// Runs work that blocks on a thread where that harms nobody.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    spawn_blocking(work).await.unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Command, CommandLine};

    #[test]
    fn settings_become_a_configuration_or_are_refused() {
        #[track_caller]
        fn check(line: &str, accepted: bool) {
            let parsed = <CommandLine as clap::Parser>::try_parse_from(line.split_whitespace()).unwrap();
            let Command::Serve(serve) = parsed.command else { unreachable!("the line says serve") };
            let config = config(&serve);
            assert_eq!(config.is_ok(), accepted, "{config:?}");
        }
        check("hapax serve", true);
        check("hapax serve --tls-cert c.pem --tls-key k.pem", true);
        check("hapax serve --tls-cert c.pem", false);
        check("hapax serve --tls-key k.pem", false);
        check("hapax serve --base-path /hapax", true);
        check("hapax serve --base-path /hapax/", false);
        check("hapax serve --base-path hapax", false);
    }
}
