//! Commands that reach for what they must not: privileges, the kernel, the host, other tenants.

use serde_json::{Value, json};
use tests::{Stack, TestSession};

use crate::canary::Canary;
use crate::cases::command;
use crate::host::Container;

pub const IDS: &[&str] = &[
    "HC-038", "HC-040", "HC-041", "HC-042", "HC-043", "HC-045", "HC-046", "HC-048", "HC-049",
    "HC-052", "HC-053", "HC-054", "HC-055", "HC-058", "HC-060", "HC-061", "HC-062", "HC-063",
    "HC-064", "HC-068", "HC-077", "HC-079", "HC-081", "HC-082", "HC-096", "HC-097", "HC-101",
    "HC-102", "HC-106", "HC-107", "HC-111", "HC-112",
];

async fn run(session: &TestSession, script: &str) -> (Value, String) {
    let exec = session.run_approved(json!({ "command": script, "timeout_ms": 20_000 })).await;
    let text = |stream: &str| exec[stream]["head"].as_str().unwrap_or_default().to_owned();
    let all = format!("{}{}", text("stdout"), text("stderr"));
    (exec, all)
}

/// Each part of the script has to fail by itself.
async fn assert_refused(session: &TestSession, id: &str, parts: &[&str]) {
    for part in parts {
        let (exec, out) = run(session, part).await;
        assert_eq!(exec["state"], "exited", "{id}: {exec}");
        assert_ne!(exec["exit_code"], 0, "{id}: `{part}` succeeded: {out}");
    }
}

#[tokio::test]
async fn privileges_cannot_be_had() {
    let canary = Canary::start().await;
    let session = Stack::shared().session().await;
    for id in ["HC-038", "HC-040", "HC-041", "HC-043", "HC-058"] {
        assert_refused(&session, id, &[&command(id)]).await;
    }
    for id in ["HC-042", "HC-045"] {
        let script = command(id);
        let parts: Vec<&str> = script.split(';').map(str::trim).collect();
        assert_refused(&session, id, &parts).await;
    }
    let (_, devices) = run(&session, &command("HC-046")).await;
    for line in devices.lines() {
        let refused = line.contains("No such file") || line.contains("denied");
        assert!(refused || line.contains("not permitted"), "HC-046: {line}");
    }
    // No capability, in no set, and no tool that could give one.
    let (_, status) = run(&session, "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status").await;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "HC-048: {status}");
    }
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    let suid = "find / -xdev -perm /6000 -type f 2>/dev/null | head";
    assert_eq!(run(&session, suid).await.1, "", "HC-048: files that change the user");
    canary.assert_unharmed("privileges").await;
}

#[tokio::test]
async fn pid_1_cannot_be_touched() {
    let canary = Canary::start().await;
    let session = Stack::shared().session().await;
    let parts = [
        "cat /proc/1/mem",
        "cat /proc/1/environ",
        "ls /proc/1/fd",
        "kill -9 1",
        "cat /proc/1/maps",
        "ls -l /proc/1/root/",
        "ls -l /proc/1/cwd/",
        "cat /.bulkhead/ctl/executor.sock",
        "python3 -c 'import socket; socket.socket(1).connect(\"/.bulkhead/ctl/executor.sock\")'",
        "python3 -c 'import ctypes,sys; l=ctypes.CDLL(None,use_errno=True); \
         sys.exit(0 if l.ptrace(16,1,0,0)==0 else 1)'",
    ];
    assert_refused(&session, "HC-049", &parts).await;
    canary.assert_unharmed("pid_1_cannot_be_touched").await;
}

