//! From text to facts, construct by construct.

use super::*;

fn facts(command: &str) -> Vec<Fact> {
    of(&CommandRequest { command, cwd: "/work", git_hardened: true, ..CommandRequest::default() })
}

#[test]
fn plain_scripts_are_split() {
    let facts = facts("ls -la 'my dir' && cat a.txt | wc -l; echo \"x \\\"y\\\"\" || pwd\ntrue");
    let lines: Vec<_> = facts.iter().map(|fact| fact.line.as_str()).collect();
    assert_eq!(lines, ["ls -la 'my dir'", "cat a.txt", "wc -l", "echo 'x \"y\"'", "pwd", "true"]);
    assert!(facts.iter().all(|fact| fact.understood), "{facts:#?}");
}

#[test]
fn what_only_goes_nowhere_may_be_redirected() {
    for command in [
        "ls 2>/dev/null",
        "ls > /dev/null 2>&1",
        "cat < /dev/null",
        "ls 2>&1 | head -3",
        "ls &>/dev/null",
        "ls >>/dev/null",
        "ls 1>&2",
        "ls >&2",
        "ls 2>/dev/null && pwd",
        "ls 2>/dev/null; pwd",
    ] {
        assert!(
            facts(command).iter().all(|fact| fact.understood),
            "{command}: {:#?}",
            facts(command)
        );
    }
}

#[test]
fn a_script_beyond_the_plain_subset_is_one_opaque_command() {
    for command in [
        "",
        "   ",
        "\n\n",
        "ls &",
        "ls & pwd",
        "(ls)",
        "{ ls; }",
        "ls > a",
        "ls 2> a",
        "ls >/dev/nullx",
        "ls > /dev/tcp/x/1",
        "ls <a",
        "cat <<E\nE",
        "cat <<< a",
        "echo $HOME",
        "echo \"$HOME\"",
        "echo `id`",
        "echo \"`id`\"",
        "echo $(id)",
        "ls *",
        "ls a?",
        "ls [a]",
        "ls ~",
        "ls ~/x",
        "echo a=~/x",
        "git log a=~1",
        "git log a:~1",
        "git log ~1",
        "ls {a,b}",
        "A=1 ls",
        "A=1",
        "a[0]=1 ls",
        "PATH+=x ls",
        "ls # c",
        "# c",
        "! ls",
        "if true; then ls; fi",
        "while true; do ls; done",
        "for i in a; do ls; done",
        "case x in x) ls;; esac",
        "time ls",
        "coproc ls",
        "[[ -f a ]]",
        "((1))",
        "f() { ls; }",
        "function f { ls; }",
        "ls |& cat",
        "ls;; pwd",
        "&& ls",
        "ls &&",
        "ls |",
        "| ls",
        "ls && && pwd",
        "; ls",
        "ls ! ]x",
        "[a] ls",
        "! [ -f a ]",
        "ls [ a",
        "ls 'a",
        "ls \"a",
        "ls a\\",
        "ls \\\n-l",
        "'ls'",
        "l\\s",
        "\"ls\"",
        "ls\ta",
        "ls\r",
        "ls $'a'",
        "ls $\"a\"",
        "ls 3>&1",
        "ls >&3",
        "ls 2>&-",
        "ls < /dev/null x",
        "2>/dev/null ls",
        "> /dev/null",
        "ls \"a\\\nb\"",
        "ls é",
        "echo !!",
        "echo a!b",
        "select x in a; do ls; done",
        "until false; do ls; done",
        "ls 12>/dev/null",
        "ls a>/dev/null",
        "ls <>/dev/null",
        "ls >|/dev/null",
        "ls 2>&1x",
        "ls>/dev/null2",
        "echo a{1..3}",
        "ls ?(a)",
        "let a=1 && b=2 ls",
        "<(ls)",
        // One of the parsers has a node of its own for these.
        "unset a",
        "export a",
        "declare a",
    ] {
        let facts = facts(command);
        assert_eq!(facts.len(), 1, "{command:?}");
        assert!(
            !facts[0].understood && facts[0].program.is_empty(),
            "{command:?}: {:#?}",
            facts[0]
        );
        assert_eq!(facts[0].line, command);
        assert_eq!(facts[0].effects, Effect::ALL);
        assert!(facts[0].unclear.is_some());
    }
}

