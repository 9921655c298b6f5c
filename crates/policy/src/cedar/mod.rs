//! The rules of a policy, and what they say about one fact. Cedar decides; the guard around it is here:
//! only what is understood can be auto-approved, except for the literal texts of `@exact`.

mod exact;
mod load;
mod position;
mod schema;
mod text;

use std::collections::BTreeMap;

use cedar_policy::{Authorizer, Effect, Entities, Policy, PolicyId, PolicySet, Request, Response};

use load::Notes;
pub use position::PolicyError;
pub use schema::SCHEMA;

use crate::decision::{Approvers, Outcome};
use crate::facts::Fact;
use crate::request::{CommandRequest, Subject};

/// Lets everything run that no policy forbids. Policies say what must not run, not what may.
const IMPLICIT_RUN: &str = "permit (principal, action == Action::\"Run\", resource);";

/// The rules of one policy text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    /// Every policy, for what is understood.
    all: PolicySet,
    /// Forbids and literal texts, for what is not.
    guarded: PolicySet,
    notes: BTreeMap<String, Notes>,
}

/// What the rules say about one fact.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    pub(crate) rules: Vec<String>,
    pub(crate) reasons: Vec<String>,
    pub(crate) approvers: Approvers,
    /// The rule that approved this very text, whatever it does inside.
    pub(crate) exact: Option<String>,
}

/// Under which circumstances a fact is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances<'a> {
    /// Whether `@exact` may approve: its text says nothing about variables and odd folders.
    pub(crate) exact_applies: bool,
    /// The `@exact` rule that approved the wrapper around this command.
    pub(crate) approved_by: Option<&'a str>,
}

/// Who asks, ready for Cedar.
pub(crate) struct Judge<'a> {
    rules: &'a Rules,
    scene: Result<schema::Scene, schema::NotEvaluated>,
}

impl Rules {
    /// Reads a policy text and checks everything about it except for its tests.
    pub(crate) fn load(text: &str) -> Result<Self, PolicyError> {
        let loaded = load::load(text)?;
        let fail = |error: &dyn std::fmt::Display| PolicyError::at(text, 0, error.to_string());
        let implicit = Policy::parse(Some(PolicyId::new("implicit-run")), IMPLICIT_RUN)
            .map_err(|error| fail(&error))?;
        let is_guarded = |policy: &&Policy| {
            let exact = loaded.notes.get(&policy.id().to_string()).is_some_and(|notes| notes.exact);
            policy.effect() == Effect::Forbid || exact
        };
        let guarded: Vec<Policy> = loaded.policies.iter().filter(is_guarded).cloned().collect();
        let all = loaded.policies.into_iter().chain([implicit]);
        Ok(Self {
            all: PolicySet::from_policies(all).map_err(|error| fail(&error))?,
            guarded: PolicySet::from_policies(guarded).map_err(|error| fail(&error))?,
            notes: loaded.notes,
        })
    }

    /// The ids of the policies.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        self.notes.keys().map(String::as_str)
    }

    pub(crate) fn judge<'a>(&'a self, subject: &Subject<'_>) -> Judge<'a> {
        Judge { rules: self, scene: schema::Scene::new(subject) }
    }
}