#[tokio::test]
async fn the_kernel_offers_little() {
    let canary = Canary::start().await;
    let session = Stack::shared().session().await;
    for id in ["HC-052", "HC-053"] {
        assert_refused(&session, id, &[&command(id)]).await;
    }
    // The family itself shows the loopback device only; its other protocols are refused.
    let audit = "python3 -c \"import socket;socket.socket(16,3,9)\"";
    assert_refused(&session, "HC-054", &[audit]).await;
    let (_, keys) = run(&session, "cat /proc/keys").await;
    assert!(
        keys.is_empty() || keys.contains("denied") || keys.contains("No such"),
        "HC-055: {keys}"
    );
    assert_refused(&session, "HC-106", &["date -s '2030-01-01'"]).await;
    let (_, clock) = run(&session, "python3 -c 'import time;time.clock_settime(0,0)'").await;
    assert!(clock.contains("PermissionError"), "HC-106: {clock}");
    let (_, tty) = run(&session, &command("HC-096")).await;
    assert!(tty.contains("Error"), "HC-096: {tty}");
    let script = "python3 - <<'EOF'\nimport fcntl,os,pty\nm,s=pty.openpty()\n\
                  for cmd in (0x5412,0x100005412,0x541C,0x5423):\n  try:\n    \
                  import ctypes;l=ctypes.CDLL(None,use_errno=True)\n    \
                  r=l.syscall(16,ctypes.c_long(s),ctypes.c_long(cmd),ctypes.c_char_p(b'x'))\n    \
                  print(hex(cmd),r,ctypes.get_errno())\n  except OSError as e: print(e)\nEOF";
    let (_, ioctls) = run(&session, script).await;
    assert_eq!(ioctls.lines().count(), 4, "{ioctls}");
    for line in ioctls.lines() {
        assert!(line.ends_with("-1 1"), "HC-096: {line} is not EPERM");
    }
    canary.assert_unharmed("the_kernel_offers_little").await;
}

#[tokio::test]
async fn the_host_cannot_be_seen() {
    let canary = Canary::start().await;
    let session = Stack::shared().session().await;
    let (_, out) = run(&session, "mkdir /sys/fs/cgroup/x; echo $?").await;
    assert!(out.contains('1'), "HC-060: {out}");
    let (_, mounts) = run(&session, &command("HC-061")).await;
    for secret in ["docker.sock", "BULKHEAD_EXECUTOR_TOKEN", "DATABASE_URL", "/volumes/"] {
        assert!(!mounts.contains(secret), "HC-061: {secret} in {mounts}");
    }
    let (_, fds) = run(&session, "ls -l /proc/self/fd | awk '{print $NF}'").await;
    for line in fds.lines().filter(|line| line.starts_with('/')) {
        let known = ["/dev/null", "/proc/", "/dev/pts"].iter().any(|path| line.starts_with(path));
        assert!(known, "HC-062: {line}");
    }
    for fd in 3..20 {
        let script = format!("cd /proc/self/fd/{fd}/../../.. && ls");
        let (exec, _) = run(&session, &script).await;
        assert_ne!(exec["exit_code"], 0, "HC-062: descriptor {fd}");
    }
    assert_refused(&session, "HC-064", &["ln -sf /proc/sys/kernel/core_pattern /dev/null"]).await;
    let script = "ls -l /dev/null | cut -c1; test -w /dev/null && echo fine";
    assert_eq!(run(&session, script).await.1, "c\nfine\n", "HC-064");
    canary.assert_unharmed("the_host_cannot_be_seen").await;
}

#[tokio::test]
async fn hc_063_and_105_fields_are_not_believed() {
    let canary = Canary::start().await;
    let session = Stack::shared().session().await;
    let path = format!("/v1/sessions/{}/execs", session.id);
    for cwd in ["/proc/self/fd/8", "/work; rm -rf /", "/work/../etc", "/", "/sys", "/workx", ""] {
        let answer = session.agent.post(&path, json!({ "command": "true", "cwd": cwd })).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_cwd"), "{cwd}: {}", answer.text);
    }
    for field in ["user", "shell", "image", "labels", "privileged"] {
        let answer = session.agent.post(&path, json!({ "command": "true", field: "root" })).await;
        assert_eq!(answer.status, 422, "{field}: {}", answer.text);
    }
    let command = format!("true {}", "a".repeat(3_000_000));
    let answer = session.agent.post(&path, json!({ "command": command })).await;
    assert_eq!(answer.status, 413, "HC-102: {}", answer.text);
    canary.assert_unharmed("hc_063_and_105_fields_are_not_believed").await;
}

