//! Settings and where they come from: a flag, else a variable of the environment, else `hapax.toml`, else the
//! default. Owns the file's rules and the telling of each value's source; what a setting is called and may be is
//! said once, in `args`.
//!
//! A key of the file is the long name of a flag. The flags of all commands stand at the top, those of one command in
//! a table of its name: `[serve]`, `[admin.token.add]`. So the file's values become the defaults of the command line,
//! and are checked exactly as if they had been typed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, CommandFactory, FromArgMatches};
use toml::{Table, Value};

use crate::args::CommandLine;
use crate::exit::Failure;
use crate::places::Places;

/// How far apart two spellings may be for one to be suggested for the other: 1 is equal, 0 shares nothing.
const SIMILAR: f64 = 0.7;

/// The command line together with the file behind it.
#[derive(Debug)]
pub(crate) struct Settings {
    /// What was asked for, every value in place.
    pub(crate) line: CommandLine,
    matches: ArgMatches,
    from_file: BTreeSet<String>,
    file: PathBuf,
}

/// Why there are no settings.
#[derive(Debug)]
pub(crate) enum Unset {
    /// The command line was refused, or asked for help: clap's own words and exit code.
    CommandLine(clap::Error),
    /// The file was refused.
    File(Failure),
}

impl From<Failure> for Unset {
    fn from(failure: Failure) -> Self {
        Self::File(failure)
    }
}

impl From<clap::Error> for Unset {
    fn from(error: clap::Error) -> Self {
        Self::CommandLine(error)
    }
}

impl Settings {
    /// Reads the command line, and the file that it, its environment or the user's folder names.
    ///
    /// # Errors
    /// Whatever is wrong with either; a key that nothing knows is wrong.
    pub(crate) fn read(line: Vec<OsString>, places: &Places) -> Result<Self, Unset> {
        // Once to learn which file to read, and to answer what needs none.
        let first = CommandLine::command().try_get_matches_from(&line)?;
        let named = first.get_one::<PathBuf>("config").cloned();
        let file = named.clone().unwrap_or_else(|| places.settings());
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => String::new(),
            Err(error) => return Err(Failure::io("read", &file, &error).into()),
        };
        Self::merge(line, &text, file)
    }

    fn merge(line: Vec<OsString>, text: &str, file: PathBuf) -> Result<Self, Unset> {
        let table = parse(text, &file)?;
        let mut from_file = BTreeSet::new();
        let command = apply(CommandLine::command(), &table, "", &mut from_file)
            .map_err(|wrong| Failure::usage(format!("{}: {wrong}", file.display())))?;
        let matches = command.try_get_matches_from(line)?;
        let line = CommandLine::from_arg_matches(&matches)?;
        Ok(Self { line, matches, from_file, file })
    }

    /// Writes the settings of the command that was asked for as a file that would give the same, and behind each
    /// where it came from. `computed` are defaults that depend on the machine, by the name of the flag.
    pub(crate) fn print(&self, computed: &[(&str, &Path)]) -> String {
        let definition = CommandLine::command();
        let (Some((name, matches)), mut text) = (self.matches.subcommand(), String::new()) else {
            return String::new();
        };
        let definition = definition.find_subcommand(name).expect("a command that was parsed is defined");
        writeln!(text, "[{name}]").expect("a String takes every write");
        for argument in definition.get_arguments() {
            let id = argument.get_id().as_str();
            let Some(flag) = argument.get_long().filter(|flag| !matches!(*flag, "help" | "print-config"))
            else {
                continue;
            };
            let raw: Vec<String> = matches
                .get_raw(id)
                .map(|values| values.map(|value| value.to_string_lossy().into_owned()).collect())
                .unwrap_or_default();
            let source = match matches.value_source(id) {
                Some(ValueSource::CommandLine) => format!("--{flag}"),
                Some(ValueSource::EnvVariable) => {
                    argument.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
                }
                _ if self.from_file.contains(&format!("{name}.{flag}")) => self.file.display().to_string(),
                _ => "default".to_owned(),
            };
            let computed = computed.iter().find(|(computed, _)| *computed == flag);
            let line = match (&raw[..], computed) {
                ([], Some((_, path))) => format!("{flag} = {}", quoted(&path.to_string_lossy())),
                ([], None) => format!("# {flag} is not set"),
                (values, _) if matches!(argument.get_action(), ArgAction::Append) => {
                    let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
                    format!("{flag} = [{}]", values.join(", "))
                }
                (values, _) => format!("{flag} = {}", quoted(&values[values.len() - 1])),
            };
            writeln!(text, "{line:<48} # {source}").expect("a String takes every write");
        }
        text
    }
}

