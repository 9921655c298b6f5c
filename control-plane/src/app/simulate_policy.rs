//! What a draft would have decided on the commands of the past. Reads them page by page, each in a
//! short transaction, while the page before is decided.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::access::Operation;
use domain::ids::{ExecId, TenantId};
use policy::Outcome;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{App, AppError, Caller};
use crate::judging::{self, Active, Replay};
use crate::store::RecordedPage;

/// Commands read at once.
const PAGE: i64 = 2500;
/// How long a simulation may take before it answers with what it has.
const LIMIT: Duration = Duration::from_secs(20);
/// How long a simulation waits for its turn.
const TURN_LIMIT: Duration = Duration::from_secs(8);
/// Examples of each change.
const EXAMPLES: usize = 5;
/// Commands that are looked at.
const MAX_COMMANDS: u64 = 1_000_000;

/// A simulation that somebody wants.
pub struct SimulatePolicy {
    /// The draft.
    pub text: String,
    /// Commands since then.
    pub since: OffsetDateTime,
}

/// What came of a simulation.
#[derive(Debug, Serialize, ToSchema)]
pub struct Simulation {
    /// Since when commands were looked at.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Commands looked at.
    pub commands: u64,
    /// Different ones among them.
    pub distinct: u64,
    /// Whether these were all since then; the newest otherwise.
    pub complete: bool,
    /// What the draft says, by outcome.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub draft: BTreeMap<&'static str, u64>,
    /// What it decides differently, the most frequent change first.
    pub flips: Vec<Flip>,
}

/// One kind of change.
#[derive(Debug, Serialize, ToSchema)]
pub struct Flip {
    /// What policy had said.
    pub from: Outcome,
    /// What the draft says.
    pub to: Outcome,
    /// How many commands.
    pub count: u64,
    /// The most frequent of them.
    pub examples: Vec<Example>,
}

/// A command of a flip.
#[derive(Debug, Serialize, ToSchema)]
pub struct Example {
    /// The newest exec of it.
    pub exec_id: ExecId,
    /// The command.
    pub command: String,
    /// Where it ran.
    pub cwd: String,
    /// How many there were of it.
    pub count: u64,
    /// The draft's rules.
    pub rules: Vec<String>,
    /// The draft's reasons.
    pub reasons: Vec<String>,
}

impl App {
    /// Decides the recorded commands again under a draft.
    ///
    /// # Errors
    /// When the caller may not, the draft does not load, or too many others simulate.
    pub async fn simulate_policy(
        &self,
        caller: &Caller,
        request: &SimulatePolicy,
    ) -> Result<Simulation, AppError> {
        let tenant_id = caller.authorize(Operation::ReadPolicy)?;
        let _turn = self.turn_to_replay().await?;
        let draft = Active::new(self.load_draft(&request.text).await?);
        let tenant = self.store.tenant(tenant_id).await?.get_own_tenant().await?.name;
        let mut replay = Replay::new(draft, tenant);
        let deadline = Instant::now() + LIMIT;
        let mut page = self.page(tenant_id, request.since, None).await?;
        let complete = loop {
            let Some(last) = page.last else { break true };
            if Instant::now() >= deadline || replay.commands >= MAX_COMMANDS {
                break false;
            }
            let decide = tokio::task::spawn_blocking(move || {
                replay.add(page.commands);
                replay
            });
            let (decided, next) =
                tokio::join!(decide, self.page(tenant_id, request.since, Some(last)));
            replay = decided.map_err(AppError::internal)?;
            page = next?;
        };
        Ok(summary(replay, request.since, complete))
    }

    pub(super) async fn page(
        &self,
        tenant_id: TenantId,
        since: OffsetDateTime,
        before: Option<ExecId>,
    ) -> Result<RecordedPage, AppError> {
        let mut scope = self.store.tenant(tenant_id).await?;
        Ok(scope.list_recorded(since, before, PAGE).await?)
    }

    /// A replay takes all processors: one at a time.
    async fn turn_to_replay(&self) -> Result<tokio::sync::OwnedSemaphorePermit, AppError> {
        let turn = self.engines.replays().acquire_owned();
        match tokio::time::timeout(TURN_LIMIT, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(AppError::TooMany {
                code: "too_many_simulations",
                message: "others simulate a policy right now; try again in a moment".into(),
            }),
        }
    }
}

fn summary(replay: Replay, since: OffsetDateTime, complete: bool) -> Simulation {
    let outcomes = [Outcome::Allow, Outcome::Ask, Outcome::Deny].map(Outcome::as_str);
    let draft = outcomes.into_iter().zip(replay.outcomes).collect();
    let mut flips: Vec<Flip> = replay
        .changes
        .into_iter()
        .map(|((from, to), change)| {
            let count = change.count;
            let examples = change.examples(EXAMPLES).into_iter().map(example).collect();
            Flip { from, to, count, examples }
        })
        .collect();
    flips.sort_by_key(|flip| (std::cmp::Reverse(flip.count), flip.from, flip.to));
    Simulation {
        since,
        commands: replay.commands,
        distinct: replay.distinct,
        complete,
        draft,
        flips,
    }
}

fn example(example: judging::Example) -> Example {
    Example {
        exec_id: example.command.exec_id,
        command: example.command.command,
        cwd: example.command.cwd,
        count: example.count,
        rules: example.decision.rules,
        reasons: example.decision.reasons,
    }
}
