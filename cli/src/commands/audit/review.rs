//! `bulkhead audit review`: a verdict on an audit event.

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::client::Client;
use crate::commands::listing;

/// On what, and what.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The event's number.
    seq: u64,
    /// What you think of it.
    #[arg(long, value_enum)]
    verdict: Verdict,
    /// Why.
    #[arg(long, default_value = "")]
    comment: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Verdict {
    /// As it should be.
    Ok,
    /// It should not have happened.
    Violation,
    /// The policy should say something about it.
    NeedsRule,
}

/// Sends it.
pub(super) async fn run(client: &Client, arguments: &Arguments, json: bool) -> Result<()> {
    let verdict = match arguments.verdict {
        Verdict::Ok => "ok",
        Verdict::Violation => "violation",
        Verdict::NeedsRule => "needs_rule",
    };
    let body = json!({ "seq": arguments.seq, "verdict": verdict, "comment": arguments.comment });
    let review: Value = client.post("/v1/audit/reviews", &body).await?;
    listing::print_one(&review, json)
}
