//! The command line as types. Nothing happens here.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    approvals, audit, exec, execs, files, policy, run, sessions, tenants, tokens,
};
use crate::connection::Connection;
use crate::dev;

/// Runs AI agents' shell commands in sandboxes, under a policy, with a record.
#[derive(Debug, Parser)]
#[command(name = "bulkhead", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// A command together with where it talks to.
#[derive(Debug, Args)]
pub struct Remote<A: Args> {
    /// Where to and as whom.
    #[command(flatten)]
    pub connection: Connection,
    /// The command's own arguments.
    #[command(flatten)]
    pub arguments: A,
}

/// Everything that `bulkhead` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything on this machine, or stop it.
    Dev(dev::DevArguments),
    /// Run one command in a sandbox; exits with the command's own code.
    ///
    /// Other codes: 124 timed out, 126 denied, 137 killed, 125 Bulkhead's own error.
    Exec(Remote<exec::Arguments>),
    /// List, show and steer commands; `wait` exits like `exec`.
    Execs(Remote<execs::Arguments>),
    /// Copy files into and out of a session's workspace, list and delete them.
    Files(Remote<files::Arguments>),
    /// Run one turn of the agent and print its answer.
    Run(Remote<run::Arguments>),
    /// List, show, create and close sessions.
    Sessions(Remote<sessions::Arguments>),
    /// List, show and decide approvals.
    Approvals(Remote<approvals::Arguments>),
    /// Read, change, test and explain the tenant's policy.
    Policy(Remote<policy::Arguments>),
    /// Read the audit log.
    Audit(Remote<audit::Arguments>),
    /// Create, list and revoke a tenant's tokens.
    Tokens(Remote<tokens::Arguments>),
    /// Create and list tenants.
    Tenants(Remote<tenants::Arguments>),
}

impl Command {
    /// Whether its exit code is a command's own, so that our errors need one that stands out.
    pub fn exits_like_a_command(&self) -> bool {
        match self {
            Self::Exec(_) => true,
            Self::Execs(execs) => execs.arguments.is_wait(),
            _ => false,
        }
    }
}

/// Reads a duration for clap.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    crate::duration::parse(text).map_err(|problem| problem.to_string())
}

/// Reads `KEY=VALUE` for clap.
pub(crate) fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn words_after_the_dashes_belong_to_the_command() {
        let words = ["bulkhead", "exec", "--json", "--env", "A=b=c", "--", "ls", "--json", "-l"];
        let Command::Exec(exec) = Cli::parse_from(words).command else { panic!("not exec") };
        assert_eq!(exec.arguments.command, ["ls", "--json", "-l"]);
        assert_eq!(exec.arguments.env, [("A".to_owned(), "b=c".to_owned())]);
        assert!(exec.connection.json);
    }

    #[test]
    fn a_folder_is_downloaded_from_the_workspace_or_from_a_folder_in_it() {
        for words in [&["into"][..], &["from", "into"]] {
            let all = ["bulkhead", "files", "download", "--session", "ses_1"];
            Cli::try_parse_from(all.iter().chain(words)).expect("understood");
        }
    }

    #[test]
    fn a_terminal_and_the_background_exclude_each_other() {
        let words = ["bulkhead", "exec", "--tty", "--background", "--", "ls"];
        assert!(Cli::try_parse_from(words).is_err());
        let words = ["bulkhead", "exec", "--tty", "--json", "--", "ls"];
        assert!(Cli::try_parse_from(words).is_err());
    }

    #[test]
    fn json_may_stand_behind_the_inner_command() {
        let cli = Cli::parse_from(["bulkhead", "approvals", "list", "--json", "--tenant", "acme"]);
        let Command::Approvals(approvals) = cli.command else { panic!("not approvals") };
        assert!(approvals.connection.json);
        assert_eq!(approvals.connection.tenant.as_deref(), Some("acme"));
    }
}
