//! A span: something that takes time. It ends with its value, also where the work is given up.

use std::borrow::Cow;

use opentelemetry::Context;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _,
};
use opentelemetry_sdk::trace as sdk;

use crate::{Attribute, Traceparent, export};

/// What kind of work a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Answers a request that came over the network.
    Server,
    /// Carries out what was handed over by a queue.
    Consumer,
    /// Anything else.
    Internal,
}

impl From<Kind> for SpanKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Server => Self::Server,
            Kind::Consumer => Self::Consumer,
            Kind::Internal => Self::Internal,
        }
    }
}

/// See the module. Costs nothing where nothing is exported.
pub struct Span(Option<sdk::Span>);

impl Span {
    /// Begins a trace.
    pub fn root(name: impl Into<Cow<'static, str>>, kind: Kind) -> Self {
        Self::begin(name, kind, &Context::new())
    }

    /// Goes on with a trace: below the span that `parent` names. What is no traceparent, or none,
    /// leaves nothing behind: work that nobody traced does not begin a trace half-way.
    pub fn below(parent: Option<&str>, name: impl Into<Cow<'static, str>>, kind: Kind) -> Self {
        match parent.and_then(|parent| parent.parse::<Traceparent>().ok()) {
            Some(parent) => {
                let context = Context::new().with_remote_span_context(parent.context().clone());
                Self::begin(name, kind, &context)
            }
            None => Self(None),
        }
    }

    fn begin(name: impl Into<Cow<'static, str>>, kind: Kind, parent: &Context) -> Self {
        Self(export::tracer().map(|tracer| {
            let builder = SpanBuilder::from_name(name).with_kind(kind.into());
            tracer.build_with_context(builder, parent)
        }))
    }

    /// Says something of it.
    pub fn set(&mut self, attribute: Attribute) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(attribute.into_inner());
        }
    }

    /// It went wrong, by our own doing.
    pub fn fail(&mut self) {
        if let Some(span) = &mut self.0 {
            span.set_status(Status::error(""));
        }
    }

    /// Its name for those that go on below it; none where nothing is exported.
    pub fn traceparent(&self) -> Option<String> {
        let span = self.0.as_ref()?;
        Traceparent::new(span.span_context()).map(|parent| parent.to_string())
    }
}