#[tokio::test]
async fn there_is_no_network() {
    let canary = Canary::start().await;
    let session = Stack::shared().session().await;
    let parts = [
        "curl -m3 http://169.254.169.254/",
        "curl -m3 http://[fd00:ec2::254]/",
        "curl -m3 http://metadata.google.internal/",
        "curl -m3 http://172.17.0.1/",
    ];
    assert_refused(&session, "HC-068", &parts).await;
    let (_, links) = run(&session, "cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '").await;
    assert_eq!(links, "lo\n", "HC-077: nothing but the loopback device");
    let other = TestSession::create(Stack::shared(), "globex").await;
    let script = "python3 -m http.server 8080 --bind 127.0.0.1";
    let server = session.submit(json!({ "command": script, "background": true })).await;
    let approval = session.approval_of(&server).await;
    session.decide(&approval, "approve", None).await;
    session.wait_until(&server, |exec| exec["state"] == "running").await;
    assert_refused(&other, "HC-077", &["curl -m3 http://127.0.0.1:8080/"]).await;
    let id = server["exec_id"].as_str().expect("an id");
    session.agent.post(&format!("/v1/execs/{id}/cancel"), json!({})).await.expect(200);
    canary.assert_unharmed("there_is_no_network").await;
}

#[tokio::test]
async fn tenants_share_nothing() {
    let canary = Canary::start().await;
    let session = Stack::shared().session().await;
    let (_, writable) = run(&session, &command("HC-081")).await;
    for line in writable.lines() {
        let known = ["/tmp", "/work", "/dev/shm", "/dev/mqueue", "/run", "/var/tmp", "/var/lock"];
        assert!(known.iter().any(|root| line.starts_with(root)), "HC-081: {line}");
    }
    let other = TestSession::create(Stack::shared(), "globex").await;
    run(&session, "echo leak > /tmp/x; echo leak > /work/x; echo leak > /dev/shm/x").await;
    assert_refused(&other, "HC-082", &["cat /tmp/x", "cat /work/x", "cat /dev/shm/x"]).await;
    let next = Stack::shared().session().await;
    assert_refused(&next, "HC-082", &["cat /tmp/x", "cat /work/x", "cat /dev/shm/x"]).await;
    let (_, names) = run(&other, "ls -laR /work/.. 2>/dev/null | grep -i -E 'acme|globex'").await;
    assert_eq!(names, "", "HC-079");
    let (_, secrets) = run(&session, &command("HC-111")).await;
    for secret in ["bh_", "eyJhbGciOi"] {
        assert!(!secrets.contains(secret), "HC-111: {secrets}");
    }
    run(&session, "mkdir -p ~/.cargo .git/hooks; echo evil | tee ~/.cargo/config.toml .envrc")
        .await;
    assert_refused(&next, "HC-112", &["cat /work/.envrc", "cat ~/.cargo/config.toml"]).await;
    assert_eq!(Container::of(&session).await.inspect("{{.HostConfig.NetworkMode}}"), "none");
    canary.assert_unharmed("tenants_share_nothing").await;
}

#[tokio::test]
async fn bytes_come_back_as_they_were() {
    let canary = Canary::start().await;
    let session = Stack::shared().session().await;
    let exec = session.run_approved(json!({ "command": command("HC-097") })).await;
    assert_eq!(session.output(&exec, "stdout").await, b"a\0b\xff\xfe\xc3(\n", "HC-097");
    let script = "python3 -c \"import sys; sys.stdout.write('x' * 65535 + '\u{20ac}' * 5)\"";
    let exec = session.run_approved(json!({ "command": script })).await;
    let expected = format!("{}{}", "x".repeat(65535), "\u{20ac}".repeat(5));
    assert_eq!(session.output(&exec, "stdout").await, expected.as_bytes(), "HC-101");
    // However often it asks what time it is: its own is measured elsewhere.
    let script = "for i in $(seq 1000); do date; done > /dev/null; echo asked; sleep 60";
    let body = json!({ "command": script, "timeout_ms": 8000 });
    let exec = session.run_approved(body).await;
    assert_eq!((&exec["state"], &exec["stdout"]["head"]), (&json!("timed_out"), &json!("asked\n")));
    let ran = exec["duration_ms"].as_u64().expect("a duration");
    assert!((8000..9500).contains(&ran), "HC-107: {ran} ms");
    canary.assert_unharmed("bytes_come_back_as_they_were").await;
}
