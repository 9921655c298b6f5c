//! Commands that fork, linger, flood, or do not end: right state, in time, and nothing left.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Stack, TestSession};

use crate::canary::Canary;
use crate::cases::command;
use crate::host::Container;

pub const IDS: &[&str] = &[
    "HC-001", "HC-002", "HC-004", "HC-005", "HC-007", "HC-009", "HC-010", "HC-011", "HC-013",
    "HC-014", "HC-016", "HC-017", "HC-018", "HC-019", "HC-021", "HC-023", "HC-024", "HC-025",
    "HC-026", "HC-027", "HC-029", "HC-031", "HC-033", "HC-035",
];

/// What a case's exec has to look like at its end.
struct Expected {
    timeout_ms: u64,
    states: &'static [&'static str],
    check: fn(&Ran),
}

/// A case that was run.
struct Ran {
    exec: Value,
    container: Container,
    /// Most processes that were seen at once.
    most_pids: u64,
    /// Processor time and time from just before it to just after it.
    cpu: Duration,
    wall: Duration,
    /// How much the workspace's file on the host grew, in bytes.
    grown: u64,
}

impl Ran {
    fn text(&self, stream: &str) -> &str {
        text(&self.exec, stream)
    }

    fn ran_ms(&self) -> u64 {
        self.exec["duration_ms"].as_u64().expect("a duration")
    }

    /// Its time was over when it was, and not long before it was noticed.
    fn assert_ended_at(&self, timeout_ms: u64, slack_ms: u64) {
        let ran = self.ran_ms();
        assert!((timeout_ms..=timeout_ms + slack_ms).contains(&ran), "it ran {ran} ms");
    }
}

fn nothing(_: &Ran) {}

/// At its limit of processes it stays, and what it left behind was ended.
fn limited(ran: &Ran) {
    let (_, limit) = ran.container.pids();
    assert!((1..=limit).contains(&ran.most_pids), "{} of {limit} processes", ran.most_pids);
    let left_behind = ran.exec["survivors"].as_u64().is_some_and(|count| count > 0);
    assert!(ran.exec["state"] != "exited" || left_behind, "{}", ran.exec);
}

