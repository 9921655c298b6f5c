//! Docker as the baseline: its command line, and its API over the Unix socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cli::client::encode;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(60);
/// Largest answer of the API.
const MAX_ANSWER_BYTES: u64 = 64 << 20;
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Where Docker listens.
pub(crate) struct Docker {
    socket: String,
}

impl Docker {
    /// The one that the executors use too.
    pub(crate) fn find() -> Result<Self> {
        let host = std::env::var("DOCKER_HOST").unwrap_or_default();
        let socket = match host.strip_prefix("unix://") {
            Some(path) => path.to_owned(),
            None if host.is_empty() => DEFAULT_SOCKET.into(),
            None => anyhow::bail!("DOCKER_HOST is {host}; the benchmark needs a Unix socket"),
        };
        Ok(Self { socket })
    }

    /// One request. The answer is whatever comes until the connection closes.
    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.socket).context("Docker does not answer")?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        // Version 1.0 has neither chunks nor connections that stay open.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes())?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no answer")?;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let rest = answer.split_off(end + 4);
        let status = head.split(' ').nth(1).unwrap_or_default();
        let said = || String::from_utf8_lossy(&rest[..rest.len().min(300)]).into_owned();
        ensure!(status.starts_with('2'), "Docker: {method} {path}: {status} {}", said());
        Ok(rest)
    }

    /// A request with an answer in JSON.
    pub(crate) fn json(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let answer = self.request(method, path, body)?;
        if answer.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&answer)?) }
    }

    /// Runs a command in a container as a client of the API does: create, start, inspect.
    pub(crate) fn exec(&self, container: &str, command: &[&str]) -> Result<()> {
        let wish = json!({"Cmd": command, "AttachStdout": true, "AttachStderr": true});
        let made = self.json("POST", &format!("/containers/{container}/exec"), Some(&wish))?;
        let id = made["Id"].as_str().context("no id of an exec")?;
        let start = json!({"Detach": false, "Tty": false});
        self.request("POST", &format!("/exec/{id}/start"), Some(&start))?;
        let end = self.json("GET", &format!("/exec/{id}/json"), None)?;
        ensure!(end["ExitCode"] == 0, "{command:?} ended with {}", end["ExitCode"]);
        Ok(())
    }

    /// Makes and starts a container with this host part, and returns its id.
    pub(crate) fn start(&self, image: &str, host: &Value) -> Result<String> {
        let wish = json!({"Image": image, "Entrypoint": ["sleep", "86400"], "HostConfig": host});
        self.start_as(&wish)
    }

    /// Makes and starts a container of this specification, and returns its id.
    pub(crate) fn start_as(&self, wish: &Value) -> Result<String> {
        let made = self.json("POST", "/containers/create", Some(wish))?;
        let id = made["Id"].as_str().context("no id of a container")?.to_owned();
        if let Err(problem) = self.request("POST", &format!("/containers/{id}/start"), None) {
            let _ = self.remove(&id);
            return Err(problem);
        }
        Ok(id)
    }

    /// Removes a container, running or not.
    pub(crate) fn remove(&self, id: &str) -> Result<()> {
        self.request("DELETE", &format!("/containers/{id}?force=true&v=true"), None).map(drop)
    }

    /// What Docker knows of a container.
    pub(crate) fn inspect(&self, id: &str) -> Result<Value> {
        self.json("GET", &format!("/containers/{id}/json"), None)
    }

    /// The running containers with these labels, as `name=value` or `name`.
    pub(crate) fn list(&self, labels: &[String]) -> Result<Vec<Value>> {
        let filters = encode(&json!({ "label": labels }).to_string());
        let found = self.json("GET", &format!("/containers/json?filters={filters}"), None)?;
        serde_json::from_value(found).context("no list of containers")
    }

    /// The id of the container of a sandbox.
    pub(crate) fn of_sandbox(&self, sandbox_id: &str) -> Result<String> {
        let found = self.list(&[format!("bulkhead.sandbox={sandbox_id}")])?;
        let id = found.first().and_then(|container| container["Id"].as_str());
        id.map(str::to_owned).context("the sandbox has no running container")
    }
}

/// `docker exec` as people type it; returns the bytes that came through its pipe.
pub(crate) async fn exec_by_cli(container: &str, command: &[&str]) -> Result<u64> {
    let mut program = Command::new("docker");
    program.arg("exec").arg(container).args(command);
    program.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let run = async {
        let mut child = program.spawn().context("cannot start `docker`")?;
        let mut stdout = child.stdout.take().context("no pipe")?;
        let (mut bytes, mut buffer) = (0, vec![0; 256 * 1024]);
        loop {
            match stdout.read(&mut buffer).await? {
                0 => break,
                read => bytes += read as u64,
            }
        }
        let status = child.wait().await?;
        ensure!(status.success(), "`docker exec` ended with {status}");
        Ok(bytes)
    };
    tokio::time::timeout(LIMIT, run).await.context("`docker exec` took too long")?
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str = "bulkhead-sandbox:bookworm";

    #[tokio::test]
    async fn both_ways_run_a_command_in_a_container_and_tell_a_failure() {
        let docker = Docker::find().expect("a socket");
        let host = json!({"NetworkMode": "none", "CapDrop": ["ALL"]});
        let id = docker.start(IMAGE, &host).expect("a container");
        let by_api = [docker.exec(&id, &["true"]), docker.exec(&id, &["false"])];
        let bytes = exec_by_cli(&id, &["head", "-c", "100000", "/dev/zero"]).await;
        let failed = exec_by_cli(&id, &["false"]).await;
        let pid = docker.inspect(&id).map(|known| known["State"]["Pid"].as_u64());
        let pid = pid.expect("known").expect("a process") as u32;
        let processes = crate::host::processes_beside(pid);
        docker.remove(&id).expect("removed");
        assert!(by_api[0].is_ok() && by_api[1].is_err());
        assert_eq!(bytes.expect("ran"), 100_000);
        assert!(failed.is_err());
        assert!(processes.expect("processes").contains(&pid));
        assert!(docker.inspect(&id).is_err());
    }
}
