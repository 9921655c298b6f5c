//! `bulkhead dev stop`: ends the one that runs on a data folder, and waits until it is gone.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::time::sleep;

use super::DevError;
use super::lock::{DevLock, holder};
use crate::console;
use crate::dev_file::DevFile;

const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// Stops it. That nothing runs is what was wanted, and no error.
pub(super) async fn run(data_dir: &Path, json: bool) -> Result<()> {
    let was_running = stop(data_dir).await?;
    let state = if was_running { "stopped" } else { "not running" };
    console::say(format_args!("{state} on {}", data_dir.display()));
    if json {
        console::print_json(&json!({"data_dir": data_dir, "was_running": was_running}))?;
    }
    Ok(())
}

async fn stop(data_dir: &Path) -> Result<bool> {
    if !data_dir.is_dir() {
        return Ok(false);
    }
    let deadline = Instant::now() + LIMIT;
    let mut signalled = None;
    loop {
        if DevLock::try_take(data_dir)?.is_some() {
            // Left behind by one that was killed.
            DevFile::remove(data_dir)?;
            return Ok(signalled.is_some());
        }
        let pid = holder(data_dir);
        // Once only; and not before the new one has written who it is.
        if signalled.is_none()
            && let Some(pid) = pid
        {
            kill(Pid::from_raw(pid), Signal::SIGTERM)?;
            signalled = Some(pid);
        }
        if Instant::now() >= deadline {
            return Err(DevError::StopTimeout {
                folder: data_dir.display().to_string(),
                pid: pid.map_or_else(|| "unknown".into(), |pid| pid.to_string()),
                limit_s: LIMIT.as_secs(),
            }
            .into());
        }
        sleep(POLL).await;
    }
}
