//! What a policy says about a command, without running it.

use domain::access::Operation;
use domain::ids::SessionId;
use policy::{Decision, Explanation, Mode};
use protocol::exec::ExecKind;

use super::{App, AppError, Caller};
use crate::judging::{self, Active, Question};
use crate::store::Scene;

/// A command to be judged.
pub struct CheckCommand {
    /// Script for `bash -c`.
    pub command: String,
    /// Where it would run; `/work` if not given.
    pub cwd: Option<String>,
    /// Whether it would get variables of its own.
    pub has_env: bool,
    /// Role of the token that would ask; `agent` if not given.
    pub role: Option<String>,
    /// Name of the token that would ask.
    pub token: Option<String>,
    /// The session that it would run in, with its name, environment and approval mode.
    pub session_id: Option<SessionId>,
    /// What its session would be for.
    pub environment: Option<String>,
    /// A policy to judge by instead of the active one.
    pub policy: Option<String>,
}

/// A decision about a command that is not run.
pub struct Checked {
    /// The decision.
    pub decision: Decision,
    /// The version that decided; absent for a draft.
    pub policy_version: Option<i64>,
}

/// A decision with everything that led to it.
pub struct Explained {
    /// The explanation.
    pub explanation: Explanation,
    /// The version that decided; absent for a draft.
    pub policy_version: Option<i64>,
}

/// Everything that a question is made of.
struct Setting {
    scene: Scene,
    mode: Mode,
    policy: Active,
    is_draft: bool,
}

impl App {
    /// Decides about a command.
    ///
    /// # Errors
    /// When the caller may not, the session is not there, or a draft does not load.
    pub async fn check_command(
        &self,
        caller: &Caller,
        request: CheckCommand,
    ) -> Result<Checked, AppError> {
        let setting = self.setting(caller, &request).await?;
        let policy_version = setting.version();
        let decision = off_the_path(move || setting.policy.decide(&question(&setting, &request)));
        Ok(Checked { decision: decision.await?, policy_version })
    }

    /// Decides about a command and says why.
    ///
    /// # Errors
    /// The same.
    pub async fn explain_command(
        &self,
        caller: &Caller,
        request: CheckCommand,
    ) -> Result<Explained, AppError> {
        let setting = self.setting(caller, &request).await?;
        let policy_version = setting.version();
        let explanation =
            off_the_path(move || setting.policy.explain(&question(&setting, &request)));
        Ok(Explained { explanation: explanation.await?, policy_version })
    }

    async fn setting(&self, caller: &Caller, request: &CheckCommand) -> Result<Setting, AppError> {
        let mut scope = caller.open(self, Operation::ReadPolicy).await?;
        let mut scene = Scene { role: "agent".into(), ..Scene::default() };
        let mut mode = Mode::default();
        match request.session_id {
            Some(id) => {
                let token_id = caller.token_id.to_string();
                let session = scope.get_session(id).await.map_err(AppError::of("session"))?;
                scene = Scene { role: scene.role, ..scope.get_scene(&token_id, id).await? };
                scene.token.clear();
                mode = session.approval_mode;
            }
            None => {
                scene.tenant = scope.get_own_tenant().await?.name;
                scene.policy_version = scope.active_policy_version().await?;
            }
        }
        let set = |to: &mut String, from: &Option<String>| {
            if let Some(value) = from {
                to.clone_from(value);
            }
        };
        set(&mut scene.role, &request.role);
        set(&mut scene.token, &request.token);
        set(&mut scene.environment, &request.environment);
        let policy = match &request.policy {
            Some(text) => {
                drop(scope);
                Active::new(self.load_draft(text).await?)
            }
            None => self.engines.get(&mut scope, scene.policy_version).await?,
        };
        Ok(Setting { scene, mode, policy, is_draft: request.policy.is_some() })
    }
}

impl Setting {
    fn version(&self) -> Option<i64> {
        (!self.is_draft).then_some(self.policy.version())
    }
}

fn question<'a>(setting: &'a Setting, request: &'a CheckCommand) -> Question<'a> {
    Question {
        kind: ExecKind::Shell,
        command: &request.command,
        cwd: request.cwd.as_deref().unwrap_or("/work"),
        has_env: request.has_env,
        unfit: None,
        subject: judging::subject(&setting.scene),
        mode: setting.mode,
    }
}

/// Deciding takes up to 50 ms for the worst that there is; requests of others do not wait for it.
async fn off_the_path<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, AppError> {
    tokio::task::spawn_blocking(work).await.map_err(AppError::internal)
}