fn expected(id: &str) -> Expected {
    let ends = |timeout_ms, states, check| Expected { timeout_ms, states, check };
    const OVER_TIME: &[&str] = &["timed_out"];
    const ENDED: &[&str] = &["exited"];
    const EITHER: &[&str] = &["exited", "timed_out", "killed"];
    const OOM: &[&str] = &["killed"];
    match id {
        "HC-001" => ends(3000, EITHER, limited),
        "HC-002" => ends(3000, EITHER, |ran| {
            limited(ran);
            assert!(ran.container.pids_refused() > 0, "the limit was never reached");
        }),
        "HC-004" => ends(60_000, ENDED, |ran| {
            assert!(ran.text("stderr").contains("temporarily unavailable"), "{}", ran.exec);
            assert!(ran.container.pids_refused() > 0, "the limit was never reached");
        }),
        "HC-005" => ends(30_000, ENDED, |ran| {
            let zombies: u32 = ran.text("stdout").trim().parse().unwrap_or(u32::MAX);
            assert!(zombies <= 1, "{zombies} zombies: {}", ran.exec);
        }),
        "HC-007" => ends(60_000, OOM, |ran| assert_eq!(ran.exec["oom_killed"], true)),
        // The largest file is smaller than the memory: this ends before the memory does.
        "HC-010" => ends(60_000, ENDED, |ran| {
            assert_eq!(ran.exec["exit_code"], 1);
            assert!(ran.text("stderr").contains("File too large"), "{}", ran.exec);
        }),
        "HC-009" | "HC-013" => ends(60_000, ENDED, |ran| {
            assert_eq!(ran.exec["exit_code"], 1);
            assert!(ran.text("stderr").contains("No space left"), "{}", ran.exec);
        }),
        // It starts 64 that are hungry: sometimes it is through with that before its time is over.
        "HC-011" => ends(3000, EITHER, |ran| {
            let left = ran.exec["survivors"].as_u64().unwrap_or_default();
            assert!(ran.exec["timed_out"] == true || left == 64, "{}", ran.exec);
            let nanos: f64 =
                ran.container.inspect("{{.HostConfig.NanoCpus}}").parse().expect("a quota");
            let share = ran.cpu.as_secs_f64() / ran.wall.as_secs_f64();
            let quota = nanos / 1e9;
            let fits = share > 0.0 && share <= quota * 1.1;
            assert!(fits, "{share} of {quota} processors");
        }),
        "HC-014" => ends(10_000, ENDED, |ran| {
            assert!(ran.text("stderr").contains("Read-only file system"), "{}", ran.exec);
        }),
        "HC-016" => ends(5000, EITHER, nothing),
        "HC-017" => ends(10_000, ENDED, |ran| {
            // SIGXFSZ: a file of 1 TiB in a workspace of less.
            assert_eq!(ran.exec["signal"], 25, "{}", ran.exec);
            assert!(ran.grown < 16 << 20, "the host gave it {} bytes", ran.grown);
        }),
        "HC-018" => ends(20_000, ENDED, |ran| {
            assert!(ran.text("stderr").contains("Too many open files"), "{}", ran.exec);
        }),
        "HC-019" => ends(120_000, EITHER, |ran| {
            let stdout = &ran.exec["stdout"];
            assert_eq!(stdout["truncated"], true);
            if ran.exec["state"] == "exited" {
                assert_eq!(stdout["bytes_total"].as_u64(), Some(10 << 30), "{stdout}");
            }
        }),
        "HC-021" => ends(3000, OVER_TIME, |ran| {
            // At most ten pieces a second while it runs, of each stream; the rest in large ones.
            let id = ran.exec["exec_id"].as_str().expect("an id");
            let count = |table: &str, condition: &str| -> u64 {
                let sql = format!("SELECT count(*) FROM {table} WHERE {condition}");
                let rows = Stack::shared().psql_as("superuser", &sql).expect("a count");
                rows.parse().expect("a number")
            };
            let events = count(
                "session_events",
                &format!("type = 'exec.output' AND data->>'exec_id' = '{id}'"),
            );
            let chunks = count("output_chunks", &format!("exec_id = '{id}'"));
            let stored = ran.exec["stdout"]["bytes_total"].as_u64().expect("a size");
            let bound = 20 * (ran.ran_ms() / 1000 + 1) + stored / (128 << 10);
            assert!(events > 0 && events <= bound, "{events} events, {stored} bytes");
            assert!(chunks > 0 && chunks <= bound, "{chunks} rows, {stored} bytes");
        }),
        // The end of its output is not its own: it goes on until its time is over.
        "HC-023" => ends(3000, OVER_TIME, |ran| ran.assert_ended_at(3000, 1000)),
        "HC-025" => ends(3000, OVER_TIME, |ran| {
            assert_eq!(ran.exec["signal"], 9, "{}", ran.exec);
            ran.assert_ended_at(3000, 2000);
        }),
        "HC-024" | "HC-026" | "HC-027" => ends(20_000, ENDED, |ran| {
            // The one left behind, and a child of its own if it had one by then.
            assert!(matches!(ran.exec["survivors"].as_u64(), Some(1 | 2)), "{}", ran.exec);
            assert_eq!(ran.exec["exit_code"], 0);
            assert!(ran.ran_ms() < 2000, "{}", ran.exec);
        }),
        // It may signal whatever runs under its user, itself excepted: nothing else is there.
        "HC-029" => ends(10_000, ENDED, |ran| assert_eq!(ran.exec["exit_code"], 0)),
        // It bears the name of a kernel thread, and is found all the same.
        "HC-031" => ends(3000, OVER_TIME, |ran| {
            assert_eq!(ran.exec["signal"], 15, "{}", ran.exec);
            ran.assert_ended_at(3000, 1000);
        }),
        "HC-033" => ends(3000, OVER_TIME, |ran| ran.assert_ended_at(3000, 1000)),
        "HC-035" => ends(3000, OVER_TIME, |ran| ran.assert_ended_at(3000, 2000)),
        other => panic!("{other} has no expectation"),
    }
}

fn text<'a>(exec: &'a Value, stream: &str) -> &'a str {
    exec[stream]["head"].as_str().unwrap_or_default()
}

/// Bytes of a file that take place on the disk.
fn allocated(file: &Path) -> u64 {
    std::fs::metadata(file).expect("a file").blocks() * 512
}

