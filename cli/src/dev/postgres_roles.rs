//! The cluster's two roles and its database: one role owns the tables, the other one works with
//! them under row-level security.

use std::time::Duration;

use super::DevError;
use super::layout::Layout;
use super::postgres::Cluster;
use super::service::{Service, Stage};

/// Owns the database; migrations run as it.
pub(super) const OWNER: &str = "bulkhead_owner";
/// What the control plane connects as.
pub(super) const APP: &str = "bulkhead_app";
const LIMIT: Duration = Duration::from_secs(30);

/// Creates what is missing; the same statements on every start.
pub(super) async fn ensure(layout: &Layout, cluster: &Cluster) -> Result<(), DevError> {
    let statements = format!(
        "{}{}\
         SELECT 'CREATE DATABASE bulkhead OWNER {OWNER}'
             WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'bulkhead') \\gexec\n\
         REVOKE ALL ON DATABASE bulkhead FROM PUBLIC;\n\
         GRANT CONNECT ON DATABASE bulkhead TO {APP};\n",
        role(OWNER, &cluster.passwords.owner),
        role(APP, &cluster.passwords.app),
    );
    let psql = Service::new(layout, Stage::Ground, "psql", cluster.program("psql"))
        .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--no-password"])
        .args(["--host=127.0.0.1", "--username=postgres", "--dbname=postgres"])
        .args([format!("--port={}", cluster.port)])
        .env("PGPASSWORD", &cluster.passwords.superuser)
        .env("PGCONNECT_TIMEOUT", "5");
    psql.run_once(statements.as_bytes(), LIMIT).await.map(drop)
}

/// Passwords are hex digits, so they need no escaping.
fn role(name: &str, password: &str) -> String {
    format!(
        "SELECT 'CREATE ROLE {name}'
             WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') \\gexec\n\
         ALTER ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS
             PASSWORD '{password}';\n"
    )
}
