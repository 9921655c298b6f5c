//! Version 1 of the API, one file per resource.

mod approvals;
mod audit;
mod calls;
mod casts;
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
mod usage;
mod webhooks;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

/// All routes below `/v1`. What stands here is in the description, and nothing else is.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(tenants::list, tenants::create))
        .routes(routes!(usage::set))
        .routes(routes!(usage::show))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(sessions::list, sessions::create))
        .routes(routes!(sessions::show, sessions::close))
        .routes(routes!(sessions::shutdown))
        .routes(routes!(sessions::interrupt))
        .routes(routes!(execs::list, execs::create))
        .routes(routes!(turns::create))
        .routes(routes!(events::follow))
        .routes(routes!(turns::show))
        .routes(routes!(execs::show))
        .routes(routes!(execs::output))
        .routes(routes!(casts::show))
        .routes(routes!(execs::cancel))
        .routes(routes!(live::stdin))
        .routes(routes!(live::signal))
        .routes(routes!(live::resize))
        .routes(routes!(files::list, files::put_root))
        .routes(routes!(files::get, files::put, files::delete))
        .routes(routes!(approvals::list))
        .routes(routes!(approvals::show))
        .routes(routes!(approvals::decide))
        .routes(routes!(approvals::propose))
        .routes(routes!(policy::show, policy::put))
        .routes(routes!(policy::versions))
        .routes(routes!(policy::check))
        .routes(routes!(policy::explain))
        .routes(routes!(policy::simulate))
        .routes(routes!(audit::list))
        .routes(routes!(audit::checkpoints::list, audit::checkpoints::create))
        .routes(routes!(audit::evidence::list))
        .routes(routes!(audit::export::export))
        .routes(routes!(audit::reviews::list, audit::reviews::create))
        .routes(routes!(audit::sampling::show, audit::sampling::put))
        .routes(routes!(audit::queue::list))
        .routes(routes!(audit::figures::show))
        .routes(routes!(audit::erasures::create))
        .routes(routes!(audit::retention::show, audit::retention::put))
        .routes(routes!(executors::list, executors::enrol))
        .routes(routes!(executors::alive))
        .routes(routes!(executors::started))
        .routes(routes!(executors::output))
        .routes(routes!(executors::lost))
        .routes(routes!(executors::result))
        .routes(routes!(webhooks::list, webhooks::create))
        .routes(routes!(webhooks::delete))
        .routes(routes!(calls::line))
        .routes(routes!(calls::fetch))
        .routes(routes!(calls::body))
        .routes(routes!(calls::reply))
}
