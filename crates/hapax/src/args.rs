//! The command line: commands, their arguments and flags, and the words of `--help`. Owns their spelling; reads no
//! file and decides nothing. Every flag is also an environment variable and a key of `hapax.toml` (see `settings`),
//! so a flag has a long name, and its variable is that name behind `HAPAX_`.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueHint};
use hapax_proto::claim::{LOOKUPS, Scope};
use hapax_proto::digest::{Algorithm, Digest};
use hapax_proto::tree::{PART, SEGMENT};

use crate::words;

/// The shortest time for a scrub.
const PERIOD_MIN: Duration = Duration::from_hours(24);

/// The slowest rate of background jobs that is taken for meant.
const RATE_MIN: u64 = 64 << 10;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "hapax",
    version,
    about = "A netdisk and transfer engine: every byte crosses the wire once",
    after_help = EXIT_CODES,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
A remote path is [alias]:/path, or [alias]:@space/path in somebody else's space. The same command again is the resume.

Exit codes: 0 ok, 1 some files failed, 2 usage, 3 not found, 4 not allowed, 5 temporary (run it again),
6 conflict, 7 integrity, 8 source changed, 9 no space or quota, 130 and 143 interrupted.";

/// The flags that every command has.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Print NDJSON events on standard output
    #[arg(long, global = true, env = "HAPAX_JSON", hide_env = true)]
    pub(crate) json: bool,
    /// Print nothing but errors
    #[arg(short, long, global = true, env = "HAPAX_QUIET", hide_env = true)]
    pub(crate) quiet: bool,
    /// Read settings from this file instead of hapax.toml in the configuration folder
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(env = "HAPAX_CONFIG", hide_env = true)]
    pub(crate) config: Option<PathBuf>,
    /// Talk to this server instead of the one that was logged in to
    #[arg(long, global = true, value_name = "URL", value_hint = ValueHint::Url)]
    #[arg(env = "HAPAX_SERVER", hide_env = true)]
    pub(crate) server: Option<String>,
    /// Give a transfer up after so many failures in a row without a byte of progress
    #[arg(long, global = true, value_name = "COUNT", default_value = "10", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(env = "HAPAX_ATTEMPTS", hide_env = true)]
    pub(crate) attempts: u32,
    /// What to log on standard error: error, warn, info, debug, trace, or rules like `hapax_client=debug`
    #[arg(long, global = true, value_name = "LEVEL", default_value = "warn")]
    #[arg(env = "HAPAX_LOG", hide_env = true)]
    pub(crate) log: String,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a server; everything it needs is embedded
    Serve(Box<Serve>),
    /// Show the promise in one command: temporary server, put, kill, resume, instant, get
    Demo(Demo),
    /// Exchange a password once for a token kept in the configuration folder
    Login(Login),
    /// Send files: resumes, or is instant, or sends only what changed
    Put(Put),
    /// Receive files: parallel, verified, resumable
    Get(Get),
    /// List a folder
    Ls(Ls),
    /// Tell everything about an entry
    Stat(Paths),
    /// Remove entries
    Rm(Rm),
    /// Give an entry another name
    Mv(Mv),
    /// Make folders, with their parents
    Mkdir(Paths),
    /// Write remote files to standard output, verified
    Cat(Paths),
    /// List unfinished uploads, or remove one
    Transfers(Transfers),
    /// Compare a local file with a remote one by their hashes
    Verify(Verify),
    /// Print BLAKE3, SHA-256 and MD5 of local files, computed in one pass
    Hash(Hash),
    /// Administrate the running server
    #[command(subcommand)]
    Admin(Admin),
    /// Work on a data folder that no server holds
    #[command(subcommand)]
    Offline(Offline),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Print the manual page
    Man,
}