/// Runs a case in a session of its own.
async fn run(id: &str) {
    let Expected { timeout_ms, states, check } = expected(id);
    let canary = Canary::start_alone().await;
    let session = Stack::shared().session().await;
    let container = Container::of(&session).await;
    let workspace = container.workspace_file();
    let (begun, cpu, bytes) = (Instant::now(), container.cpu_time(), allocated(&workspace));
    let body = json!({ "command": command(id), "timeout_ms": timeout_ms });
    let work = session.run_approved(body);
    let mut most_pids = 0;
    let mut look = tokio::time::interval(Duration::from_millis(100));
    tokio::pin!(work);
    let exec = loop {
        tokio::select! {
            exec = &mut work => break exec,
            _ = look.tick() => most_pids = most_pids.max(container.pids().0),
        }
    };
    let (cpu, wall) = (container.cpu_time().saturating_sub(cpu), begun.elapsed());
    let grown = allocated(&workspace).saturating_sub(bytes);
    let state = exec["state"].as_str().unwrap_or_default();
    assert!(states.contains(&state), "{id}: {exec}");
    let limit = Duration::from_millis(timeout_ms + 2000);
    let ran = Ran { exec, container, most_pids, cpu, wall, grown };
    assert!(Duration::from_millis(ran.ran_ms()) <= limit, "{id}: {}", ran.exec);
    assert!(wall < limit + Duration::from_secs(20), "{id}");
    eprintln!("{id}");
    check(&ran);
    let container = ran.container;
    container.assert_only_pid_1(id).await;
    // It is on record, once.
    let events = session.reviewer.audit_of(&session.id).await;
    let ends = events.iter().filter(|event| event["object"] == ran.exec["exec_id"]);
    let ends = ends.filter(|event| event["action"] == "exec.finish").count();
    assert_eq!(ends, 1, "{id}: {events:?}");
    canary.assert_unharmed(id).await;
    // The sandbox is as good as before, or another one is.
    let after = session.run("echo still here").await;
    assert_eq!(after["stdout"]["head"], "still here\n", "{id}: {after}");
    container.close(&session).await;
    // Its files go after the container.
    let deadline = Instant::now() + Duration::from_secs(60);
    while workspace.exists() {
        assert!(Instant::now() < deadline, "{id}: {} stays behind", workspace.display());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

macro_rules! cases {
    ($($name:ident: $($id:literal)+;)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            for id in [$($id),+] {
                run(id).await;
            }
        }
    )+};
}

cases! {
    fork_bombs_hurt_their_own_container_only: "HC-001" "HC-002";
    zombies_are_reaped: "HC-004" "HC-005";
    memory_ends_at_its_limit: "HC-007" "HC-009" "HC-010";
    processor_time_is_shared: "HC-011";
    the_disk_ends_at_its_limit: "HC-013" "HC-014" "HC-016" "HC-017";
    files_end_at_their_limit: "HC-018";
    output_is_bounded: "HC-021" "HC-023";
    what_is_left_behind_is_ended_and_counted: "HC-024" "HC-026" "HC-027";
    signals_hit_nobody_else: "HC-025" "HC-029" "HC-031";
    time_is_enforced: "HC-033" "HC-035";
}

/// Ten gigabytes take a while; the fast tier runs a tenth of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_output_is_counted_and_cut() {
    if std::env::var_os("BULKHEAD_TEST_ALL").is_some() {
        return run("HC-019").await;
    }
    let canary = Canary::start_alone().await;
    let session = Stack::shared().session().await;
    let body = json!({ "command": "yes | head -c 1G", "timeout_ms": 60_000 });
    let exec = session.run_approved(body).await;
    assert_eq!(exec["state"], "exited", "{exec}");
    assert_eq!(exec["stdout"]["bytes_total"].as_u64(), Some(1 << 30));
    assert_eq!(exec["stdout"]["truncated"], true);
    canary.assert_unharmed("HC-019").await;
}

/// One file of memory ends at the limit of files; many of them end at that of memory.
#[tokio::test]
async fn files_in_memory_are_charged_as_memory() {
    let command = "python3 -c \"import os\nfor n in range(8):\n fd=os.memfd_create('a')\n \
                   [os.write(fd,b'x'*(1<<20)) for _ in range(200)]\"";
    let canary = Canary::start_alone().await;
    let session = Stack::shared().session().await;
    let exec = session.run_approved(json!({ "command": command, "timeout_ms": 60_000 })).await;
    assert_eq!((&exec["state"], &exec["oom_killed"]), (&json!("killed"), &json!(true)), "{exec}");
    canary.assert_unharmed("HC-010").await;
}

/// Called off, it is over soon, however long it would sleep.
#[tokio::test]
async fn hc_033_a_cancelled_command_ends_soon() {
    let canary = Canary::start().await;
    let session = Stack::shared().session().await;
    let exec = session.submit(json!({ "command": command("HC-033") })).await;
    let approval = exec_or_approval(&session, &exec).await;
    if let Some(approval) = approval {
        session.decide(&approval, "approve", None).await;
    }
    session.wait_until(&exec, |exec| exec["state"] == "running").await;
    let id = exec["exec_id"].as_str().expect("an id");
    let begun = Instant::now();
    session.agent.post(&format!("/v1/execs/{id}/cancel"), json!({})).await.expect(200);
    assert_eq!(session.wait(&exec).await["state"], "cancelled");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    canary.assert_unharmed("HC-033").await;
}

