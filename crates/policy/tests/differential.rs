//! Real bash is the judge of what a script means: for generated commands that the engine understands,
//! bash must start exactly the argument vectors that the engine saw. Programs are stubs that print theirs.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use policy::{CommandRequest, Engine, Fact};

/// External programs that the generator uses. Builtins would answer for themselves.
const PROGRAMS: &[&str] = &[
    "cat", "ls", "grep", "sort", "wc", "head", "tail", "basename", "dirname", "expr", "timeout",
    "nice", "rg", "git",
];

const WORDS: &[&str] = &[
    "a",
    "src/main.rs",
    "-n",
    "-l",
    "'a b'",
    "\"a b\"",
    "\"it's\"",
    "'say \"x\"'",
    "a\\ b",
    "\\$HOME",
    "\"\\$x\"",
    "\"a\\\\b\"",
    "\"\\`\"",
    "''",
    "\"\"",
    "a''b",
    "'a'\"b\"c",
    "a.b-c_d",
    "x=1",
    "a:b",
    "@x",
    "%s",
    "+1",
    "^x",
    "HEAD~1",
    "\"a\\nb\"",
    "'a\\nb'",
    "'*'",
    "\"?\"",
    "\\*",
    "\\;",
    "\"a;b\"",
    "'&&'",
    "\"|\"",
    "\\|",
    "'#x'",
    "\"#\"",
    "a,b",
    "--x=y",
    "--",
    "-",
    "\"foo$\"",
    "'$(id)'",
    "'`id`'",
    "\"!\"",
    "'!x'",
    "\\!",
    "'~'",
    "\\~",
    "\"{a,b}\"",
    "\\{a,b\\}",
    "'grüße'",
    "\"你好\"",
    "\"tab\\t\"",
    "'a\nb'",
    "\"a\nb\"",
    "5",
    "1.5",
    "\\'",
    "\\\"",
    "\"'\"",
    "\\\\",
    "\"\\a\"",
];

const JOINERS: &[&str] =
    &[" && ", " || ", " | ", "; ", "\n", " &&\n", ";\n", "  |  ", "&&", "|", ";", "\n\n"];
const REDIRECTS: &[&str] =
    &["", "", "", "", " 2>/dev/null", " 2>&1", " </dev/null", " 2>>/dev/null"];

struct Seeded(u64);

impl Seeded {
    fn next(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.next(list.len())]
    }

    fn script(&mut self) -> String {
        let mut script = String::new();
        for index in 0..=self.next(4) {
            if index > 0 {
                script.push_str(self.pick(JOINERS));
            }
            script.push_str(self.pick(PROGRAMS));
            for _ in 0..self.next(6) {
                script.push_str(self.pick(&[" ", " ", " ", "  "]));
                script.push_str(self.pick(WORDS));
            }
            script.push_str(self.pick(REDIRECTS));
        }
        script
    }
}

/// A folder of stubs that append their vector to a log, NUL between arguments.
fn stubs() -> PathBuf {
    let dir = std::env::temp_dir().join(format!("policy-differential-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("bin")).unwrap();
    for program in PROGRAMS {
        let path = dir.join("bin").join(program);
        let log = dir.join("log");
        let log = log.display();
        // One write for each vector: stages of a pipeline run at once.
        let script = format!(
            "#!/bin/bash\nprintf -v vector '%q ' {program} \"$@\"\nprintf '%s\\0' \"$vector\" >> {log}\nexit 0\n"
        );
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

/// The vectors that bash starts, in `%q` quoting.
fn bash_runs(dir: &Path, script: &str) -> Vec<String> {
    let log = dir.join("log");
    std::fs::write(&log, "").unwrap();
    let status = Command::new("/bin/bash")
        .args(["--noprofile", "--norc", "-c", script])
        .env_clear()
        .env("PATH", dir.join("bin"))
        .current_dir(dir)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.code().is_some(), "{script}");
    let seen = std::fs::read_to_string(&log).unwrap();
    seen.split_terminator('\0').map(str::to_owned).collect()
}

/// The same quoting of the vectors that the engine saw: bash reads each canonical line by itself.
fn engine_saw(dir: &Path, facts: &[Fact]) -> Vec<String> {
    let lines: Vec<&str> =
        facts.iter().filter(|fact| !fact.wrapped).map(|fact| fact.line.as_str()).collect();
    lines.iter().flat_map(|line| bash_runs(dir, line)).collect()
}

fn facts(command: &str) -> Vec<Fact> {
    let request =
        CommandRequest { command, cwd: "/work", git_hardened: true, ..CommandRequest::default() };
    Engine::shipped().decide(&request).facts
}

#[test]
fn bash_starts_what_the_engine_saw() {
    let dir = stubs();
    let mut seeded = Seeded(20_261_125);
    let (mut plain, mut understood) = (0, 0);
    for _ in 0..400 {
        let script = seeded.script();
        let facts = facts(&script);
        if facts[0].program.is_empty() {
            continue;
        }
        plain += 1;
        understood += usize::from(facts.iter().all(|fact| fact.understood));
        let ran = bash_runs(&dir, &script);
        let saw = engine_saw(&dir, &facts);
        // Behind `||` the stubs' success keeps commands from running: what ran was seen, in a subset.
        let (ran, saw): (BTreeSet<_>, BTreeSet<_>) =
            (ran.into_iter().collect(), saw.into_iter().collect());
        assert!(ran.is_subset(&saw), "{script:?}\nran {ran:#?}\nsaw {saw:#?}");
        if !script.contains("||") {
            assert_eq!(ran, saw, "{script:?}");
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(plain > 150, "the generator hardly makes plain scripts: {plain}");
    assert!(understood > 20, "the generator hardly makes understood scripts: {understood}");
}

#[test]
fn arguments_are_decoded_as_bash_decodes_them() {
    let dir = stubs().join("one");
    std::fs::create_dir_all(&dir).unwrap();
    for word in WORDS {
        let script = format!("basename x{word}");
        let fact = &facts(&script)[0];
        if fact.program.is_empty() {
            continue;
        }
        let program = "printf '%s\\0'";
        let printed = |line: &str| {
            let line = line.replacen("basename", program, 1);
            let output =
                Command::new("/bin/bash").args(["--noprofile", "--norc", "-c", &line]).output();
            output.unwrap().stdout
        };
        assert_eq!(printed(&script), printed(&fact.line), "{word}");
        let operand = fact.operands.first().map(|operand| format!("{operand}\0").into_bytes());
        assert_eq!(Some(printed(&script)), operand, "{word}");
    }
}
