//! Limits of one command.

use protocol::init::{Rlimit, Start, StartFailure};

use crate::harness::{Sandbox, UID, start};

#[test]
fn limits_are_set_soft_and_hard_and_never_raised() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let limited =
        |command: &str, rlimits: &[Rlimit]| Start { rlimits: rlimits.to_vec(), ..start(command) };
    let probe = "ulimit -Sn; ulimit -Hn; ulimit -Sf; ulimit -Hf; ulimit -St; ulimit -Ht";
    let all = [Rlimit::OpenFiles(20), Rlimit::FileBytes(1 << 20), Rlimit::CpuSeconds(7)];
    assert_eq!(peer.run(&limited(probe, &all)).stdout(), "20\n20\n1024\n1024\n7\n7\n");
    let high = [u64::MAX, 1 << 40].map(Rlimit::OpenFiles);
    assert_eq!(peer.run(&limited("ulimit -Sn; ulimit -Hn", &high)).stdout(), "1024\n1024\n");
    // The next command has its own.
    assert_eq!(peer.sh("ulimit -n").stdout(), "1024\n");
    let write =
        limited("head -c 3000000 /dev/zero > /work/big; echo $?; stat -c %s /work/big", &all);
    assert_eq!(peer.run(&write).stdout(), "153\n1048576\n");
    let spin = limited("while :; do :; done", &[Rlimit::CpuSeconds(1)]);
    assert_eq!(peer.run(&spin).exit.signal, Some(9));
}

#[test]
fn few_open_files_do_not_keep_a_command_from_starting() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    // PID 1 itself has many descriptors open by now.
    let others: Vec<_> = (0..20).map(|_| peer.begin(&start("exec sleep 999")).exec_id).collect();
    let few = Start { rlimits: vec![Rlimit::OpenFiles(8)], ..start("read x; ulimit -n") };
    assert_eq!(peer.run(&few).stdout(), "8\n");
    assert_eq!(others.len(), 20);
}

#[test]
fn what_cannot_be_started_says_why() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    for cwd in ["/work/missing", "/etc/passwd", "/root"] {
        let missing = Start { cwd: cwd.into(), ..start("true") };
        assert_eq!(peer.why_not(&missing), StartFailure::Cwd, "{cwd}");
    }
    let nul = Start { argv: vec!["/bin/true\0".into()], ..start("") };
    assert_eq!(peer.why_not(&nul), StartFailure::Malformed);
    assert_eq!(peer.why_not(&Start { argv: Vec::new(), ..start("") }), StartFailure::Malformed);
    assert_eq!(peer.why_not(&Start { uid: 0, ..start("true") }), StartFailure::Malformed);
    let exec = Start { argv: vec!["/bin/nothing".into()], ..start("") };
    assert_eq!(peer.why_not(&exec), StartFailure::Resources);
    assert_eq!(peer.sh("id -u").stdout(), format!("{UID}\n"));
    sandbox.assert_alone("nothing was started");
}
