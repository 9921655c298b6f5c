//! What a sandbox's commands may ask the kernel, and how much of what it has for all: a table of
//! system calls and their answers, asked for real, and what must not be used up or left behind.
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

mod site;

use protocol::exec::{ExecOrder, NotStarted};
use site::{Site, session, text, wait_until};

/// Each line: a name, and the call's number and arguments. Prints `name errno`, 0 for success.
const PROBE: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
page = ctypes.create_string_buffer(4096)
scope = {"buf": ctypes.addressof(page)}
master, slave = os.openpty()
scope["pty"] = slave
for line in sys.stdin:
    name, *numbers = line.split()
    args = [ctypes.c_long(eval(number, scope)) for number in numbers]
    ctypes.set_errno(0)
    pid = os.fork()
    if pid == 0:
        result = libc.syscall(*args)
        os._exit(0 if result != -1 else ctypes.get_errno())
    _, status = os.waitpid(pid, 0)
    print(name, os.waitstatus_to_exitcode(status))
"#;

const EPERM: i32 = 1;
const ENOTTY: i32 = 25;
const ENOSYS: i32 = 38;

/// Name, call with arguments (numbers of x86-64), expected errno.
#[cfg(target_arch = "x86_64")]
const TABLE: &[(&str, &str, i32)] = &[
    ("ptrace", "101 0 0 0 0", EPERM),
    ("process_vm_readv", "310 1 buf 1 buf 1 0", EPERM),
    ("process_vm_writev", "311 1 buf 1 buf 1 0", EPERM),
    ("memfd_secret", "447 0", EPERM),
    ("name_to_handle_at", "303 -100 buf buf buf 0", EPERM),
    ("open_by_handle_at", "304 -100 buf 0", EPERM),
    ("modify_ldt", "154 0 buf 16", EPERM),
    ("io_uring_setup", "425 1 buf", EPERM),
    ("io_uring_enter", "426 0 0 0 0 0 0", EPERM),
    ("io_uring_register", "427 0 0 0 0", EPERM),
    ("io_setup", "206 1 buf", EPERM),
    ("io_submit", "209 0 0 buf", EPERM),
    ("userfaultfd", "323 0", EPERM),
    ("vmsplice", "278 1 buf 1 0", EPERM),
    ("kcmp", "312 1 1 0 0 0", EPERM),
    ("mount", "165 buf buf buf 0 0", EPERM),
    ("umount2", "166 buf 0", EPERM),
    ("pivot_root", "155 buf buf", EPERM),
    ("chroot", "161 buf", EPERM),
    ("fsopen", "430 buf 0", EPERM),
    ("open_tree", "428 -100 buf 0", EPERM),
    ("move_mount", "429 -100 buf -100 buf 0", EPERM),
    ("mount_setattr", "442 -100 buf 0 buf 0", EPERM),
    ("bpf", "321 0 buf 0", EPERM),
    ("perf_event_open", "298 buf 0 -1 -1 0", EPERM),
    ("add_key", "248 buf buf 0 0 0", EPERM),
    ("keyctl", "250 0 0 0", EPERM),
    ("setns", "308 0 0", EPERM),
    ("unshare-user", "272 0x10000000", EPERM),
    ("unshare-nothing", "272 0", EPERM),
    ("clone-newuser", "56 0x10000011 0 0 0 0", EPERM),
    ("clone-newuser-high-bits", "56 0x7fffffff10000011 0 0 0 0", EPERM),
    ("clone-newnet", "56 0x40000011 0 0 0 0", EPERM),
    ("clone3", "435 buf 88", ENOSYS),
    ("kexec_load", "246 0 0 0 0", EPERM),
    ("init_module", "175 buf 0 buf", EPERM),
    ("finit_module", "313 0 buf 0", EPERM),
    ("delete_module", "176 buf 0", EPERM),
    ("swapon", "167 buf 0", EPERM),
    ("reboot", "169 0 0 0 0", EPERM),
    ("settimeofday", "164 0 0", EPERM),
    ("clock_settime", "227 0 buf", EPERM),
    ("adjtimex", "159 buf", EPERM),
    ("acct", "163 0", EPERM),
    ("quotactl", "179 0 0 0 0", EPERM),
    ("lookup_dcookie", "212 0 0 0", EPERM),
    ("pidfd_getfd", "438 0 0 0", EPERM),
    ("move_pages", "279 0 0 0 0 0 0", EPERM),
    ("syslog", "103 3 buf 10", EPERM),
    ("fanotify_init", "300 0 0", EPERM),
    ("personality-32-bit", "135 0x0008", EPERM),
    ("personality-no-aslr", "135 0x0040000", EPERM),
    ("personality-usual", "135 0", 0),
    ("personality-ask", "135 0xffffffff", 0),
    ("mknod-block", "133 buf 0x6180 0x800", EPERM),
    ("mknod-char", "133 buf 0x2180 0x10b", EPERM),
    ("socket-unix", "41 1 1 0", 0),
    ("socket-inet", "41 2 1 0", 0),
    ("socket-inet6", "41 10 1 0", 0),
    ("socket-route", "41 16 3 0", 0),
    ("socket-netfilter", "41 16 3 12", EPERM),
    ("socket-packet", "41 17 3 0", EPERM),
    ("socket-alg", "41 38 5 0", EPERM),
    ("socket-vsock", "41 40 1 0", EPERM),
    ("socket-xdp", "41 44 3 0", EPERM),
    // The kernel reads 32 bits of what seccomp sees 64 of.
    ("socket-alg-high-bits", "41 0x100000026 5 0", EPERM),
    ("socket-vsock-high-bits", "41 0x7fffffff00000028 1 0", EPERM),
    ("tiocsti", "16 pty 0x5412 buf", EPERM),
    ("tioclinux", "16 pty 0x541c buf", EPERM),
    ("tiocsetd", "16 pty 0x5423 buf", EPERM),
    ("tiocsti-high-bits", "16 pty 0x100005412 buf", EPERM),
    ("tiocsetd-high-bits", "16 pty 0x7fffffff00005423 buf", EPERM),
    ("tiocgwinsz", "16 pty 0x5413 buf", 0),
    ("tiocgwinsz-not-a-terminal", "16 0 0x5413 buf", ENOTTY),
    ("landlock", "444 0 0 1", 0),
    ("memfd_create", "319 buf 0", 0),
    ("epoll_create1", "291 0", 0),
    ("inotify_init1", "294 0", 0),
    ("getrandom", "318 buf 16 0", 0),
    ("statx", "332 0 buf 0x1000 0 buf", 0),
];

