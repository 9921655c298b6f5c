//! The only module that talks to Docker. Every call has a time limit; an answer of "no such
//! container" is a fact, no answer is an error.

mod facts;
mod kernel;
mod volumes;

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use bollard::errors::Error as ApiError;
use bollard::models::{ContainerCreateBody, ContainerSummary, ContainerSummaryStateEnum};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, RenameContainerOptionsBuilder, StartContainerOptions,
};
use domain::ids::{ExecutorId, SandboxId};

pub use facts::DockerFacts;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Labels of our containers.
pub mod labels {
    /// The executor that made it.
    pub const EXECUTOR: &str = "bulkhead.executor";
    /// The tenant.
    pub const TENANT: &str = "bulkhead.tenant";
    /// The session.
    pub const SESSION: &str = "bulkhead.session";
    /// The sandbox.
    pub const SANDBOX: &str = "bulkhead.sandbox";
    /// The generation of the session's workspace.
    pub const GENERATION: &str = "bulkhead.generation";
    /// Instead of a session: it was made for whoever comes; how, is the value.
    pub const POOL: &str = "bulkhead.pool";
}

/// A call to Docker failed.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// Nobody is there.
    #[error(
        "Docker does not answer at {host}: start it with `dockerd` or `systemctl start docker`, \
         or set DOCKER_HOST to its Unix socket"
    )]
    NotAnswering {
        /// Where we looked.
        host: String,
        /// Why it failed.
        source: ApiError,
    },
    /// The image is not on this host.
    #[error("the image {0} is not on this host: build it with `cargo xtask setup`")]
    ImageMissing(String),
    /// It took too long.
    #[error("Docker did not answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
    /// It refused.
    #[error("Docker could not {what}")]
    Call {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        source: ApiError,
    },
}

impl DockerError {
    /// Whether Docker is away, rather than of another opinion.
    pub fn is_away(&self) -> bool {
        match self {
            Self::NotAnswering { .. } | Self::TimedOut => true,
            Self::Call { source, .. } => {
                !matches!(source, ApiError::DockerResponseServerError { .. })
            }
            Self::ImageMissing(_) => false,
        }
    }
}

/// What Docker knows of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Container {
    /// It runs; the number is that of its PID 1 on the host.
    Running(i64),
    /// It would run, and somebody has stopped its processes.
    Paused(i64),
    /// It exists and does not run.
    Stopped {
        /// The kernel has ended something of it for want of memory, whenever that was.
        out_of_memory: bool,
    },
    /// There is none.
    Missing,
}

/// One of our containers, as its labels tell. The journal knows whose it is.
#[derive(Debug, Clone)]
pub struct Found {
    /// Docker's id of it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is, unless the label is damaged.
    pub sandbox_id: Option<SandboxId>,
    /// How it was made, if it was made for the pool.
    pub pool: Option<String>,
    /// Digest of its image.
    pub image_digest: String,
    /// When it was made, in seconds since the epoch.
    pub created_at_s: i64,
    /// Whether it runs.
    pub running: bool,
}

/// See the module.
#[derive(Clone)]
pub struct Docker {
    api: bollard::Docker,
}

