//! What commands cannot do to PID 1, to shepherds, and to the socket.

use protocol::init::{Start, Stdin, TerminalSize};

use crate::harness::{ATTEMPT, Sandbox, start};

/// Prints, for each attempt, whether it was refused.
const ATTEMPTS: &str = r#"
shepherd = int(open("/proc/self/stat").read().rsplit(")", 1)[1].split()[1])
def connect():
    socket.socket(socket.AF_UNIX).connect("/.bulkhead/ctl/executor.sock")
refused("connect", connect)
refused("list", lambda: os.listdir("/.bulkhead/ctl"))
for name, pid in (("init", 1), ("shepherd", shepherd)):
    refused(name + " signal", lambda: os.kill(pid, signal.SIGKILL))
    refused(name + " attach", lambda: trace(pid, 16))
    refused(name + " seize", lambda: trace(pid, 0x4206))
    for file in ("environ", "mem", "maps", "stack", "syscall", "auxv"):
        refused(name + " " + file, lambda: open(f"/proc/{pid}/{file}", "rb").read(1))
    for link in ("exe", "cwd", "root"):
        refused(name + " " + link, lambda: os.readlink(f"/proc/{pid}/{link}"))
    refused(name + " fd", lambda: os.listdir(f"/proc/{pid}/fd"))
    refused(name + " fd 0", lambda: os.open(f"/proc/{pid}/fd/0", os.O_RDONLY))
    refused(name + " oom", lambda: open(f"/proc/{pid}/oom_score_adj", "w").write("1000"))
"#;

#[test]
fn a_command_reaches_neither_the_socket_nor_pid_1_nor_its_shepherd() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let terminal = Some(TerminalSize { rows: 24, cols: 80 });
    // Making a terminal changes users for a moment: everything is tried after that as well.
    for terminal in [None, terminal, None] {
        let script = format!("{ATTEMPT}{ATTEMPTS}").into_bytes();
        let outcome = match terminal {
            None => peer.run(&Start { stdin: Stdin::Bytes(script), ..start("exec python3 -") }),
            Some(_) => {
                let write = start("cat > /work/attempts.py");
                peer.run(&Start { stdin: Stdin::Bytes(script), ..write });
                peer.run(&Start { terminal, ..start("exec python3 /work/attempts.py") })
            }
        };
        let report = outcome.stdout();
        assert_eq!(report.lines().count(), 2 + 2 * 15, "{outcome:?}");
        for line in report.lines() {
            let refused = ["PermissionError", "ProcessLookupError"];
            assert!(refused.iter().any(|error| line.ends_with(error)), "{line}");
        }
    }
}

#[test]
fn a_command_inherits_three_descriptors_and_no_privilege() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let mut idle = peer.begin(&Start { stdin: Stdin::Open, ..start("echo here; read x") });
    idle.until_stdout("here\n");
    let probe =
        "exec python3 -c 'import os; print(sorted(map(int, os.listdir(\"/proc/self/fd\"))))'";
    for terminal in [None, Some(TerminalSize { rows: 24, cols: 80 })] {
        let outcome = peer.run(&Start { terminal, ..start(probe) });
        // The fourth is the folder that it lists.
        assert_eq!(outcome.stdout().trim(), "[0, 1, 2, 3]");
    }
    let status = "grep -E '^(Cap|Uid|Gid|Groups|NoNewPrivs|SigBlk|SigIgn)' /proc/self/status";
    let status = peer.sh(status).stdout();
    let expected = [
        "Uid: 10007 10007 10007 10007",
        "Gid: 10007 10007 10007 10007",
        "Groups:",
        "SigBlk: 0000000000000000",
        "SigIgn: 0000000000000000",
        "CapInh: 0000000000000000",
        "CapPrm: 0000000000000000",
        "CapEff: 0000000000000000",
        "CapBnd: 0000000000000000",
        "CapAmb: 0000000000000000",
        "NoNewPrivs: 1",
    ];
    let seen: Vec<String> =
        status.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(seen, expected);
}
