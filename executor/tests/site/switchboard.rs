//! The control plane's side of calls: rings, hands out calls and bodies, collects the answers.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use domain::ids::CallId;
use futures::{StreamExt as _, stream};
use protocol::calls::{Call, CallReply, Ring};
use protocol::exec::ToolReply;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::wait_until;

/// What came back for a call.
pub struct Replied {
    /// Whether it came to its end.
    pub whole: bool,
    pub reply: CallReply,
    /// What followed the line.
    pub bytes: Vec<u8>,
}

/// A client's body: pieces, and whether it breaks off or comes to a stop behind them.
#[derive(Clone, Default)]
pub struct ClientBody {
    pub pieces: Vec<Bytes>,
    pub breaks: bool,
    /// It never ends.
    pub hangs: bool,
    /// The client reads a piece of the answer, and then no more of it.
    pub stalls: bool,
}

impl ClientBody {
    pub fn of(bytes: impl Into<Vec<u8>>) -> Self {
        let pieces = bytes.into().chunks(100_000).map(Bytes::copy_from_slice).collect();
        Self { pieces, ..Self::default() }
    }

    pub fn stalled() -> Self {
        Self { stalls: true, ..Self::default() }
    }
}

/// See the module.
#[derive(Clone)]
pub struct Switchboard(Arc<Inner>);

struct Inner {
    rings: broadcast::Sender<String>,
    /// Those without an answer, with their rings.
    calls: Mutex<HashMap<String, (Call, ClientBody, String)>>,
    replies: Mutex<HashMap<String, (bool, Vec<u8>)>>,
    results: Mutex<HashMap<String, Vec<ToolReply>>>,
    /// Calls whose answers nobody reads on.
    stalled: Mutex<HashSet<String>>,
    fenced: AtomicBool,
    /// What reports of results are answered with instead of being taken.
    result_refusal: Mutex<Option<StatusCode>>,
    result_refusals: AtomicUsize,
    /// Calls that did not say who makes them.
    nameless: AtomicUsize,
}

impl Switchboard {
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            rings: broadcast::channel(256).0,
            calls: Mutex::default(),
            replies: Mutex::default(),
            results: Mutex::default(),
            stalled: Mutex::default(),
            fenced: AtomicBool::new(false),
            result_refusal: Mutex::default(),
            result_refusals: AtomicUsize::new(0),
            nameless: AtomicUsize::new(0),
        }))
    }

    /// From now on a successor is listened to.
    pub fn fence(&self) {
        self.0.fenced.store(true, Ordering::SeqCst);
        // The stream that is open ends, as the control plane would end it.
        let _ = self.0.rings.send(String::new());
    }

    pub fn nameless_calls(&self) -> usize {
        self.0.nameless.load(Ordering::SeqCst)
    }

    /// Results that were reported directly.
    pub fn results(&self, exec_id: &str) -> Vec<ToolReply> {
        self.0.results.lock().expect("lock").get(exec_id).cloned().unwrap_or_default()
    }

    /// From now on reports of results are answered with this, or taken.
    pub fn refuse_results(&self, status: Option<StatusCode>) {
        *self.0.result_refusal.lock().expect("lock") = status;
    }

    pub fn result_refusals(&self) -> usize {
        self.0.result_refusals.load(Ordering::SeqCst)
    }

    /// Rings; the answer is to be waited for.
    pub fn ring(&self, url: &str, call: Call, body: ClientBody) -> CallId {
        let call_id = CallId::from(Uuid::now_v7());
        let ring = Ring { call_id, url: url.to_owned() };
        let ring = serde_json::to_string(&ring).expect("json");
        let waiting = (call, body, ring.clone());
        self.0.calls.lock().expect("lock").insert(call_id.to_string(), waiting);
        // Who is not there hears of it when it comes.
        let _ = self.0.rings.send(ring);
        call_id
    }

    /// The answer to a call.
    pub fn wait(&self, call_id: CallId) -> Replied {
        let key = call_id.to_string();
        wait_until("the call is answered", || {
            self.0.replies.lock().expect("lock").contains_key(&key)
        });
        let (whole, mut bytes) =
            self.0.replies.lock().expect("lock").remove(&key).expect("an answer");
        let end = bytes.iter().position(|byte| *byte == b'\n').expect("a line");
        let reply = serde_json::from_slice(&bytes[..end]).expect("a reply");
        Replied { whole, reply, bytes: bytes.split_off(end + 1) }
    }

    pub fn is_answered(&self, call_id: CallId) -> bool {
        self.0.replies.lock().expect("lock").contains_key(&call_id.to_string())
    }

    pub fn is_stalled(&self, call_id: CallId) -> bool {
        self.0.stalled.lock().expect("lock").contains(&call_id.to_string())
    }

    pub fn routes<S: Clone + Send + Sync + 'static>(&self, router: Router<S>) -> Router<S> {
        let board = self.clone();
        router
            .route("/v1/executors/execs/{id}/result", post(take_result))
            .route("/v1/executors/calls", get(open))
            .route("/v1/executors/calls/{id}", get(fetch))
            .route("/v1/executors/calls/{id}/body", get(body))
            .route("/v1/executors/calls/{id}/reply", post(reply))
            .layer(from_fn(move |request: Request, next: Next| {
                let board = board.clone();
                async move { board.guard(request, next).await }
            }))
            .layer(Extension(self.clone()))
    }

    async fn guard(&self, request: Request, next: Next) -> Response {
        let enrols = request.uri().path() == "/v1/executors";
        let named = ["bulkhead-executor", "bulkhead-epoch"]
            .iter()
            .all(|name| request.headers().contains_key(*name));
        if !enrols && !named {
            self.0.nameless.fetch_add(1, Ordering::SeqCst);
        }
        if !enrols && self.0.fenced.load(Ordering::SeqCst) {
            return StatusCode::CONFLICT.into_response();
        }
        next.run(request).await
    }
}

