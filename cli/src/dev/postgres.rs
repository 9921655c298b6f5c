//! A private Postgres cluster in the data folder, on a port of its own and a socket beside its data,
//! which costs its clients less than TCP does. Both ask for the password.
//!
//! Postgres refuses to run as root; then it runs as the `postgres` user, and where that user
//! cannot reach the data folder the cluster lies under `/var/lib/bulkhead`, linked from there.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::DevError;
use super::layout::{self, Layout};
use super::log::DevLog;
use super::service::{OsUser, Service, Stage};
use super::{programs, secrets};
use crate::dev_file::write_secret;

/// Name of the service.
pub(super) const NAME: &str = "postgres";
/// How long it may take to be ready, recovery after a crash included.
pub(super) const START_LIMIT: Duration = Duration::from_secs(60);
const STEP_LIMIT: Duration = Duration::from_secs(60);
const ELSEWHERE: &str = "/var/lib/bulkhead";
/// Longest path of a socket, in bytes, as the kernel has it.
const MAX_SOCKET_PATH: usize = 107;

/// The cluster's passwords.
#[derive(Serialize, Deserialize)]
pub(super) struct Passwords {
    pub(super) superuser: String,
    pub(super) owner: String,
    pub(super) app: String,
}

/// The cluster, ready to be started.
pub(super) struct Cluster {
    pub(super) port: u16,
    pub(super) passwords: Passwords,
    programs: PathBuf,
    data: PathBuf,
    user: Option<OsUser>,
}

impl Cluster {
    /// Finds the cluster of a data folder, or makes it.
    pub(super) async fn prepare(
        layout: &Layout,
        log: &DevLog,
        port: u16,
    ) -> Result<Self, DevError> {
        let user = postgres_user()?;
        let folder = folder_for(layout, log, user)?;
        let data = folder.join("data");
        let exists = data.join("PG_VERSION").is_file();
        let passwords = passwords(layout, exists.then_some(&data))?;
        let programs = programs::postgres(exists.then(|| version_of(&data)).flatten())?;
        let cluster = Self { port, passwords, programs, data, user };
        if !exists {
            log.say(format_args!("making a Postgres cluster in {}", folder.display()));
            cluster.initialise(layout, &folder).await?;
        }
        Ok(cluster)
    }

    /// The server.
    pub(super) fn service(&self, layout: &Layout) -> Service {
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", self.port),
            format!("unix_socket_directories={}", self.socket_folder().unwrap_or_default()),
            "shared_buffers=128MB".into(),
            "max_connections=200".into(),
            "fsync=on".into(),
        ];
        Service::new(layout, Stage::Ground, NAME, self.programs.join("postgres"))
            .args(["-D".as_ref(), self.data.as_os_str()])
            .args(settings.iter().flat_map(|setting| ["-c", setting]))
            .user(self.user)
            // Its fast shutdown: ends connections instead of waiting for them.
            .stop_with(Signal::SIGINT)
    }

    /// Whether it takes connections.
    pub(super) async fn is_ready(&self, layout: &Layout) -> bool {
        let probe = Service::new(layout, Stage::Ground, "pg_isready", self.program("pg_isready"))
            .args(["--quiet", "--host=127.0.0.1", "--timeout=2"])
            .args([format!("--port={}", self.port)]);
        probe.run_once(b"", Duration::from_secs(5)).await.is_ok()
    }

    /// One of Postgres' programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Where `role` connects to.
    pub(super) fn url(&self, role: &str, password: &str) -> String {
        let socket =
            self.socket_folder().map(|folder| format!("&host={}", folder.replace('/', "%2F")));
        let socket = socket.unwrap_or_default();
        format!(
            "postgres://{role}:{password}@127.0.0.1:{}/bulkhead?sslmode=disable{socket}",
            self.port
        )
    }

    /// Where its socket is, unless its path is too long, or one that needs quoting somewhere.
    fn socket_folder(&self) -> Option<&str> {
        let folder = self.data.parent()?.to_str()?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
        let length = folder.len() + "/.s.PGSQL.65535".len();
        (length <= MAX_SOCKET_PATH && folder.chars().all(is_plain)).then_some(folder)
    }

    /// Made beside its place and moved there, so that half a cluster is never taken for one.
    async fn initialise(&self, layout: &Layout, folder: &Path) -> Result<(), DevError> {
        let fresh = folder.join("data.new");
        // Left behind by a start that was killed.
        let _ = fs::remove_dir_all(&fresh);
        let password_file = folder.join("superuser");
        let written = write_secret(&password_file, self.passwords.superuser.as_bytes());
        written.map_err(DevError::file("write", &password_file))?;
        hand_over(&password_file, self.user)?;
        let password_argument = format!("--pwfile={}", password_file.display());
        let made = Service::new(layout, Stage::Ground, "initdb", self.program("initdb"))
            .args(["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8"])
            .args(["--locale=C", "--no-instructions", &password_argument])
            .args(["-D".as_ref(), fresh.as_os_str()])
            .user(self.user)
            .run_once(b"", STEP_LIMIT)
            .await;
        fs::remove_file(&password_file).map_err(DevError::file("remove", &password_file))?;
        made?;
        fs::rename(&fresh, &self.data).map_err(DevError::file("rename", &fresh))
    }
}