async fn exec_or_approval(session: &TestSession, exec: &Value) -> Option<String> {
    let decided = |exec: &Value| exec["approval_id"].is_string() || !exec["decision"].is_null();
    let exec = session.wait_until(exec, decided).await;
    exec["approval_id"].as_str().map(ToOwned::to_owned)
}

/// The file system of a workspace, which lets nobody write while this lives: whoever tries is stuck in
/// the kernel, and no signal ends it.
struct Frozen(std::fs::File);

impl Frozen {
    fn new(container: &Container) -> Self {
        // Kept open from here, so that it can be let go whatever becomes of the container.
        let folder = std::fs::File::open(format!("/proc/{}/root/work", container.pid()));
        let frozen = Self(folder.expect("the workspace"));
        assert!(frozen.tell("--freeze"), "fsfreeze works");
        frozen
    }

    fn tell(&self, what: &str) -> bool {
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&self.0);
        let path = format!("/proc/{}/fd/{descriptor}", std::process::id());
        let status = std::process::Command::new("fsfreeze").args([what, &path]).status();
        status.expect("fsfreeze").success()
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        assert!(self.tell("--unfreeze"), "it can be let go");
    }
}

/// The time that it may take to kill has an end; then the container is given up, and that is on record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hc_035_what_nothing_can_end_costs_its_container() {
    let canary = Canary::start_alone().await;
    let session = Stack::shared().session().await;
    session.run_approved(json!({ "command": "echo kept > kept" })).await;
    let container = Container::named(&session.id).await;
    let stuck = json!({ "command": "while :; do date > now; done", "timeout_ms": 3000 });
    let exec = session.submit(stuck).await;
    if let Some(approval) = exec_or_approval(&session, &exec).await {
        session.decide(&approval, "approve", None).await;
    }
    session.wait_until(&exec, |exec| exec["state"] == "running").await;
    let frozen = Frozen::new(&container);
    let exec = session.wait(&exec).await;
    assert_eq!(exec["state"], "timed_out", "{exec}");
    let replaced = session.event("sandbox.replaced").await;
    assert_eq!(replaced["sandbox"], exec["sandbox"], "{replaced}");
    assert!(replaced["unended"].as_u64().is_some_and(|count| count > 0), "{replaced}");
    let events = session.reviewer.audit_of(&session.id).await;
    let recorded = events.iter().find(|event| event["action"] == "sandbox.replaced");
    assert_eq!(recorded.expect("it is on record")["detail"]["unended"], replaced["unended"]);
    drop(frozen);
    let after = session.run_approved(json!({ "command": "cat kept; touch new" })).await;
    assert_eq!(text(&after, "stdout"), "kept\n", "{after}");
    assert_eq!(after["sandbox"]["generation"], exec["sandbox"]["generation"]);
    assert_ne!(after["sandbox"]["id"], exec["sandbox"]["id"]);
    canary.assert_unharmed("HC-035").await;
}

/// Whose workspace is lost hears of it: the next command runs in another one.
#[tokio::test]
async fn a_lost_workspace_is_told_as_a_replaced_sandbox() {
    let canary = Canary::start().await;
    let session = Stack::shared().session().await;
    let before = session.run_approved(json!({ "command": "echo gone > gone" })).await;
    let container = Container::named(&session.id).await;
    std::fs::remove_file(container.workspace_file()).expect("it is there");
    container.kill();
    let after = session.run_approved(json!({ "command": "cat gone; touch new" })).await;
    assert_eq!(text(&after, "stdout"), "", "{after}");
    assert_eq!(
        (&before["sandbox"]["generation"], &after["sandbox"]["generation"]),
        (&json!(1), &json!(2))
    );
    let replaced = session.event("sandbox.replaced").await;
    assert_eq!((&replaced["sandbox"], &replaced["before"]), (&after["sandbox"], &json!(1)));
    let events = session.reviewer.audit_of(&session.id).await;
    let recorded = events.iter().filter(|event| event["action"] == "sandbox.replaced");
    let recorded: Vec<&Value> = recorded.collect();
    assert_eq!(recorded.len(), 1, "{events:?}");
    assert_eq!(recorded[0]["detail"]["before"], 1, "{recorded:?}");
    canary.assert_unharmed("a lost workspace").await;
}

#[tokio::test]
async fn sessions_do_not_leak_their_processes_into_each_other() {
    let canary = Canary::start().await;
    let one: TestSession = Stack::shared().session().await;
    let two = Stack::shared().session().await;
    one.submit(json!({ "command": "sleep 31.4159", "background": true })).await;
    let list = two.run_approved(json!({ "command": "ps -eo args" })).await;
    assert!(!text(&list, "stdout").contains("31.4159"), "{list}");
    canary.assert_unharmed("leaks").await;
}
