//! A fuzzer that needs nothing but the corpus: every file as it is, then mutated from a fixed seed.
//! `POLICY_FUZZ_ROUNDS` makes it run longer. What it looks for: panics, and what is allowed unjustly.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::time::{Duration, Instant};

use policy::{CommandRequest, Engine, Outcome, import_codex_rules};

fn corpus(folder: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut files: Vec<_> =
        std::fs::read_dir(path).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder}");
    files
        .iter()
        .map(|file| String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned())
        .collect()
}

fn rounds() -> usize {
    std::env::var("POLICY_FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(300)
}

struct Seeded(u64);

impl Seeded {
    fn next(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below.max(1)
    }

    /// Cuts two texts, joins them, and drops a few odd characters in between.
    fn mutate(&mut self, corpus: &[String]) -> String {
        const ODD: &[&str] = &[
            "'", "\"", "\\", "$", "`", "(", ")", "|", "&", ";", "\n", " ", "{", "}", "#", "!", "*",
            "\0", "\u{202e}", "-", "--", "=", "é",
        ];
        let cut = |text: &str, at: usize| -> usize {
            (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
        };
        let (one, two) = (&corpus[self.next(corpus.len())], &corpus[self.next(corpus.len())]);
        let mut text = one[..cut(one, self.next(one.len().min(200) + 1))].to_owned();
        text.push_str(ODD[self.next(ODD.len())]);
        text.push_str(&two[cut(two, self.next(two.len() + 1))..]);
        for _ in 0..self.next(4) {
            let at = cut(&text, self.next(text.len() + 1));
            text.insert_str(at, ODD[self.next(ODD.len())]);
        }
        text
    }
}

fn decide(engine: &Engine, command: &str) -> Outcome {
    let request =
        CommandRequest { command, cwd: "/work", git_hardened: true, ..CommandRequest::default() };
    let start = Instant::now();
    let decision = engine.decide(&request);
    // The bound of the specification, with room for an unoptimised build on a busy machine.
    assert!(start.elapsed() < Duration::from_secs(5), "{command:?}");
    let understood = decision.facts.iter().all(|fact| fact.understood);
    assert!(decision.outcome != Outcome::Allow || understood, "{command:?}");
    decision.outcome
}

#[test]
fn no_command_of_the_corpus_or_near_it_panics() {
    let corpus = corpus("commands");
    let engine = Engine::shipped();
    for command in &corpus {
        decide(&engine, command);
    }
    let mut seeded = Seeded(7);
    for _ in 0..rounds() {
        decide(&engine, &seeded.mutate(&corpus));
    }
}

#[test]
fn no_policy_of_the_corpus_or_near_it_panics() {
    let corpus = corpus("policies");
    let mut seeded = Seeded(11);
    let mutated: Vec<String> = (0..rounds() / 3).map(|_| seeded.mutate(&corpus)).collect();
    for text in corpus.iter().chain(&mutated) {
        // What loads must decide without harm, however odd its conditions are.
        if let Ok(engine) = Engine::load(text) {
            decide(&engine, "ls");
            decide(&engine, "echo $(x)");
        }
    }
}

#[test]
fn no_rule_file_of_the_corpus_or_near_it_panics() {
    let corpus = corpus("rules");
    let mut seeded = Seeded(13);
    let mutated: Vec<String> = (0..rounds()).map(|_| seeded.mutate(&corpus)).collect();
    for text in corpus.iter().chain(&mutated) {
        if let Ok(import) = import_codex_rules(text) {
            Engine::load(&import.policy)
                .unwrap_or_else(|error| panic!("{error}\n{}", import.policy));
        }
    }
}