fn passwords(layout: &Layout, cluster: Option<&PathBuf>) -> Result<Passwords, DevError> {
    let path = layout.secrets().join("postgres.json");
    if let Some(passwords) = secrets::find(&path)? {
        return Ok(passwords);
    }
    if let Some(cluster) = cluster {
        return Err(DevError::SecretsLost { cluster: cluster.clone(), secrets: path });
    }
    let passwords = Passwords {
        superuser: secrets::new_password()?,
        owner: secrets::new_password()?,
        app: secrets::new_password()?,
    };
    secrets::keep(&path, &passwords)?;
    Ok(passwords)
}

fn version_of(data: &Path) -> Option<u32> {
    fs::read_to_string(data.join("PG_VERSION")).ok()?.trim().parse().ok()
}

/// The user that the server runs as, when we are root.
fn postgres_user() -> Result<Option<OsUser>, DevError> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    match nix::unistd::User::from_name("postgres") {
        Ok(Some(user)) => Ok(Some(OsUser { uid: user.uid.as_raw(), gid: user.gid.as_raw() })),
        _ => Err(DevError::NoProgram {
            what: "the user `postgres`".into(),
            place: String::new(),
            remedy: "Debian's PostgreSQL package creates it; `cargo xtask setup` installs it",
        }),
    }
}

fn folder_for(layout: &Layout, log: &DevLog, user: Option<OsUser>) -> Result<PathBuf, DevError> {
    let inside = layout.postgres();
    if let Ok(folder) = inside.canonicalize() {
        return Ok(folder);
    }
    if user.is_none() || is_reachable(layout.root()) {
        layout::make(&inside, 0o700)?;
        hand_over(&inside, user)?;
        return Ok(inside);
    }
    layout::make(Path::new(ELSEWHERE), 0o711)?;
    let name = &secrets::new_password()?[..16];
    let folder = Path::new(ELSEWHERE).join(format!("dev-{name}"));
    layout::make(&folder, 0o700)?;
    hand_over(&folder, user)?;
    symlink(&folder, &inside).map_err(DevError::file("link", &inside))?;
    log.say(format_args!(
        "the user `postgres` cannot reach {}: the cluster is in {}",
        layout.root().display(),
        folder.display()
    ));
    Ok(folder)
}

/// Whether every user can get through to a folder.
fn is_reachable(folder: &Path) -> bool {
    let open = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o001 != 0);
    folder.ancestors().all(open)
}

fn hand_over(path: &Path, user: Option<OsUser>) -> Result<(), DevError> {
    let Some(user) = user else { return Ok(()) };
    chown(path, Some(user.uid), Some(user.gid)).map_err(DevError::file("hand over", path))
}
