//! Somebody who calls the API, and the answer exactly as it came.

use cli::client::Client;
use reqwest::Method;
use serde_json::Value;

/// A caller with one token, or with none.
#[derive(Clone)]
pub struct Caller(pub Client);

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status; 0 when no answer came.
    pub status: u16,
    /// Headers, lower-case names.
    pub headers: reqwest::header::HeaderMap,
    /// The body as text.
    pub text: String,
    /// The body as JSON, `null` when it is none.
    pub body: Value,
}

impl Answer {
    /// No answer came: status 0, which no test expects but those that break connections.
    fn none(error: &reqwest::Error) -> Self {
        let text = format!("no answer: {error}");
        Self { status: 0, headers: Default::default(), text, body: Value::Null }
    }

    /// The stable code of an error.
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// Asserts a status and gives the body.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body
    }
}

impl Caller {
    /// A caller of the API at `url`.
    pub fn new(url: &str, token: Option<&str>) -> Self {
        Self(Client::new(url, token).expect("the address is an URL"))
    }

    /// Any request. A body that is a text is sent as it is.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.call_with(method, path, body, &[]).await
    }

    /// Any request with headers of its own.
    pub async fn call_with(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let limit = std::time::Duration::from_secs(90);
        let mut request = self.0.request(method, path).timeout(limit);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            let text = body.as_str().map_or_else(|| body.to_string(), ToOwned::to_owned);
            request = request.header("content-type", "application/json").body(text);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Answer::none(&error),
        };
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = match response.text().await {
            Ok(text) => text,
            Err(error) => return Answer::none(&error),
        };
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, headers, text, body }
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    /// `POST` with a JSON body.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }

    /// `DELETE`.
    pub async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, None).await
    }

    /// All audit events of the caller's tenant that belong to a session, oldest first.
    pub async fn audit_of(&self, session_id: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let mut after = 0;
        loop {
            let path = format!("/v1/audit/events?session_id={session_id}&limit=200&after={after}");
            let page = self.get(&path).await.expect(200);
            let items = page["items"].as_array().cloned().unwrap_or_default();
            let Some(last) = items.last() else { return events };
            after = last["seq"].as_i64().expect("a number");
            events.extend(items);
        }
    }
}
