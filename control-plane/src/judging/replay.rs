//! Deciding many recorded commands again under another policy: equal ones once, the others on all
//! processors. Keeps counts and a few examples, never the commands themselves.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use policy::{Decision, Outcome, Subject};
use protocol::exec::ExecKind;
use sha2::{Digest, Sha256};

use super::{Active, Question};
use crate::store::RecordedCommand;

/// Distinct commands kept as examples of one kind of change.
const MAX_EXAMPLES: usize = 64;
/// Distinct commands whose answer is remembered.
const MAX_REMEMBERED: usize = 500_000;
/// Threads that decide at once.
const MAX_THREADS: usize = 4;

type Key = [u8; 32];

/// An example of a change.
#[derive(Debug, Clone)]
pub struct Example {
    /// One of the commands.
    pub command: RecordedCommand,
    /// How many there are of it.
    pub count: u64,
    /// What the other policy says.
    pub decision: Decision,
}

/// Commands that the other policy decides differently, in one way.
#[derive(Debug, Default)]
pub struct Change {
    /// How many.
    pub count: u64,
    examples: HashMap<Key, Example>,
}

impl Change {
    /// The most frequent examples.
    pub fn examples(self, most: usize) -> Vec<Example> {
        let mut examples: Vec<Example> = self.examples.into_values().collect();
        examples.sort_by(|a, b| {
            b.count.cmp(&a.count).then_with(|| a.command.exec_id.cmp(&b.command.exec_id))
        });
        examples.truncate(most);
        examples
    }
}

/// See the module.
pub struct Replay {
    policy: Active,
    tenant: String,
    known: HashMap<Key, Outcome>,
    /// Commands decided so far.
    pub commands: u64,
    /// Different ones among them.
    pub distinct: u64,
    /// What the other policy says, by outcome: allow, ask, deny.
    pub outcomes: [u64; 3],
    /// What changed: from what to what.
    pub changes: BTreeMap<(Outcome, Outcome), Change>,
}

impl Replay {
    /// Nothing decided yet.
    pub fn new(policy: Active, tenant: String) -> Self {
        Self {
            policy,
            tenant,
            known: HashMap::new(),
            commands: 0,
            distinct: 0,
            outcomes: [0; 3],
            changes: BTreeMap::new(),
        }
    }

    /// Decides a page of commands.
    pub fn add(&mut self, page: Vec<RecordedCommand>) {
        let keys: Vec<Key> = page.iter().map(key).collect();
        let mut fresh: HashMap<Key, &RecordedCommand> = HashMap::new();
        for (key, command) in keys.iter().zip(&page) {
            if !self.known.contains_key(key) {
                fresh.entry(*key).or_insert(command);
            }
        }
        let decided = self.decide_all(fresh.into_iter().collect());
        self.distinct += decided.len() as u64;
        for (key, command) in keys.into_iter().zip(page) {
            let outcome = match (decided.get(&key), self.known.get(&key)) {
                (Some(decision), _) => decision.outcome,
                (None, Some(outcome)) => *outcome,
                (None, None) => continue,
            };
            self.count(key, command, outcome, decided.get(&key));
        }
        if self.known.len() + decided.len() <= MAX_REMEMBERED {
            self.known.extend(decided.iter().map(|(key, decision)| (*key, decision.outcome)));
        }
    }

    fn count(
        &mut self,
        key: Key,
        command: RecordedCommand,
        outcome: Outcome,
        decision: Option<&Decision>,
    ) {
        self.commands += command.count;
        self.outcomes[outcome as usize] += command.count;
        if command.outcome == outcome {
            return;
        }
        let change = self.changes.entry((command.outcome, outcome)).or_default();
        change.count += command.count;
        let is_full = change.examples.len() >= MAX_EXAMPLES;
        match (change.examples.entry(key), decision) {
            (Entry::Occupied(mut example), _) => example.get_mut().count += command.count,
            (Entry::Vacant(place), Some(decision)) if !is_full => {
                let count = command.count;
                place.insert(Example { command, count, decision: decision.clone() });
            }
            // A command that was decided differently at different times, or one too many.
            (Entry::Vacant(_), _) => {}
        }
    }

    fn decide_all(&self, fresh: Vec<(Key, &RecordedCommand)>) -> HashMap<Key, Decision> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let share = fresh.len().div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            let parts: Vec<_> = fresh
                .chunks(share)
                .map(|part| {
                    scope.spawn(|| part.iter().map(|(k, c)| (*k, self.decide(c))).collect())
                })
                .collect();
            let done = parts.into_iter().filter_map(|part| part.join().ok());
            done.flat_map(|part: Vec<(Key, Decision)>| part).collect()
        })
    }

    /// What the policy says about one recorded command.
    pub fn decide(&self, command: &RecordedCommand) -> Decision {
        self.policy.decide(&question(command, &self.tenant))
    }
}

/// A recorded command as the question that it was.
pub fn question<'a>(command: &'a RecordedCommand, tenant: &'a str) -> Question<'a> {
    Question {
        kind: if command.is_shell { ExecKind::Shell } else { ExecKind::Tool },
        command: &command.command,
        cwd: &command.cwd,
        has_env: command.has_env,
        unfit: command.unfit.as_deref(),
        subject: Subject {
            role: &command.role,
            token: &command.token,
            tenant,
            session: &command.session,
            environment: &command.environment,
        },
        mode: command.mode,
    }
}

/// Equal for commands that every policy answers equally.
fn key(command: &RecordedCommand) -> Key {
    let mut hash = Sha256::new();
    let fields: [&str; 7] = [
        &command.command,
        &command.cwd,
        &command.token,
        &command.role,
        &command.session,
        &command.environment,
        command.unfit.as_deref().unwrap_or_default(),
    ];
    for field in fields {
        hash.update((field.len() as u64).to_le_bytes());
        hash.update(field);
    }
    hash.update([u8::from(command.is_shell), u8::from(command.has_env)]);
    hash.update(command.mode.as_str());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::{Engine, Mode};

    fn recorded(number: u128, command: &str, outcome: Outcome) -> RecordedCommand {
        RecordedCommand {
            count: 1,
            exec_id: uuid::Uuid::from_u128(number).into(),
            is_shell: true,
            command: command.into(),
            cwd: "/work".into(),
            has_env: false,
            unfit: None,
            token: "agent".into(),
            role: "agent".into(),
            session: "s".into(),
            environment: String::new(),
            mode: Mode::Policy,
            outcome,
        }
    }

    #[test]
    fn equal_commands_are_decided_once_and_counted_each() {
        let draft = "@id(\"t\") permit (principal, action == Action::\"AutoApprove\", resource)
            when { context.program == \"touch\" };";
        let mut replay = Replay::new(Active::new(Engine::load(draft).unwrap()), "acme".into());
        let page = |from| {
            let twice = RecordedCommand { count: 2, ..recorded(from, "touch a", Outcome::Ask) };
            let once = recorded(from + 1, "touch a", Outcome::Ask);
            vec![twice, once, recorded(from + 3, "ls", Outcome::Allow)]
        };
        replay.add(page(0));
        replay.add(page(10));
        assert_eq!((replay.commands, replay.distinct), (8, 2));
        assert_eq!(replay.outcomes, [6, 2, 0]);
        let change = replay.changes.remove(&(Outcome::Ask, Outcome::Allow)).unwrap();
        assert_eq!(change.count, 6);
        let examples = change.examples(5);
        assert_eq!((examples.len(), examples[0].count), (1, 6));
        assert_eq!(examples[0].decision.rules, ["t"]);
    }
}
