//! The commands on remote entries that move no content: `ls`, `stat`, `rm`, `mv`, `mkdir`, `transfers`. Owns their
//! words; each is a request or a few.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use hapax_client::api::{Contents, Page, RemotePath};
use hapax_client::client::Client;
use hapax_proto::dialect::native::{EntryInfo, EntryKind, EntryOperation, EntryVerb, UploadSummary};
use hapax_proto::name::parse_space_path;
use hapax_proto::problem::Kind;
use hapax_proto::upload::State;
use serde::Serialize;

use super::context::Context;
use super::tree;
use crate::args::{Ls, Mv, Paths, Rm, Transfers, TransfersCommand};
use crate::exit::Failure;
use crate::remote::{Alias, Remote};
use crate::words;

/// Entries of a page of a whole tree: few requests, and an answer that fits into memory however long its names are.
const PAGE: u32 = 5_000;

/// How deep a listing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// What lies in the folder.
    Folder,
    /// What lies in its folders too.
    Everything,
}

/// Takes every entry of a remote folder, page by page.
pub(super) async fn each(
    client: &Client,
    folder: &Remote,
    depth: Depth,
    mut take: impl FnMut(EntryInfo) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let recursive = depth == Depth::Everything;
    let mut page = Page { recursive, limit: recursive.then_some(PAGE), after: None };
    loop {
        let list = client.api().list(&folder.path, &page).await?;
        list.entries.into_iter().try_for_each(&mut take)?;
        match list.next {
            Some(next) => page.after = Some(next),
            None => return Ok(()),
        }
    }
}

/// An event about something remote.
#[derive(Serialize)]
struct About<'a, T> {
    event: &'static str,
    #[serde(flatten)]
    what: &'a T,
}

/// What happened to an entry.
#[derive(Serialize)]
struct Happened {
    path: String,
}

/// `hapax ls`.
pub(super) async fn ls(context: &Context, ls: &Ls) -> Result<(), Failure> {
    let mut servers = context.servers();
    for path in &ls.paths {
        let folder = Remote::parse(path)?;
        let client = servers.client(&folder.alias).await?;
        let depth = if ls.recursive { Depth::Everything } else { Depth::Folder };
        let mut looks = Looks::default();
        let mut show = |entry: EntryInfo| {
            if let Some(twin) = looks.twin(&entry) {
                context.screen.note(&format!(
                    "{} and {} look the same and are two names (they differ in the form of Unicode)",
                    words::printable(&twin),
                    words::printable(&entry.path)
                ));
            }
            let line = if ls.long { long_line(&folder, &entry) } else { shown_name(&folder, &entry) };
            context.screen.result(&line, &About { event: "entry", what: &entry });
            Ok(())
        };
        match client.api().stat(&folder.path).await? {
            file if file.kind == EntryKind::File => show(file)?,
            _ => each(&client, &folder, depth, show).await?,
        }
    }
    Ok(())
}

/// The entries that were listed, by what their names look like. Only other letters than those of ASCII can look the same.
#[derive(Default)]
struct Looks(HashMap<(String, String), String>);

impl Looks {
    /// Returns the path of the entry in the same folder whose name looks like this one's, if one was listed.
    fn twin(&mut self, entry: &EntryInfo) -> Option<String> {
        if entry.name.is_ascii() {
            return None;
        }
        let folder = entry.path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        match self.0.entry((folder, tree::composed(&entry.name).into_owned())) {
            Slot::Occupied(twin) => Some(twin.get().clone()),
            Slot::Vacant(free) => {
                free.insert(entry.path.clone());
                None
            }
        }
    }
}

/// Returns the names from the listed folder down to the entry, with a slash behind a folder.
fn shown_name(folder: &Remote, entry: &EntryInfo) -> String {
    let path = parse_space_path(&entry.path).map(|(_, path)| path);
    let names = path.as_ref().ok().and_then(|path| folder.relative(path)).filter(|names| !names.is_empty());
    let name = names.map_or_else(
        || entry.name.clone(),
        |names| names.iter().map(hapax_proto::name::EntryName::as_str).collect::<Vec<_>>().join("/"),
    );
    if entry.kind == EntryKind::Folder { words::printable(&name) + "/" } else { words::printable(&name) }
}

