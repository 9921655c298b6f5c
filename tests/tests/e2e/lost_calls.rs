//! Calls whose executor dies after it has fetched them: their clients hear of it soon.

use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Caller, Stack, TestExecutor};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const ALLOW_ALL: &str = r#"
@id("all") permit (principal, action == Action::"AutoApprove", resource);
"#;
/// Long enough for a program to be seen that reads all of it.
const LARGE_BYTES: usize = 250_000_000;

struct Lost {
    owner: Caller,
    token: String,
    executor: TestExecutor,
    session: String,
    /// The number of its PID 1 on this host.
    init: String,
}

impl Lost {
    async fn create(name: &str) -> Self {
        let stack = Stack::shared();
        let owner = stack.tenant(name).await;
        let body = json!({ "name": "lost", "role": "agent" });
        let made = owner.post("/v1/tokens", body).await.expect(201);
        let token = made["token"].as_str().expect("a token").to_owned();
        owner.call(Method::PUT, "/v1/policy", Some(json!({ "text": ALLOW_ALL }))).await.expect(200);
        let env = [("BULKHEAD_POOL_SIZE", "0")];
        let url = stack.dev().api_url;
        let executor = TestExecutor::start(stack, &url, &owner, name, &env).await;
        let made = owner.post("/v1/sessions", json!({})).await.expect(201);
        let session = made["session_id"].as_str().expect("an id").to_owned();
        let mut lost = Self { owner, token, executor, session, init: String::new() };
        let made = lost.exec(&format!("truncate -s {LARGE_BYTES} large")).await;
        assert_eq!(made["exit_code"], 0, "{made}");
        let label = format!("label=bulkhead.session={}", lost.session);
        let container = docker(&["ps", "--quiet", "--filter", &label]);
        lost.init = docker(&["inspect", "--format", "{{.State.Pid}}", &container]);
        lost
    }

    async fn exec(&self, command: &str) -> Value {
        let path = format!("/v1/sessions/{}/execs", self.session);
        self.owner.post(&path, json!({ "command": command, "wait_ms": 20_000 })).await.expect(201)
    }

    /// Sends a request about a file; gives what comes first of its answer, and after how long.
    fn ask(&self, method: &str, path: &str, rest: &str) -> JoinHandle<(String, Duration)> {
        let address = Stack::shared().dev().api_url.trim_start_matches("http://").to_owned();
        let request = format!(
            "{method} /v1/sessions/{}/files/{path} HTTP/1.1\r\nHost: {address}\r\n\
             Authorization: Bearer {}\r\n{rest}",
            self.session, self.token
        );
        tokio::spawn(async move {
            let begin = Instant::now();
            let mut socket = TcpStream::connect(address).await.expect("connects");
            socket.write_all(request.as_bytes()).await.expect("sends");
            let mut answer = vec![0; 4096];
            let count = socket.read(&mut answer).await.expect("an answer");
            (String::from_utf8_lossy(&answer[..count]).into_owned(), begin.elapsed())
        })
    }

    /// The program of the sandbox that works on files, while it runs.
    fn helper(&self) -> Option<String> {
        let below = |pid: &str| {
            let children = format!("/proc/{pid}/task/{pid}/children");
            let children = std::fs::read_to_string(children).unwrap_or_default();
            children.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        let name = |pid: &String| std::fs::read_to_string(format!("/proc/{pid}/comm"));
        let commands = below(&self.init).into_iter().flat_map(|shepherd| below(&shepherd));
        commands.into_iter().find(|pid| name(pid).is_ok_and(|name| name == "helper\n"))
    }

    /// Waits until the request is being worked on, and lets it go no further. Gives whether it is
    /// still without an answer.
    async fn hold(&self, asked: &JoinHandle<(String, Duration)>) -> bool {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !asked.is_finished() {
            if let Some(pid) = self.helper() {
                let stopped = Command::new("kill").args(["-STOP", &pid]).status();
                return stopped.is_ok_and(|status| status.success()) && !asked.is_finished();
            }
            assert!(Instant::now() < deadline, "nobody works on it");
            tokio::task::yield_now().await;
        }
        false
    }
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("docker");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_executor_dies_is_answered_soon() {
    let mut lost = Lost::create("lost-calls").await;
    let chunked = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    for (method, path, rest, within_s) in
        [("GET", "large", "\r\n", 10), ("GET", "large", "\r\n", 45), ("PUT", "begun", chunked, 10)]
    {
        let mut asked = lost.ask(method, path, rest);
        let mut tries = 1;
        while !lost.hold(&asked).await {
            assert!(tries < 20, "always answered before it could be held");
            asked = lost.ask(method, path, rest);
            tries += 1;
        }
        lost.executor.kill();
        // Started again at once, or not: then it is silent first.
        if within_s < 20 {
            lost.executor.start_again().await;
        }
        let (answer, after) = asked.await.expect("asked");
        assert!(answer.starts_with("HTTP/1.1 503"), "{method}: {answer}");
        assert!(answer.contains("executor_unavailable"), "{method}: {answer}");
        assert!(after < Duration::from_secs(within_s), "{method}: {after:?}");
        if within_s > 20 {
            lost.executor.start_again().await;
        }
        // What was held back hinders nobody.
        assert_eq!(lost.exec("ls large").await["stdout"]["head"], "large\n");
    }
}
