//! Where a command talks to and as whom: flags, then the environment, then `dev.json`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::client::{Client, ClientError};
use crate::dev_file::{DEFAULT_DATA_DIR, DevFile, TenantTokens};

/// Flags that every client command takes.
#[derive(Debug, Clone, Default, Args)]
pub struct Connection {
    /// Address of the control plane.
    #[arg(long, global = true, env = "BULKHEAD_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Token to use. Prefer the environment: other users can see a command line.
    #[arg(long, global = true, env = "BULKHEAD_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Folder of the `bulkhead dev` to talk to.
    #[arg(long, global = true, env = "BULKHEAD_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Use the token that `bulkhead dev` keeps for this tenant; its first one by default.
    #[arg(long, global = true, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Use the token that `bulkhead dev` keeps for this role; the one that fits by default.
    #[arg(id = "role", long = "as", global = true, value_name = "ROLE")]
    pub role: Option<Caller>,
    /// Print JSON: one document, or one per line for lists and streams.
    #[arg(long, global = true)]
    pub json: bool,
}

/// Whose token of `dev.json` is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Caller {
    /// Everything inside one tenant.
    Owner,
    /// Sessions, turns and execs.
    Agent,
    /// Approvals and audit.
    Reviewer,
    /// Looks only.
    Viewer,
    /// Manages tenants.
    #[value(skip)]
    Platform,
}

/// No control plane or no token to talk to it.
#[derive(Debug, thiserror::Error)]
pub enum NoConnection {
    /// Nothing says where or as whom.
    #[error(
        "no control plane to talk to: set BULKHEAD_URL and BULKHEAD_TOKEN, or start one with \
         `bulkhead dev` (looked for {path})"
    )]
    Nothing {
        /// The `dev.json` that is not there.
        path: PathBuf,
    },
    /// An address without a token.
    #[error("BULKHEAD_URL is set and BULKHEAD_TOKEN is not")]
    NoToken,
    /// The tenant is not one of `bulkhead dev`'s.
    #[error("`bulkhead dev` has no tenant `{name}`; it has {known}")]
    UnknownTenant {
        /// The tenant asked for.
        name: String,
        /// Those that are there.
        known: String,
    },
    /// `dev.json` is damaged.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// The address is unusable.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl Connection {
    /// A client for a command that `fitting` may do.
    ///
    /// `--tenant` and `--as` mean `bulkhead dev`'s tokens and beat the environment's.
    ///
    /// # Errors
    /// When nothing says where to connect to, or the tenant is unknown.
    pub fn client(&self, fitting: Caller) -> Result<Client, NoConnection> {
        let chosen = self.tenant.is_some() || self.role.is_some();
        if let (Some(url), Some(token), false) = (&self.url, &self.token, chosen) {
            return Ok(Client::new(url, Some(token))?);
        }
        let Some(dev) = self.dev_file()? else {
            return Err(match self.url {
                Some(_) => NoConnection::NoToken,
                None => NoConnection::Nothing { path: DevFile::path(&self.data_dir()) },
            });
        };
        let own = self.token.clone().filter(|_| !chosen);
        let token = own.map_or_else(|| self.token_of(&dev, fitting), Ok)?;
        if self.url.as_ref().is_some_and(|url| !same_place(url, &dev.api_url))
            && self.token.is_none()
        {
            // A development token must not travel to some other server.
            return Err(NoConnection::NoToken);
        }
        let url = self.url.as_ref().unwrap_or(&dev.api_url);
        Ok(Client::new(url, Some(&token))?)
    }

    fn token_of(&self, dev: &DevFile, fitting: Caller) -> Result<String, NoConnection> {
        let tenant = match &self.tenant {
            Some(name) => dev.tenants.get(name),
            None => dev.tenants.values().next(),
        };
        let role = self.role.unwrap_or(fitting);
        if role == Caller::Platform {
            return Ok(dev.platform_token.clone());
        }
        let tenant = tenant.ok_or_else(|| NoConnection::UnknownTenant {
            name: self.tenant.clone().unwrap_or_default(),
            known: dev.tenants.keys().cloned().collect::<Vec<_>>().join(", "),
        })?;
        Ok(token_for(tenant, role).to_owned())
    }

    fn dev_file(&self) -> Result<Option<DevFile>, NoConnection> {
        let data_dir = self.data_dir();
        let path = DevFile::path(&data_dir);
        DevFile::find(&data_dir).map_err(|source| NoConnection::Read { path, source })
    }

    fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| DEFAULT_DATA_DIR.into())
    }
}

fn token_for(tokens: &TenantTokens, role: Caller) -> &str {
    match role {
        Caller::Owner | Caller::Platform => &tokens.owner_token,
        Caller::Agent => &tokens.agent_token,
        Caller::Reviewer => &tokens.reviewer_token,
        Caller::Viewer => &tokens.viewer_token,
    }
}

fn same_place(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_connect_to_says_what_to_do() {
        let connection =
            Connection { data_dir: Some("/nonexistent".into()), ..Connection::default() };
        let problem = connection.client(Caller::Agent).map(drop).expect_err("nothing there");
        assert!(problem.to_string().contains("bulkhead dev"), "{problem}");
    }

    #[test]
    fn an_address_needs_a_token() {
        let connection = Connection {
            url: Some("http://127.0.0.1:1".into()),
            data_dir: Some("/nonexistent".into()),
            ..Connection::default()
        };
        let problem = connection.client(Caller::Agent).map(drop).expect_err("no token");
        assert!(matches!(problem, NoConnection::NoToken));
    }
}
