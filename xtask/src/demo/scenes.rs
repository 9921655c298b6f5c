//! The scenes of the demo, in the order that they build on each other.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::scene::{LIMIT, Stage};
use crate::process;
use crate::report::print;

const PROMPT: &str = "Use shell to run 'echo hello world' and tell me the output.";
/// Longer than the executor needs to come back.
const LONG_COMMAND: &str =
    "echo started >> /work/starts; sleep 10; echo the count of starts: $(wc -l < /work/starts)";

/// What the audit log must show of all this: action and outcome.
const EXPECTED: [(&str, &str); 6] = [
    ("exec.authorize", "allow"),
    ("exec.authorize", "ask"),
    ("approval.decide", "approved"),
    ("approval.decide", "denied"),
    ("exec.finish", "exited"),
    ("exec.finish", "denied"),
];

/// Plays all of them.
pub(super) fn play(stage: &mut Stage) -> Result<()> {
    print(format_args!("\nTwo tenants, acme and globex, on {}", stage.dev.file()?["api_url"]));
    let session = agent_turn(stage)?;
    allowed_command(stage)?;
    let shared = approved_command(stage)?;
    denied_command(stage)?;
    other_tenant(stage, &session)?;
    killed_executor(stage, &shared)?;
    audit(stage)
}

/// The agent runs a command; the model is the offline demo model unless a key is set.
fn agent_turn(stage: &mut Stage) -> Result<String> {
    stage.title("acme's agent runs a shell command in its sandbox and reports the output");
    let outcome = stage.show(&["run", "--tenant", "acme", PROMPT])?;
    outcome.expect_code(0)?;
    ensure!(outcome.stdout.contains("hello world"), "the answer lacks the command's output");
    let sessions = stage.ask(&["sessions", "list", "--tenant", "acme"])?;
    let newest = sessions.iter().find(|session| session["state"] == "open");
    Ok(text(newest.context("no open session")?, "session_id")?.to_owned())
}

fn allowed_command(stage: &mut Stage) -> Result<()> {
    stage.title("A harmless command runs at once");
    let outcome = stage.show(&["exec", "--tenant", "acme", "--", "echo no questions asked"])?;
    outcome.expect_code(0)?;
    outcome.expect_stdout("no questions asked\n")
}

fn approved_command(stage: &mut Stage) -> Result<String> {
    stage.title("Another one asks first; acme's reviewer approves it, and it runs");
    let created = stage.ask(&["sessions", "create", "--tenant", "acme", "--name", "demo"])?;
    let session = text(created.first().context("no session")?, "session_id")?.to_owned();
    let command = "echo approved > note.txt && cat note.txt";
    let arguments = ["exec", "--tenant", "acme", "--session", &session, "--", command];
    let running = stage.begin(&arguments)?;
    let approval = stage.wait_for_approval("acme", command)?;
    let approve = ["approvals", "approve", &approval, "--tenant", "acme", "--reason", "looks fine"];
    stage.show(&approve)?.expect_code(0)?;
    let outcome = stage.end(running)?;
    outcome.expect_code(0)?;
    outcome.expect_stdout("approved\n")?;
    Ok(session)
}

fn denied_command(stage: &mut Stage) -> Result<()> {
    stage.title("One is denied, and never runs");
    let command = "rm -rf /work";
    let running = stage.begin(&["exec", "--tenant", "acme", "--", command])?;
    let approval = stage.wait_for_approval("acme", command)?;
    let deny = ["approvals", "deny", &approval, "--tenant", "acme", "--reason", "keep the work"];
    stage.show(&deny)?.expect_code(0)?;
    stage.end(running)?.expect_code(126)
}

fn other_tenant(stage: &mut Stage, session: &str) -> Result<()> {
    stage.title("globex looks for acme's session, and there is none");
    let outcome = stage.show(&["sessions", "show", session, "--tenant", "globex"])?;
    ensure!(outcome.code != 0, "globex sees acme's session");
    ensure!(outcome.stderr.contains("404"), "expected 404: {}", outcome.stderr);
    stage.ask(&["sessions", "show", session, "--tenant", "acme"]).map(drop)
}

fn killed_executor(stage: &mut Stage, session: &str) -> Result<()> {
    stage.title("The executor is killed while a 10 s command runs; its one result still comes");
    let arguments = ["exec", "--tenant", "acme", "--session", session, "--", LONG_COMMAND];
    let running = stage.begin(&arguments)?;
    let approval = stage.wait_for_approval("acme", LONG_COMMAND)?;
    stage.show(&["approvals", "approve", &approval, "--tenant", "acme"])?.expect_code(0)?;
    wait_until_running(stage, session)?;
    let victim = stage.dev.find_pid("executor-acme")?.context("executor-acme does not run")?;
    print(format_args!("   \x1b[36m$ kill -KILL {victim}   # acme's executor\x1b[0m"));
    let mut kill = Command::new("kill");
    process::run(kill.args(["-KILL", &victim.to_string()]), Duration::from_secs(5))?;
    let successor = stage.wait("a new executor", || {
        Ok(stage.dev.find_pid("executor-acme")?.filter(|&pid| pid != victim))
    })?;
    print(format_args!("   \x1b[2msupervisor: executor-acme is back as pid {successor}\x1b[0m"));
    let outcome = stage.end(running)?;
    outcome.expect_code(0)?;
    outcome.expect_stdout("the count of starts: 1\n")
}

/// An approved command is not yet a started one: looks for its first trace in the sandbox.
fn wait_until_running(stage: &Stage, session: &str) -> Result<()> {
    stage.wait("the start of the command", || {
        let look = ["exec", "--tenant", "acme", "--session", session, "--", "cat starts"];
        Ok(stage.dev.call(&look, LIMIT)?.status.success().then_some(()))
    })
}

fn audit(stage: &mut Stage) -> Result<()> {
    stage.title("All of it is in acme's audit log");
    stage.show(&["audit", "list", "--tenant", "acme"])?.expect_code(0)?;
    let events = stage.ask(&["audit", "list", "--tenant", "acme"])?;
    let sequence: Vec<_> = events.iter().filter_map(|event| event["seq"].as_u64()).collect();
    ensure!(sequence.len() >= 10, "{} audit events only", sequence.len());
    let gapless = sequence.windows(2).all(|pair| pair[1] == pair[0] + 1);
    ensure!(gapless, "the audit log has gaps: {sequence:?}");
    for (action, outcome) in EXPECTED {
        let found = events.iter().any(|it| it["action"] == action && it["outcome"] == outcome);
        ensure!(found, "the audit log has no `{action}` with the outcome `{outcome}`");
    }
    let finished = |event: &&Value| event["action"] == "exec.finish";
    let mut execs: Vec<_> = events.iter().filter(finished).map(|it| &it["object"]).collect();
    let all = execs.len();
    execs.sort_by_key(|exec| exec.to_string());
    execs.dedup();
    ensure!(execs.len() == all, "an exec has two ends in the audit log");
    Ok(())
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
    value[name].as_str().with_context(|| format!("no `{name}` in {value}"))
}