/// `hapax serve`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Serve {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4000")]
    #[arg(env = "HAPAX_LISTEN", hide_env = true)]
    pub(crate) listen: SocketAddr,
    /// The data folder; made at the first start [default: hapax in the user's data folder]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, env = "HAPAX_DATA", hide_env = true)]
    pub(crate) data: Option<PathBuf>,
    /// Where the key ring lies, best on another device [default: keys in the data folder]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, env = "HAPAX_KEYS", hide_env = true)]
    pub(crate) keys: Option<PathBuf>,
    /// The file with the master key that wraps the key ring [default: one in the folder of keys]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(env = "HAPAX_MASTER_KEY_FILE", hide_env = true)]
    pub(crate) master_key_file: Option<PathBuf>,
    /// The certificate chain to serve TLS with, PEM
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, env = "HAPAX_TLS_CERT", hide_env = true)]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The private key of the certificate, PEM
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, env = "HAPAX_TLS_KEY", hide_env = true)]
    pub(crate) tls_key: Option<PathBuf>,
    /// What stands before every path, when a proxy adds it: /hapax
    #[arg(long, value_name = "PATH", default_value = "", env = "HAPAX_BASE_PATH", hide_env = true)]
    pub(crate) base_path: String,
    /// An origin of foreign pages that may read answers: <https://host:port>; may be repeated
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    #[arg(env = "HAPAX_ALLOWED_ORIGIN", hide_env = true)]
    pub(crate) allowed_origin: Vec<String>,
    /// How long what was removed or replaced is kept
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    #[arg(env = "HAPAX_GRACE", hide_env = true)]
    pub(crate) grace: Duration,
    /// How long an unfinished upload lives without a byte
    #[arg(long, value_name = "TIME", default_value = "7days", value_parser = duration)]
    #[arg(env = "HAPAX_UPLOAD_IDLE", hide_env = true)]
    pub(crate) upload_idle: Duration,
    /// Unfinished uploads of one account
    #[arg(long, value_name = "COUNT", default_value = "1000", env = "HAPAX_UPLOADS_MAX", hide_env = true)]
    pub(crate) uploads_max: u32,
    /// By which digests contents are found, for claims by somebody who knows no BLAKE3: sha-256, md5 and sha, between
    /// commas; each content is read once for them in background. Nothing turns it off
    #[arg(long, value_name = "ALGS", default_value = "sha-256,md5", value_parser = lookups)]
    #[arg(env = "HAPAX_LOOKUPS", hide_env = true)]
    pub(crate) lookups: Lookups,
    /// Whose contents need not be sent again: off, user (one's own), group (also those of one's group) or server (also those
    /// that several other accounts have); beyond one's own only for who proves to have every byte
    #[arg(long, value_name = "SCOPE", default_value = "user", env = "HAPAX_CLAIMS", hide_env = true)]
    pub(crate) claims: Scope,
    /// The smallest file that is looked for beyond one's own
    #[arg(long, value_name = "BYTES", default_value = "1MiB", value_parser = number_of_bytes)]
    #[arg(env = "HAPAX_CLAIMS_MIN", hide_env = true)]
    pub(crate) claims_min: u64,
    /// How many other accounts must have a content in the scope server, at the most: for each content it is another secret
    /// number from 2 to this one
    #[arg(long, value_name = "COUNT", default_value = "8", value_parser = clap::value_parser!(u32).range(2..))]
    #[arg(env = "HAPAX_CLAIMS_HOLDERS", hide_env = true)]
    pub(crate) claims_holders: u32,
    /// How many bytes a second all background jobs together read: 64MiB, or none for no limit
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = rate)]
    #[arg(env = "HAPAX_JOB_RATE", hide_env = true)]
    pub(crate) job_rate: Rate,
    /// Within what time everything that is stored is read and authenticated in background, or off
    #[arg(long, value_name = "TIME", default_value = "30days", value_parser = period)]
    #[arg(env = "HAPAX_SCRUB_PERIOD", hide_env = true)]
    pub(crate) scrub_period: Period,
    /// Connections at once
    #[arg(
        long,
        value_name = "COUNT",
        default_value = "16384",
        env = "HAPAX_CONNECTIONS_MAX",
        hide_env = true
    )]
    pub(crate) connections_max: u32,
    /// Print the effective settings and where each came from, and end
    #[arg(long, env = "HAPAX_PRINT_CONFIG", hide_env = true)]
    pub(crate) print_config: bool,
}

/// `hapax demo`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Demo {
    /// How many MiB the file of the demonstration has
    #[arg(long, value_name = "MIB", default_value = "200", value_parser = clap::value_parser!(u64).range(48..=65_536))]
    #[arg(env = "HAPAX_SIZE", hide_env = true)]
    pub(crate) size: u64,
}

