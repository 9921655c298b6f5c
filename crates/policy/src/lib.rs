//! Shell text in, facts and a decision out. Pure: knows neither SQL nor HTTP nor Temporal.
//!
//! Invariant: what is auto-approved is understood completely; everything else asks a human.

mod catalogue;
mod cedar;
mod decision;
mod engine;
mod facts;
mod kinds;
mod request;
mod unclear;

pub use cedar::{PolicyError, SCHEMA};
pub use decision::{Approvers, Decision, Outcome};
pub use engine::{Engine, SHIPPED_POLICY};
pub use facts::{Effect, Fact};
pub use request::{CommandRequest, Subject, ToolRequest};
