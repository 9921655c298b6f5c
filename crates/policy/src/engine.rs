//! The seam that the control plane calls: one engine per policy version, one decision per command.

use std::sync::{Arc, LazyLock};

use crate::cedar::{self, Circumstances, PolicyError, Rules, Verdict};
use crate::decision::{Approvers, Decision, Outcome};
use crate::facts::{self, Effect, Fact, canonical_line, is_plain_cwd};
use crate::request::{CommandRequest, Subject, ToolRequest};

/// The policy of a tenant that has none of its own.
pub const SHIPPED_POLICY: &str = include_str!("../policies/shipped.cedar");

/// Most tests that one policy may carry: they run whenever it is put.
const MAX_TESTS: usize = 1000;

/// One version of a tenant's policy, ready to decide. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    version: i64,
    rules: Arc<Rules>,
}

impl Engine {
    /// The policy that applies where a tenant has none of its own.
    pub fn shipped() -> Self {
        static SHIPPED: LazyLock<Arc<Rules>> =
            LazyLock::new(|| Arc::new(Rules::load(SHIPPED_POLICY).unwrap_or_default()));
        Self { version: 0, rules: SHIPPED.clone() }
    }

    /// Reads a policy, validates it and runs its own tests. The empty text asks about everything.
    ///
    /// # Errors
    /// Says what is wrong first, and where.
    pub fn load(text: &str) -> Result<Self, PolicyError> {
        let rules = on_a_deep_stack(|| Rules::load(text))?;
        let engine = Self { version: 0, rules: Arc::new(rules) };
        engine.run_tests(text)?;
        Ok(engine)
    }

    /// The same rules under the number of their version.
    pub fn with_version(mut self, version: i64) -> Self {
        self.version = version;
        self
    }

    /// The version that decisions are recorded with.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// The ids of the policy's rules, sorted.
    pub fn rule_ids(&self) -> Vec<&str> {
        self.rules.ids().collect()
    }

    fn run_tests(&self, text: &str) -> Result<(), PolicyError> {
        for (index, test) in cedar::tests(text)?.iter().enumerate() {
            let decision = self.decide(&test.request);
            if decision.outcome != test.expect || index >= MAX_TESTS {
                return Err(test.failed(text, decision.outcome, &decision.reasons));
            }
        }
        Ok(())
    }

    /// Decides about one command: each command that the script runs is judged, the strictest
    /// verdict wins. Never panics; the time is bounded by the gate's limits.
    pub fn decide(&self, request: &CommandRequest<'_>) -> Decision {
        let exact_applies = !request.has_env && is_plain_cwd(request.cwd);
        self.judge(facts::of(request), exact_applies, &request.subject)
    }

    /// Decides about the call of a tool that is no shell command. Such a tool cannot do more than
    /// its name says: the program behind it takes no other paths than the workspace's.
    pub fn decide_tool(&self, request: &ToolRequest<'_>) -> Decision {
        let effect = if request.writes { Effect::Write } else { Effect::Read };
        let fact = Fact {
            program: request.name.into(),
            subcommand: String::new(),
            line: canonical_line(&[request.name, request.text]),
            flags: Vec::new(),
            operands: Vec::new(),
            paths: Vec::new(),
            follows_links: false,
            hosts: Vec::new(),
            effects: vec![effect],
            understood: true,
            unclear: None,
            cwd: "/work".into(),
            wrapped: false,
            hardened: false,
            interpreter: false,
        };
        self.judge(vec![fact], true, &request.subject)
    }

    fn judge(&self, facts: Vec<Fact>, exact_applies: bool, subject: &Subject<'_>) -> Decision {
        on_a_deep_stack(|| self.judge_all(facts, exact_applies, subject))
    }

    fn judge_all(&self, facts: Vec<Fact>, exact_applies: bool, subject: &Subject<'_>) -> Decision {
        let judge = self.rules.judge(subject);
        let mut verdicts: Vec<Verdict> = Vec::with_capacity(facts.len());
        for fact in &facts {
            let around = verdicts.last().filter(|_| fact.wrapped);
            let approved_by = around.and_then(|verdict| verdict.exact.clone());
            let circumstances =
                Circumstances { exact_applies, approved_by: approved_by.as_deref() };
            verdicts.push(judge.verdict(fact, circumstances));
        }
        strictest(verdicts, facts)
    }
}

/// Cedar parses and evaluates by recursion, and gives up where the stack ends: a rule that forbids
/// would then only ask. Only the pages that are touched are ever mapped.
fn on_a_deep_stack<T>(work: impl FnOnce() -> T) -> T {
    const STACK_BYTES: usize = 32 << 20;
    stacker::maybe_grow(STACK_BYTES / 2, STACK_BYTES, work)
}

/// The strictest verdict, with the rules and reasons of all that say the same.
fn strictest(verdicts: Vec<Verdict>, facts: Vec<Fact>) -> Decision {
    let outcome = verdicts.iter().map(|verdict| verdict.outcome).max().unwrap_or(Outcome::Ask);
    let mut decision = Decision {
        outcome,
        rules: Vec::new(),
        reasons: Vec::new(),
        facts,
        approvers: Approvers::default(),
    };
    for verdict in verdicts.into_iter().filter(|verdict| verdict.outcome == outcome) {
        append_new(&mut decision.rules, verdict.rules);
        append_new(&mut decision.reasons, verdict.reasons);
        let needed = &mut decision.approvers;
        needed.count = needed.count.max(verdict.approvers.count);
        append_new(&mut needed.roles, verdict.approvers.roles);
    }
    decision
}

fn append_new(list: &mut Vec<String>, more: Vec<String>) {
    for item in more {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}

#[cfg(test)]
mod tests;