fn long_line(folder: &Remote, entry: &EntryInfo) -> String {
    let size = entry.size.map_or_else(|| "-".to_owned(), words::bytes);
    let hash = entry.blake3.map_or_else(|| "-".to_owned(), |hash| hash.to_string()[..16].to_owned());
    let modified = entry.mtime.as_deref().unwrap_or(&entry.modified);
    let modified = modified.get(..19).unwrap_or(modified);
    format!("{size:>9}  {modified:<19}  {hash:<16}  {}", shown_name(folder, entry))
}

/// `hapax stat`.
pub(super) async fn stat(context: &Context, paths: &Paths) -> Result<(), Failure> {
    let mut servers = context.servers();
    for path in &paths.paths {
        let remote = Remote::parse(path)?;
        let entry = servers.client(&remote.alias).await?.api().stat(&remote.path).await?;
        context.screen.result(&described(&entry), &About { event: "entry", what: &entry });
    }
    Ok(())
}

fn described(entry: &EntryInfo) -> String {
    let kind = match entry.kind {
        EntryKind::Folder => "folder",
        EntryKind::File => "file",
    };
    let size = entry.size.map(|size| format!("{size} ({})", words::bytes(size)));
    let executable = (entry.kind == EntryKind::File).then_some(if entry.executable { "yes" } else { "no" });
    let rows = [
        ("path", Some(words::printable(&entry.path))),
        ("kind", Some(kind.to_owned())),
        ("size", size),
        ("blake3", entry.blake3.map(|hash| hash.to_string())),
        ("etag", entry.etag.clone()),
        ("mtime", entry.mtime.clone()),
        ("modified", Some(entry.modified.clone())),
        ("executable", executable.map(str::to_owned)),
        ("media type", entry.media_type.clone()),
        ("version", Some(entry.version.to_string())),
    ];
    let lines = rows.into_iter().filter_map(|(name, value)| Some(format!("{name:<12}{}", value?)));
    lines.collect::<Vec<_>>().join("\n")
}

/// `hapax rm`.
pub(super) async fn rm(context: &Context, rm: &Rm) -> Result<(), Failure> {
    let mut servers = context.servers();
    let contents = if rm.recursive { Contents::RemoveToo } else { Contents::Keep };
    for path in &rm.paths {
        let remote = Remote::parse(path)?;
        servers.client(&remote.alias).await?.api().remove(&remote.path, contents).await?;
        happened(context, "removed", &remote);
    }
    Ok(())
}

/// `hapax mv`.
pub(super) async fn mv(context: &Context, mv: &Mv) -> Result<(), Failure> {
    let (from, to) = (Remote::parse(&mv.from)?, Remote::parse(&mv.to)?);
    if from.alias != to.alias {
        let failure = Failure::usage(format!("{from} and {to} are on different servers"));
        return Err(failure.hint("get it from the one and put it to the other"));
    }
    let Some(name) = from.name() else {
        return Err(Failure::usage("the root of a space cannot be moved"));
    };
    let to = if to.is_folder { to.join(name)? } else { to };
    let operation =
        EntryOperation { op: EntryVerb::Move, to: Some(to.path.to_string()), overwrite: mv.overwrite };
    let client = context.servers().client(&from.alias).await?;
    client.api().operate(&from.path, &operation).await?;
    happened(context, "moved", &to);
    Ok(())
}

/// `hapax mkdir`.
pub(super) async fn mkdir(context: &Context, paths: &Paths) -> Result<(), Failure> {
    let mut servers = context.servers();
    for path in &paths.paths {
        let remote = Remote::parse(path)?;
        let operation = EntryOperation { op: EntryVerb::Mkdir, to: None, overwrite: false };
        servers.client(&remote.alias).await?.api().operate(&remote.path, &operation).await?;
        happened(context, "made", &remote);
    }
    Ok(())
}

fn happened(context: &Context, what: &'static str, remote: &Remote) {
    let event = About { event: what, what: &Happened { path: remote.to_string() } };
    context.screen.outcome(&format!("{what} {remote}"), &event);
}

