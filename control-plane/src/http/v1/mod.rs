//! Version 1 of the API, one file per resource.

mod approvals;
mod audit;
mod calls;
mod events;
mod execs;
mod executors;
mod files;
mod live;
mod policy;
mod sessions;
mod tenants;
mod tokens;
mod turns;

use axum::Router;
use axum::routing::{delete, get, post};

use crate::app::App;

/// All routes below `/v1`.
pub fn router() -> Router<App> {
    Router::new()
        .route("/tenants", get(tenants::list).post(tenants::create))
        .route("/tokens", get(tokens::list).post(tokens::create))
        .route("/tokens/{id}", delete(tokens::revoke))
        .route("/sessions", get(sessions::list).post(sessions::create))
        .route("/sessions/{id}", get(sessions::show).delete(sessions::close))
        .route("/sessions/{id}/shutdown", post(sessions::close))
        .route("/sessions/{id}/interrupt", post(sessions::interrupt))
        .route("/sessions/{id}/execs", get(execs::list).post(execs::create))
        .route("/sessions/{id}/turns", post(turns::create))
        .route("/sessions/{id}/events", get(events::follow))
        .route("/turns/{id}", get(turns::show))
        .route("/execs/{id}", get(execs::show))
        .route("/execs/{id}/output", get(execs::output))
        .route("/execs/{id}/cancel", post(execs::cancel))
        .route("/execs/{id}/stdin", post(live::stdin))
        .route("/execs/{id}/signal", post(live::signal))
        .route("/execs/{id}/resize", post(live::resize))
        .route("/sessions/{id}/files", get(files::list).put(files::put_root))
        .route(
            "/sessions/{id}/files/{*path}",
            get(files::get).put(files::put).delete(files::delete),
        )
        .route("/approvals", get(approvals::list))
        .route("/approvals/{id}", get(approvals::show))
        .route("/approvals/{id}/decision", post(approvals::decide))
        .route("/approvals/{id}/proposal", post(approvals::propose))
        .route("/policy", get(policy::show).put(policy::put))
        .route("/policy/versions", get(policy::versions))
        .route("/policy/check", post(policy::check))
        .route("/policy/explain", post(policy::explain))
        .route("/policy/simulate", post(policy::simulate))
        .route("/audit/events", get(audit::list))
        .route("/audit/checkpoints", get(audit::list_checkpoints).post(audit::checkpoint))
        .route("/audit/export", get(audit::export))
        .route("/audit/reviews", get(audit::list_reviews).post(audit::create_review))
        .route("/executors", get(executors::list).post(executors::enrol))
        .route("/executors/execs/{id}/started", post(executors::started))
        .route("/executors/execs/{id}/output", post(executors::output))
        .route("/executors/execs/{id}/result", post(executors::result))
        .route("/executors/calls", get(calls::line))
        .route("/executors/calls/{id}", get(calls::fetch))
        .route("/executors/calls/{id}/body", get(calls::body))
        .route("/executors/calls/{id}/reply", post(calls::reply))
}
