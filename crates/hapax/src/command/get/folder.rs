//! `hapax get -r`: a remote folder with all that lies in it. Owns which local name each file gets, which names meet on this
//! file system, and which files come together; a file that has to come alone is left to whoever asked.

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hapax_client::TransferError;
use hapax_client::api::RemotePath;
use hapax_client::client::Client;
use hapax_client::download::{
    Brought, Got, How, Listed, Local, Stage, fetch_capacity, get_batch, look_for, take_over,
};
use hapax_client::progress::{Event, Progress, Silent};
use hapax_client::sink::Overwrite;
use hapax_client::upload::Capacity;
use hapax_proto::dialect::native::{EntryInfo, EntryKind};
use hapax_proto::name::{EntryName, EntryPath, parse_space_path};
use hapax_proto::span::Length;
use tokio::task::JoinSet;

use super::{Job, Run, overwrite};
use crate::command::context::Tally;
use crate::command::{entries, tree};
use crate::exit::{Code, Failure};
use crate::remote::Remote;
use crate::render::Sums;
use crate::screen::Screen;
use crate::words;

/// A remote folder, and where all that lies in it goes.
pub(super) struct Tree {
    client: Client,
    source: RemotePath,
    root: PathBuf,
    /// Its files, in the order of the listing.
    pub(super) jobs: Vec<Job>,
}

/// Lists a remote folder and makes the local folders for what lies in it.
pub(super) async fn plan(
    client: &Client,
    source: &Remote,
    target: &Path,
    (tally, screen): (&mut Tally, &Screen),
) -> Result<Tree, Failure> {
    let root = root_of(source, target);
    tree::make_folders(&root, [])?;
    let mut planning = Planning {
        client,
        source,
        root: &root,
        jobs: Vec::new(),
        last: (Vec::new(), root.clone()),
        named: HashMap::new(),
        left_out: None,
    };
    entries::each(client, source, entries::Depth::Everything, |entry| {
        let (_, path) = parse_space_path(&entry.path)
            .map_err(|bad| Failure::new(Code::Failed, format!("the server lists {:?}: {bad}", entry.path)))?;
        match (planning.take(&entry, path), entry.kind) {
            (Ok(Taken::Planned), _) | (Ok(Taken::LeftOut), EntryKind::Folder) => {}
            (Ok(Taken::LeftOut), EntryKind::File) => tally.failed += 1,
            (Err(failure), EntryKind::Folder) => tally.fail_folder(screen, &failure),
            (Err(failure), EntryKind::File) => tally.fail(screen, &failure),
        }
        Ok(())
    })
    .await?;
    let jobs = planning.jobs;
    Ok(Tree { client: client.clone(), source: source.path.clone(), root, jobs })
}

/// Returns where a folder goes: `photos` under its name, what lies in `photos/` without it. It does not matter whether the
/// target is there: else the same command again would go somewhere else.
fn root_of(source: &Remote, target: &Path) -> PathBuf {
    match source.name() {
        Some(name) if !source.is_folder => target.join(name),
        _ => target.to_owned(),
    }
}

/// What came of an entry of a listing.
enum Taken {
    /// There is a place for it.
    Planned,
    /// It lies in a folder that there is no place for, which was said.
    LeftOut,
}

/// A folder whose listing is being read.
struct Planning<'a> {
    client: &'a Client,
    source: &'a Remote,
    root: &'a Path,
    jobs: Vec<Job>,
    /// The local folder that was made last, and its names from the root down.
    last: (Vec<EntryName>, PathBuf),
    /// The local names so far, by what file systems that fold names make of them.
    named: HashMap<String, Vec<PathBuf>>,
    /// A folder that is another one's here, or that cannot be made: nothing in it is brought.
    left_out: Option<EntryPath>,
}