/// `hapax login`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Login {
    /// The address of the server
    #[arg(value_name = "URL", value_hint = ValueHint::Url)]
    pub(crate) url: String,
    /// A name for the server, to be written before the colon of remote paths
    #[arg(long, value_name = "NAME", env = "HAPAX_ALIAS", hide_env = true)]
    pub(crate) alias: Option<String>,
    /// The name of the account; asked for if absent
    #[arg(long, value_name = "NAME", env = "HAPAX_USER", hide_env = true)]
    pub(crate) user: Option<String>,
}

/// `hapax put`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Put {
    /// Local files and, last, the remote target; - is standard input
    #[arg(required = true, num_args = 2.., value_names = ["LOCAL", "REMOTE"], value_hint = ValueHint::AnyPath)]
    pub(crate) paths: Vec<PathBuf>,
    /// Send folders with everything in them
    #[arg(short, long, env = "HAPAX_RECURSIVE", hide_env = true)]
    pub(crate) recursive: bool,
    /// Fail if something has the remote name already
    #[arg(long, env = "HAPAX_NO_OVERWRITE", hide_env = true)]
    pub(crate) no_overwrite: bool,
    /// The most bytes of one request: a multiple of 64 KiB up to 16 MiB
    #[arg(long, value_name = "BYTES", default_value = "16MiB", value_parser = request_size)]
    #[arg(env = "HAPAX_REQUEST_SIZE", hide_env = true)]
    pub(crate) request_size: u64,
    #[command(flatten)]
    pub(crate) pace: Pace,
}

/// `hapax get`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Get {
    /// Remote files or http(s) addresses and, last and if wanted, the local target; - is standard output
    #[arg(required = true, num_args = 1.., value_names = ["REMOTE", "LOCAL"], value_hint = ValueHint::AnyPath)]
    pub(crate) paths: Vec<PathBuf>,
    /// Receive folders with everything in them: photos comes under its name, photos/ brings what lies in it
    #[arg(short, long, env = "HAPAX_RECURSIVE", hide_env = true)]
    pub(crate) recursive: bool,
    /// Replace local files that have the name already
    #[arg(long, visible_alias = "force", env = "HAPAX_OVERWRITE", hide_env = true)]
    pub(crate) overwrite: bool,
    #[command(flatten)]
    pub(crate) pace: Pace,
    #[command(flatten)]
    pub(crate) web: Web,
}

/// How files come from servers that are not hapax.
#[derive(Debug, Clone, Args)]
pub(crate) struct Web {
    /// From an address: a digest that the file must have, such as sha-256:9f86d0…; may be repeated
    #[arg(long, value_name = "ALG:HEX", value_parser = digest)]
    #[arg(env = "HAPAX_DIGEST", hide_env = true)]
    pub(crate) digest: Vec<Digest>,
    /// From an address: the most connections that fetch one file; only as many as pay are used
    #[arg(long, value_name = "COUNT", default_value = "8", value_parser = clap::value_parser!(u8).range(1..=8))]
    #[arg(env = "HAPAX_CONNECTIONS", hide_env = true)]
    pub(crate) connections: u8,
    /// From an address: how long a connection may bring nothing, or hardly anything
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    #[arg(env = "HAPAX_STALL", hide_env = true)]
    pub(crate) stall: Duration,
}

/// How a transfer goes about its work.
#[derive(Debug, Clone, Args)]
pub(crate) struct Pace {
    /// Parts that are under way at once, of one file or of several
    #[arg(long, value_name = "COUNT", default_value = "4", value_parser = clap::value_parser!(u16).range(1..=64))]
    #[arg(env = "HAPAX_PARALLEL", hide_env = true)]
    pub(crate) parallel: u16,
}

/// `hapax ls`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Ls {
    /// Remote folders
    #[arg(value_name = "REMOTE", default_value = ":/")]
    pub(crate) paths: Vec<String>,
    /// List what lies in folders too
    #[arg(short, long, env = "HAPAX_RECURSIVE", hide_env = true)]
    pub(crate) recursive: bool,
    /// Tell size, time and hash of each entry
    #[arg(short, long, env = "HAPAX_LONG", hide_env = true)]
    pub(crate) long: bool,
}

