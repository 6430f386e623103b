//! What curl gets: the second opinion on what a server holds. Owns the calling of curl and nothing of ours.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;

use super::digest::{Digest, Hashing};
use super::server::Account;

/// What a GET answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Got {
    /// 200, complete, with this content.
    Content(Digest),
    /// 404.
    Nothing,
    /// Anything else, in words.
    Odd(String),
}

/// Prepares curl, silent but for errors.
pub(crate) fn curl(account: Account) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "1800", "--user"]);
    command.arg(format!("{}:{}", account.name, account.password));
    command.stdin(Stdio::null());
    command
}

/// Gets a file and has its content hashed by another process as it comes.
pub(crate) fn get_file(
    server: SocketAddr,
    account: Account,
    path: &str,
    hashing: &Hashing,
) -> anyhow::Result<Got> {
    let mut child = curl(account)
        .args(["--write-out", "%{stderr}%{http_code}"])
        .arg(format!("http://{server}/files{path}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start curl")?;
    let body = child.stdout.take().context("curl has no standard output")?;
    let digest = hashing.stream(body.into())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok(match (output.status.code(), said.as_str()) {
        (Some(0), "200") => Got::Content(digest),
        (Some(0), "404") => Got::Nothing,
        (code, said) => Got::Odd(format!("curl ended with {code:?}: {said}")),
    })
}

/// Puts a file with `curl -T`; true if the answer was a success.
pub(crate) fn put_file(url: &str, account: Account, local: &Path) -> anyhow::Result<bool> {
    let mut command = curl(account);
    command.args(["--fail", "--upload-file"]).arg(local).arg(url).stdout(Stdio::null());
    Ok(command.status().context("cannot start curl")?.success())
}
