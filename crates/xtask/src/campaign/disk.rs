//! A small disk that can be filled. Owns its mount (a `tmpfs`: no loop device, no file system image) and the file
//! that fills it.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::rig::bytes::MIB;
use crate::rig::leftovers::{Holding, Leftover};

/// A file system of a known size. Dropping it unmounts it.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    path: PathBuf,
    _mount: Holding,
}

impl SmallDisk {
    /// Mounts it; this needs the right to mount.
    pub(crate) fn mount(path: &Path, size: u64) -> anyhow::Result<Self> {
        std::fs::create_dir_all(path)?;
        let mount = Holding::make(Leftover::Mount(path.to_owned()), || {
            let output = Command::new("mount")
                .args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "hapax-campaign"])
                .arg(path)
                .stdin(Stdio::null())
                .output()
                .context("there is no `mount`")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "a small disk cannot be mounted: {}", said.trim());
            Ok(())
        })?;
        Ok(Self { path: path.to_owned(), _mount: mount })
    }

    /// Returns where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) -> anyhow::Result<()> {
        let mut file = File::create(self.filler())?;
        let zeros = vec![0; usize::try_from(MIB)?];
        loop {
            match file.write_all(&zeros) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error).context("the small disk cannot be filled"),
            }
        }
    }

    /// Gives it back.
    pub(crate) fn clear(&self) -> io::Result<()> {
        std::fs::remove_file(self.filler())
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}
