//! A span's name for those that come after it, as the W3C's *Trace Context* writes it
//! (<https://www.w3.org/TR/trace-context/>): `00-`, 32 hex digits of the trace, 16 of the span, flags.

use std::fmt;
use std::str::FromStr;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// See the module. Made by our own spans only: what a client sends is not taken for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traceparent(SpanContext);

/// A text is no traceparent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent")]
pub struct NotATraceparent;

impl Traceparent {
    pub(crate) fn new(context: &SpanContext) -> Option<Self> {
        context.is_valid().then(|| Self(context.clone()))
    }

    pub(crate) fn context(&self) -> &SpanContext {
        &self.0
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = self.0.trace_flags().to_u8();
        write!(f, "00-{}-{}-{flags:02x}", self.0.trace_id(), self.0.span_id())
    }
}

impl FromStr for Traceparent {
    type Err = NotATraceparent;

    fn from_str(text: &str) -> Result<Self, NotATraceparent> {
        let hex = |part: &str, length: usize| {
            let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            (part.len() == length && part.bytes().all(lower)).then(|| part.to_owned())
        };
        let mut parts = text.split('-');
        let mut next = |length| parts.next().and_then(|part| hex(part, length));
        let (version, trace, span, flags) = (next(2), next(32), next(16), next(2));
        let whole = parts.next().is_none() && version.as_deref() == Some("00");
        let (Some(trace), Some(span), Some(flags), true) = (trace, span, flags, whole) else {
            return Err(NotATraceparent);
        };
        let trace = TraceId::from_hex(&trace).map_err(|_| NotATraceparent)?;
        let span = SpanId::from_hex(&span).map_err(|_| NotATraceparent)?;
        let flags = u8::from_str_radix(&flags, 16).map_err(|_| NotATraceparent)?;
        let context =
            SpanContext::new(trace, span, TraceFlags::new(flags), true, TraceState::default());
        Self::new(&context).ok_or(NotATraceparent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parent: Traceparent = text.parse().expect("one");
        assert_eq!(parent.to_string(), text);
        assert!(parent.context().is_sampled() && parent.context().is_remote());
        for bad in [
            "",
            "00",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-+1",
        ] {
            assert!(bad.parse::<Traceparent>().is_err(), "{bad}");
        }
    }
}
