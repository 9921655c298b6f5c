//! Nothing that a command starts outlives it, however it hides and however it ends. On a real
//! Docker.
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

mod site;

use std::time::{Duration, Instant};

use domain::exec::ExecOutcome;
use protocol::exec::ExecOrder;
use site::{Site, docker, session, text, wait_until};

/// Numbers of processes of one name in the site's container, as the container's own `ps` tells.
fn count(site: &Site, name: &str) -> usize {
    let names = docker(&["exec", &site.container(), "ps", "-e", "-o", "comm="]);
    names.lines().filter(|line| line.trim() == name).count()
}

/// Ways to leave a command's session and process group, and to lose one's parent.
const ESCAPES: [&str; 4] = [
    "(setsid sleep 999 &); sleep 999",
    "(setsid bash -c 'trap \"\" TERM HUP; (setsid sleep 999 &); while :; do sleep 999; done' &); \
     sleep 999",
    "setsid setsid bash -c '(sleep 999 &) ; exec sleep 999' & disown; sleep 999",
    "bash -c '(bash -c \"(setsid sleep 999 > /dev/null 2>&1 < /dev/null &)\" &)'; \
     trap '' TERM; while :; do sleep 999; done",
];

#[test]
fn nothing_outlives_a_command_whose_time_is_over() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    for command in ESCAPES {
        let order = ExecOrder { timeout_ms: 500, ..site.order(session, command) };
        let result = site.run(&life, &order);
        assert_eq!(result.outcome, ExecOutcome::TimedOut, "{command}");
        assert_eq!(count(&site, "sleep"), 0, "{command}");
        assert_eq!(count(&site, "bash"), 0, "{command}");
    }
    wait_until("every shepherd is gone", || count(&site, "shepherd") == 0);
}

#[test]
fn nothing_outlives_a_cancelled_command() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    for command in ESCAPES {
        let order = site.order(session, command);
        let (task, cancel) = life.begin(site.grant(&order));
        site.wait_started(order.exec_id);
        wait_until("its processes run", || count(&site, "sleep") >= 2);
        cancel.cancel();
        let result = site.result(order.exec_id, &life.wait(task));
        assert_eq!(result.outcome, ExecOutcome::Cancelled, "{command}");
        assert_eq!(count(&site, "sleep"), 0, "{command}");
    }
}

#[test]
fn a_command_that_prints_without_end_is_called_off_soon() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = site.order(session, "yes");
    let (task, cancel) = life.begin(site.grant(&order));
    site.wait_started(order.exec_id);
    cancel.cancel();
    let begin = Instant::now();
    let result = site.result(order.exec_id, &life.wait(task));
    assert_eq!(result.outcome, ExecOutcome::Cancelled);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(count(&site, "yes"), 0);
}

#[test]
fn a_fork_bomb_comes_to_rest() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    // The first goes on until its time is over. The leader of the second may give up when it cannot
    // fork, and leaves the others behind.
    let lasting = "f() { while :; do f & done; }; f 2>/dev/null & while :; do :; done";
    let order = ExecOrder { timeout_ms: 500, ..site.order(session, lasting) };
    assert_eq!(site.run(&life, &order).outcome, ExecOutcome::TimedOut);
    assert_eq!(count(&site, "bash"), 0);
    let giving_up = "f() { f & f & }; while :; do f 2>/dev/null; done";
    let order = ExecOrder { timeout_ms: 500, ..site.order(session, giving_up) };
    let result = site.run(&life, &order);
    match result.outcome {
        ExecOutcome::TimedOut => {}
        outcome => assert_eq!((outcome, result.exit_code), (ExecOutcome::Exited, Some(254))),
    }
    assert_eq!(count(&site, "bash"), 0);
    let result = site.run(&life, &site.order(session, "echo alive"));
    assert_eq!(text(&result.stdout), "alive\n");
}

