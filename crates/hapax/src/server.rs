//! Which server a command talks to, and as whom. Owns the order in which addresses and credentials are looked for,
//! and the one exchange of a password for a token; what is asked of the server is the commands' business.
//!
//! ```text
//!   alias "nas"  ─▶ the login of that name
//!   no alias     ─▶ --server, HAPAX_SERVER or hapax.toml ─▶ HAPAX_TOKEN
//!                │                                       ├▶ HAPAX_USER and HAPAX_PASSWORD, exchanged once
//!                │                                       └▶ a login to the same address
//!                └▶ the login without a name ─▶ HAPAX_TOKEN, HAPAX_USER and HAPAX_PASSWORD, else its own token
//! ```

use std::collections::BTreeMap;

use hapax_client::client::{Client, Connection, Places as ClientPlaces};
use hapax_client::wire::Credentials;
use hapax_proto::dialect::native::CreateToken;
use hapax_proto::problem::Kind;

use crate::exit::{Code, Failure};
use crate::places::Places;
use crate::remote::Alias;
use crate::secrets::{Login, Logins};

/// Returns a variable of the environment that is set to something.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The servers that one command talks to.
pub(crate) struct Servers<'a> {
    places: &'a Places,
    /// The server of the empty alias, if a flag, the environment or a file says it.
    server: Option<&'a str>,
    /// After how many failures in a row a transfer is given up.
    attempts: u32,
    clients: BTreeMap<Alias, Client>,
}

impl<'a> Servers<'a> {
    /// Prepares to talk to servers.
    pub(crate) fn new(places: &'a Places, server: Option<&'a str>, attempts: u32) -> Self {
        Self { places, server, attempts, clients: BTreeMap::new() }
    }

    /// Returns the client of an alias.
    ///
    /// # Errors
    /// Nobody said where the server is or who asks, or a password is wrong.
    pub(crate) async fn client(&mut self, alias: &Alias) -> Result<Client, Failure> {
        if let Some(client) = self.clients.get(alias) {
            return Ok(client.clone());
        }
        let login = self.login(alias).await?;
        let mut connection = connection(&login.server, Credentials::Token(login.token), login.user);
        connection.patience.attempts_max = self.attempts;
        let client = open(self.places, connection).await?;
        self.clients.insert(alias.clone(), client.clone());
        Ok(client)
    }

    async fn login(&self, alias: &Alias) -> Result<Login, Failure> {
        let logins = Logins::read(self.places.logins())?;
        if !alias.as_str().is_empty() {
            let login = logins.find(alias.as_str()).cloned();
            let name = alias.as_str();
            return login.ok_or_else(|| {
                let failure = Failure::usage(format!("no server is known as {name}"));
                failure.hint(format!("run `hapax login --alias {name} URL`"))
            });
        }
        let Some(server) = self.server else {
            let login = logins.find("").cloned().ok_or_else(|| {
                let failure = Failure::usage("no server is known");
                failure.hint("run `hapax login URL`, or set HAPAX_SERVER and HAPAX_TOKEN")
            })?;
            if let Some(token) = variable("HAPAX_TOKEN") {
                return Ok(Login { token, user: variable("HAPAX_USER").unwrap_or_default(), ..login });
            }
            return match (
                variable("HAPAX_USER").filter(|user| *user != login.user),
                variable("HAPAX_PASSWORD"),
            ) {
                (None, _) => Ok(login),
                (Some(user), Some(password)) => self.exchange_once(&login.server, user, password).await,
                // Somebody else's files are not touched in this one's name.
                (Some(user), None) => Err(not_logged_in(&login.server, Some(&user))),
            };
        };
        let user = variable("HAPAX_USER");
        if let Some(token) = variable("HAPAX_TOKEN") {
            let user = user.unwrap_or_default();
            return Ok(Login { server: server.to_owned(), user, token });
        }
        if let (Some(user), Some(password)) = (&user, variable("HAPAX_PASSWORD")) {
            return self.exchange_once(server, user.clone(), password).await;
        }
        let found = logins.find_server(server, user.as_deref()).cloned();
        found.ok_or_else(|| not_logged_in(server, user.as_deref()))
    }

    /// Returns the token that was got for this account before, if it is still worth something, else a new one.
    async fn exchange_once(&self, server: &str, user: String, password: String) -> Result<Login, Failure> {
        let mut tokens = Logins::read(self.places.tokens())?;
        let name = format!("{user}@{}", server.trim_end_matches('/'));
        if let Some(login) = tokens.find(&name) {
            let credentials = Credentials::Token(login.token.clone());
            let client = open(self.places, connection(server, credentials, user.clone())).await?;
            match client.api().tokens().await {
                Err(error) if error.problem() == Some(Kind::Unauthenticated) => {}
                // Whatever else is wrong, the command itself will meet it.
                _ => return Ok(login.clone()),
            }
            tokens.forget(&name)?;
        }
        let login = exchange(self.places, server, user, password).await?;
        tokens.keep(&name, login.clone())?;
        Ok(login)
    }
}

/// Says that there is no token for a server, or for somebody there.
fn not_logged_in(server: &str, user: Option<&str>) -> Failure {
    let who = user.unwrap_or("nobody");
    let not = if user.is_some() { "not " } else { "" };
    let failure = Failure::new(Code::NotAllowed, format!("{who} is {not}logged in to {server}"));
    match user {
        Some(_) => failure.hint("set HAPAX_PASSWORD, too, or unset HAPAX_USER"),
        None => failure.hint(format!("run `hapax login {server}`, or set HAPAX_TOKEN")),
    }
}

/// Exchanges a password for a token, which can be revoked without changing the password.
///
/// # Errors
/// The server does not answer, or does not accept the password.
pub(crate) async fn exchange(
    places: &Places,
    server: &str,
    user: String,
    password: String,
) -> Result<Login, Failure> {
    let credentials = Credentials::Password { user: user.clone(), password };
    let client = open(places, connection(server, credentials, user.clone())).await?;
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let scope = ["read", "write", "admin"].map(str::to_owned).to_vec();
    let mut create = CreateToken { name: format!("hapax on {host}"), scope, expires: None };
    let created = match client.api().create_token(&create).await {
        // Not everybody may administrate.
        Err(error) if error.problem() == Some(Kind::Forbidden) => {
            create.scope.pop();
            client.api().create_token(&create).await
        }
        created => created,
    };
    match created {
        Ok(created) => Ok(Login { server: server.to_owned(), user: created.user, token: created.token }),
        Err(error) if error.problem() == Some(Kind::Unauthenticated) => {
            let sentence = format!("{server} does not accept this password for {user}");
            Err(Failure::new(Code::NotAllowed, sentence))
        }
        Err(error) => Err(error.into()),
    }
}

fn connection(server: &str, credentials: Credentials, user: String) -> Connection {
    Connection { address: server.to_owned(), credentials, user, ..Connection::default() }
}

async fn open(places: &Places, connection: Connection) -> Result<Client, Failure> {
    let places = ClientPlaces { checkpoints: places.checkpoints(), cache: Some(places.digests()) };
    Ok(Client::open(connection, places).await?)
}
