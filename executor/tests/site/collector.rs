//! The control plane's side of enrolment, output and starts.

use std::sync::{Arc, Mutex};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use protocol::enrolment::{EnrolRequest, Enrolment};

use super::{Offer, Received};

type Collected = State<(Received, Arc<Mutex<Vec<String>>>)>;

#[derive(serde::Deserialize)]
pub struct Piece {
    stream: String,
    offset: usize,
}

pub async fn take_output(
    State((received, _)): Collected,
    Path(id): Path<String>,
    Query(piece): Query<Piece>,
    bytes: Bytes,
) -> Json<serde_json::Value> {
    let mut received = received.lock().expect("lock");
    let stream = received.entry((id, piece.stream)).or_default();
    if piece.offset <= stream.len() && piece.offset + bytes.len() > stream.len() {
        let known = stream.len() - piece.offset;
        stream.extend_from_slice(&bytes[known..]);
    }
    Json(serde_json::json!({ "total": stream.len() }))
}

pub async fn enrol(
    axum::Extension(offer): axum::Extension<Offer>,
    Json(_): Json<EnrolRequest>,
) -> Result<Json<Enrolment>, axum::http::StatusCode> {
    let enrolment = offer.lock().expect("lock").clone();
    enrolment.map(Json).ok_or(axum::http::StatusCode::SERVICE_UNAVAILABLE)
}

pub async fn take_started(
    State((_, started)): Collected,
    Path(id): Path<String>,
    Json(_): Json<protocol::enrolment::StartedReport>,
) {
    started.lock().expect("lock").push(id);
}