fn quoted(value: &str) -> String {
    Value::String(value.to_owned()).to_string()
}

fn parse(text: &str, file: &Path) -> Result<Table, Failure> {
    text.parse().map_err(|error: toml::de::Error| {
        let place = error.span().map_or(0, |span| span.start);
        let line = text.bytes().take(place).filter(|byte| *byte == b'\n').count() + 1;
        Failure::usage(format!("{}, line {line}: {}", file.display(), error.message()))
    })
}

/// Makes the file's values the defaults of a command and of its subcommands; `prefix` is where the table stands.
fn apply(
    mut command: clap::Command,
    table: &Table,
    prefix: &str,
    found: &mut BTreeSet<String>,
) -> Result<clap::Command, String> {
    for (key, value) in table {
        let place = format!("{prefix}{key}");
        if let Value::Table(below) = value {
            if command.find_subcommand(key).is_none() {
                let tables: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
                return Err(unknown(&place, key, &tables));
            }
            let mut outcome = Ok(());
            command = command.mut_subcommand(key, |subcommand| {
                match apply(subcommand.clone(), below, &format!("{place}."), found) {
                    Ok(applied) => applied,
                    Err(wrong) => {
                        outcome = Err(wrong);
                        subcommand
                    }
                }
            });
            outcome?;
            continue;
        }
        let argument = command.get_arguments().find(|argument| argument.get_long() == Some(key));
        let argument = argument.ok_or_else(|| {
            let flags: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
            unknown(&place, key, &flags)
        })?;
        let id = argument.get_id().as_str().to_owned();
        let defaults =
            texts(value).ok_or_else(|| format!("{place} is neither a text, a number, true nor false"))?;
        let is_list = matches!(argument.get_action(), ArgAction::Append);
        if defaults.len() != 1 && !is_list {
            return Err(format!("{place} takes one value"));
        }
        found.insert(place);
        command = command.mut_arg(id, |argument| argument.default_values(defaults));
    }
    Ok(command)
}

/// Returns the values as they would be typed.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Integer(number) => Some(vec![number.to_string()]),
        Value::Boolean(truth) => Some(vec![truth.to_string()]),
        Value::Array(values) => {
            let texts: Option<Vec<Vec<String>>> = values.iter().map(texts).collect();
            texts.map(|texts| texts.concat())
        }
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => None,
    }
}

fn unknown(place: &str, key: &str, known: &[&str]) -> String {
    let likeness = |name: &&&str| strsim::jaro_winkler(key, name);
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest.filter(|name| likeness(name) >= SIMILAR) {
        Some(name) => format!("there is no setting {place}; did you mean {name}?"),
        None => format!("there is no setting {place}"),
    }
}

#[cfg(test)]
mod tests {
    use hapax_proto::digest::Algorithm;

    use super::*;
    use crate::args::Command;

    fn merge(line: &str, file: &str) -> Result<Settings, String> {
        let words = line.split_whitespace().map(OsString::from).collect();
        Settings::merge(words, file, "hapax.toml".into()).map_err(|unset| match unset {
            Unset::CommandLine(error) => error.to_string(),
            Unset::File(failure) => failure.sentence,
        })
    }

