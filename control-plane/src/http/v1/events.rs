//! `/v1/sessions/{id}/events`: a session's events as server-sent events, read from the table.
//!
//! Every datum is one line of JSON, so that no content can forge a frame. The token is checked
//! again while the stream lives: a revoked one ends it.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use domain::access::Operation;
use domain::ids::SessionId;
use domain::session::SessionState;
use futures::Stream;
use serde::Deserialize;
use serde_json::json;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;

use crate::app::{App, AppError, Caller};
use crate::http::json::{Id, Params};
use crate::http::{ApiError, bearer};
use crate::store::SessionEvent;

const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a stream rests at most before it looks into the table and checks its token.
const LOOK: Duration = Duration::from_secs(2);
const BATCH: i64 = 100;

/// Query string of the stream.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FollowParams {
    /// Give events after this number; the header `Last-Event-ID` counts more.
    #[serde(default)]
    after: i64,
}

struct Follower {
    app: App,
    caller: Caller,
    token: String,
    session_id: SessionId,
    after: i64,
    news: watch::Receiver<u64>,
    ready: std::vec::IntoIter<SessionEvent>,
}

/// Follows a session until it is closed.
pub async fn follow(
    State(app): State<App>,
    caller: Caller,
    Id(session_id): Id<SessionId>,
    Params(params): Params<FollowParams>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
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
    let token = bearer(&headers).unwrap_or_default().to_owned();
    // Subscribed before the first look: nothing falls between.
    let news = app.hub.subscribe(session_id);
    let ready = Vec::new().into_iter();
    let follower = Follower { app, caller, token, session_id, after, news, ready };
    let events = futures::stream::unfold(Some(follower), next);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

async fn next(follower: Option<Follower>) -> Option<(Result<Event, Infallible>, Option<Follower>)> {
    let mut follower = follower?;
    loop {
        if let Some(event) = follower.ready.next() {
            follower.after = event.seq;
            let is_last = event.kind == "session.closed";
            let frame = frame(&event);
            return Some((Ok(frame), (!is_last).then_some(follower)));
        }
        follower.app.verifier.verify(&follower.token).ok()?;
        match look(&follower).await {
            Ok(Look::News(events)) => follower.ready = events.into_iter(),
            Ok(Look::Nothing) => {
                let _ = tokio::time::timeout(LOOK, follower.news.changed()).await;
            }
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

async fn look(follower: &Follower) -> Result<Look, AppError> {
    let mut scope = follower.caller.open(&follower.app, Operation::ReadWork).await?;
    let session = scope.get_session(follower.session_id).await?;
    let events = scope.list_events(follower.session_id, follower.after, BATCH).await?;
    Ok(match session.state {
        _ if !events.is_empty() => Look::News(events),
        SessionState::Closed => Look::Over,
        SessionState::Open | SessionState::Closing => Look::Nothing,
    })
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