/// `hapax transfers`.
pub(super) async fn transfers(context: &Context, transfers: &Transfers) -> Result<(), Failure> {
    let name = transfers.alias.strip_suffix(':').unwrap_or(&transfers.alias);
    let alias = Alias::parse(name)
        .ok_or_else(|| Failure::usage(format!("{} is no name of a server", transfers.alias)))?;
    let client = context.servers().client(&alias).await?;
    if let Some(TransfersCommand::Rm { ids }) = &transfers.command {
        for id in ids {
            client.api().cancel_upload(id).await.map_err(|error| match error.problem() {
                Some(Kind::NotFound) => {
                    Failure::new(crate::exit::Code::NotFound, format!("there is no unfinished upload {id}"))
                }
                _ => error.into(),
            })?;
            let event = About { event: "removed", what: &Happened { path: id.clone() } };
            context.screen.outcome(&format!("removed upload {id}"), &event);
        }
        return Ok(());
    }
    let mut after = None;
    loop {
        let page = client.api().uploads(after.as_deref()).await?;
        for upload in page.uploads.iter().filter(|upload| upload.state == State::Open) {
            context.screen.result(&upload_line(upload), &About { event: "upload", what: upload });
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

fn upload_line(upload: &UploadSummary) -> String {
    let covered = words::bytes(upload.covered);
    let far = upload.size.map_or_else(
        || format!("{covered} so far"),
        |size| format!("{:>3} % of {}", words::percent(upload.covered, size), words::bytes(size)),
    );
    let expires = upload.expires.get(..10).unwrap_or(&upload.expires);
    format!("{}  {far:<18}  until {expires}  {}", upload.id, words::printable(&upload.path))
}

/// Asks for a file's entry.
///
/// # Errors
/// There is nothing, or a folder.
pub(super) async fn stat_file(client: &Client, remote: &Remote) -> Result<EntryInfo, Failure> {
    let path: &RemotePath = &remote.path;
    let entry = client.api().stat(path).await?;
    match entry.kind {
        EntryKind::File => Ok(entry),
        EntryKind::Folder => Err(Failure::usage(format!("{remote} is a folder"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: EntryKind) -> EntryInfo {
        let name = path.rsplit('/').next().unwrap().to_owned();
        EntryInfo {
            path: path.to_owned(),
            name,
            kind,
            size: (kind == EntryKind::File).then_some(1_536),
            blake3: (kind == EntryKind::File).then(|| hapax_proto::digest::FileHash::of(b"")),
            etag: None,
            mtime: None,
            modified: "2026-11-21T22:00:00Z".to_owned(),
            executable: false,
            media_type: None,
            version: 3,
        }
    }

    #[test]
    fn an_entry_is_named_from_the_listed_folder_down() {
        #[track_caller]
        fn check(folder: &str, path: &str, kind: EntryKind, shown: &str) {
            assert_eq!(shown_name(&Remote::parse(folder).unwrap(), &entry(path, kind)), shown);
        }
        check(":/", "/@ann/a", EntryKind::File, "a");
        check(":/", "/@ann/a/b", EntryKind::Folder, "a/b/");
        check(":/a", "/@ann/a/b/c", EntryKind::File, "b/c");
        check(":/a", "/@ann/a", EntryKind::File, "a");
        check(":/", "/@ann/\u{9b}31mred", EntryKind::File, "\\u{9b}31mred");
    }

    #[test]
    fn lines_say_what_is_known() {
        let folder = Remote::parse(":/").unwrap();
        assert_eq!(
            long_line(&folder, &entry("/@ann/a", EntryKind::File)),
            "  1.5 KiB  2026-11-21T22:00:00  af1349b9f5f9a1a6  a"
        );
        assert_eq!(
            long_line(&folder, &entry("/@ann/a", EntryKind::Folder)),
            "        -  2026-11-21T22:00:00  -                 a/"
        );
        let described = described(&entry("/@ann/a", EntryKind::File));
        assert!(described.contains("size        1536 (1.5 KiB)\n"), "{described}");
        assert!(!described.contains("etag"));
    }

    #[test]
    fn an_upload_says_how_far_it_is() {
        #[track_caller]
        fn check(size: Option<u64>, line: &str) {
            let upload = UploadSummary {
                id: "u1".to_owned(),
                path: "/@ann/film.mkv".to_owned(),
                size,
                covered: 1 << 30,
                state: State::Open,
                expires: "2026-11-28T22:00:00Z".to_owned(),
            };
            assert_eq!(upload_line(&upload), line);
        }
        check(Some(4 << 30), "u1   25 % of 4 GiB      until 2026-11-28  /@ann/film.mkv");
        check(None, "u1  1 GiB so far        until 2026-11-28  /@ann/film.mkv");
    }
}
