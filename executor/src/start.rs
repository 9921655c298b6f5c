//! The frames that start something in a sandbox: a command, a tool, work on files. The one place
//! for what they find around them: program, environment, limits.

use std::time::Duration;

use domain::ids::ExecId;
use domain::limits::KILL_GRACE_MS;
use protocol::checks::Checks;
use protocol::exec::{ExecKind, ExecOrder};
use protocol::git::DISARMING_ENV;
use protocol::init::{INIT_PROGRAM, Rlimit, Start, Stdin, ToInit};

/// What every command finds in its environment, unless its order says otherwise.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ("HOME", "/work"),
    ("USER", "sandbox"),
    ("LANG", "C.UTF-8"),
];
/// How long work on files may take to end by itself. It keeps nothing that would be lost.
const FILES_GRACE_MS: u64 = 200;

/// The frame that starts an order's command after `checks`, with git disarmed if it reads with it.
pub(crate) fn order_frame(order: &ExecOrder, checks: &Checks, uid: u32) -> ToInit {
    let mut start = order_start(order, uid);
    if checks.is_empty() {
        return ToInit::Start(start);
    }
    if !checks.git_folders.is_empty() {
        start.env = disarmed(start.env);
    }
    ToInit::StartChecked { start, checks: checks.clone() }
}

fn order_start(order: &ExecOrder, uid: u32) -> Start {
    let (argv, stdin) = match order.kind {
        ExecKind::Shell => {
            // Behind `--` it is a script, whatever it begins with.
            let argv = ["/bin/bash", "--noprofile", "--norc", "-c", "--", &order.command];
            (argv.map(str::to_owned).to_vec(), shell_input(order))
        }
        ExecKind::Tool => {
            let text = order.command.clone().into_bytes();
            ([INIT_PROGRAM, "tool"].map(str::to_owned).to_vec(), Stdin::Bytes(text))
        }
    };
    Start {
        exec_id: order.exec_id,
        argv,
        env: environment(order),
        cwd: order.cwd.clone(),
        stdin,
        terminal: order.terminal,
        uid,
        rlimits: rlimits(),
        timeout_ms: order.timeout_ms,
        grace_ms: KILL_GRACE_MS,
    }
}

/// The frame that starts work on files, which `request` describes as JSON.
pub(crate) fn files_frame(
    exec_id: ExecId,
    request: String,
    stdin: Stdin,
    uid: u32,
    timeout: Duration,
) -> Start {
    Start {
        exec_id,
        argv: vec![INIT_PROGRAM.to_owned(), "files".to_owned(), request],
        env: Vec::new(),
        cwd: "/".to_owned(),
        stdin,
        terminal: None,
        uid,
        rlimits: rlimits(),
        timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        grace_ms: FILES_GRACE_MS,
    }
}

fn shell_input(order: &ExecOrder) -> Stdin {
    match (&order.stdin, order.stdin_open) {
        (Some(stdin), _) => Stdin::Bytes(stdin.0.clone()),
        (None, true) => Stdin::Open,
        (None, false) => Stdin::Closed,
    }
}

fn environment(order: &ExecOrder) -> Vec<String> {
    let terminal = if order.terminal.is_some() { "xterm-256color" } else { "dumb" };
    let mut env: Vec<String> = ENVIRONMENT
        .into_iter()
        .chain([("TERM", terminal)])
        .filter(|(name, _)| !order.env.contains_key(*name))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let valid = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
    let own = order.env.iter().filter(|(name, value)| valid(name) && !value.contains('\0'));
    env.extend(own.map(|(name, value)| format!("{name}={value}")));
    env
}

/// The same environment, in which git heeds nothing but what disarms it.
fn disarmed(mut env: Vec<String>) -> Vec<String> {
    env.retain(|variable| !variable.starts_with("GIT_"));
    env.extend(DISARMING_ENV.iter().map(|(name, value)| format!("{name}={value}")));
    env
}