#[test]
fn nothing_outlives_a_command_that_ended_by_itself() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    for (command, survivors) in [
        ("setsid sleep 999 & echo done", 1),
        (
            "(setsid bash -c 'trap \"\" TERM HUP; while :; do sleep 999; done' &); sleep 0.2; echo done",
            2,
        ),
        ("echo done", 0),
    ] {
        let result = site.run(&life, &site.order(session, command));
        assert_eq!((result.outcome, text(&result.stdout)), (ExecOutcome::Exited, "done\n".into()));
        assert_eq!((result.exit_code, result.survivors), (Some(0), survivors), "{command}");
        assert_eq!(count(&site, "sleep"), 0, "{command}");
        assert_eq!(count(&site, "bash"), 0, "{command}");
    }
    wait_until("every shepherd is gone", || count(&site, "shepherd") == 0);
}

#[test]
fn a_command_cannot_touch_its_shepherd() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let probe = "kill -9 $PPID 2>/dev/null; echo $?; ls /proc/$PPID/fd 2>/dev/null; echo $?; \
                 cat /proc/$PPID/comm";
    let result = site.run(&life, &site.order(session, probe));
    assert_eq!(text(&result.stdout), "1\n2\nshepherd\n");
}

#[test]
fn nothing_outlives_a_shepherd_that_the_kernel_kills() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let other = site.order(session, "until [ -e /work/go ]; do sleep 0.02; done; echo whole");
    let (bystander, _cancel) = life.begin(site.grant(&other));
    site.wait_started(other.exec_id);
    let order = site.order(session, "echo $PPID > /work/shepherd; setsid tail -f /dev/null & wait");
    let (task, _cancel) = life.begin(site.grant(&order));
    wait_until("it runs", || count(&site, "tail") == 1);
    docker(&["exec", &site.container(), "bash", "-c", "kill -9 $(cat /work/shepherd)"]);
    let result = site.result(order.exec_id, &life.wait(task));
    assert_eq!(result.signal, Some(9));
    wait_until("its processes are gone", || count(&site, "tail") == 0);
    site.run(&life, &site.order(session, "touch /work/go"));
    assert_eq!(text(&site.result(other.exec_id, &life.wait(bystander)).stdout), "whole\n");
}

#[test]
fn many_commands_leave_no_process_behind() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    for n in 0..300 {
        let result = site.run(&life, &site.order(session, "exit 3"));
        assert_eq!(result.exit_code, Some(3), "{n}");
    }
    wait_until("every shepherd is gone", || count(&site, "shepherd") == 0);
    let processes = docker(&["exec", &site.container(), "ps", "-e", "-o", "comm="]);
    // PID 1 and the `ps` itself.
    assert_eq!(processes.lines().count(), 2, "{processes}");
}

#[test]
fn a_process_left_behind_that_never_stops_writing_delays_nothing() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    site.run(&life, &site.order(session, "true"));
    let start = Instant::now();
    let result = site.run(&life, &site.order(session, "setsid yes & true"));
    assert_eq!((result.outcome, result.survivors), (ExecOutcome::Exited, 1));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(count(&site, "yes"), 0);
}

#[test]
fn memory_that_something_else_ran_out_of_is_not_blamed_on_a_command() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let result = site.run(&life, &site.order(session, "tail /dev/zero; exit 0"));
    assert_eq!((result.outcome, result.oom_killed), (ExecOutcome::Exited, false));
    let result = site.run(&life, &site.order(session, "kill -9 $$"));
    assert_eq!((result.outcome, result.oom_killed), (ExecOutcome::Exited, false));
}

/// The file system of a site's workspace, which lets nobody write while this lives: whoever tries is
/// stuck in the kernel, and no signal ends it.
struct Frozen(std::fs::File);

