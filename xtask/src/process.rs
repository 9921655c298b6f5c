//! Running other programs with a bound on time and an error that names them.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const POLL: Duration = Duration::from_millis(20);

/// Runs a program with our own output; fails unless it exits with 0 within `limit`.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<()> {
    let shown = show(command);
    let mut child = command.spawn().with_context(|| format!("cannot start `{shown}`"))?;
    let status = wait(&mut child, limit).with_context(|| format!("`{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Runs a program, passes its lines on as they come, and shows each of them to `look`; fails
/// unless it exits with 0 within `limit`.
pub(crate) fn run_watched(
    command: &mut Command,
    limit: Duration,
    mut look: impl FnMut(&str) + Send + 'static,
) -> Result<()> {
    let shown = show(command);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let reader = child.stdout.take().map(|stdout| {
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                look(&line);
                crate::report::print(&line);
            }
        })
    });
    let status = wait(&mut child, limit).with_context(|| format!("`{shown}`"))?;
    if let Some(reader) = reader {
        let _ = reader.join();
    }
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Runs a program and returns what it wrote; fails unless it exits with 0 within `limit`.
pub(crate) fn capture(command: &mut Command, limit: Duration) -> Result<String> {
    let shown = show(command);
    let output = output(command, limit)?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}` failed: {}\n{}", output.status, complaint.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program and returns everything it wrote and how it ended.
pub(crate) fn output(command: &mut Command, limit: Duration) -> Result<Output> {
    Background::start(command)?.finish(limit)
}

/// A program that runs while we do something else. Dropping it kills it.
pub(crate) struct Background {
    shown: String,
    child: Child,
    stdout: Option<thread::JoinHandle<Vec<u8>>>,
    stderr: Option<thread::JoinHandle<Vec<u8>>>,
}

impl Background {
    /// Starts it with its output collected.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let shown = show(command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start `{shown}`"))?;
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Ok(Self { shown, child, stdout, stderr })
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self, limit: Duration) -> Result<Output> {
        let ended = wait(&mut self.child, limit);
        let join = |reader: Option<thread::JoinHandle<Vec<u8>>>| {
            reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
        };
        let (stdout, stderr) = (join(self.stdout.take()), join(self.stderr.take()));
        let status = ended
            .with_context(|| format!("`{}`\n{}", self.shown, String::from_utf8_lossy(&stderr)))?;
        Ok(Output { status, stdout, stderr })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Both fail when the program has ended already, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A pipe that breaks ends like one that closes: what came so far counts.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

fn wait(child: &mut Child, limit: Duration) -> Result<std::process::ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            bail!("was killed: it took longer than {} s", limit.as_secs());
        }
        thread::sleep(POLL);
    }
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