    fn serve(line: &str, file: &str) -> crate::args::Serve {
        match merge(line, file).unwrap().line.command {
            Command::Serve(serve) => *serve,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
        let file = "[serve]\nlisten = \"127.0.0.1:7\"\nuploads-max = 5\nallowed-origin = [\"https://a\", \"https://b\"]\n";
        assert_eq!(serve("hapax serve", "").listen.port(), 4_000);
        let from_file = serve("hapax serve", file);
        assert_eq!((from_file.listen.port(), from_file.uploads_max), (7, 5));
        assert_eq!(from_file.allowed_origin, ["https://a", "https://b"]);
        assert_eq!(serve("hapax serve --listen 127.0.0.1:9", file).listen.port(), 9);
        assert_eq!(serve("hapax serve --allowed-origin https://c", file).allowed_origin, ["https://c"]);
    }

    #[test]
    fn lookups_are_named_or_turned_off() {
        #[track_caller]
        fn check(line: &str, file: &str, expected: &[Algorithm]) {
            assert_eq!(serve(line, file).lookups.0, expected);
        }
        let (sha256, md5, sha1) = (Algorithm::Sha256, Algorithm::Md5, Algorithm::Sha1);
        check("hapax serve", "", &[sha256, md5]);
        check("hapax serve --lookups sha", "", &[sha1]);
        check("hapax serve --lookups=md5,sha,md5", "", &[md5, sha1]);
        check("hapax serve --lookups=", "", &[]);
        check("hapax serve", "[serve]\nlookups = \"\"\n", &[]);
        check("hapax serve", "[serve]\nlookups = \"sha-256, sha\"\n", &[sha256, sha1]);
        for wrong in ["blake3", "sha1", "md5,crc32c"] {
            let told = merge(&format!("hapax serve --lookups {wrong}"), "").unwrap_err();
            assert!(told.contains("is none of sha-256, md5, sha"), "{told}");
        }
        let off = merge("hapax serve --lookups=", "").unwrap().print(&[]);
        check("hapax serve", &off, &[]);
    }

    #[test]
    fn a_rate_is_bytes_a_second_or_none() {
        #[track_caller]
        fn check(line: &str, expected: Option<u64>) {
            assert_eq!(serve(line, "").job_rate.0.map(std::num::NonZero::get), expected);
        }
        check("hapax serve", Some(64 << 20));
        check("hapax serve --job-rate 1GiB", Some(1 << 30));
        check("hapax serve --job-rate none", None);
        for wrong in ["0", "1KiB", "fast"] {
            let told = merge(&format!("hapax serve --job-rate {wrong}"), "").unwrap_err();
            assert!(told.contains("must be at least 64 KiB, or none"), "{told}");
        }
        let printed = merge("hapax serve --job-rate none", "").unwrap().print(&[]);
        assert_eq!(serve("hapax serve", &printed).job_rate.0, None);
    }

    #[test]
    fn a_period_is_a_day_or_more_or_off() {
        #[track_caller]
        fn check(line: &str, days: u64) {
            assert_eq!(serve(line, "").scrub_period.0.as_secs(), days * 24 * 60 * 60);
        }
        check("hapax serve", 30);
        check("hapax serve --scrub-period 7days", 7);
        check("hapax serve --scrub-period off", 0);
        for wrong in ["0s", "1h", "soon"] {
            merge(&format!("hapax serve --scrub-period {wrong}"), "").unwrap_err();
        }
    }

    #[test]
    fn flags_of_all_commands_stand_at_the_top() {
        let line =
            merge("hapax ls", "json = true\nserver = \"http://nas\"\n[ls]\nlong = true\n").unwrap().line;
        assert!(line.global.json);
        assert_eq!(line.global.server.as_deref(), Some("http://nas"));
        assert!(matches!(line.command, Command::Ls(ls) if ls.long && !ls.recursive));
    }

    #[test]
    fn what_the_file_says_wrongly_is_told() {
        #[track_caller]
        fn check(file: &str, told: &str) {
            let wrong = merge("hapax serve", file).unwrap_err();
            assert!(wrong.contains(told), "{wrong}");
        }
        check("[serve]\nlisen = \"a\"\n", "there is no setting serve.lisen; did you mean listen?");
        check("[server]\nlisten = \"a\"\n", "there is no setting server; did you mean serve?");
        check("quite = true\n", "did you mean quiet?");
        check("xyzzy = true\n", "there is no setting xyzzy");
        check("[serve]\nlisten = \"nowhere\"\n", "nowhere");
        check("[serve]\nlisten = 1.5\n", "serve.listen is neither");
        check("[serve]\nlisten = [\"a\", \"b\"]\n", "serve.listen takes one value");
        check("[serve]\n\nlisten =\n", "hapax.toml, line 3");
        check("[admin.token.add]\nexpire = \"1h\"\n", "did you mean expires?");
    }

    #[test]
    fn what_is_printed_says_where_it_came_from_and_reads_back() {
        let file = "[serve]\nuploads-max = 5\n";
        let settings = merge("hapax serve --listen 127.0.0.1:9", file).unwrap();
        let printed = settings.print(&[("data", Path::new("/d"))]);
        let line = |key: &str| printed.lines().find(|line| line.contains(key)).unwrap().to_owned();
        assert!(
            line("listen").starts_with("listen = \"127.0.0.1:9\"") && line("listen").ends_with("# --listen")
        );
        assert!(line("uploads-max").ends_with("# hapax.toml"));
        assert!(line("grace").ends_with("# default"));
        assert!(line("data").starts_with("data = \"/d\""));
        assert!(line("tls-cert").starts_with("# tls-cert is not set"));
        let again = serve("hapax serve", &printed);
        assert_eq!((again.listen.port(), again.uploads_max), (9, 5));
    }
}