#[test]
fn twenty_commands_and_no_more() {
    let script = |count: usize| vec!["true"; count].join(" && ");
    assert_eq!(facts(&script(20)).len(), 20);
    assert!(facts(&format!("{};\n\n", script(20))).iter().all(|fact| fact.understood));
    assert_eq!(facts(&script(21)).len(), 1);
    assert_eq!(facts(&"ls;\n".repeat(10_000)).len(), 1);
}

#[test]
fn limits_are_exact() {
    let understood = |command: &str| facts(command).iter().all(|fact| fact.understood);
    assert!(understood(&format!("echo{}", " a".repeat(999))));
    assert!(!understood(&format!("echo{}", " a".repeat(1000))));
    let wrapped = |count: usize| vec!["nice true"; count].join("; ");
    assert!(understood(&wrapped(10)));
    assert_eq!(facts(&wrapped(11)).len(), 1);
    assert!(understood(&format!("{}ls", "nice ".repeat(4))));
    assert!(!understood(&format!("{}ls", "nice ".repeat(5))));
}

#[test]
fn cd_is_followed_where_its_success_is_certain() {
    let cwds = |command: &str| -> Vec<(String, bool)> {
        facts(command).into_iter().map(|fact| (fact.cwd, fact.understood)).collect()
    };
    let at = |cwd: &str, understood| (cwd.to_owned(), understood);
    assert_eq!(cwds("cd a && ls && cd b && ls")[3], at("/work/a/b", true));
    assert_eq!(cwds("cd /tmp && ls | wc -l")[2], at("/tmp", true));
    assert!(!cwds("cd a; ls")[1].1);
    assert!(!cwds("cd a || ls")[1].1);
    assert!(!cwds("cd a && ls; ls")[2].1);
    assert!(!cwds("cd a\nls")[1].1);
    // What prints what it is given does so anywhere.
    assert!(cwds("cd a && ls || true")[2].1);
    assert!(cwds("cd a && ls; echo done")[2].1);
    assert!(cwds("cd a || echo none")[1].1);
    assert!(!cwds("cd a; cd b")[1].1);
    assert!(!cwds("cd a; timeout 5 ls")[2].1);
    assert!(!cwds("cd a; set -e")[1].1);
    assert_eq!(cwds("cd a | ls")[1], at("/work", true));
    assert_eq!(cwds("ls | cd a; ls")[2], at("/work", true));
    assert!(!cwds("cd .. && ls")[0].1);
    assert!(!cwds("command cd a && ls")[1].1);
    // Where the first one succeeds, nobody has moved.
    assert!(!cwds("true || cd a && ls")[2].1);
    assert!(!cwds("true || cd a && cd /work/b && ls")[3].1);
    assert!(cwds("true || ls && cd a && ls")[3].1);
    assert_eq!(cwds("cd /work/b && cd c && ls")[2], at("/work/b/c", true));
}

#[test]
fn what_follows_may_run_in_another_shell() {
    let understood = |command: &str| facts(command).last().is_some_and(|fact| fact.understood);
    assert!(!understood("source_it x; ls"));
    assert!(!understood("ls; source_it x && ls"));
    // A program of its own cannot change the shell, and neither can a stage of a pipeline.
    assert!(understood("./x; ls"));
    assert!(understood("source_it x | cat; ls"));
}

#[test]
fn machines_are_named_with_their_ports() {
    for (command, hosts) in [
        ("curl -s https://Api.Example.com:8080/x", "api.example.com:8080"),
        ("wget --no-config --spider --max-redirect=0 http://a.test", "a.test"),
        ("ping -c 1 B.test", "b.test"),
        ("dig c.test", "c.test"),
    ] {
        let facts = facts(command);
        assert!(facts[0].understood, "{command}: {:?}", facts[0].unclear);
        assert_eq!(facts[0].hosts, [hosts], "{command}");
    }
}