/// On top of the container's own.
fn rlimits() -> Vec<Rlimit> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::limits::SandboxLimits;
    use protocol::binary::Binary;
    use protocol::checks::NamedPath;
    use protocol::init::TerminalSize;
    use uuid::Uuid;

    fn order() -> ExecOrder {
        ExecOrder {
            tenant_id: Uuid::from_u128(1).into(),
            session_id: Uuid::from_u128(2).into(),
            exec_id: Uuid::from_u128(3).into(),
            kind: ExecKind::Shell,
            command: "true".into(),
            cwd: "/work".into(),
            env: [].into(),
            stdin: None,
            stdin_open: false,
            terminal: None,
            min_generation: 1,
            checks: Default::default(),
            timeout_ms: 1000,
            limits: SandboxLimits::default(),
            image_digest: "sha256:0".into(),
        }
    }

    #[test]
    fn the_orders_environment_wins_and_impossible_names_are_left_out() {
        let env = [("PATH", "/bin"), ("A=B", "x"), ("", "x"), ("C", "d=e")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let start = order_start(&ExecOrder { env, ..order() }, 10_000);
        let expected =
            ["HOME=/work", "USER=sandbox", "LANG=C.UTF-8", "TERM=dumb", "C=d=e", "PATH=/bin"];
        assert_eq!(start.env, expected);
        assert_eq!(start.argv, ["/bin/bash", "--noprofile", "--norc", "-c", "--", "true"]);
    }

    #[test]
    fn a_terminal_is_named_unless_the_order_names_it() {
        let terminal = Some(TerminalSize { rows: 24, cols: 80 });
        let start = order_start(&ExecOrder { terminal, ..order() }, 10_000);
        assert!(start.env.contains(&"TERM=xterm-256color".to_owned()));
        assert_eq!(start.terminal, terminal);
        let env = [("TERM".to_owned(), "vt100".to_owned())].into();
        let start = order_start(&ExecOrder { terminal, env, ..order() }, 10_000);
        let terms: Vec<_> = start.env.iter().filter(|line| line.starts_with("TERM=")).collect();
        assert_eq!(terms, ["TERM=vt100"]);
    }

    #[test]
    fn the_text_of_a_tool_call_is_never_on_a_command_line() {
        let tool = ExecOrder { kind: ExecKind::Tool, command: "{\"a\":1}".into(), ..order() };
        let start = order_start(&tool, 10_000);
        assert_eq!(start.argv, ["/.bulkhead/init", "tool"]);
        assert_eq!(start.stdin, Stdin::Bytes(b"{\"a\":1}".to_vec()));
        assert_eq!((start.cwd.as_str(), start.env.len()), ("/work", 5));
    }

    #[test]
    fn input_is_closed_given_or_open() {
        let stdin = |order: &ExecOrder| order_start(order, 10_000).stdin;
        assert_eq!(stdin(&order()), Stdin::Closed);
        assert_eq!(stdin(&ExecOrder { stdin_open: true, ..order() }), Stdin::Open);
        let given = ExecOrder { stdin: Some(Binary(b"x".to_vec())), ..order() };
        assert_eq!(stdin(&given), Stdin::Bytes(b"x".to_vec()));
    }
    #[test]
    fn disarmed_git_heeds_no_variable_of_the_caller() {
        let env = [("GIT_CONFIG_COUNT", "0"), ("GIT_EXTERNAL_DIFF", "x"), ("A", "b")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let order = ExecOrder { env, ..order() };
        let git = Checks { git_folders: vec!["/work".into()], ..Checks::default() };
        let frame = order_frame(&order, &git, 10_000);
        let ToInit::StartChecked { start, checks } = frame else { panic!("{frame:?}") };
        assert_eq!(checks, git);
        assert!(start.env.contains(&"A=b".to_owned()));
        assert!(start.env.contains(&"GIT_CONFIG_GLOBAL=/dev/null".to_owned()));
        let named = |name: &str| start.env.iter().filter(|line| line.starts_with(name)).count();
        assert_eq!((named("GIT_CONFIG_COUNT="), named("GIT_EXTERNAL_DIFF=")), (1, 0));
        assert!(matches!(order_frame(&order, &Checks::default(), 10_000), ToInit::Start(_)));
        let path = NamedPath { path: "/work/a".into(), follows_links: false };
        let frame = order_frame(&order, &Checks { paths: vec![path], ..Checks::default() }, 10_000);
        let ToInit::StartChecked { start, .. } = frame else { panic!("{frame:?}") };
        assert!(start.env.contains(&"GIT_CONFIG_COUNT=0".to_owned()), "git is left as it is");
    }
}
