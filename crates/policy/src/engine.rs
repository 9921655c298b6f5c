//! The seam that the control plane calls: one engine per policy version, one decision per command.

use serde::{Deserialize, Serialize};

use crate::{gate, harmless};

/// What to do with a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Run it.
    Allow,
    /// Ask a human.
    Ask,
    /// Do not run it.
    Deny,
}

impl Outcome {
    /// The name used in tables, URLs and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
}

/// A command to decide about.
#[derive(Debug, Clone, Copy)]
pub struct CommandRequest<'a> {
    /// The script that `bash -c` would get.
    pub command: &'a str,
    /// Where it would run.
    pub cwd: &'a str,
    /// Whether variables of the caller's own would be set. Some of them make programs run others.
    pub has_env: bool,
}

/// The call of a tool to decide about.
#[derive(Debug, Clone, Copy)]
pub struct ToolRequest<'a> {
    /// Such as `read_file`.
    pub name: &'a str,
    /// The whole call.
    pub text: &'a str,
    /// Whether it changes files.
    pub writes: bool,
}

/// What was understood of one simple command of a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Program name as written; empty when the script is opaque.
    pub program: String,
    /// Canonical text of the command.
    pub line: String,
    /// Whether every part of it was understood.
    pub understood: bool,
}

/// What to do with a command, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What to do.
    pub outcome: Outcome,
    /// Ids of the rules that decided.
    pub rules: Vec<String>,
    /// Sentences for people.
    pub reasons: Vec<String>,
    /// What was understood, command by command.
    pub facts: Vec<Fact>,
}

/// One version of a tenant's policy, ready to decide.
#[derive(Debug, Clone)]
pub struct Engine {
    version: i64,
}

impl Engine {
    /// The policy that applies where a tenant has none of its own.
    pub fn shipped() -> Self {
        Self { version: 0 }
    }

    /// The version that decisions are recorded with.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// Decides about the call of a tool that is no shell command. Such a tool cannot do more than
    /// its name says: the program behind it takes no other paths than the workspace's.
    pub fn decide_tool(&self, request: &ToolRequest<'_>) -> Decision {
        let name = request.name;
        let (outcome, rule, reason) = if request.writes {
            (Outcome::Ask, "default-ask", format!("`{name}` changes files"))
        } else {
            (Outcome::Allow, "shipped-harmless", format!("`{name}` only reads the workspace"))
        };
        Decision {
            outcome,
            rules: vec![rule.into()],
            reasons: vec![reason],
            facts: vec![Fact { program: name.into(), line: request.text.into(), understood: true }],
        }
    }

    /// Decides about one command. Never panics; takes time linear in the command's length.
    pub fn decide(&self, request: &CommandRequest<'_>) -> Decision {
        let opaque = |reason: String| Decision {
            outcome: Outcome::Ask,
            rules: vec!["default-ask".into()],
            reasons: vec![reason],
            facts: vec![Fact {
                program: String::new(),
                line: request.command.into(),
                understood: false,
            }],
        };
        if let Err(reason) = gate::check(request.command) {
            return opaque(reason.into());
        }
        if request.has_env {
            return opaque(
                "it sets environment variables, which can change what programs do".into(),
            );
        }
        if !gate::is_plain_path(request.cwd) {
            return opaque("its working directory is not a plain path below /work or /tmp".into());
        }
        match harmless::recognise(request.command) {
            Ok(words) => Decision {
                outcome: Outcome::Allow,
                rules: vec!["shipped-harmless".into()],
                reasons: vec![format!("`{}` in this form only reads", words[0])],
                facts: vec![Fact {
                    program: words[0].into(),
                    line: words.join(" "),
                    understood: true,
                }],
            },
            Err(reason) => opaque(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(command: &str) -> Outcome {
        Engine::shipped().decide(&CommandRequest { command, cwd: "/work", has_env: false }).outcome
    }

    #[test]
    fn harmless_commands_need_nobody() {
        for command in [
            "true",
            "echo",
            "echo hello world",
            "pwd",
            "ls",
            "ls -la src",
            "cat notes.txt",
            "head -n 5 a.txt",
            "wc -l a.txt",
            "uname -a",
            "  echo   spaced  ",
        ] {
            assert_eq!(decide(command), Outcome::Allow, "{command:?}");
        }
    }

    #[test]
    fn a_tool_that_writes_asks() {
        let decide = |name, writes| {
            Engine::shipped().decide_tool(&ToolRequest { name, text: name, writes }).outcome
        };
        assert_eq!(decide("read_file", false), Outcome::Allow);
        assert_eq!(decide("apply_patch", true), Outcome::Ask);
    }

    #[test]
    fn everything_else_asks() {
        for command in [
            "",
            "   ",
            "rm -rf x",
            "ls; touch pwned",
            "ls & touch pwned",
            "ls\ntouch pwned",
            "ls \\\n; touch x",
            "echo $(touch pwned)",
            "echo `id`",
            "cat <(id)",
            "echo a > b",
            "echo a >> b",
            "cat *",
            "cat a?",
            "echo {a,b}",
            "cat ~root/x",
            "echo $HOME",
            "A=1 ls",
            "./ls",
            "/bin/ls",
            "'ls'",
            "l\\s",
            "ls # comment",
            "ls || rm x",
            "ls | sh",
            "!!",
            "echo \u{a0}x",
            "echo \u{202e}x",
            "echo \0",
            "ls\rtouch x",
            "ls\ttouch",
            "date -s 1",
            "cat /etc/shadow",
            "cat ../../etc/passwd",
            "cat /proc/1/environ",
            "ls -la /",
            "env",
            "printenv",
            "echo -e a\\c",
            "sudo ls",
            "head -c 5 --zero-terminated=x y",
            "cat ..",
            "if true",
            "time ls",
            "exec ls",
            "builtin ls",
            "command ls",
            "eval ls",
            "[ a ]",
        ] {
            assert_eq!(decide(command), Outcome::Ask, "{command:?}");
        }
    }

    #[test]
    fn a_huge_command_is_answered_at_once() {
        assert_eq!(decide(&"echo a ".repeat(100_000)), Outcome::Ask);
    }

    #[test]
    fn own_variables_and_odd_folders_ask() {
        let request = CommandRequest { command: "ls", cwd: "/work", has_env: true };
        assert_eq!(Engine::shipped().decide(&request).outcome, Outcome::Ask);
        for cwd in ["/", "/proc/1", "/work/../etc", "relative", "/workshop"] {
            let request = CommandRequest { command: "ls", cwd, has_env: false };
            assert_eq!(Engine::shipped().decide(&request).outcome, Outcome::Ask, "{cwd}");
        }
    }

    #[test]
    fn an_asked_script_is_opaque_and_whole() {
        let request = CommandRequest { command: "ls; id", cwd: "/work", has_env: false };
        let decision = Engine::shipped().decide(&request);
        assert_eq!(decision.facts.len(), 1);
        assert_eq!(decision.facts[0].line, "ls; id");
        assert!(!decision.facts[0].understood);
        assert!(!decision.reasons[0].is_empty());
    }
}