impl Docker {
    /// Connects to the Unix socket `host` and agrees on a version.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn connect(host: &str) -> Result<Self, DockerError> {
        let failed = |source| DockerError::NotAnswering { host: host.to_owned(), source };
        let api = bollard::Docker::connect_with_unix(
            host,
            TIMEOUT.as_secs(),
            bollard::API_DEFAULT_VERSION,
        )
        .map_err(failed)?;
        let api = tokio::time::timeout(TIMEOUT, api.negotiate_version())
            .await
            .map_err(|_| DockerError::TimedOut)?
            .map_err(failed)?;
        Ok(Self { api })
    }

    /// The digest of an image on this host, such as `sha256:…`.
    ///
    /// # Errors
    /// When it is not there, or Docker does not answer.
    pub async fn get_image_digest(&self, name: &str) -> Result<String, DockerError> {
        match limited(self.api.inspect_image(name)).await? {
            Ok(image) => image.id.ok_or_else(|| DockerError::ImageMissing(name.to_owned())),
            Err(error) if is_status(&error, 404) => Err(DockerError::ImageMissing(name.to_owned())),
            Err(source) => Err(DockerError::Call { what: "inspect the image", source }),
        }
    }

    /// Makes a container, with its volumes, and gives Docker's id of it. Nothing runs yet.
    ///
    /// # Errors
    /// [`DockerError::ImageMissing`] among others.
    pub async fn create(
        &self,
        name: &str,
        body: ContainerCreateBody,
    ) -> Result<String, DockerError> {
        let image = body.image.clone().unwrap_or_default();
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        match limited(self.api.create_container(Some(options), body)).await? {
            Ok(created) => Ok(created.id),
            Err(error) if is_status(&error, 404) => Err(DockerError::ImageMissing(image)),
            Err(source) => Err(DockerError::Call { what: "create a container", source }),
        }
    }

    /// Starts a container.
    ///
    /// # Errors
    /// When it does not start, or nobody knows whether it did.
    pub async fn start(&self, name: &str) -> Result<(), DockerError> {
        let started = self.api.start_container(name, None::<StartContainerOptions>);
        limited(started)
            .await?
            .map_err(|source| DockerError::Call { what: "start a container", source })
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// When the name is taken, the container is gone or Docker does not answer.
    pub async fn rename(&self, id: &str, name: &str) -> Result<(), DockerError> {
        let options = RenameContainerOptionsBuilder::new().name(name).build();
        limited(self.api.rename_container(id, options))
            .await?
            .map_err(|source| DockerError::Call { what: "rename a container", source })
    }

    /// What there is under this name.
    ///
    /// # Errors
    /// When Docker does not answer: then nothing is known.
    pub async fn inspect(&self, name: &str) -> Result<Container, DockerError> {
        let call = self.api.inspect_container(name, None::<InspectContainerOptions>);
        match limited(call).await? {
            Ok(found) => {
                let state = found.state.unwrap_or_default();
                let running = state.running.unwrap_or(false);
                Ok(match state.pid.filter(|pid| running && *pid > 0) {
                    Some(pid) if state.paused.unwrap_or(false) => Container::Paused(pid),
                    Some(pid) => Container::Running(pid),
                    None => Container::Stopped { out_of_memory: state.oom_killed.unwrap_or(false) },
                })
            }
            Err(error) if is_status(&error, 404) => Ok(Container::Missing),
            Err(source) => Err(DockerError::Call { what: "inspect a container", source }),
        }
    }

    /// Every container that this executor made and that still exists.
    ///
    /// # Errors
    /// When Docker does not answer.
    pub async fn list(&self, executor_id: ExecutorId) -> Result<Vec<Found>, DockerError> {
        let label = format!("{}={executor_id}", labels::EXECUTOR);
        let filters = HashMap::from([("label", vec![label.as_str()])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let containers = limited(self.api.list_containers(Some(options)))
            .await?
            .map_err(|source| DockerError::Call { what: "list containers", source })?;
        Ok(containers.into_iter().filter_map(found).collect())
    }

    /// Removes a container with everything in it. One that is gone already is no failure.
    ///
    /// # Errors
    /// When Docker does not answer or refuses.
    pub async fn remove(&self, name: &str) -> Result<(), DockerError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match limited(self.api.remove_container(name, Some(options))).await? {
            Ok(()) => Ok(()),
            // 409: another removal is under way.
            Err(error) if is_status(&error, 404) || is_status(&error, 409) => Ok(()),
            Err(source) => Err(DockerError::Call { what: "remove a container", source }),
        }
    }
}

async fn limited<T>(call: impl Future<Output = T>) -> Result<T, DockerError> {
    tokio::time::timeout(TIMEOUT, call).await.map_err(|_| DockerError::TimedOut)
}

fn is_status(error: &ApiError, wanted: u16) -> bool {
    matches!(error, ApiError::DockerResponseServerError { status_code, .. } if *status_code == wanted)
}

fn found(container: ContainerSummary) -> Option<Found> {
    let name = container.names?.first()?.trim_start_matches('/').to_owned();
    let mut labels = container.labels.unwrap_or_default();
    // A paused one lives: whoever paused it may go on with it.
    let running = matches!(
        container.state,
        Some(ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::PAUSED)
    );
    Some(Found {
        id: container.id?,
        name,
        sandbox_id: labels.get(labels::SANDBOX).and_then(|id| id.parse().ok()),
        pool: labels.remove(labels::POOL),
        image_digest: container.image_id.unwrap_or_default(),
        created_at_s: container.created.unwrap_or_default(),
        running,
    })
}
