//! Real bash in a real sandbox is the judge of what a script means: generated commands that the shipped
//! policy allows start exactly the argument vectors that the engine saw, in that order of events.
//! Programs and builtins are functions there that write their vector down.
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

mod site;

use policy::{CommandRequest, Engine, Fact, Outcome};
use protocol::exec::ExecOrder;
use site::{Site, session, wait_until};

/// What is run, and whether it fails: what stands behind `&&` and `||` depends on that.
const PROGRAMS: [(&str, bool); 14] = [
    ("cat", false),
    ("ls", false),
    ("echo", false),
    ("grep", true),
    ("test", true),
    ("true", false),
    ("wc", false),
    ("head", true),
    ("basename", false),
    ("rg", false),
    ("sort", false),
    ("printf", false),
    ("timeout", false),
    ("cd", false),
];

/// Pieces of words, from what means itself to what bash replaces.
const PIECES: [&str; 62] = [
    "a",
    "b.c",
    "src",
    "-n",
    "x=1",
    "1",
    "%s",
    "@",
    "+",
    "^",
    ",",
    ":",
    "/tmp",
    "é",
    "日",
    "'a b'",
    "\"a b\"",
    "''",
    "\"\"",
    "'*'",
    "\"*\"",
    "'~'",
    "'$HOME'",
    "\"\\$x\"",
    "\"it's\"",
    "'say \"x\"'",
    "\"a\\\\b\"",
    "\"\\a\"",
    "'a\\nb'",
    "'a\nb'",
    "\"a\nb\"",
    "'#'",
    "\"&& b\"",
    "'; b'",
    "'|'",
    "\"\\`\"",
    "'!'",
    "\\ ",
    "\\*",
    "\\~",
    "\\#",
    "\\;",
    "\\&",
    "\\|",
    "\\'",
    "\\\"",
    "\\\\",
    "\\$",
    "\\{a,b\\}",
    "\"{a,b}\"",
    "\\\n",
    "{a,b}",
    "{1..3}",
    "*",
    "?",
    "[ab]",
    "~",
    "$'a\\tb'",
    "$\"a\"",
    "$HOME",
    "#",
    "!",
];
const SPACES: [&str; 6] = [" ", " ", " ", "  ", " \\\n", " \\\n "];
const REDIRECTIONS: [&str; 16] = [
    "",
    "",
    "",
    "",
    "",
    "",
    " >/dev/null",
    " 2>/dev/null",
    " 2>&1",
    " </dev/null",
    " &>/dev/null",
    " >/dev/null 2>&1",
    " 1>&2",
    " 2>>/dev/null",
    " 3>&1",
    " >| /dev/null",
];
const COMMENTS: [&str; 4] = [" # and 'so on\n", " #; ls\n", "\n# a line; ls `x`\n", " #\\\n"];

/// Scripts that the engine allows; many more are made.
const SCRIPTS: usize = 400;

#[derive(Clone, Copy, PartialEq)]
enum Joiner {
    Pipe,
    Always,
    And,
    Or,
}

const JOINERS: [(Joiner, &str); 12] = [
    (Joiner::Pipe, " | "),
    (Joiner::Pipe, "|"),
    (Joiner::Pipe, " |\n"),
    (Joiner::Always, "; "),
    (Joiner::Always, ";"),
    (Joiner::Always, "\n"),
    (Joiner::Always, "\n\n "),
    (Joiner::And, " && "),
    (Joiner::And, "&&"),
    (Joiner::And, " &&\n"),
    (Joiner::Or, " || "),
    (Joiner::Or, "||\n"),
];

/// A script, and for each of its commands what joins it to the one before and whether it fails.
#[derive(Default)]
struct Script {
    text: String,
    commands: Vec<(Joiner, bool)>,
}

/// The same scripts every time: a linear congruence with Knuth's constants (MMIX).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % limit
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn script(&mut self) -> Script {
        let mut script = Script::default();
        let mut joiner = Joiner::Always;
        for left in (0..=self.below(4)).rev() {
            let (program, fails) = self.pick(&PROGRAMS);
            script.commands.push((joiner, fails));
            script.text.push_str(program);
            self.add_words(&mut script.text, program);
            script.text.push_str(self.pick(&REDIRECTIONS));
            if self.below(12) == 0 {
                script.text.push_str(self.pick(&COMMENTS));
                joiner = Joiner::Always;
            } else if left > 0 {
                let (kind, sign) = self.pick(&JOINERS);
                script.text.push_str(sign);
                joiner = kind;
            }
        }
        script
    }

    fn add_words(&mut self, text: &mut String, program: &str) {
        let needed = match program {
            "timeout" => " 5 echo",
            "grep" | "rg" => " -n",
            "printf" => " '%s\\n'",
            "test" => " -n",
            _ => "",
        };
        text.push_str(needed);
        let most = if program == "true" { 1 } else { 3 };
        for _ in 0..self.below(most + 1) {
            text.push_str(self.pick(&SPACES));
            for _ in 0..=self.below(3) {
                text.push_str(self.pick(&PIECES));
            }
        }
    }
}

