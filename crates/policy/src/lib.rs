//! Shell text in, facts and a decision out. Pure: knows neither SQL nor HTTP nor Temporal.
//!
//! Invariant: what is auto-approved is understood completely; everything else asks a human.

mod catalogue;
mod cedar;
mod cedar_text;
mod check;
mod codex_rules;
mod decision;
mod engine;
mod explain;
mod facts;
mod kinds;
mod mode;
mod propose;
mod request;
mod unclear;

pub use cedar::{PolicyError, SCHEMA};
pub use check::check_line;
pub use codex_rules::{Import, ImportError, Remark, import_codex_rules};
pub use decision::{Approvers, Decision, Outcome};
pub use engine::{Engine, SHIPPED_POLICY};
pub use explain::Explanation;
pub use facts::{Effect, Fact, NamedPath, Parse, ParsedCommand};
pub use mode::Mode;
pub use propose::{Proposal, propose_rule};
pub use request::{CommandRequest, Subject, ToolRequest};