async fn open(Extension(board): Extension<Switchboard>) -> Body {
    let rings = board.0.rings.subscribe();
    let missed: Vec<_> =
        board.0.calls.lock().expect("lock").values().map(|(_, _, ring)| ring.clone()).collect();
    let missed = missed.into_iter().map(|ring| Ok::<_, std::io::Error>(format!("{ring}\n")));
    let coming = stream::unfold(rings, async |mut rings| {
        let line = match tokio::time::timeout(Duration::from_secs(5), rings.recv()).await {
            Err(_) => String::new(),
            Ok(Ok(line)) if !line.is_empty() => line,
            Ok(_) => return None,
        };
        Some((Ok::<_, std::io::Error>(format!("{line}\n")), rings))
    });
    Body::from_stream(stream::iter(missed).chain(coming))
}

async fn fetch(
    Extension(board): Extension<Switchboard>,
    Path(id): Path<String>,
) -> Result<Json<Call>, StatusCode> {
    let calls = board.0.calls.lock().expect("lock");
    calls.get(&id).map(|(call, ..)| Json(call.clone())).ok_or(StatusCode::NOT_FOUND)
}

async fn body(
    Extension(board): Extension<Switchboard>,
    Path(id): Path<String>,
) -> Result<Body, StatusCode> {
    let calls = board.0.calls.lock().expect("lock");
    let (_, body, _) = calls.get(&id).ok_or(StatusCode::NOT_FOUND)?;
    let pieces = body.pieces.clone().into_iter().map(Ok);
    let end = body.breaks.then(|| Err(std::io::Error::other("the client went away")));
    let pieces = stream::iter(pieces.chain(end));
    if body.hangs {
        return Ok(Body::from_stream(pieces.chain(stream::pending())));
    }
    Ok(Body::from_stream(pieces))
}

async fn reply(Extension(board): Extension<Switchboard>, Path(id): Path<String>, body: Body) {
    let (mut pieces, mut all, mut whole) = (body.into_data_stream(), Vec::new(), true);
    let stalls = board.0.calls.lock().expect("lock").get(&id).is_some_and(|(_, it, _)| it.stalls);
    if stalls {
        pieces.next().await;
        board.0.stalled.lock().expect("lock").insert(id);
        return std::future::pending().await;
    }
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => all.extend_from_slice(&piece),
            Err(_) => whole = false,
        }
    }
    board.0.calls.lock().expect("lock").remove(&id);
    board.0.replies.lock().expect("lock").insert(id, (whole, all));
}

async fn take_result(
    Extension(board): Extension<Switchboard>,
    Path(id): Path<String>,
    Json(reply): Json<ToolReply>,
) -> StatusCode {
    if let Some(status) = *board.0.result_refusal.lock().expect("lock") {
        board.0.result_refusals.fetch_add(1, Ordering::SeqCst);
        return status;
    }
    board.0.results.lock().expect("lock").entry(id).or_default().push(reply);
    StatusCode::NO_CONTENT
}
