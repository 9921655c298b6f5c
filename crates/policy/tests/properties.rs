//! Properties that hold for any text. Seeds are fixed: a failure is the same on every machine.
#![allow(clippy::unwrap_used, missing_docs)]

use policy::{CommandRequest, Engine, Fact, Outcome};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

fn decide(command: &str) -> (Outcome, Vec<Fact>) {
    let request =
        CommandRequest { command, cwd: "/work", git_hardened: true, ..CommandRequest::default() };
    let decision = Engine::shipped().decide(&request);
    assert!(
        !decision.rules.is_empty() && !decision.reasons.is_empty() && !decision.facts.is_empty()
    );
    (decision.outcome, decision.facts)
}

/// What every decision keeps to, whatever the text is.
fn holds(command: &str) {
    let (outcome, facts) = decide(command);
    if outcome == Outcome::Allow {
        assert!(facts.iter().all(|fact| fact.understood), "{command:?}");
    }
    for fact in &facts {
        assert_eq!(fact.understood, fact.unclear.is_none(), "{command:?}");
    }
}

#[test]
fn no_text_makes_it_panic() {
    let shell = "[ -~\\n]{0,60}";
    let pieces = "(ls|cat|echo|git|[|&;<>()$`\\\\\"'*?{}~#!= \\n\\t-]|a|-x|/dev/null|2>&1){0,30}";
    runner(400)
        .run(&(shell, pieces, any::<String>()), |(one, two, three)| {
            holds(&one);
            holds(&two);
            holds(&three);
            Ok(())
        })
        .unwrap();
}

#[test]
fn no_policy_text_makes_it_panic() {
    let policy = "(@id\\(\"a\"\\)|permit|forbid|\\(|\\)|principal|action|resource|when|\\{|\\}|context\\.line|==|\"x\"|;|,| |\\n|// test: ask: x|@exact){0,20}";
    runner(300)
        .run(&(policy, any::<String>()), |(one, two)| {
            for text in [one, two] {
                if let Err(error) = Engine::load(&text) {
                    assert!(error.line >= 1 && error.column >= 1 && !error.message.is_empty());
                }
            }
            Ok(())
        })
        .unwrap();
}

/// Commands that are allowed, and made of bare words only.
const PLAIN: &[&str] = &[
    "ls -la src",
    "cat a.txt | wc -l",
    "git log --oneline",
    "grep -n foo a && pwd",
    "head -n 5 a; tail -n 5 b",
];

#[test]
fn a_metacharacter_outside_quotes_takes_the_permission_back() {
    // Each of them changes what bash runs, or might, wherever it stands between two characters.
    for meta in [
        "`", "$x", "$(id)", "*", "?", "~", "{a,b}", "<", ">", "(", ")", "&", "\\\n", "\t", "\r",
        "\0", "!", "#", "'", "\"", "\u{a0}", "\u{202e}", "[", "; id2", "|x ", "\nid2 ",
    ] {
        for command in PLAIN {
            assert_eq!(decide(command).0, Outcome::Allow);
            for at in 1..command.len() {
                let (head, tail) = command.split_at(at);
                let changed = format!("{head}{meta}{tail}");
                assert_ne!(decide(&changed).0, Outcome::Allow, "{changed:?}");
            }
        }
    }
}

#[test]
fn a_metacharacter_inside_single_quotes_is_text() {
    runner(200)
        .run(&"[ !-&(-~]{0,40}", |text| {
            let command = format!("echo '{text}'");
            assert_eq!(decide(&command).0, Outcome::Allow, "{command}");
            Ok(())
        })
        .unwrap();
}

#[test]
fn the_canonical_line_is_read_back_as_itself() {
    runner(300)
        .run(&proptest::collection::vec("[ -~]{0,12}", 1..5), |words| {
            let quoted: Vec<String> =
                words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
            let (_, facts) = decide(&format!("echo {}", quoted.join(" ")));
            let (_, again) = decide(&facts[0].line);
            assert_eq!(facts[0].operands, words);
            assert_eq!(facts, again);
            Ok(())
        })
        .unwrap();
}
