//! Whether an OCI runtime gives its containers a kernel of their own: asked of a container, since
//! the runtime's name is only its operator's word.

use bollard::errors::Error as ApiError;
use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};
use bollard::query_parameters::WaitContainerOptions;
use futures::StreamExt as _;
use uuid::Uuid;

use super::{Docker, DockerError, limited};

const VERSION: &str = "/proc/version";
/// `grep`'s word for "no such line".
const NOT_FOUND: i64 = 1;

impl Docker {
    /// Whether a container of this image under this runtime sees a kernel that is not this host's.
    /// What cannot be told counts as no.
    ///
    /// # Errors
    /// When Docker does not answer, has no such image, or the runtime starts nothing.
    pub async fn has_own_kernel(
        &self,
        runtime: Option<&str>,
        image: &str,
    ) -> Result<bool, DockerError> {
        let Ok(ours) = std::fs::read_to_string(VERSION) else { return Ok(false) };
        let look = ["/bin/grep", "--quiet", "--line-regexp", "--fixed-strings", "--", ours.trim()];
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            entrypoint: Some(look.into_iter().chain([VERSION]).map(str::to_owned).collect()),
            cmd: Some(Vec::new()),
            network_disabled: Some(true),
            host_config: Some(HostConfig {
                runtime: runtime.map(str::to_owned),
                network_mode: Some("none".into()),
                readonly_rootfs: Some(true),
                cap_drop: Some(vec!["ALL".into()]),
                log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let name = format!("bulkhead-doctor-{}", Uuid::now_v7().simple());
        let id = self.create(&name, body).await?;
        let code = match self.start(&id).await {
            Ok(()) => self.exit_code(&id).await,
            Err(error) => Err(error),
        };
        self.remove(&id).await?;
        Ok(code? == NOT_FOUND)
    }

    async fn exit_code(&self, id: &str) -> Result<i64, DockerError> {
        let mut ends = self.api.wait_container(id, None::<WaitContainerOptions>);
        match limited(ends.next()).await? {
            Some(Ok(end)) => Ok(end.status_code),
            Some(Err(ApiError::DockerContainerWaitError { code, .. })) => Ok(code),
            Some(Err(source)) => Err(DockerError::Call { what: "wait for a container", source }),
            None => Ok(-1),
        }
    }
}
