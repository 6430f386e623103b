//! Servers that are measured: ours, the floor, and peers where they are installed. Owns their command lines; each
//! runs on this machine alone, in a folder of its own.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::Bench;
use crate::rig::process::Process;
use crate::rig::server::{Server, Site, announced_address};

/// How long a peer may take to listen.
const START: Duration = Duration::from_secs(30);
/// How long one may live: what is measured must end.
const LIFE: Duration = Duration::from_hours(2);

/// Who serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Hapax,
    Floor,
    Dufs,
    Nginx,
    Copyparty,
    Caddy,
    Tusd,
    TusNode,
}

impl Who {
    /// Returns the name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hapax => "hapax",
            Self::Floor => "floor",
            Self::Dufs => "dufs",
            Self::Nginx => "nginx",
            Self::Copyparty => "copyparty",
            Self::Caddy => "caddy",
            Self::Tusd => "tusd",
            Self::TusNode => "tus-node",
        }
    }

    fn is_here(self) -> bool {
        match self {
            Self::Hapax | Self::Floor => true,
            Self::Dufs => runs("dufs", "--version"),
            Self::Nginx => runs("nginx", "-v"),
            Self::Copyparty => runs("copyparty", "--version"),
            Self::Caddy => runs("caddy", "version"),
            Self::Tusd => runs("tusd", "-version"),
            Self::TusNode => {
                runs("node", "--version") && Path::new(TUS_NODE).join("node_modules/@tus/server").exists()
            }
        }
    }

    /// Tells whether it takes files; if not, they are laid into its folder.
    pub(crate) fn receives(self) -> bool {
        self != Self::Caddy
    }

    /// Returns the folder of its files.
    pub(crate) fn data(self, bench: &Bench) -> PathBuf {
        bench.folder.join(self.name()).join("data")
    }
}

