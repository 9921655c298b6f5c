//! What Docker says of itself, in the words of the checks that need it.

use bollard::models::SystemInfoCgroupVersionEnum;

use super::{Docker, DockerError, limited};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerFacts {
    /// Its version, such as `20.10.24`.
    pub version: String,
    /// The version of its default runtime's program, as that program says it.
    pub runc: String,
    /// Names of the OCI runtimes it knows, sorted.
    pub runtimes: Vec<String>,
    /// The one it takes when none is named.
    pub default_runtime: String,
    /// Security features that it uses: `seccomp`, `apparmor`, `selinux`, `userns`, `rootless`, …
    pub security: Vec<String>,
    /// Whether it works with cgroup v2.
    pub cgroup_v2: bool,
    /// Whether it can limit memory.
    pub memory: bool,
    /// Whether it can limit processes.
    pub pids: bool,
    /// Whether it can limit processor time.
    pub cpu: bool,
    /// Whether containers live on while it restarts.
    pub live_restore: bool,
    /// Whether the runtime that was asked for gives containers a kernel of their own, as a
    /// container of it has seen. Only asked of runtimes that are known to.
    pub own_kernel: bool,
}

impl Docker {
    /// What Docker says of itself. What it does not say counts as absent.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn facts(&self) -> Result<DockerFacts, DockerError> {
        let info = limited(self.api.info())
            .await?
            .map_err(|source| DockerError::Call { what: "describe itself", source })?;
        let version = limited(self.api.version())
            .await?
            .map_err(|source| DockerError::Call { what: "tell its version", source })?;
        let runc = version.components.unwrap_or_default().into_iter().find(|c| c.name == "runc");
        let mut runtimes: Vec<_> = info.runtimes.unwrap_or_default().into_keys().collect();
        runtimes.sort();
        let security = info.security_options.unwrap_or_default();
        Ok(DockerFacts {
            version: info.server_version.unwrap_or_default(),
            runc: runc.map(|component| component.version).unwrap_or_default(),
            runtimes,
            default_runtime: info.default_runtime.unwrap_or_default(),
            security: security.iter().filter_map(|option| option_name(option)).collect(),
            cgroup_v2: info.cgroup_version == Some(SystemInfoCgroupVersionEnum::_2),
            memory: info.memory_limit.unwrap_or(false),
            pids: info.pids_limit.unwrap_or(false),
            cpu: info.cpu_cfs_quota.unwrap_or(false),
            live_restore: info.live_restore_enabled.unwrap_or(false),
            own_kernel: false,
        })
    }
}

/// The name in an option such as `name=seccomp,profile=default`.
fn option_name(option: &str) -> Option<String> {
    option.split(',').find_map(|part| part.strip_prefix("name=")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_security_option_is_found_among_its_settings() {
        assert_eq!(option_name("name=seccomp,profile=default").as_deref(), Some("seccomp"));
        assert_eq!(option_name("profile=default"), None);
    }
}
