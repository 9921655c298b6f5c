//! Decisions about commands: the tenant's policy, the session's approval mode, and what people have
//! answered for the rest of the session. Whoever decides, simulates or explains does it through here.

mod drawing;
mod engines;
mod replay;
mod session_key;
mod tally;

pub use drawing::draw;
pub use engines::{Engines, LoadFailure};
pub use replay::{Example, Replay, question};
pub use session_key::session_key;
pub use tally::is_enough;

use policy::{CommandRequest, Decision, Engine, Explanation, Mode, Outcome, Subject, ToolRequest};
use protocol::exec::ExecKind;
use protocol::tools::ToolCall;

use crate::store::Scene;

/// A command, who asks for it and where.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What the command is.
    pub kind: ExecKind,
    /// The script, or the text of a tool's call.
    pub command: &'a str,
    /// Where it would run.
    pub cwd: &'a str,
    /// Whether it would get variables of its own.
    pub has_env: bool,
    /// Why its sandbox refused to start it as a command that policy allows, if it did.
    pub unfit: Option<&'a str>,
    /// Who asks, and in which session.
    pub subject: Subject<'a>,
    /// How the session treats what policy says.
    pub mode: Mode,
}

/// Who asks and where, as policy sees it.
pub fn subject(scene: &Scene) -> Subject<'_> {
    Subject {
        role: &scene.role,
        token: &scene.token,
        tenant: &scene.tenant,
        session: &scene.session,
        environment: &scene.environment,
    }
}

/// A policy ready to decide.
#[derive(Debug, Clone)]
pub struct Active {
    engine: Engine,
    version: i64,
    /// Why everything asks, whatever its text says.
    trouble: Option<&'static str>,
}

impl Active {
    /// A policy that could be read.
    pub fn new(engine: Engine) -> Self {
        Self { version: engine.version(), engine, trouble: None }
    }

    fn unreadable(version: i64, trouble: &'static str) -> Self {
        Self { engine: Engine::shipped(), version, trouble: Some(trouble) }
    }

    /// The version that decisions are recorded with.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// What policy and mode say.
    pub fn decide(&self, question: &Question<'_>) -> Decision {
        let mut decision = by_policy(&self.engine, question);
        if let (Some(why), Outcome::Ask) = (question.unfit, decision.outcome) {
            decision.reasons.push(why.to_owned());
        }
        let decision = match self.trouble {
            None => decision,
            Some(trouble) => Decision {
                outcome: Outcome::Ask,
                rules: vec!["policy-unreadable".into()],
                reasons: vec![format!("policy version {} {trouble}", self.version)],
                ..decision
            },
        };
        decision.under(question.mode)
    }

    /// The same for a script, with everything that led to it.
    pub fn explain(&self, question: &Question<'_>) -> Explanation {
        let explanation = self.engine.explain(&shell(question));
        Explanation { decision: self.decide(question), ..explanation }
    }
}

fn by_policy(engine: &Engine, question: &Question<'_>) -> Decision {
    match question.kind {
        ExecKind::Shell => engine.decide(&shell(question)),
        ExecKind::Tool => match ToolCall::from_text(question.command) {
            Ok(call) => engine.decide_tool(&ToolRequest {
                name: call.name(),
                text: question.command,
                writes: call.writes(),
                subject: question.subject,
            }),
            // Not a call that we made: a script, as far as policy is concerned.
            Err(_) => engine.decide(&shell(question)),
        },
    }
}

fn shell<'a>(question: &Question<'a>) -> CommandRequest<'a> {
    CommandRequest {
        command: question.command,
        cwd: question.cwd,
        has_env: question.has_env,
        git_hardened: question.unfit.is_none(),
        paths_refused: question.unfit.is_some(),
        subject: question.subject,
    }
}
