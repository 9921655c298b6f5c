//! Measures a running stack beside Docker. Started by `cargo xtask bench`.
//!
//! A goal that is missed is said and is no failure; a row that cannot be measured is one.

mod bench;
mod docker;
mod host;
mod report;
mod rows;
mod stack;
mod stats;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;
use cli::console;
use serde_json::json;

use bench::{Bench, Sizes};
use docker::Docker;
use host::CpuTime;
use report::Report;
use rows::{audit, cancel, control, history, inside, memory, output, parallel, start, warm};
use stack::Stack;

/// Measures a running stack.
#[derive(Parser)]
struct Arguments {
    /// Data folder of a running `bulkhead dev`.
    #[arg(long)]
    data_dir: PathBuf,
    /// Image of the containers that it is compared with.
    #[arg(long)]
    image: String,
    /// Fewer samples: less than a minute.
    #[arg(long)]
    quick: bool,
    /// Warm commands on each side [default: 200, or 40 when quick].
    #[arg(long)]
    samples: Option<u32>,
    /// Only what has one of these names: warm, inside, start, output, parallel, memory, history, cancel.
    #[arg(long)]
    only: Vec<String>,
    /// The control plane by itself, and nothing else.
    #[arg(long)]
    control_plane: bool,
    /// The audit log by itself, and nothing else.
    #[arg(long, conflicts_with = "control_plane")]
    audit: bool,
    /// The program inside every sandbox, to be weighed.
    #[arg(long)]
    sandbox_init: Option<PathBuf>,
    /// Temporal's command line.
    #[arg(long, default_value = "temporal")]
    temporal: PathBuf,
    /// The commit that is measured.
    #[arg(long, default_value = "unknown")]
    commit: String,
    /// Where the numbers go.
    #[arg(long)]
    out: PathBuf,
    /// Where the table goes as Markdown.
    #[arg(long)]
    markdown: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut sizes = if arguments.quick { Sizes::QUICK } else { Sizes::FULL };
    sizes.warm = arguments.samples.unwrap_or(sizes.warm);
    let bench = Bench {
        stack: Stack::find(&arguments.data_dir)?,
        data_dir: arguments.data_dir,
        docker: Docker::find()?,
        image: arguments.image,
        sandbox_init: arguments.sandbox_init,
        temporal: arguments.temporal,
        sizes,
    };
    let mut machine = host::machine(&bench.docker, &arguments.commit)?;
    let begin = CpuTime::now()?;
    let mut report = Report::default();
    if arguments.control_plane {
        console::say("measures the control plane");
        report.take("control plane", control::measure(&bench).await);
    } else if arguments.audit {
        console::say("measures the audit log");
        report.take("audit log", audit::measure(&bench).await);
    } else {
        measure(&bench, &arguments.only, &mut report).await;
    }
    let stolen_percent = CpuTime::now()?.stolen_since(&begin);
    machine["stolen_percent"] = json!((stolen_percent * 10.0).round() / 10.0);
    report.print()?;
    console::say(format_args!(
        "{stolen_percent:.1} % of the processors' time was stolen meanwhile"
    ));
    let document = serde_json::to_vec_pretty(&report.json(&machine, arguments.quick))?;
    write(&arguments.out, &document)?;
    if let Some(path) = &arguments.markdown {
        write(path, report.markdown(&machine).as_bytes())?;
    }
    match report.missing().as_slice() {
        [] => Ok(()),
        missing => bail!("could not measure {}", missing.join(", ")),
    }
}

async fn measure(bench: &Bench, only: &[String], report: &mut Report) {
    macro_rules! rows {
        ($($name:ident),*) => {$(
            let name = stringify!($name);
            if only.is_empty() || only.iter().any(|wanted| wanted == name) {
                bench.settle().await;
                console::say(format_args!("measures {name}"));
                report.take(name, $name::measure(bench).await);
            }
        )*};
    }
    // What leaves the executor's memory fragmented comes last.
    rows!(warm, inside, start, history, cancel, parallel, memory, output);
}

fn write(path: &std::path::Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
