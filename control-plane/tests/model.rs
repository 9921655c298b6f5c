//! The model client against a server that speaks the Responses API: what counts as an answer, what
//! is worth another attempt, what is not.
#![allow(clippy::expect_used, missing_docs)]

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Json, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use control_plane::model::{ModelClient, ModelError, Prompt};
use serde_json::{Value, json};
use tokio::sync::mpsc;

type Seen = Arc<Mutex<Vec<(HeaderMap, Value)>>>;

/// Answers every request with one status and body; remembers the requests.
async fn provider(status: u16, body: String) -> (ModelClient, Seen) {
    let seen = Seen::default();
    let status = StatusCode::from_u16(status).expect("a status");
    let router = Router::new()
        .route(
            "/v1/responses",
            post(
                async move |State(seen): State<Seen>,
                            headers: HeaderMap,
                            Json(body_in): Json<Value>| {
                    seen.lock().expect("not poisoned").push((headers, body_in));
                    (status, [("content-type", "text/event-stream")], body)
                },
            ),
        )
        .with_state(seen.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = ModelClient::new(&format!("http://{address}/v1/"), "sk-test", "some-model");
    (client.expect("a client"), seen)
}

fn frames(events: &[Value]) -> String {
    let frame = |event: &Value| {
        format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default())
    };
    events.iter().map(frame).collect()
}

async fn ask(client: &ModelClient) -> (Result<(Vec<Value>, i64), ModelError>, String) {
    let (sender, mut pieces) = mpsc::channel(100);
    let items = [json!({ "type": "message", "role": "user", "content": [] })];
    let session_id = "ses_00000000000000000000000000000001".parse().expect("an id");
    let prompt = Prompt { model: None, items: &items, session_id };
    let answer = client.stream(&prompt, sender).await;
    let mut text = String::new();
    while let Some(piece) = pieces.recv().await {
        text.push_str(&piece);
    }
    (answer, text)
}

fn message() -> Value {
    json!({ "type": "message", "content": [{ "type": "output_text", "text": "Hi there" }] })
}

#[tokio::test]
async fn an_answer_is_its_finished_items() {
    let events = [
        json!({ "type": "response.created" }),
        json!({ "type": "response.output_text.delta", "delta": "Hi " }),
        json!({ "type": "response.output_text.delta", "delta": "there" }),
        json!({ "type": "response.output_item.done", "item": message() }),
        json!({ "type": "response.completed", "response": { "usage": { "total_tokens": 7 } } }),
    ];
    let (client, seen) = provider(200, frames(&events)).await;
    let (answer, text) = ask(&client).await;
    assert_eq!(answer.expect("an answer"), (vec![message()], 7));
    assert_eq!(text, "Hi there");
    let (headers, body) = seen.lock().expect("not poisoned").remove(0);
    assert_eq!(headers["authorization"], "Bearer sk-test");
    assert_eq!(headers["accept"], "text/event-stream");
    assert_eq!((&body["stream"], &body["store"]), (&json!(true), &json!(false)));
    assert_eq!(body["model"], "some-model");
    assert_eq!(body["tools"][0]["name"], "shell");
    assert_eq!(body["input"][0]["role"], "developer");
    assert_eq!(body["input"][1]["role"], "user");
}

#[tokio::test]
async fn a_stream_that_breaks_off_gives_nothing_and_is_tried_again() {
    let events = [json!({ "type": "response.output_item.done", "item": message() })];
    let (client, _) = provider(200, frames(&events)).await;
    assert!(matches!(ask(&client).await.0, Err(ModelError::Unavailable(_))));
}

#[tokio::test]
async fn overload_is_tried_again_and_refusal_is_told_in_the_providers_words() {
    let error = |code: &str| json!({ "error": { "code": code, "message": "no such model" } });
    for (status, code, again) in [
        (500, "server_error", true),
        (503, "overloaded", true),
        (429, "rate_limit_exceeded", true),
        (429, "insufficient_quota", false),
        (400, "invalid_request", false),
        (401, "invalid_api_key", false),
        (404, "model_not_found", false),
    ] {
        let (client, _) = provider(status, error(code).to_string()).await;
        match ask(&client).await.0 {
            Err(ModelError::Unavailable(_)) => assert!(again, "{status} {code}"),
            Err(ModelError::Refused(text)) => {
                assert!(!again, "{status} {code}");
                assert!(text.contains("no such model"), "{text}");
            }
            Ok(_) => panic!("{status} is no answer"),
        }
    }
}

#[tokio::test]
async fn a_failed_response_ends_the_turn_unless_the_server_is_to_blame() {
    for (code, again) in [("server_error", true), ("context_length_exceeded", false)] {
        let event = json!({
            "type": "response.failed",
            "response": { "error": { "code": code, "message": "why" } },
        });
        let (client, _) = provider(200, frames(&[event])).await;
        let (answer, _) = ask(&client).await;
        assert_eq!(matches!(answer, Err(ModelError::Unavailable(_))), again, "{code}");
    }
}

#[tokio::test]
async fn nobody_there_is_worth_another_attempt() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = ModelClient::new("http://127.0.0.1:9/v1", "k", "m").expect("a client");
    assert!(matches!(ask(&client).await.0, Err(ModelError::Unavailable(_))));
}