/// Remote paths, at least one.
#[derive(Debug, Clone, Args)]
pub(crate) struct Paths {
    /// Remote paths
    #[arg(required = true, value_name = "REMOTE")]
    pub(crate) paths: Vec<String>,
}

/// `hapax rm`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Rm {
    /// Remote paths
    #[arg(required = true, value_name = "REMOTE")]
    pub(crate) paths: Vec<String>,
    /// Remove folders with everything in them
    // No variable: what is set for `put -r` must not arm `rm`.
    #[arg(short, long)]
    pub(crate) recursive: bool,
}

/// `hapax mv`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Mv {
    /// The remote path as it is
    #[arg(value_name = "REMOTE")]
    pub(crate) from: String,
    /// The remote path as it should be; a slash at the end means inside the folder
    #[arg(value_name = "TARGET")]
    pub(crate) to: String,
    /// Replace a file that has the name already
    #[arg(long, env = "HAPAX_OVERWRITE", hide_env = true)]
    pub(crate) overwrite: bool,
}

/// `hapax transfers`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Transfers {
    #[command(subcommand)]
    pub(crate) command: Option<TransfersCommand>,
    /// The server, as the part of a remote path before its slash
    #[arg(value_name = "ALIAS", default_value = ":")]
    pub(crate) alias: String,
}

/// What to do with unfinished uploads.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum TransfersCommand {
    /// Remove an unfinished upload with the bytes it brought
    Rm {
        /// Its id, as listed
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

/// `hapax verify`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Verify {
    /// The local file
    #[arg(value_name = "LOCAL", value_hint = ValueHint::FilePath)]
    pub(crate) local: PathBuf,
    /// The remote file
    #[arg(value_name = "REMOTE")]
    pub(crate) remote: String,
}

/// `hapax hash`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Hash {
    /// Local files; - is standard input
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
}

/// `hapax admin`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Admin {
    /// Accounts
    #[command(subcommand)]
    User(User),
    /// Tokens of your own account
    #[command(subcommand)]
    Token(Token),
    /// Verify every invariant of the store
    Check {
        /// Read, authenticate and hash every byte as well
        #[arg(long = "read-data", env = "HAPAX_READ_DATA", hide_env = true)]
        read_data: bool,
    },
    /// Measure the store
    Stats,
    /// Read and authenticate everything that is stored now, going on with a scrub that was begun; says what is damaged
    Scrub {
        /// Only tell how far it is and what is damaged
        #[arg(long, env = "HAPAX_STATUS", hide_env = true)]
        status: bool,
    },
    /// Make one piece of parts that lie in many, and leave dead bytes behind
    Compact,
    /// Remove what nothing refers to any more
    Sweep {
        /// Do not wait for the grace to pass
        #[arg(long, env = "HAPAX_NOW", hide_env = true)]
        now: bool,
    },
}

/// `hapax admin user`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum User {
    /// List the accounts
    Ls,
    /// Make an account; its password is asked for, or taken from `HAPAX_NEW_PASSWORD`
    Add {
        /// Its name
        name: String,
        /// Let it administrate
        #[arg(long, env = "HAPAX_ADMIN", hide_env = true)]
        admin: bool,
    },
    /// Give an account another password, asked for or taken from `HAPAX_NEW_PASSWORD`
    Password {
        /// Its name
        name: String,
    },
    /// Limit how much an account may store
    Quota {
        /// Its name
        name: String,
        /// Bytes, or a number with KiB, MiB, GiB or TiB; none for no limit
        limit: String,
    },
    /// Put an account into a group, within which content that one account has need not be sent by another
    Group {
        /// Its name
        name: String,
        /// The group's name, spelled like an account's; none for no group
        group: String,
    },
    /// Remove an account with all that is its own
    Rm {
        /// Its name
        name: String,
    },
}

/// `hapax admin token`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Token {
    /// List your tokens
    Ls,
    /// Make a token; it is printed this once
    Add {
        /// A name for people
        name: String,
        /// What it may do: read, write, admin
        #[arg(long, value_name = "SCOPE", value_delimiter = ',', default_value = "read,write")]
        #[arg(env = "HAPAX_SCOPE", hide_env = true)]
        scope: Vec<String>,
        /// How long it lives [default: for ever]
        #[arg(long, value_name = "TIME", value_parser = duration, env = "HAPAX_EXPIRES", hide_env = true)]
        expires: Option<Duration>,
    },
    /// Revoke a token
    Rm {
        /// Its id, as listed
        id: i64,
    },
}