/// Which of the commands run, as bash goes through them: a pipeline is as its last command.
fn runs(commands: &[(Joiner, bool)]) -> Vec<bool> {
    let (mut failed, mut here) = (false, true);
    let mut runs = Vec::new();
    for (index, (joiner, fails)) in commands.iter().enumerate() {
        match joiner {
            Joiner::Pipe => {}
            Joiner::Always => here = true,
            Joiner::And => here = !failed,
            Joiner::Or => here = failed,
        }
        runs.push(here);
        let ends = commands.get(index + 1).is_none_or(|(next, _)| *next != Joiner::Pipe);
        if here && ends {
            failed = *fails;
        }
    }
    runs
}

/// The vector of a canonical line: blanks between words, quotes or plain characters within.
fn vector(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        let word = words.last_mut().expect("one at least");
        match c {
            '\'' => quoted = !quoted,
            '\\' if !quoted => word.push(characters.next().expect("something escaped")),
            ' ' if !quoted => words.push(String::new()),
            c => word.push(c),
        }
    }
    words
}

/// The vectors in a log: for each the number of its words, then the words, all ended by zeros.
fn logged(log: &str) -> Vec<Vec<String>> {
    let mut words = log.split_terminator('\0').map(str::to_owned);
    let mut vectors = Vec::new();
    while let Some(count) = words.next() {
        let count = count.parse().expect("a number of words");
        vectors.push(words.by_ref().take(count).collect());
    }
    vectors
}

/// What bash reads before each script: every program writes its vector down, in a file of its process:
/// bash writes a word with a newline in two parts, and the stages of a pipeline write at once.
fn tracer() -> String {
    let mut text =
        String::from("t() { builtin printf '%s\\0' \"$#\" \"$@\" >> \"$TRACE.$BASHPID\"; }\n");
    for (program, fails) in PROGRAMS {
        let code = u8::from(fails);
        text.push_str(&format!("{program}() {{ t {program} \"$@\"; return {code}; }}\n"));
    }
    text
}

fn allowed(script: &str) -> Option<Vec<Fact>> {
    let request = CommandRequest { command: script, cwd: "/work", ..CommandRequest::default() };
    let decision = Engine::shipped().decide(&request);
    (decision.outcome == Outcome::Allow).then_some(decision.facts)
}

#[test]
fn bash_in_the_sandbox_starts_exactly_what_the_engine_saw() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let write = ExecOrder {
        stdin: Some(protocol::binary::Binary(tracer().into_bytes())),
        ..site.order(session, "cat > /work/tracer")
    };
    assert_eq!(site.run(&life, &write).exit_code, Some(0));
    let mut seeded = Seeded(20_261_126);
    let mut expectations: Vec<(Script, Vec<Vec<String>>)> = Vec::new();
    let mut skipped = 0;
    while expectations.len() < SCRIPTS {
        let script = seeded.script();
        let Some(facts) = allowed(&script.text) else { continue };
        let saw: Vec<_> = facts.iter().filter(|f| !f.wrapped).map(|f| vector(&f.line)).collect();
        assert_eq!(saw.len(), script.commands.len(), "{:?}", script.text);
        let runs = runs(&script.commands);
        skipped += runs.iter().filter(|runs| !**runs).count();
        let expected = saw.into_iter().zip(&runs).filter(|(_, runs)| **runs).map(|(saw, _)| saw);
        let expected = expected.collect();
        let log = format!("/work/log.{}", expectations.len());
        let env = [("BASH_ENV".to_owned(), "/work/tracer".to_owned()), ("TRACE".to_owned(), log)];
        let order = ExecOrder { env: env.into(), ..site.order(session, &script.text) };
        site.run(&life, &order);
        expectations.push((script, expected));
    }
    let last = SCRIPTS - 1;
    let logs = format!("for i in $(seq 0 {last}); do cat log.$i.*; printf '\\1'; done");
    let order = site.order(session, &logs);
    site.run(&life, &order);
    wait_until("the logs are here", || {
        site.shipped(order.exec_id, "stdout").iter().filter(|byte| **byte == 1).count() == SCRIPTS
    });
    let logs = String::from_utf8(site.shipped(order.exec_id, "stdout")).expect("UTF-8");
    let mut commands = 0;
    for ((script, mut expected), log) in expectations.into_iter().zip(logs.split('\u{1}')) {
        commands += expected.len();
        let mut ran = logged(log);
        // The stages of a pipeline run at once.
        if script.commands.iter().any(|(joiner, _)| *joiner == Joiner::Pipe) {
            ran.sort();
            expected.sort();
        }
        assert_eq!(ran, expected, "{:?}", script.text);
    }
    println!("{SCRIPTS} scripts, {commands} commands, {skipped} more that bash skipped");
    assert!(commands >= 480 && skipped >= 25, "the scripts are too short: {commands}, {skipped}");
}
