//! What the engine is asked: a command or the call of a tool, and who asks in which session.

/// Who asks, and in which session. Policies see it as principal and resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The role of the token: `owner`, `agent`, `reviewer` or `viewer`.
    pub role: &'a str,
    /// The name of the token.
    pub token: &'a str,
    /// The name of the tenant.
    pub tenant: &'a str,
    /// The name of the session.
    pub session: &'a str,
    /// The environment of the session, such as `production`.
    pub environment: &'a str,
}

/// A command to decide about.
#[derive(Debug, Clone, Copy, Default)]
pub struct CommandRequest<'a> {
    /// The script that `bash -c` would get.
    pub command: &'a str,
    /// Where it would run.
    pub cwd: &'a str,
    /// Whether variables of the caller's own would be set. Some of them make programs run others.
    pub has_env: bool,
    /// Whether the platform disarms the configuration of repositories: variables outrank it, and what
    /// they cannot outrank is looked for in `Decision::git_folders` before the command starts. Without
    /// it, git asks.
    pub git_hardened: bool,
    /// Whether its sandbox has refused to start it because of what stands at `Decision::named_paths`.
    /// Commands that name any then ask.
    pub paths_refused: bool,
    /// Who asks, and where.
    pub subject: Subject<'a>,
}

/// The call of a tool to decide about.
#[derive(Debug, Clone, Copy, Default)]
pub struct ToolRequest<'a> {
    /// Such as `read_file`.
    pub name: &'a str,
    /// The whole call.
    pub text: &'a str,
    /// Whether it changes files.
    pub writes: bool,
    /// Who asks, and where.
    pub subject: Subject<'a>,
}