#[test]
fn flags_that_are_part_of_the_form_are_flags() {
    assert_eq!(facts("python3 -m json.tool a.json")[0].flags, ["-m"]);
    assert_eq!(facts("kill -9 5")[0].flags, ["-9"]);
    assert_eq!(facts("git --no-pager log -n5")[0].flags, ["--max-count", "--no-pager", "-n"]);
}

#[test]
fn wrappers_are_seen_through() {
    let facts = facts("timeout 5 nice -n 5 cat a.txt");
    let lines: Vec<_> = facts.iter().map(|fact| (fact.line.as_str(), fact.wrapped)).collect();
    assert_eq!(
        lines,
        [
            ("timeout 5 nice -n 5 cat a.txt", false),
            ("nice -n 5 cat a.txt", true),
            ("cat a.txt", true)
        ]
    );
    assert!(facts.iter().all(|fact| fact.understood));
}

#[test]
fn wrappers_do_not_nest_without_end() {
    let facts = facts(&format!("{}ls", "nice ".repeat(500)));
    assert!(facts.len() <= 6 && !facts.iter().all(|fact| fact.understood));
}

#[test]
fn what_stands_behind_a_wrapper_needs_a_grammar_too() {
    for command in [
        "timeout 5 touch /etc/x",
        "nice sh -c ls",
        "env A=1 ls",
        "command eval ls",
        "timeout 5 timeout 5 sh",
        "env ./ls",
        "sudo ls",
        "xargs ls",
        "nohup ls",
        "exec ls",
        "eval ls",
        "sh -c ls",
        "bash -c ls",
        "ssh h ls",
        "watch ls",
        "time -p ls",
        "parallel ls",
        "busybox ls",
        "setsid ls",
        "script -c ls",
        "strace ls",
        "chroot / ls",
        "su -c ls",
        "doas ls",
        "flock x ls",
        "ionice ls",
        "unshare ls",
        "builtin ls",
        "source a",
        ". a",
    ] {
        assert!(!facts(command).iter().all(|fact| fact.understood), "{command}");
    }
}

#[test]
fn a_plain_command_without_a_grammar_still_has_a_name() {
    let facts = facts("git push --force origin main");
    assert_eq!((facts[0].program.as_str(), facts[0].subcommand.as_str()), ("git", "push"));
    assert_eq!(facts[0].flags, ["--force"]);
    assert!(!facts[0].understood);
}

#[test]
fn variables_and_odd_folders_take_understanding_back() {
    let request =
        CommandRequest { command: "ls", cwd: "/work", has_env: true, ..Default::default() };
    assert!(!of(&request)[0].understood);
    for cwd in ["/", "/proc/1", "/work/../etc", "relative", "/workshop", ""] {
        let request = CommandRequest { command: "ls", cwd, ..Default::default() };
        assert!(!of(&request)[0].understood, "{cwd}");
    }
}

#[test]
fn git_is_understood_only_where_the_repository_is_disarmed() {
    let read = |git_hardened| {
        let request = CommandRequest {
            command: "git status",
            cwd: "/work",
            git_hardened,
            ..Default::default()
        };
        of(&request)[0].understood
    };
    assert!(read(true));
    assert!(!read(false));
}

#[test]
fn git_is_not_disarmed_beside_git_that_does_more_than_read() {
    let understood = |command: &str| facts(command).iter().map(|fact| fact.understood).collect();
    let of = |command: &str| -> Vec<bool> { understood(command) };
    assert_eq!(of("git status && git log -1 && git --version"), [true, true, true]);
    assert_eq!(of("cargo test && git diff"), [true, true]);
    assert_eq!(of("git status && git add a && git commit -m x"), [false, true, true]);
    assert_eq!(of("git status && /usr/bin/git unknown"), [false, false]);
    assert_eq!(of("git diff && timeout 5 git fetch"), [false, true, true]);
    assert_eq!(of("git diff && sleep 5"), [true, true]);
    assert_eq!(of("mv evil repo && git diff"), [true, false]);
    assert_eq!(of("git diff && touch a"), [false, true]);
    assert_eq!(of("sleep 5 && ls && git diff"), [true, true, false]);
}