#[test]
fn the_kernel_answers_as_the_table_says() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let mut order = site.order(session, &format!("cat > /tmp/in; python3 -c '{PROBE}' < /tmp/in"));
    let lines: String = TABLE.iter().map(|(name, call, _)| format!("{name} {call}\n")).collect();
    order.stdin = Some(protocol::binary::Binary(lines.into_bytes()));
    let result = site.run(&life, &order);
    assert_eq!(text(&result.stderr), "");
    let actual = text(&result.stdout);
    let expected: Vec<_> = TABLE.iter().map(|(name, _, errno)| format!("{name} {errno}")).collect();
    let differing: Vec<_> =
        actual.lines().zip(&expected).filter(|(actual, expected)| actual != expected).collect();
    assert!(differing.is_empty(), "(actual, expected): {differing:#?}");
    assert_eq!(actual.lines().count(), expected.len());
}

#[test]
fn ordinary_programs_run_under_the_filter() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let cases = [
        (
            "git init -q /work/r && cd /work/r && git -c user.name=a -c user.email=a@b commit -q \
          --allow-empty -m x && git log --format=%s",
            "x\n",
        ),
        (
            "python3 -c 'import threading as t; x=t.Thread(target=print, args=(1,)); x.start(); \
          x.join()'",
            "1\n",
        ),
        (
            "python3 -c 'import multiprocessing as m; print(m.Pool(2).map(abs, [-1, -2]))'",
            "[1, 2]\n",
        ),
        (
            "python3 -c 'import subprocess as s; print(s.check_output([\"echo\", \"hi\"]))'",
            "b'hi\\n'\n",
        ),
        ("mkfifo /work/p && (echo piped > /work/p & cat /work/p)", "piped\n"),
        ("cat <(echo substituted) | rg -o sub", "sub\n"),
        ("python3 -c 'import pty, os; pty.spawn([\"/bin/echo\", \"tty\"])' | tr -d '\\r'", "tty\n"),
        ("python3 -c 'import asyncio; asyncio.run(asyncio.sleep(0)); print(2)'", "2\n"),
        ("curl -sS --max-time 2 http://127.0.0.1:1 2>/dev/null; echo $?", "7\n"),
    ];
    for (command, expected) in cases {
        let result = site.run(&life, &site.order(session, command));
        assert_eq!(text(&result.stdout), expected, "{command}: {}", text(&result.stderr));
    }
}

