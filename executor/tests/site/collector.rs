//! The control plane's side of enrolment, output and starts, in a mood of the test's choice.

use std::sync::{Arc, Mutex};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use protocol::enrolment::{EnrolRequest, Enrolment, LossReason, LossReport};

use super::{Offer, Received};

type Collected = State<(Received, Arc<Mutex<Vec<String>>>)>;

/// What the control plane makes of output, and what it was told is lost.
#[derive(Clone, Default)]
pub struct Mood(Arc<Mutex<MoodNow>>);

#[derive(Default)]
struct MoodNow {
    refuses: Option<StatusCode>,
    refuses_losses: Option<StatusCode>,
    refusals: usize,
    enrolments: usize,
    losses: Vec<(String, String, LossReason)>,
}

impl Mood {
    /// From now on output is answered with this status, or taken.
    pub fn refuse(&self, status: Option<u16>) {
        self.now().refuses = status.map(|code| StatusCode::from_u16(code).expect("a status"));
    }

    /// The same for reports of losses.
    pub fn refuse_losses(&self, status: Option<u16>) {
        self.now().refuses_losses = status.map(|it| StatusCode::from_u16(it).expect("a status"));
    }

    /// How often an executor wanted to enrol.
    pub fn enrolments(&self) -> usize {
        self.now().enrolments
    }

    /// How often something was refused.
    pub fn refusals(&self) -> usize {
        self.now().refusals
    }

    /// Streams of an exec that were reported as lost, in order.
    pub fn losses(&self, exec_id: domain::ids::ExecId) -> Vec<(String, LossReason)> {
        let now = self.now();
        let ours = now.losses.iter().filter(|(id, ..)| *id == exec_id.to_string());
        ours.map(|(_, stream, reason)| (stream.clone(), *reason)).collect()
    }

    fn now(&self) -> std::sync::MutexGuard<'_, MoodNow> {
        self.0.lock().expect("lock")
    }
}

#[derive(serde::Deserialize)]
pub struct Piece {
    stream: String,
    offset: usize,
}

pub async fn take_output(
    State((received, _)): Collected,
    Path(id): Path<String>,
    Query(piece): Query<Piece>,
    axum::Extension(mood): axum::Extension<Mood>,
    bytes: Bytes,
) -> Result<Json<serde_json::Value>, StatusCode> {
    let refuses = mood.now().refuses;
    if let Some(status) = refuses {
        mood.now().refusals += 1;
        return Err(status);
    }
    let mut received = received.lock().expect("lock");
    let stream = received.entry((id, piece.stream)).or_default();
    if piece.offset <= stream.len() && piece.offset + bytes.len() > stream.len() {
        let known = stream.len() - piece.offset;
        stream.extend_from_slice(&bytes[known..]);
    }
    Ok(Json(serde_json::json!({ "total": stream.len() })))
}

pub async fn take_loss(
    axum::Extension(mood): axum::Extension<Mood>,
    Path(id): Path<String>,
    Json(report): Json<LossReport>,
) -> StatusCode {
    let mut now = mood.now();
    if let Some(status) = now.refuses_losses {
        now.refusals += 1;
        return status;
    }
    now.losses.push((id, report.stream, report.reason));
    StatusCode::NO_CONTENT
}

pub async fn enrol(
    axum::Extension(offer): axum::Extension<Offer>,
    axum::Extension(mood): axum::Extension<Mood>,
    Json(_): Json<EnrolRequest>,
) -> Result<Json<Enrolment>, StatusCode> {
    mood.now().enrolments += 1;
    let enrolment = offer.lock().expect("lock").clone();
    enrolment.map(Json).ok_or(StatusCode::SERVICE_UNAVAILABLE)
}

pub async fn take_started(
    State((_, started)): Collected,
    Path(id): Path<String>,
    Json(_): Json<protocol::enrolment::StartedReport>,
) {
    started.lock().expect("lock").push(id);
}