/// `hapax offline`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Offline {
    /// Verify every invariant of a data folder
    Check {
        #[command(flatten)]
        folder: DataFolder,
        /// Read, authenticate and hash every byte as well
        #[arg(long = "read-data", env = "HAPAX_READ_DATA", hide_env = true)]
        read_data: bool,
    },
    /// Give an account another password, taken from `HAPAX_NEW_PASSWORD`, else random and printed
    ResetPassword {
        #[command(flatten)]
        folder: DataFolder,
        /// The account
        #[arg(value_name = "USER", default_value = "admin")]
        user: String,
    },
}

/// A data folder that no server holds.
#[derive(Debug, Clone, Args)]
pub(crate) struct DataFolder {
    /// The data folder [default: hapax in the user's data folder]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, env = "HAPAX_DATA", hide_env = true)]
    pub(crate) data: Option<PathBuf>,
    /// Where the key ring lies [default: keys in the data folder]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, env = "HAPAX_KEYS", hide_env = true)]
    pub(crate) keys: Option<PathBuf>,
    /// The file with the master key [default: one in the folder of keys]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(env = "HAPAX_MASTER_KEY_FILE", hide_env = true)]
    pub(crate) master_key_file: Option<PathBuf>,
}

/// `hapax completions`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}

/// How often something is done; zero is never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Period(pub(crate) Duration);

fn period(text: &str) -> Result<Period, String> {
    if text == "off" {
        return Ok(Period(Duration::ZERO));
    }
    let period = duration(text).map_err(|error| error.to_string())?;
    if period < PERIOD_MIN {
        return Err("must be at least 1day, or off".to_owned());
    }
    Ok(Period(period))
}

/// How many bytes a second, if there is a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) Option<NonZero<u64>>);

fn rate(text: &str) -> Result<Rate, String> {
    if text == "none" {
        return Ok(Rate(None));
    }
    words::parse_bytes(text)
        .and_then(NonZero::new)
        .filter(|rate| rate.get() >= RATE_MIN)
        .map(|rate| Rate(Some(rate)))
        .ok_or_else(|| format!("must be at least {}, or none", words::bytes(RATE_MIN)))
}

/// The algorithms by which contents are found besides BLAKE3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lookups(pub(crate) Vec<Algorithm>);

fn lookups(text: &str) -> Result<Lookups, String> {
    let mut algorithms = Vec::new();
    for key in text.split(',').map(str::trim).filter(|key| !key.is_empty()) {
        let known = Algorithm::from_key(key).filter(|algorithm| LOOKUPS.contains(algorithm));
        let algorithm = known.ok_or_else(|| {
            let keys: Vec<_> = LOOKUPS.iter().map(|algorithm| algorithm.key()).collect();
            format!("{key} is none of {}", keys.join(", "))
        })?;
        if !algorithms.contains(&algorithm) {
            algorithms.push(algorithm);
        }
    }
    Ok(Lookups(algorithms))
}

/// Reads a digest as `hapax hash` and lists of digests write it: the algorithm with or without its hyphen, the value in
/// letters of either size.
fn digest(text: &str) -> Result<Digest, String> {
    let (key, value) =
        text.split_once(':').ok_or("write the algorithm, a colon and the value in hexadecimal")?;
    let spelled = |key: &str| key.to_ascii_lowercase().replace('-', "");
    // The registered key of SHA-1 is not what people call it.
    let wanted = Some(spelled(key)).filter(|key| key != "sha1").unwrap_or_else(|| "sha".to_owned());
    let known = |algorithm: &&Algorithm| spelled(algorithm.key()) == wanted;
    let Some(algorithm) = Algorithm::ALL.iter().find(known) else {
        let keys: Vec<_> = Algorithm::ALL.iter().map(|algorithm| algorithm.key()).collect();
        return Err(format!("{key} is none of {}", keys.join(", ")));
    };
    Digest::parse_hex(*algorithm, &value.to_ascii_lowercase()).map_err(|error| error.to_string())
}

