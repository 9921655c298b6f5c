//! `--detach`: the same program again in the background; returns when it is ready.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::time::sleep;

use super::layout::{self, Layout};
use super::lock::{DevLock, holder};
use super::log::open_append;
use super::{DevError, StartArguments, start};
use crate::console;
use crate::dev_file::DevFile;

/// Longer than every wait of a start together.
const LIMIT: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(50);

/// Starts it and waits until it is ready or dead.
pub(super) async fn run(arguments: &StartArguments) -> Result<()> {
    let layout = Layout::create(&arguments.folder.data_dir)?;
    // Says at once what the child would only say in its log.
    drop(DevLock::take(layout.root())?);
    let log = layout.log_of("dev");
    let mut child = command(arguments, &layout)?.spawn()?;
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(file) = DevFile::find(layout.root())?
            && file.pid == child.id()
            && holder(layout.root()) == i32::try_from(file.pid).ok()
        {
            console::say(format_args!("ready: {} (pid {})", file.api_url, file.pid));
            if arguments.json {
                console::print_json(&start::describe(&layout, &file))?;
            }
            return Ok(());
        }
        let died = child.try_wait()?.is_some();
        if died || Instant::now() >= deadline {
            if !died {
                child.kill()?;
            }
            let tail = layout::tail(&log, 20);
            return Err(DevError::DetachedDied { log, tail }.into());
        }
        sleep(POLL).await;
    }
}

fn command(arguments: &StartArguments, layout: &Layout) -> Result<Command> {
    let log = open_append(&layout.log_of("dev"))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["dev", "--detached", "--data-dir"]).arg(layout.root());
    for tenant in &arguments.tenants {
        command.args(["--tenant", tenant]);
    }
    let ports = [
        ("--api-port", arguments.api_port),
        ("--temporal-port", arguments.temporal_port),
        ("--postgres-port", arguments.postgres_port),
    ];
    for (flag, port) in ports {
        command.args(port.map(|port| format!("{flag}={port}")));
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command)
}
