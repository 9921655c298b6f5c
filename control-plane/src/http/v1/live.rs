//! `/v1/execs/{id}/stdin`, `/signal` and `/resize`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use domain::ids::ExecId;
use protocol::binary::Binary;
use protocol::init::TerminalSize;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, Caller, SendInput};
use crate::http::ApiError;
use crate::http::json::{Body, Id, Params, unreadable};
use crate::http::openapi::Raw;

/// Names of the signals that may be sent, with their numbers on Linux for x86-64.
const SIGNALS: [(&str, i32); 32] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// Query string of `POST /v1/execs/{id}/stdin`, for a raw body.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct InputParams {
    offset: Option<u64>,
    #[serde(default)]
    close: bool,
}

/// The same as JSON.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ExecInput)]
struct JsonInput {
    data: Option<String>,
    data_base64: Option<Binary>,
    offset: Option<u64>,
    #[serde(default)]
    close: bool,
}

/// How much input the exec has taken.
#[derive(Serialize, ToSchema)]
#[schema(as = InputTaken)]
pub struct Taken {
    offset: u64,
    open: bool,
}

/// Sends input: raw bytes, or JSON with `data` or `data_base64`.
#[utoipa::path(
    post, path = "/execs/{id}/stdin", operation_id = "send_exec_input", tag = "execs",
    security(("token" = ["work"])),
    params(("id" = ExecId, Path), InputParams),
    request_body(content((Raw = "application/octet-stream"), (JsonInput = "application/json"))),
    responses((status = 200, body = Taken)),
)]
pub async fn stdin(
    State(app): State<App>,
    caller: Caller,
    Id(exec_id): Id<ExecId>,
    Params(params): Params<InputParams>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Taken>, ApiError> {
    let bytes = body.map_err(unreadable)?;
    let is_json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/json"));
    let input = if is_json {
        from_json(&bytes)?
    } else {
        SendInput { bytes: bytes.to_vec(), offset: params.offset, close: params.close }
    };
    let taken = app.send_input(&caller, exec_id, input).await?;
    Ok(Json(Taken { offset: taken.offset, open: taken.open }))
}

fn from_json(bytes: &[u8]) -> Result<SendInput, ApiError> {
    let invalid =
        |detail: String| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", detail);
    let body: JsonInput =
        serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
    let bytes = match (body.data, body.data_base64) {
        (Some(_), Some(_)) => {
            return Err(invalid("send either data or data_base64".into()));
        }
        (Some(text), None) => text.into_bytes(),
        (None, bytes) => bytes.unwrap_or_default().0,
    };
    Ok(SendInput { bytes, offset: body.offset, close: body.close })
}

/// Body of `POST /v1/execs/{id}/signal`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Signal)]
pub struct SignalBody {
    signal: SignalName,
}

#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = SignalName)]
enum SignalName {
    Number(i64),
    Name(String),
}

/// Sends a signal, by name or number, to everything that the exec started.
#[utoipa::path(
    post, path = "/execs/{id}/signal", operation_id = "signal_exec", tag = "execs",
    security(("token" = ["work"])),
    params(("id" = ExecId, Path)),
    request_body = SignalBody,
    responses((status = 204)),
)]
pub async fn signal(
    State(app): State<App>,
    caller: Caller,
    Id(exec_id): Id<ExecId>,
    Body(body): Body<SignalBody>,
) -> Result<StatusCode, ApiError> {
    let number = number(&body.signal).ok_or_else(|| {
        let names: Vec<&str> = SIGNALS.iter().map(|(name, _)| *name).collect();
        let names = names.join(", ");
        let detail = format!("signal must be one of {names} (SIG in front is fine), or 1 to 64");
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_signal", detail)
    })?;
    app.signal_exec(&caller, exec_id, number).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn number(signal: &SignalName) -> Option<i32> {
    let checked = |number: i64| i32::try_from(number).ok().filter(|n| (1..=64).contains(n));
    match signal {
        SignalName::Number(number) => checked(*number),
        SignalName::Name(name) => {
            let upper = name.to_ascii_uppercase();
            let short = upper.strip_prefix("SIG").unwrap_or(&upper);
            let known = SIGNALS.iter().find(|(name, _)| *name == short).map(|(_, n)| *n);
            known.or_else(|| name.parse().ok().and_then(checked))
        }
    }
}

/// Gives the exec's terminal another size.
#[utoipa::path(
    post, path = "/execs/{id}/resize", operation_id = "resize_exec", tag = "execs",
    security(("token" = ["work"])),
    params(("id" = ExecId, Path)),
    request_body = TerminalSize,
    responses((status = 204)),
)]
pub async fn resize(
    State(app): State<App>,
    caller: Caller,
    Id(exec_id): Id<ExecId>,
    Body(size): Body<TerminalSize>,
) -> Result<StatusCode, ApiError> {
    app.resize_exec(&caller, exec_id, size).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_known_by_name_and_by_number() {
        let named = |name: &str| number(&SignalName::Name(name.into()));
        assert_eq!(named("SIGTERM"), Some(15));
        assert_eq!(named("term"), Some(15));
        assert_eq!(named("9"), Some(9));
        assert_eq!(number(&SignalName::Number(64)), Some(64));
        for name in ["", "SIG", "FOO", "0", "65", "-9", "SIGSIGTERM"] {
            assert_eq!(named(name), None, "{name}");
        }
        assert_eq!(number(&SignalName::Number(1 << 40)), None);
    }
}