/// Tells whether a program is here: with this word it says something and ends well.
pub(crate) fn runs(program: &str, word: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(word).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The folder of the tus server in JavaScript; `npm ci` there installs it.
const TUS_NODE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bench/tus-node");

/// Servers of files.
const PEERS: [Who; 4] = [Who::Dufs, Who::Nginx, Who::Copyparty, Who::Caddy];

/// Returns everybody who is here and sends files, ours and the floor first.
pub(crate) fn readable() -> Vec<Who> {
    [Who::Hapax, Who::Floor].into_iter().chain(PEERS.into_iter().filter(|who| who.is_here())).collect()
}

/// Returns everybody who also takes files, in the same order.
pub(crate) fn present() -> Vec<Who> {
    readable().into_iter().filter(|who| who.receives()).collect()
}

/// Servers of tus.
const TUS_PEERS: [Who; 2] = [Who::Tusd, Who::TusNode];

/// Returns everybody who is here and speaks tus, ours first.
pub(crate) fn tus_speaking() -> Vec<Who> {
    [Who::Hapax].into_iter().chain(TUS_PEERS.into_iter().filter(|who| who.is_here())).collect()
}

/// Returns a line for every peer that is not.
pub(crate) fn absent() -> Vec<String> {
    let absent = PEERS.iter().chain(&TUS_PEERS).filter(|who| !who.is_here());
    absent.map(|who| format!("{}: not installed", who.name())).collect()
}

/// Has our server do nothing but what it is asked for: nobody else hashes contents in background.
pub(crate) fn plain() -> Vec<OsString> {
    ["env", "HAPAX_LOOKUPS="].map(OsString::from).to_vec()
}

enum Running {
    Ours(Server),
    Other(Process),
}

/// A server that runs.
pub(crate) struct Subject {
    running: Running,
    pub(crate) address: SocketAddr,
    /// What stands before a file's name.
    pub(crate) prefix: &'static str,
}

impl Subject {
    /// Removes what an earlier one left.
    pub(crate) fn clear(bench: &Bench, who: Who) -> anyhow::Result<()> {
        let folder = bench.folder.join(who.name());
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        Ok(())
    }

    /// Starts one with an empty folder.
    pub(crate) fn start(bench: &Bench, who: Who) -> anyhow::Result<Self> {
        Self::clear(bench, who)?;
        let folder = bench.folder.join(who.name());
        let data = who.data(bench);
        std::fs::create_dir_all(&folder)?;
        match who {
            Who::Hapax => Self::start_ours(bench, &[]),
            Who::Floor => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("floor").arg(&data).stdin(Stdio::null()).stdout(Stdio::piped());
                let mut process = Process::start(&mut command, LIFE)?;
                let stdout = process.child().stdout.take().context("the floor has no standard output")?;
                let address = announced_address(stdout).recv_timeout(START).context("the floor is silent")?;
                Ok(Self { running: Running::Other(process), address, prefix: "/" })
            }
            _ => Self::start_peer(who, &folder, &data),
        }
    }

    /// Starts ours with these settings, `NAME=value` each, over the store that is there.
    pub(crate) fn start_ours(bench: &Bench, settings: &[&str]) -> anyhow::Result<Self> {
        let (data, log) = (Who::Hapax.data(bench), bench.folder.join("server.log"));
        std::fs::create_dir_all(bench.folder.join(Who::Hapax.name()))?;
        let around = plain().into_iter().chain(settings.iter().map(OsString::from)).collect();
        let server = Server::start(&Site { hapax: bench.hapax.clone(), data, log, around })?;
        let address = server.address();
        Ok(Self { running: Running::Ours(server), address, prefix: "/files/" })
    }

    fn start_peer(who: Who, folder: &Path, data: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(data)?;
        // Free now; whoever takes it in between makes the start fail, visibly.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let port = address.port().to_string();
        let mut command = Command::new(if who == Who::TusNode { "node" } else { who.name() });
        match who {
            Who::Tusd => command
                .args(["-host", "127.0.0.1", "-port", &port, "-base-path", "/tus/", "-upload-dir"])
                .arg(data),
            Who::TusNode => command.arg("server.mjs").arg(&port).arg(data).current_dir(TUS_NODE),
            Who::Dufs => command.args(["--allow-all", "--bind", "127.0.0.1", "--port", &port]).arg(data),
            Who::Nginx => {
                let config = folder.join("nginx.conf");
                std::fs::write(&config, nginx_config(address, data, folder))?;
                command.arg("-p").arg(folder).arg("-c").arg(config).args(["-g", "daemon off;"])
            }
            Who::Caddy => {
                // What it remembers belongs to this run alone.
                command.env("HOME", folder).env("XDG_CONFIG_HOME", folder).env("XDG_DATA_HOME", folder);
                let listen = format!("127.0.0.1:{port}");
                command.args(["file-server", "--listen", &listen, "--root"]).arg(data)
            }
            _ => {
                let volume = format!("{}::A", data.display());
                command.args(["-q", "-i", "127.0.0.1", "-p", &port, "-v", &volume])
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Process::start(&mut command, LIFE)?;
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            ensure!(start.elapsed() < START, "{} does not listen", who.name());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { running: Running::Other(process), address, prefix: "/" })
    }

    /// Returns the number of its process.
    pub(crate) fn id(&self) -> u32 {
        match &self.running {
            Running::Ours(server) => server.id(),
            Running::Other(process) => process.id(),
        }
    }

    /// Returns the address of a file.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{}{}{name}", self.address, self.prefix)
    }

    /// Returns the address without a path.
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn nginx_config(address: SocketAddr, data: &Path, folder: &Path) -> String {
    let (data, folder) = (data.display(), folder.display());
    format!(
        "pid {folder}/nginx.pid; error_log {folder}/error.log; master_process off; events {{}}\n\
         http {{ access_log off; sendfile on; client_max_body_size 0; client_body_temp_path {folder}/body;\n\
         server {{ listen {address}; root {data}; location / {{ dav_methods PUT; }} }} }}\n"
    )
}
