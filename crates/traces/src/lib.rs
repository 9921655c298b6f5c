//! Traces of a command's way through Bulkhead, exported by OTLP over HTTP where an address is
//! configured; nothing at all is recorded otherwise. The only user of OpenTelemetry.
//!
//! A span holds names, ids and numbers of Bulkhead's own: [`Attribute`] has no way in for what a
//! tenant wrote.

mod attribute;
mod config;
mod export;
mod span;
mod traceparent;

pub use attribute::Attribute;
pub use config::TraceConfig;
pub use export::{Exporting, StartError, start};
pub use span::{Kind, Span};
pub use traceparent::Traceparent;
