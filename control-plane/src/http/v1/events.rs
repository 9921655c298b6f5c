//! `/v1/sessions/{id}/events`: a session's events as server-sent events, read from the table.
//!
//! Every datum is one line of JSON, so that no content can forge a frame. The token is checked
//! again while the stream lives: a revoked one ends it. Nothing is buffered for a slow reader: the
//! table keeps it. One that takes too long for an event is told so with a `gap`, and let go.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use domain::access::Operation;
use domain::ids::SessionId;
use domain::session::SessionState;
use serde::Deserialize;
use serde_json::json;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, AppError, Caller};
use crate::http::ApiError;
use crate::http::json::{Id, Params};
use crate::http::openapi::LastEventIdHeader;
use crate::store::SessionEvent;
use crate::streams::{StreamPermit, TooMany};

const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often a resting stream checks its token.
const TICK: Duration = Duration::from_secs(1);
/// How long a stream rests at most before it looks into the table unasked.
const LOOK: Duration = Duration::from_secs(15);
/// The same, while nobody listens for announcements.
const LOOK_UNHEARD: Duration = Duration::from_secs(2);
const BATCH: i64 = 100;

/// Query string of the stream.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FollowParams {
    /// Give events after this number; the header `Last-Event-ID` counts more.
    #[serde(default)]
    after: i64,
}

/// One event of the stream.
#[derive(ToSchema)]
#[schema(as = StreamEvent)]
#[allow(dead_code)] // described here, written by `frame`
struct Frame {
    /// The event's number, to go on after it; a `gap` has none.
    id: Option<String>,
    /// What happened.
    event: String,
    /// One line of JSON: `seq`, `type`, `at` and `data`.
    data: String,
}

struct Follower {
    app: App,
    caller: Caller,
    session_id: SessionId,
    after: i64,
    news: watch::Receiver<u64>,
    permit: StreamPermit,
    ready: std::vec::IntoIter<SessionEvent>,
    /// When the client was last given something.
    given_at: Instant,
}

/// Follows a session until it is closed.
#[utoipa::path(
    get, path = "/sessions/{id}/events", operation_id = "follow_session", tag = "events",
    security(("token" = ["read_work"])),
    params(("id" = SessionId, Path), FollowParams, LastEventIdHeader),
    responses((status = 200, body = Frame, content_type = "text/event-stream")),
)]
pub async fn follow(
    State(app): State<App>,
    caller: Caller,
    Id(session_id): Id<SessionId>,
    Params(params): Params<FollowParams>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let after = match headers.get("last-event-id") {
        None => params.after,
        Some(id) => id.to_str().ok().and_then(|id| id.parse().ok()).ok_or_else(|| {
            let detail = "Last-Event-ID must be the id of an event of this stream";
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_last_event_id", detail)
        })?,
    };
    let mut scope = caller.open(&app, Operation::ReadWork).await?;
    scope.get_session(session_id).await.map_err(AppError::of("session"))?;
    drop(scope);
    let tenant_id = caller.authorize(Operation::ReadWork)?;
    let permit = app.streams.open(caller.token_id, tenant_id).map_err(|too_many| {
        let (who, most) = match too_many {
            TooMany::OfToken => ("this token", app.streams.per_token()),
            TooMany::OfTenant => ("this tenant", app.streams.per_tenant()),
        };
        let message = format!("{who} has {most} streams open already; close one");
        AppError::TooMany { code: "too_many_streams", message }
    })?;
    // Subscribed before the first look: nothing falls between.
    let news = app.hub.subscribe(session_id);
    let (ready, given_at) = (Vec::new().into_iter(), Instant::now());
    let follower = Follower { app, caller, session_id, after, news, permit, ready, given_at };
    let events = futures::stream::unfold(Some(follower), next);
    let stream = Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    // Proxies must pass events on as they come.
    Ok(([("x-accel-buffering", "no")], stream).into_response())
}

type Item = Result<Event, Infallible>;

async fn next(follower: Option<Follower>) -> Option<(Item, Option<Follower>)> {
    let mut follower = follower?;
    if follower.given_at.elapsed() > follower.app.stall {
        // Its next request, with the id of the last event it has, leaves nothing out.
        let data = json!({ "after": follower.after, "reason": "the reader is too slow" });
        return Some((Ok(Event::default().event("gap").data(data.to_string())), None));
    }
    loop {
        if let Some(event) = follower.ready.next() {
            follower.after = event.seq;
            follower.given_at = Instant::now();
            let is_last = event.kind == "session.closed";
            return Some((Ok(frame(&event)), (!is_last).then_some(follower)));
        }
        match follower.look().await {
            Ok(Look::News(events)) => follower.ready = events.into_iter(),
            Ok(Look::Nothing) => follower.rest().await?,
            Ok(Look::Over) => return None,
            // The client comes back with its last id; a stream that only waits would hide it.
            Err(_) => return None,
        }
    }
}

enum Look {
    News(Vec<SessionEvent>),
    Nothing,
    Over,
}

impl Follower {
    async fn look(&self) -> Result<Look, AppError> {
        let mut scope = self.caller.open(&self.app, Operation::ReadWork).await?;
        let events = scope.list_events(self.session_id, self.after, BATCH).await?;
        if !events.is_empty() {
            return Ok(Look::News(events));
        }
        Ok(match scope.get_session(self.session_id).await?.state {
            SessionState::Closed => Look::Over,
            SessionState::Open | SessionState::Closing => Look::Nothing,
        })
    }

    /// Waits until there may be news. None when the stream must end.
    async fn rest(&mut self) -> Option<()> {
        let rest = if self.app.hub.is_listening() { LOOK } else { LOOK_UNHEARD };
        let until = Instant::now() + rest;
        loop {
            self.app.verifier.recheck(&self.caller.pass).ok()?;
            let tick = until.min(Instant::now() + TICK);
            tokio::select! {
                _ = self.news.changed() => break,
                _ = self.permit.stopping.changed() => return None,
                () = tokio::time::sleep_until(tick) => {}
            }
            if Instant::now() >= until {
                break;
            }
        }
        self.given_at = Instant::now();
        Some(())
    }
}

fn frame(event: &SessionEvent) -> Event {
    let data = json!({
        "seq": event.seq,
        "type": event.kind,
        "at": event.at.format(&Rfc3339).unwrap_or_default(),
        "data": event.data,
    });
    Event::default().id(event.seq.to_string()).event(&event.kind).data(data.to_string())
}
