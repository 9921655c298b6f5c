//! Volumes: Docker makes them with their containers; here they are found and removed.

use std::collections::HashMap;

use bollard::query_parameters::{ListVolumesOptionsBuilder, RemoveVolumeOptionsBuilder};
use domain::ids::ExecutorId;

use super::{Docker, DockerError, is_status, labels, limited};

impl Docker {
    /// The names of this executor's volumes.
    ///
    /// # Errors
    /// When Docker does not answer.
    pub async fn list_volumes(&self, executor_id: ExecutorId) -> Result<Vec<String>, DockerError> {
        let label = format!("{}={executor_id}", labels::EXECUTOR);
        let filters = HashMap::from([("label", vec![label.as_str()])]);
        let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
        let listed = limited(self.api.list_volumes(Some(options)))
            .await?
            .map_err(|source| DockerError::Call { what: "list volumes", source })?;
        Ok(listed.volumes.unwrap_or_default().into_iter().map(|volume| volume.name).collect())
    }

    /// Removes a volume; what is on its device stays. One that is gone already is no failure.
    ///
    /// # Errors
    /// When Docker does not answer, or a container still uses it.
    pub async fn remove_volume(&self, name: &str) -> Result<(), DockerError> {
        let options = RemoveVolumeOptionsBuilder::new().force(true).build();
        match limited(self.api.remove_volume(name, Some(options))).await? {
            Ok(()) => Ok(()),
            Err(error) if is_status(&error, 404) => Ok(()),
            Err(source) => Err(DockerError::Call { what: "remove a volume", source }),
        }
    }
}