#[test]
fn what_tells_of_the_host_is_hidden_and_the_rest_cannot_be_changed() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let probe = |command: &str| text(&site.run(&life, &site.order(session, command)).stdout);
    for masked in ["/proc/kcore", "/proc/keys", "/proc/interrupts", "/proc/timer_list"] {
        assert_eq!(probe(&format!("head -c 1 {masked} 2>/dev/null | wc -c")), "0\n", "{masked}");
    }
    // Of mounts on one place, the last one is on top.
    let cgroups = probe(
        "awk '$5 ~ \"^/sys/fs/cgroup\" { top[$5] = $6 } \
         END { for (at in top) if (top[at] !~ /^ro/) print at }' /proc/self/mountinfo",
    );
    assert_eq!(cgroups, "", "a cgroup that can be written");
    let work = probe("grep ' /work ' /proc/self/mountinfo");
    for flag in ["nosuid", "nodev", "ext4"] {
        assert!(work.contains(flag), "{work}");
    }
    assert_eq!(probe("ls -A /work; stat -c '%u %a' /work"), format!("{} 755\n", site::UID));
    assert_eq!(probe("ulimit -c; ulimit -l; ulimit -n"), "0\n64\n1024\n");
    assert_eq!(probe("grep Seccomp: /proc/self/status | cut -f 2"), "2\n");
}

#[test]
fn one_sandbox_does_not_take_all_terminals() {
    let site = Site::new();
    let life = site.start();
    let [greedy, other] = [session(), session()];
    let take = "python3 -c 'import os\nn = 0\ntry:\n    while True: os.openpty(); n += 1\n\
                except OSError: print(n, flush=True)\nimport time; time.sleep(999)'";
    let greedy = site.order(greedy, take);
    let (_task, _cancel) = life.begin(site.grant(&greedy));
    let taken = || site.shipped(greedy.exec_id, "stdout");
    wait_until("it has all that it gets", || !taken().is_empty());
    assert_eq!(String::from_utf8_lossy(&taken()), "32\n");
    let size = Some(protocol::init::TerminalSize { rows: 24, cols: 80 });
    let order = ExecOrder { terminal: size, ..site.order(other, "tty; stty size") };
    assert_eq!(text(&site.run(&life, &order).stdout), "/dev/pts/0\r\n24 80\r\n");
    // Its own next terminal has to wait, and that is said.
    let order = ExecOrder { terminal: size, ..site.order(greedy.session_id, "true") };
    let why = site.why(order.exec_id, &life.exec(&site.grant(&order)));
    assert_eq!(why, NotStarted::SandboxExhausted);
}

#[test]
fn memory_goes_with_the_command_that_took_it() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let take = "python3 -c 'import ctypes\nc = ctypes.CDLL(None)\nc.shmat.restype = ctypes.c_void_p\n\
                for _ in range(20):\n    i = c.shmget(0, 4 << 20, 0o1600)\n    \
                ctypes.memset(c.shmat(i, None, 0), 1, 4 << 20)'";
    let result = site.run(&life, &site.order(session, take));
    assert_eq!(result.exit_code, Some(0), "{}", text(&result.stderr));
    let left = site.run(&life, &site.order(session, "tail -n +2 /proc/sysvipc/shm | wc -l"));
    assert_eq!(text(&left.stdout).trim(), "0");
    let full = "head -c 99999999 /dev/zero > /dev/shm/x; head -c 99999999 /dev/zero > /tmp/x";
    let limits = domain::limits::SandboxLimits { memory_bytes: 64 << 20, ..Default::default() };
    let small = site::session();
    let order = |command| ExecOrder { limits, ..site.order(small, command) };
    site.run(&life, &order(full));
    let after = site.run(&life, &order("rm /dev/shm/x /tmp/x; echo room"));
    assert_eq!(text(&after.stdout), "room\n", "{after:?}");
}

/// Sends into connections that nobody reads from, until each takes no more.
const HOARD: &str = r#"
import socket
listener = socket.create_server(("127.0.0.1", 0), backlog=500)
held, kept = 0, []
for _ in range(400):
    client = socket.create_connection(listener.getsockname())
    kept += [client, listener.accept()[0]]
    client.setblocking(False)
    try:
        while True:
            held += client.send(bytes(65536))
    except BlockingIOError:
        pass
print(held)
"#;

#[test]
fn what_sockets_hold_is_limited_like_other_memory() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = ExecOrder {
        stdin: Some(protocol::binary::Binary(HOARD.into())),
        ..site.order(session, "python3 -")
    };
    let result = site.run(&life, &order);
    // Where the kernel counts it as memory, the command is killed for it.
    if !result.oom_killed {
        let held: u64 = text(&result.stdout).trim().parse().expect("a number");
        assert!((1 << 20..96 << 20).contains(&held), "{held} bytes");
    }
    let next = site.run(&life, &site.order(session, "echo on"));
    assert_eq!(text(&next.stdout), "on\n", "{next:?}");
}