fn number_of_bytes(text: &str) -> Result<u64, String> {
    words::parse_bytes(text).ok_or_else(|| format!("{text} is no number of bytes: write 1MiB"))
}

fn request_size(text: &str) -> Result<u64, String> {
    let (segment, part) = (SEGMENT.get(), PART.get());
    words::parse_bytes(text)
        .filter(|size| (segment..=part).contains(size) && size.is_multiple_of(segment))
        .ok_or_else(|| "must be a multiple of 64KiB from 64KiB to 16MiB".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn a_digest_is_read_as_lists_write_it() {
        #[track_caller]
        fn check(text: &str, read: Option<&str>) {
            assert_eq!(digest(text).ok().map(|digest| digest.to_string()).as_deref(), read);
        }
        const MD5: &str = "md5:d41d8cd98f00b204e9800998ecf8427e";
        const SHA1: &str = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
        let sha256 = format!("sha-256:{}", "0a".repeat(32));
        check(MD5, Some(MD5));
        check(&MD5.to_ascii_uppercase(), Some(MD5));
        check(&sha256, Some(&sha256));
        check(&sha256.replace("sha-256", "SHA256"), Some(&sha256));
        for key in ["sha", "sha1", "SHA-1"] {
            check(&format!("{key}:{SHA1}"), Some(&format!("sha:{SHA1}")));
        }
        check("sha-256:0a", None);
        check("sha-3:0a", None);
        check(SHA1, None);
        check("md5:", None);
    }

    #[test]
    fn every_flag_is_a_variable_of_its_name() {
        fn walk(command: &clap::Command, flags: &mut usize) {
            for argument in command.get_arguments() {
                let Some(long) = argument.get_long().filter(|long| !matches!(*long, "help" | "version"))
                else {
                    continue;
                };
                if (command.get_name(), long) == ("rm", "recursive") {
                    assert_eq!(argument.get_env(), None);
                    continue;
                }
                let variable = format!("HAPAX_{}", long.replace('-', "_").to_uppercase());
                let found = argument.get_env().map(|name| name.to_string_lossy().into_owned());
                assert_eq!(found, Some(variable), "{} --{long}", command.get_name());
                *flags += 1;
            }
            command.get_subcommands().for_each(|command| walk(command, flags));
        }
        let mut flags = 0;
        walk(&CommandLine::command(), &mut flags);
        assert!(flags > 20, "only {flags} flags were looked at");
    }

    #[test]
    fn command_lines_are_taken_or_refused() {
        #[track_caller]
        fn check(line: &str, taken: bool) {
            let parsed = CommandLine::try_parse_from(line.split_whitespace());
            assert_eq!(parsed.is_ok(), taken, "{parsed:?}");
        }
        check("hapax serve", true);
        check("hapax serve --listen 127.0.0.1:0 --data /tmp/d --grace 1h", true);
        check("hapax serve --listen nowhere", false);
        check("hapax serve --grace soon", false);
        check("hapax serve --claims group --claims-min 4MiB --claims-holders 2", true);
        check("hapax serve --claims everybody", false);
        check("hapax serve --claims-holders 1", false);
        check("hapax serve --claims-min much", false);
        check("hapax put a :/a", true);
        check("hapax put -r a b :/c/", true);
        check("hapax put a", false);
        check("hapax put --parallel 0 a :/a", false);
        check("hapax put --request-size 1MiB a :/a", true);
        check("hapax put --request-size 1000 a :/a", false);
        check("hapax put --request-size 32MiB a :/a", false);
        check("hapax put - :/a", true);
        check("hapax get :/a", true);
        check("hapax get :/a -", true);
        check("hapax get", false);
        check("hapax ls", true);
        check("hapax ls -lr :/a", true);
        check("hapax rm", false);
        check("hapax transfers", true);
        check("hapax transfers rm u1", true);
        check("hapax transfers rm", false);
        check("hapax admin token add ci --scope read --expires 30days", true);
        check("hapax admin user quota ann 5GiB", true);
        check("hapax offline check --data /tmp/d --read-data", true);
        check("hapax completions zsh", true);
        check("hapax completions vt100", false);
        check("hapax fly", false);
        check("hapax", false);
    }
}