impl Frozen {
    fn new(site: &Site) -> Self {
        let pid = docker(&["inspect", "--format", "{{.State.Pid}}", &site.container()]);
        // Kept open from here, so that it can be let go whatever becomes of the container.
        let folder = std::fs::File::open(format!("/proc/{pid}/root/work"));
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

#[test]
fn a_container_whose_pid_1_stands_still_is_given_up_and_told_of() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    site.run(&life, &site.order(session, "echo kept > kept"));
    let order = ExecOrder { timeout_ms: 500, ..site.order(session, "sleep 999") };
    let (task, _cancel) = life.begin(site.grant(&order));
    site.wait_started(order.exec_id);
    let container = site.container();
    let pid = docker(&["inspect", "--format", "{{.State.Pid}}", &container]);
    let pid = nix::unistd::Pid::from_raw(pid.parse().expect("a number"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).expect("it is there");
    let result = site.result(order.exec_id, &life.wait(task));
    assert_eq!((result.outcome, result.unended), (ExecOutcome::Lost, 1));
    let next = site.run(&life, &site.order(session, "cat kept"));
    assert_eq!(text(&next.stdout), "kept\n");
    assert_ne!(site.container(), container);
}

#[test]
fn a_process_that_nothing_can_end_costs_its_container_and_is_told_of() {
    // A child of the command's first process is stuck, and that process itself.
    for stuck in ["date", "echo"] {
        let (site, session) = (Site::new(), session());
        let life = site.start();
        let stuck = format!("echo kept > kept; while :; do {stuck} > now; done");
        let order = ExecOrder { timeout_ms: 2000, ..site.order(session, &stuck) };
        let (task, _cancel) = life.begin(site.grant(&order));
        site.wait_started(order.exec_id);
        let (container, frozen) = (site.container(), Frozen::new(&site));
        let start = Instant::now();
        let result = site.result(order.exec_id, &life.wait(task));
        assert_eq!(result.outcome, ExecOutcome::TimedOut);
        assert!(result.unended >= 1, "{result:?}");
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
        drop(frozen);
        let next = site.order(session, "cat kept");
        let reply = life.exec(&site.grant(&next));
        assert_eq!(text(&site.result(next.exec_id, &reply).stdout), "kept\n");
        assert_eq!(site.generation(next.exec_id, &reply), 1);
        assert_ne!(site.container(), container, "it is another one");
    }
}

/// Beginning of programs that hold the lock of a pipe of their own: `splice` (275) and `sendfile` (40)
/// keep it while they wait for a socket, and nobody who waits for the lock hears a signal.
const HOLDER: &str = "use Socket; socketpair(A, B, AF_UNIX, SOCK_STREAM, 0); $| = 1; \
                      $SIG{TERM} = 'IGNORE';";
/// What they do then. The byte before it calls PID 1 to the pipe.
const HOLDS: [&str; 3] = [
    "print 'x'; syscall(275, fileno(A), 0, 1, 0, 65536, 0); sleep 999",
    "print 'x'; syscall(40, 1, fileno(A), 0, 65536); sleep 999",
    // Many of them, again and again.
    "fork; fork; fork; $x = 'x'; while (1) { syscall(1, 1, $x, 1); syscall(275, fileno(A), 0, 1, 0, 9, 0) }",
];

#[test]
fn a_command_that_locks_its_own_pipe_is_ended_all_the_same() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let bystander = site.order(session, "until [ -e /work/go ]; do sleep 0.02; done; echo whole");
    let (waiting, _cancel) = life.begin(site.grant(&bystander));
    site.wait_started(bystander.exec_id);
    for holds in HOLDS {
        let holder = format!("perl -e \"{}\"", format!("{HOLDER} {holds}").replace('$', "\\$"));
        for (command, outcome) in [
            (format!("exec {holder}"), ExecOutcome::TimedOut),
            // Orphans that end all the time keep nobody from looking.
            (format!("(while :; do (sleep 0.01 &); done) & exec {holder}"), ExecOutcome::TimedOut),
            (format!("{holder} & sleep 0.3"), ExecOutcome::Exited),
        ] {
            let order = ExecOrder { timeout_ms: 1000, ..site.order(session, &command) };
            let start = Instant::now();
            let result = site.run(&life, &order);
            assert_eq!(result.outcome, outcome, "{command}: {result:?}");
            assert!(start.elapsed() < Duration::from_secs(3), "{command}: {:?}", start.elapsed());
            assert_eq!(count(&site, "perl"), 0, "{command}");
        }
    }
    site.run(&life, &site.order(session, "touch /work/go"));
    assert_eq!(text(&site.result(bystander.exec_id, &life.wait(waiting)).stdout), "whole\n");
}

#[test]
fn a_command_that_locks_its_input_is_ended_all_the_same() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    site.run(&life, &site.order(session, "true"));
    // Into a socket that is full before the input is at its end.
    let program = format!("{HOLDER} while (1) {{ syscall(275, 0, 0, fileno(A), 0, 65536, 0) }}");
    let command = format!("exec perl -e \"{}\"", program.replace('$', "\\$"));
    let input = protocol::binary::Binary(vec![b'i'; 400_000]);
    let order = ExecOrder { timeout_ms: 1000, stdin: Some(input), ..site.order(session, &command) };
    let start = Instant::now();
    let result = site.run(&life, &order);
    assert_eq!(result.outcome, ExecOutcome::TimedOut, "{result:?}");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(text(&site.run(&life, &site.order(session, "echo alive")).stdout), "alive\n");
}

