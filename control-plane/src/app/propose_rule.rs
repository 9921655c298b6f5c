//! "Always allow": the rule that an approval could become, and what else it would admit. Nothing is
//! changed; whoever wants the rule puts a policy with it.

use std::collections::HashSet;
use std::time::Duration;

use domain::access::Operation;
use domain::ids::{ApprovalId, ExecId};
use policy::{CommandRequest, Outcome};
use serde::Serialize;
use time::OffsetDateTime;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::put_policy::stored_or_shipped;
use super::{App, AppError, Caller};
use crate::judging::{Active, Replay};
use crate::store::{Approval, RecordedCommand};

/// Other commands that are shown.
const EXAMPLES: usize = 3;
/// How far back they are looked for.
const LOOK_BACK: time::Duration = time::Duration::days(90);
/// How long they are looked for.
const LIMIT: Duration = Duration::from_secs(5);

/// A rule that is proposed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Proposed {
    /// The ids of the rules.
    pub rules: Vec<String>,
    /// Cedar text, to be added to the policy.
    pub text: String,
    /// The version that it was tried with.
    pub policy_version: i64,
    /// Other recorded commands that it would admit.
    pub would_admit: Vec<Admitted>,
}

/// A recorded command that had to ask, and would not under the rule.
#[derive(Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
pub struct Admitted {
    /// The newest exec of it.
    pub exec_id: ExecId,
    /// The command.
    pub command: String,
    /// Where it ran.
    pub cwd: String,
}

impl App {
    /// Proposes a rule that would have allowed what an approval is about.
    ///
    /// # Errors
    /// When the caller may not, there is no such approval, or no rule can be safe enough.
    pub async fn propose_rule(
        &self,
        caller: &Caller,
        id: ApprovalId,
    ) -> Result<Proposed, AppError> {
        let tenant_id = caller.authorize(Operation::ReadPolicy)?;
        let mut scope = self.store.tenant(tenant_id).await?;
        let approval = scope.get_approval(id).await.map_err(AppError::of("approval"))?;
        let version = scope.active_policy_version().await?;
        let active = stored_or_shipped(&mut scope, version).await?.text;
        let tenant = scope.get_own_tenant().await?.name;
        drop(scope);
        let taken = self.load_draft(&active).await?;
        let rule = propose(&approval, &taken.rule_ids())?;
        let with_rule = self.load_draft(&format!("{active}\n{}", rule.text)).await?;
        let after = Replay::new(Active::new(with_rule), tenant);
        let would_admit = self.find_admitted(tenant_id, &approval, after).await?;
        Ok(Proposed { rules: rule.ids, text: rule.text, policy_version: version, would_admit })
    }

    async fn find_admitted(
        &self,
        tenant_id: domain::ids::TenantId,
        approval: &Approval,
        mut after: Replay,
    ) -> Result<Vec<Admitted>, AppError> {
        let since = OffsetDateTime::now_utc() - LOOK_BACK;
        let deadline = Instant::now() + LIMIT;
        let mut seen = HashSet::from([(approval.command.clone(), approval.cwd.clone())]);
        let mut found = Vec::new();
        let mut before = None;
        while found.len() < EXAMPLES && Instant::now() < deadline {
            let page = self.page(tenant_id, since, before).await?;
            if page.last.is_none() {
                break;
            }
            before = page.last;
            let new: Vec<RecordedCommand> = page
                .commands
                .into_iter()
                .filter(|command| command.outcome == Outcome::Ask)
                .filter(|command| seen.insert((command.command.clone(), command.cwd.clone())))
                .collect();
            (after, found) = tokio::task::spawn_blocking(move || {
                for command in new {
                    if found.len() < EXAMPLES && after.decide(&command).outcome == Outcome::Allow {
                        found.push(admitted(command));
                    }
                }
                (after, found)
            })
            .await
            .map_err(AppError::internal)?;
        }
        Ok(found)
    }
}

fn propose(approval: &Approval, taken: &[&str]) -> Result<policy::Proposal, AppError> {
    let refuse = |why: &str| AppError::invalid("no_rule_proposed", format!("no rule: {why}"));
    if !approval.is_shell {
        return Err(refuse("a tool's call is approved by a rule on `program`, written by hand"));
    }
    let request = CommandRequest {
        command: &approval.command,
        cwd: &approval.cwd,
        has_env: !approval.env_names.is_empty(),
        git_hardened: true,
        paths_refused: false,
        ..CommandRequest::default()
    };
    policy::propose_rule(&request, taken).map_err(|why| refuse(&why))
}

fn admitted(command: RecordedCommand) -> Admitted {
    Admitted { exec_id: command.exec_id, command: command.command, cwd: command.cwd }
}