impl Planning<'_> {
    /// Takes an entry of the listing; what lies in a folder comes behind it.
    fn take(&mut self, entry: &EntryInfo, path: EntryPath) -> Result<Taken, Failure> {
        if self.left_out.as_ref().is_some_and(|left_out| path.starts_with(left_out)) {
            return Ok(Taken::LeftOut);
        }
        let names = self.source.relative(&path).unwrap_or_default().to_vec();
        match (entry.kind, names.split_last()) {
            (EntryKind::Folder, _) => {
                let twins = self.twins(&names);
                let made = self.folder(&names).and_then(|made| {
                    let twin = twins.iter().find(|twin| tree::is_one(twin, &made));
                    twin.map_or(Ok(()), |twin| Err(one_name(&made, twin)))
                });
                if made.is_err() {
                    self.left_out = Some(path);
                }
                made.map(|()| Taken::Planned)
            }
            (EntryKind::File, None) => Ok(Taken::Planned),
            (EntryKind::File, Some((name, folders))) => {
                let twins = self.twins(&names);
                let target = self.folder(folders)?.join(name.as_str());
                let path = RemotePath { space: self.source.path.space.clone(), path };
                let listed = Listed::of(entry, path.clone(), target.clone());
                self.jobs.push(Job {
                    client: self.client.clone(),
                    source: Remote { alias: self.source.alias.clone(), path, is_folder: false },
                    target,
                    size: entry.size.unwrap_or(0),
                    listed,
                    twins,
                });
                Ok(Taken::Planned)
            }
        }
    }

    /// Returns the earlier local names that some file systems do not tell from this one, and remembers it.
    fn twins(&mut self, names: &[EntryName]) -> Vec<PathBuf> {
        let folded: Vec<_> = names.iter().map(|name| tree::folded(name.as_str())).collect();
        let path = names.iter().fold(self.root.to_owned(), |path, name| path.join(name.as_str()));
        let earlier = self.named.entry(folded.join("/")).or_default();
        let twins = earlier.clone();
        earlier.push(path);
        twins
    }

    /// Makes a folder, unless it is the one that was made last.
    fn folder(&mut self, names: &[EntryName]) -> Result<PathBuf, Failure> {
        if self.last.0 != names {
            let made = tree::make_folders(self.root, names.iter().map(EntryName::as_str))?;
            self.last = (names.to_vec(), made);
        }
        Ok(self.last.1.clone())
    }
}

/// Says that two remote names are one here.
pub(super) fn one_name(target: &Path, twin: &Path) -> Failure {
    let sentence = format!("{} and {} are one name on this file system", twin.display(), target.display());
    Failure::new(Code::Conflict, sentence).hint(
        "only the first is received: rename one of them on the server, or receive into another file system",
    )
}

