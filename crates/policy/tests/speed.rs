//! How long a decision takes. Prints the numbers; the bounds are those of the specification, and twenty
//! times as much for an unoptimised build. `cargo xtask test --all` runs this optimised, too. Others use the
//! machine as well, so the quietest of some goes counts.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use policy::{CommandRequest, Engine, Parse};

/// 99 of 100 decisions about an everyday command.
const TYPICAL: Duration = Duration::from_millis(1);
/// The worst script there is.
const WORST: Duration = Duration::from_millis(50);
/// Showing the parse of an everyday command: it is put on record with each decision.
const SHOWN: Duration = Duration::from_micros(50);
/// What the median of an unoptimised build may take, on a busy machine.
const UNOPTIMISED: u32 = 20;

/// What is held to the bound: 99 of 100 only where the build is the one that people run.
fn bounded(p50: Duration, p99: Duration) -> Duration {
    if cfg!(debug_assertions) { p50 } else { p99 }
}

/// How often everything is measured.
const GOES: usize = 5;

/// The median and the 99th of a hundred, of the quietest go.
fn time<T>(rounds: usize, mut work: impl FnMut() -> T) -> (Duration, Duration) {
    let mut go = || {
        let mut times: Vec<Duration> = (0..rounds)
            .map(|_| {
                let start = Instant::now();
                std::hint::black_box(work());
                start.elapsed()
            })
            .collect();
        times.sort();
        (times[times.len() / 2], times[times.len() * 99 / 100])
    };
    (0..GOES).map(|_| go()).min_by_key(|(_, p99)| *p99).unwrap()
}

fn request(command: &str) -> CommandRequest<'_> {
    CommandRequest { command, cwd: "/work", git_hardened: true, ..CommandRequest::default() }
}

fn worst_scripts() -> Vec<String> {
    let words = |word: &str, bytes: usize| format!("echo{}", word.repeat(bytes / word.len()));
    let twenty = |command: &str| vec![command; 20].join(" && ");
    vec![
        words(" a", 16_000),
        words(" 'a'", 16_000),
        words(" 'a b'", 990 * 6),
        twenty(&words(" \"a\\$b\"", 48 * 8)),
        words(" \"a\"", 16_000),
        words("\\a", 16_000),
        words("''", 16_000),
        format!("echo '{}'", "a".repeat(16_000)),
        format!("echo \"{}\"", "\\\"".repeat(8_000)),
        twenty("timeout 5 nice -n 5 timeout 5 nice -n 5 cat a"),
        twenty(&words(" 'a b'", 780)),
        "(".repeat(16_000),
        "ls;".repeat(5_000),
        "$(".repeat(8_000),
        "{".repeat(16_000),
        "\n".repeat(16_384),
        format!("sed '{}'", "s/a/b/;".repeat(2_000)),
        format!("awk '{}'", "{print $1};".repeat(1_400)),
        format!("jq '{}'", ".a|".repeat(5_000)),
        format!("ls{}", " a/b/c/d".repeat(2_000)),
        format!("find .{}", " -name a".repeat(2_000)),
        "ls ".repeat(200_000),
    ]
}

#[test]
fn decisions_are_fast() {
    let typical = Engine::shipped();
    let rule = |i: usize| {
        format!(
            "@id(\"r{i}\") permit (principal, action == Action::\"AutoApprove\", resource) \
             when {{ context.program == \"p{i}\" && context.flags.contains(\"-x\") }};\n"
        )
    };
    let large = Engine::load(&(0..200).map(rule).collect::<String>()).unwrap();
    let (slack, rounds) = if cfg!(debug_assertions) { (UNOPTIMISED, 100) } else { (1, 2_000) };
    for command in ["ls -la src", "cd src && rg -n 'fn main' | head -5", "git log --oneline -5"] {
        let (p50, p99) = time(rounds, || typical.decide(&request(command)));
        println!("{command}: p50 {p50:?}, p99 {p99:?}");
        assert!(bounded(p50, p99) < TYPICAL * slack, "{command}: {p50:?}, {p99:?}");
    }
    for (name, engine) in [("shipped policy", &typical), ("200 rules", &large)] {
        for script in worst_scripts() {
            let (worst, _) = time((rounds / 1000).max(1), || engine.decide(&request(&script)));
            println!(
                "{name}: {:?}… ({} bytes): {worst:?}",
                &script[..script.len().min(30)],
                script.len()
            );
            assert!(worst < WORST * slack, "{name}: {worst:?}");
        }
    }
}

#[test]
fn showing_the_parse_is_cheap() {
    let (slack, rounds) = if cfg!(debug_assertions) { (UNOPTIMISED, 200) } else { (1, 5_000) };
    for command in ["ls -la src", "cd src && rg -n 'fn main' | head -5", "echo $(id)"] {
        let facts = Engine::shipped().decide(&request(command)).facts;
        let (p50, p99) = time(rounds, || Parse::of(command, &facts));
        println!("the parse of {command}: p50 {p50:?}, p99 {p99:?}");
        assert!(bounded(p50, p99) < SHOWN * slack, "{command}: {p50:?}, {p99:?}");
    }
}