#[test]
fn a_container_goes_however_its_pipes_are_locked() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let holder = format!("{HOLDER} {}", HOLDS[0]).replace('$', "\\$");
    let order = site.order(session, &format!("exec perl -e \"{holder}\""));
    let (_task, _cancel) = life.begin(site.grant(&order));
    site.wait_started(order.exec_id);
    wait_until("it holds the lock", || count(&site, "perl") == 1);
    // Before anybody could have noticed.
    let start = Instant::now();
    docker(&["rm", "--force", &site.container()]);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn whoever_waits_for_a_socket_in_good_faith_is_not_disturbed() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    // A few bytes at a time, by `splice` from a socket to the pipe.
    let writes = "if (!fork) { for (1..5) { select undef, undef, undef, 0.4; \
                  syswrite B, 'y' x 100 } exit } close B;";
    let moves = "print 'x'; while (syscall(275, fileno(A), 0, 1, 0, 65536, 0) > 0) {}; print 'z'";
    let program = format!("{HOLDER} {writes} {moves}").replace('$', "\\$");
    let result = site.run(&life, &site.order(session, &format!("exec perl -e \"{program}\"")));
    assert_eq!(result.outcome, ExecOutcome::Exited, "{result:?}");
    assert_eq!(text(&result.stdout), format!("x{}z", "y".repeat(500)));
}

/// Programs whose first thread ends while another one goes on: for `/proc`, they are zombies.
const HEADLESS: &str = "import ctypes, os, socket, threading, time\n\
     def rest():\n    while True: time.sleep(999)\n\
     silent, other = socket.socketpair()\n\
     def hold():\n    while True: os.splice(silent.fileno(), 1, 4096)\n\
     def become(what):\n    threading.Thread(target=what).start()\n    ctypes.CDLL(None).syscall(60, 0)\n";

#[test]
fn a_process_whose_first_thread_has_ended_lives() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let python = |program: &str| format!("python3 -c '{HEADLESS}{program}'");
    let bystander = site.order(session, "until [ -e /work/go ]; do sleep 0.02; done; echo whole");
    let (waiting, _cancel) = life.begin(site.grant(&bystander));
    site.wait_started(bystander.exec_id);
    let order = ExecOrder { timeout_ms: 1000, ..site.order(session, &python("become(rest)")) };
    let result = site.run(&life, &order);
    assert_eq!((result.outcome, result.signal), (ExecOutcome::TimedOut, Some(15)));
    let leaves = format!("setsid {} & sleep 0.5", python("become(rest)"));
    let start = Instant::now();
    let result = site.run(&life, &site.order(session, &leaves));
    assert_eq!((result.outcome, result.survivors, result.unended), (ExecOutcome::Exited, 1, 0));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    // PID 1 reads what the holder has locked.
    for program in
        ["print(1, flush=True); become(hold)", "os.fork(); os.fork(); print(1); become(hold)"]
    {
        let order = ExecOrder { timeout_ms: 1000, ..site.order(session, &python(program)) };
        let start = Instant::now();
        let result = site.run(&life, &order);
        assert_eq!(result.outcome, ExecOutcome::TimedOut, "{program}");
        assert!(start.elapsed() < Duration::from_secs(3), "{program}: {:?}", start.elapsed());
    }
    assert_eq!(count(&site, "python3"), 0);
    site.run(&life, &site.order(session, "touch /work/go"));
    assert_eq!(text(&site.result(bystander.exec_id, &life.wait(waiting)).stdout), "whole\n");
}
