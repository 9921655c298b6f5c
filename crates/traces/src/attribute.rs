//! What a span can say: a closed list.

use std::fmt::Display;

use opentelemetry::{KeyValue, Value};

/// One fact of a span. Ids are taken as what they are displayed as; words are our own constants.
pub struct Attribute(KeyValue);

impl Attribute {
    /// The tenant, by its id.
    pub fn tenant(id: impl Display) -> Self {
        Self::new("bulkhead.tenant.id", id.to_string())
    }

    /// The session, by its id.
    pub fn session(id: impl Display) -> Self {
        Self::new("bulkhead.session.id", id.to_string())
    }

    /// The turn, by its id.
    pub fn turn(id: impl Display) -> Self {
        Self::new("bulkhead.turn.id", id.to_string())
    }

    /// The exec, by its id.
    pub fn exec(id: impl Display) -> Self {
        Self::new("bulkhead.exec.id", id.to_string())
    }

    /// The executor, by its id.
    pub fn executor(id: impl Display) -> Self {
        Self::new("bulkhead.executor.id", id.to_string())
    }

    /// How it went, in a word of Bulkhead's vocabulary.
    pub fn outcome(word: &'static str) -> Self {
        Self::new("bulkhead.outcome", word)
    }

    /// The exit code of a command.
    pub fn exit_code(code: i32) -> Self {
        Self::new("process.exit.code", i64::from(code))
    }

    /// The role of the caller.
    pub fn role(word: &'static str) -> Self {
        Self::new("bulkhead.role", word)
    }

    /// The status of an answer.
    pub fn status(status: u16) -> Self {
        Self::new("http.response.status_code", i64::from(status))
    }

    /// The method of a request that was routed.
    pub fn method(method: &'static str) -> Self {
        Self::new("http.request.method", method)
    }

    /// The route of a request: a template such as `/v1/execs/{id}`, never a path.
    pub fn route(template: &'static str) -> Self {
        Self::new("http.route", template)
    }

    fn new(name: &'static str, value: impl Into<Value>) -> Self {
        Self(KeyValue::new(name, value))
    }

    pub(crate) fn into_inner(self) -> KeyValue {
        self.0
    }
}
