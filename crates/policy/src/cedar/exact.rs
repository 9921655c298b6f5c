//! `@exact`: the one kind of permit that may approve what is not understood. It has to compare the
//! whole text with literals and do nothing else, which is checked on the policy's structure.

use cedar_policy::{ActionConstraint, Effect, Policy};
use serde_json::Value;

use super::schema::auto_approve;

/// Checks that the policy approves literal texts only.
pub(super) fn check(policy: &Policy) -> Result<(), String> {
    const SHAPE: &str = "an `@exact` policy reads permit (…, action == Action::\"AutoApprove\", …) \
        when { context.line == \"TEXT\" }, with `||` or [\"TEXT\", …].contains(context.line) for more texts";
    let names_the_action = matches!(policy.action_constraint(), ActionConstraint::Eq(action) if action == *auto_approve());
    if policy.effect() != Effect::Permit || !names_the_action {
        return Err(SHAPE.into());
    }
    let json = policy.to_json().map_err(|error| error.to_string())?;
    match json["conditions"].as_array().map(Vec::as_slice) {
        Some([condition]) if condition["kind"] == "when" && is_exact(&condition["body"], 0) => {
            Ok(())
        }
        _ => Err(SHAPE.into()),
    }
}

/// Deepest chain of `||`.
const MAX_DEPTH: usize = 1000;

fn is_exact(body: &Value, depth: usize) -> bool {
    let Some((operator, of)) = single(body) else { return false };
    if depth > MAX_DEPTH {
        return false;
    }
    let (left, right) = (&of["left"], &of["right"]);
    match operator {
        "==" => is_line(left) && is_text(right) || is_text(left) && is_line(right),
        "||" => is_exact(left, depth + 1) && is_exact(right, depth + 1),
        "contains" => {
            let texts = single(left).filter(|(kind, _)| *kind == "Set");
            let texts = texts.and_then(|(_, texts)| texts.as_array());
            texts.is_some_and(|texts| texts.iter().all(is_text)) && is_line(right)
        }
        _ => false,
    }
}

/// The one key of an object, and what stands there.
fn single(value: &Value) -> Option<(&str, &Value)> {
    let mut entries = value.as_object()?.iter();
    let (key, value) = entries.next()?;
    entries.next().is_none().then_some((key, value))
}

fn is_line(value: &Value) -> bool {
    let Some((".", of)) = single(value) else { return false };
    of["attr"] == "line"
        && single(&of["left"]).is_some_and(|(kind, var)| kind == "Var" && var == "context")
}

fn is_text(value: &Value) -> bool {
    single(value).is_some_and(|(kind, text)| kind == "Value" && text.is_string())
}