impl Judge<'_> {
    /// Judges one fact.
    pub(crate) fn verdict(&self, fact: &Fact, circumstances: Circumstances<'_>) -> Verdict {
        let evaluated = self.scene.as_ref().map_err(ToString::to_string).and_then(|scene| {
            let request = |action| scene.request(action, fact).map_err(|error| error.to_string());
            let run = (request(schema::run())?, &scene.entities);
            let approve = (request(schema::auto_approve())?, &scene.entities);
            Ok((run, approve))
        });
        match evaluated {
            Ok((run, approve)) => self.evaluate(fact, circumstances, run, approve),
            Err(why) => ask("evaluation-error", why),
        }
    }

    fn evaluate(
        &self,
        fact: &Fact,
        circumstances: Circumstances<'_>,
        (run, entities): (Request, &Entities),
        (approve, _): (Request, &Entities),
    ) -> Verdict {
        let authorizer = Authorizer::new();
        let may_run = authorizer.is_authorized(&run, &self.rules.all, entities);
        let policies = if fact.understood { &self.rules.all } else { &self.rules.guarded };
        let may_skip = authorizer.is_authorized(&approve, policies, entities);
        let denied = !allows(&may_run);
        let rules = ids(if denied { &may_run } else { &may_skip });
        if denied && !rules.is_empty() {
            let reasons = self.reasons(&rules, "forbids it");
            return Verdict { outcome: Outcome::Deny, reasons, rules, ..ask("", String::new()) };
        }
        // A forbid that could not be evaluated may have been meant for this command.
        let errors = may_run.diagnostics().errors().chain(may_skip.diagnostics().errors());
        if let Some(error) = errors.into_iter().next() {
            return ask("evaluation-error", error.to_string());
        }
        if allows(&may_skip) {
            let exact = rules.iter().find(|id| self.rules.notes.get(*id).is_some_and(|n| n.exact));
            if fact.understood || exact.is_some() && circumstances.exact_applies {
                let reasons = self.reasons(&rules, "allows it");
                let exact = exact.filter(|_| circumstances.exact_applies).cloned();
                return Verdict { outcome: Outcome::Allow, exact, ..self.asking(rules, reasons) };
            }
            return ask("guard-environment", unclear(fact));
        }
        if !rules.is_empty() {
            let reasons = self.reasons(&rules, "asks for a human");
            return self.asking(rules, reasons);
        }
        if let Some(rule) = circumstances.approved_by {
            let reasons = vec![format!("rule `{rule}` approves the whole text around it")];
            let exact = Some(rule.to_owned());
            return Verdict {
                outcome: Outcome::Allow,
                exact,
                ..self.asking(vec![rule.into()], reasons)
            };
        }
        match fact.understood {
            true => ask("default-ask", format!("no rule allows {}", describe(fact))),
            false => ask("guard-not-understood", unclear(fact)),
        }
    }

    fn asking(&self, rules: Vec<String>, reasons: Vec<String>) -> Verdict {
        let notes = || rules.iter().filter_map(|id| self.rules.notes.get(id));
        let count = notes().filter_map(|notes| notes.approvers).max().unwrap_or(1);
        let mut roles: Vec<String> = notes().filter_map(|n| n.approver_role.clone()).collect();
        roles.sort();
        roles.dedup();
        let approvers = Approvers { count, roles };
        Verdict { outcome: Outcome::Ask, rules, reasons, approvers, exact: None }
    }

    fn reasons(&self, rules: &[String], verb: &str) -> Vec<String> {
        let reason = |id: &String| {
            let own = self.rules.notes.get(id).and_then(|notes| notes.reason.clone());
            own.unwrap_or_else(|| format!("rule `{id}` {verb}"))
        };
        rules.iter().map(reason).collect()
    }
}

fn ask(rule: &str, reason: String) -> Verdict {
    Verdict {
        outcome: Outcome::Ask,
        rules: vec![rule.into()],
        reasons: vec![reason],
        approvers: Approvers::default(),
        exact: None,
    }
}

fn allows(response: &Response) -> bool {
    response.decision() == cedar_policy::Decision::Allow
}

/// The policies behind a response, in a fixed order, without the engine's own.
fn ids(response: &Response) -> Vec<String> {
    let mut ids: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
    ids.retain(|id| id != "implicit-run");
    ids.sort();
    ids
}

fn unclear(fact: &Fact) -> String {
    fact.unclear.clone().unwrap_or_else(|| "it is not understood".into())
}

fn describe(fact: &Fact) -> String {
    let effects: Vec<&str> = fact.effects.iter().map(|effect| effect.as_str()).collect();
    let name = match fact.subcommand.as_str() {
        "" => fact.program.clone(),
        subcommand => format!("{} {subcommand}", fact.program),
    };
    match effects.is_empty() {
        true => format!("`{name}`"),
        false => format!("`{name}`, which may {}", effects.join(", ")),
    }
}

/// A test of a policy: the place, what it expects, and the request.
pub(crate) struct PolicyTest<'a> {
    offset: usize,
    pub(crate) expect: Outcome,
    pub(crate) request: CommandRequest<'a>,
}

impl PolicyTest<'_> {
    /// The error of a test that came out differently.
    pub(crate) fn failed(&self, text: &str, outcome: Outcome, reasons: &[String]) -> PolicyError {
        let (expected, got) = (self.expect.as_str(), outcome.as_str());
        let command = self.request.command;
        let why = reasons.join("; ");
        PolicyError::at(
            text,
            self.offset,
            format!("test: `{command}` should be {expected}, is {got}: {why}"),
        )
    }
}

/// The tests that a policy text carries.
pub(crate) fn tests(text: &str) -> Result<Vec<PolicyTest<'_>>, PolicyError> {
    let tests = text::tests(text)?;
    let requests = tests.into_iter().map(|test| {
        let setting = |name: &str, otherwise| {
            let found = test.settings.iter().find(|(known, _)| *known == name);
            found.map_or(otherwise, |(_, value)| *value)
        };
        let subject = Subject {
            role: setting("role", "agent"),
            environment: setting("environment", ""),
            session: setting("session", ""),
            ..Subject::default()
        };
        let request = CommandRequest {
            command: test.command,
            cwd: setting("cwd", "/work"),
            git_hardened: true,
            paths_refused: false,
            has_env: false,
            subject,
        };
        PolicyTest { offset: test.offset, expect: test.expect, request }
    });
    Ok(requests.collect())
}
