//! From text to policies: parsing, annotations, validation against the schema. Every error has a place.

use std::collections::BTreeMap;

use cedar_policy::{Effect, Policy, PolicyId, PolicySet, ValidationMode, Validator};
use miette::Diagnostic;

use super::position::PolicyError;
use super::text::{Piece, code, policies};
use super::{exact, schema};

/// Longest policy text, in bytes.
const MAX_BYTES: usize = 256 * 1024;
/// Most policies in one text: each is evaluated for each command.
const MAX_POLICIES: usize = 200;

/// Ids that decisions use where no policy of the tenant decided.
const RESERVED_IDS: &[&str] = &[
    "default-ask",
    "guard-not-understood",
    "guard-environment",
    "evaluation-error",
    "implicit-run",
];

const ANNOTATIONS: &[&str] =
    &["id", "exact", "reason", "description", "approvers", "approver_role"];
const APPROVER_ROLES: &[&str] = &["owner", "reviewer"];

/// What a policy says besides its condition.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes {
    pub(super) reason: Option<String>,
    pub(super) approvers: Option<u32>,
    pub(super) approver_role: Option<String>,
    pub(super) exact: bool,
}

/// Policies that passed every check.
#[derive(Debug, Clone, Default)]
pub(super) struct Loaded {
    pub(super) policies: Vec<Policy>,
    pub(super) notes: BTreeMap<String, Notes>,
}

pub(super) fn load(text: &str) -> Result<Loaded, PolicyError> {
    if text.len() > MAX_BYTES {
        return Err(PolicyError::at(text, MAX_BYTES, "a policy has at most 256 KiB"));
    }
    if let Some(offset) = too_deep(&code(text)) {
        return Err(PolicyError::at(text, offset, "it is nested deeper than 32 levels"));
    }
    let pieces = policies(text);
    if let Some(piece) = pieces.get(MAX_POLICIES) {
        return Err(PolicyError::at(text, piece.offset, "a policy file has at most 200 policies"));
    }
    let mut loaded = Loaded::default();
    for piece in pieces {
        let (policy, notes) = load_one(text, piece)?;
        let id = policy.id().to_string();
        if loaded.notes.insert(id.clone(), notes).is_some() {
            return Err(
                PolicyError::at(text, piece.offset, "another policy has the same id").of(&id)
            );
        }
        loaded.policies.push(policy);
    }
    Ok(loaded)
}

/// Where brackets nest too deeply, or too many operators follow one another, for a recursive parser.
fn too_deep(text: &str) -> Option<usize> {
    const MAX_DEPTH: usize = 32;
    let mut depth = 0_usize;
    let mut unary = 0;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        unary = if c == '!' { unary + 1 } else { 0 };
        if depth > MAX_DEPTH || unary > MAX_DEPTH {
            return Some(at);
        }
    }
    None
}

/// Most operators of one kind in one policy. Each is a step down for a recursive evaluator.
const MAX_OPERATORS: usize = 500;
/// Most `if`s in one policy: they take more of the stack.
const MAX_IFS: usize = 64;

/// Whether one policy has more operators than an evaluator should follow.
fn too_long(policy: &str) -> bool {
    let policy = code(policy);
    let many = |operator: &str| policy.matches(operator).nth(MAX_OPERATORS).is_some();
    ["||", "&&", ".", "+", "-", "*", "like", "has", " in"].iter().any(|operator| many(operator))
        || policy.matches("if").nth(MAX_IFS).is_some()
}

fn load_one(text: &str, piece: Piece<'_>) -> Result<(Policy, Notes), PolicyError> {
    let fail = |message: String| PolicyError::at(text, piece.offset, message);
    if too_long(piece.text) {
        let message =
            "it is too long: split it, or put its texts into a set, [\"a\", \"b\"].contains(…)";
        return Err(fail(message.into()));
    }
    let policy = Policy::parse(None, piece.text).map_err(|errors| {
        let first = errors.iter().next();
        let offset = first.and_then(|error| place(error)).unwrap_or(0);
        PolicyError::at(
            text,
            piece.offset + offset,
            explain(&errors, first.map(|error| error as &dyn Diagnostic)),
        )
    })?;
    let id = policy
        .annotation("id")
        .filter(|id| !id.is_empty())
        .ok_or_else(|| fail("a policy needs an id: write @id(\"a-name\") above it".into()))?
        .to_owned();
    let fail = |message: String| PolicyError::at(text, piece.offset, message).of(&id);
    if RESERVED_IDS.contains(&id.as_str()) || id.starts_with("mode-") {
        return Err(fail("this id is the engine's own".into()));
    }
    let notes = notes(&policy).map_err(&fail)?;
    if notes.exact {
        exact::check(&policy).map_err(&fail)?;
    }
    let policy = policy.new_id(PolicyId::new(&id));
    validate(text, piece, &policy)?;
    Ok((policy, notes))
}

fn notes(policy: &Policy) -> Result<Notes, String> {
    if let Some((name, _)) = policy.annotations().find(|(name, _)| !ANNOTATIONS.contains(name)) {
        return Err(format!("`@{name}` is unknown; known are @{}", ANNOTATIONS.join(", @")));
    }
    let given = |name: &str| policy.annotation(name).map(str::to_owned);
    let approvers = match given("approvers") {
        None => None,
        Some(count) => Some(
            count
                .parse()
                .ok()
                .filter(|count| (1..=9).contains(count))
                .ok_or("`@approvers` takes a number from \"1\" to \"9\"")?,
        ),
    };
    let approver_role = given("approver_role");
    if approver_role.as_deref().is_some_and(|role| !APPROVER_ROLES.contains(&role)) {
        return Err(format!("`@approver_role` is one of {}", APPROVER_ROLES.join(", ")));
    }
    if (approvers.is_some() || approver_role.is_some()) && policy.effect() != Effect::Forbid {
        return Err("who approves is said by a forbid on Action::\"AutoApprove\"".into());
    }
    let exact = policy.annotation("exact").is_some();
    Ok(Notes { reason: given("reason"), approvers, approver_role, exact })
}

fn validate(text: &str, piece: Piece<'_>, policy: &Policy) -> Result<(), PolicyError> {
    let id = policy.id().to_string();
    let fail = |offset: usize, message: String| {
        PolicyError::at(text, piece.offset + offset, message).of(&id)
    };
    let schema =
        schema::schema().ok_or_else(|| fail(0, "the engine's own schema does not parse".into()))?;
    let set = PolicySet::from_policies([policy.clone()]).map_err(|e| fail(0, e.to_string()))?;
    let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
    if let Some(error) = result.validation_errors().next() {
        let mut message = error.to_string();
        if let Some(help) = error.help() {
            message = format!("{message} ({help})");
        }
        return Err(fail(place(error).unwrap_or(0), message));
    }
    Ok(())
}

/// The offset that a diagnostic points at.
fn place(error: &dyn Diagnostic) -> Option<usize> {
    error.labels()?.next().map(|label| label.offset())
}

fn explain(errors: &dyn std::fmt::Display, first: Option<&dyn Diagnostic>) -> String {
    let message = first.map_or_else(|| errors.to_string(), ToString::to_string);
    match first.and_then(|error| error.help()) {
        Some(help) => format!("{message} ({help})"),
        None => message,
    }
}