impl Run<'_> {
    /// Brings what of a folder can be brought together, and returns what has to come file by file.
    pub(super) async fn bring(&mut self, tree: Tree) -> Result<Vec<Job>, Failure> {
        let Tree { client, source, root, jobs } = tree;
        // Names that may meet wait until it shows whether they do.
        let (together, mut alone): (Vec<_>, Vec<_>) =
            jobs.into_iter().partition(|job| job.listed.is_some() && job.twins.is_empty());
        let listed: Vec<Listed> = together.iter().filter_map(|job| job.listed.clone()).collect();
        let found = look_for(&client, &listed).await.map_err(Failure::from)?;
        let (mut missing, mut same) = (Vec::new(), Vec::new());
        for ((job, listed), found) in together.into_iter().zip(listed).zip(found) {
            match (found, overwrite(self.get)) {
                (Local::Same, _) => {
                    self.tell(&job, How::There, &listed);
                    same.push(listed);
                }
                (Local::Other, Overwrite::Never) => {
                    let failure = TransferError::TargetExists { path: job.target };
                    self.tally.fail(&self.screen, &failure.into());
                }
                (Local::Free | Local::Other, _) => missing.push((job, listed)),
            }
        }
        if overwrite(self.get) == Overwrite::Replace {
            take_over(&same).await;
        }
        let silent: Arc<dyn Progress> = Arc::new(Silent);
        let capacity = if missing.len() < 2 { None } else { fetch_capacity(&client, &silent).await? };
        let sizes: Vec<_> = missing.iter().map(|(job, _)| job.size).enumerate().collect();
        let batches =
            capacity.map(|capacity| (capacity, capacity.cut(&sizes))).filter(|(_, cut)| !cut.is_empty());
        let (jobs, listed) = missing.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
        let through = match batches {
            None => vec![false; jobs.len()],
            Some((capacity, batches)) => {
                let stage = Arc::new(Stage::open(&client, &source, &root).await?);
                let through = self.batches((&client, &stage), (&jobs, &listed), (capacity, batches)).await?;
                // No batch is under way any more.
                if let Some(stage) = Arc::into_inner(stage) {
                    stage.close().await?;
                }
                through
            }
        };
        let rest = jobs.into_iter().zip(through).filter(|(_, through)| !through).map(|(job, _)| job);
        Ok(rest.chain(alone.drain(..)).collect())
    }

    /// Gets batches, a few at a time, and tells which files are through.
    async fn batches(
        &mut self,
        (client, stage): (&Client, &Arc<Stage>),
        (jobs, listed): (&[Job], &[Listed]),
        (capacity, batches): (Capacity, Vec<Vec<usize>>),
    ) -> Result<Vec<bool>, Failure> {
        let mut through = vec![false; jobs.len()];
        let (mut batches, mut under_way) = (batches.into_iter(), JoinSet::new());
        loop {
            while under_way.len() < capacity.in_flight
                && let Some(batch) = batches.next()
            {
                under_way.spawn(self.batch((client, stage), listed, batch));
            }
            let Some(ended) = under_way.join_next().await else { return Ok(through) };
            let (batch, outcome) = ended.unwrap_or_else(|error| resume_unwind(error.into_panic()));
            match outcome.map_err(Failure::from) {
                Ok(brought) => {
                    for (index, brought) in batch.into_iter().zip(brought) {
                        through[index] = !matches!(brought, Brought::Alone);
                        match brought {
                            Brought::Alone => {}
                            Brought::Here(got) => self.tell(&jobs[index], got.how, &listed[index]),
                            Brought::Refused(error) => self.tally.fail(&self.screen, &error.into()),
                        }
                    }
                }
                Err(failure) if failure.ends_everything() => return Err(failure),
                Err(failure) => {
                    for index in batch {
                        through[index] = true;
                        self.tally.fail(&self.screen, &failure);
                    }
                }
            }
        }
    }

    /// Gets one batch, on a task of its own.
    fn batch(
        &self,
        (client, stage): (&Client, &Arc<Stage>),
        listed: &[Listed],
        batch: Vec<usize>,
    ) -> impl Future<Output = (Vec<usize>, Result<Vec<Brought>, TransferError>)> + use<> {
        let files: Vec<_> = batch.iter().map(|index| listed[*index].clone()).collect();
        let name = words::count(batch.len() as u64, "file", "files");
        let (client, stage, watcher) = (client.clone(), Arc::clone(stage), Arc::new(self.board.file(&name)));
        let overwrite = overwrite(self.get);
        async move {
            let progress: Arc<dyn Progress> = watcher;
            let brought = get_batch(&client, &stage, (&files, overwrite), &progress).await;
            (batch, brought)
        }
    }

    /// Counts and says that a file is here that had no watcher of its own.
    fn tell(&mut self, job: &Job, how: How, listed: &Listed) {
        let watcher = self.board.file(job.source.name().unwrap_or_default());
        let (size, there) = (Length::new(listed.size), how == How::There);
        watcher.event(Event::Begun { size: Some(size), kept: if there { size } else { Length::ZERO } });
        if !there {
            watcher.event(Event::Moved(size));
            watcher.event(Event::Solid(size));
        }
        watcher.event(Event::Done);
        let sums: Sums = watcher.sums();
        self.done(job, &Got { how, size, blake3: listed.blake3 }, &sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_comes_under_its_name_unless_it_ends_with_a_slash() {
        #[track_caller]
        fn check(source: &str, target: &str, root: &str) {
            assert_eq!(root_of(&Remote::parse(source).unwrap(), Path::new(target)), Path::new(root));
        }
        check(":/photos", "back", "back/photos");
        check(":/photos", "back/", "back/photos");
        check(":/photos/", "back", "back");
        check(":/a/photos", ".", "./photos");
        check(":/", "back", "back");
        check(":@ann/", "back", "back");
    }
}
