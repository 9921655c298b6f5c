//! Writes an export of a chain as long as asked for, verifies it, and says how fast and in how much
//! memory: `cargo run --release -p audit --example verify_speed -- 1000000 FILE`.

use std::error::Error;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::time::Instant;

use audit::export::{ExportWriter, FORMAT, Manifest, verify};
use audit::{Checkpoint, Detail, Event, GENESIS, Hash, Leaf, Signer, Tree, VERSION};

const CHAIN: &str = "ten_01890a5d-ac96-774b-bcce-b302099a8057";
const ORIGIN: &str = "bulkhead.example/audit";
/// As often as the server makes one.
const EVENTS_PER_CHECKPOINT: i64 = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, count, path] = arguments.as_slice() else {
        return Err("usage: verify_speed COUNT FILE".into());
    };
    let count: i64 = count.parse()?;
    let signer = Signer::new(ORIGIN, &[1; 32])?;
    let mut out = std::io::stdout();

    let started = Instant::now();
    write_export(count, path, &signer)?;
    let (bytes, seconds) = (std::fs::metadata(path)?.len(), started.elapsed().as_secs_f64());
    let rate = bytes as f64 / 1e6 / seconds;
    writeln!(out, "wrote {count} events, {bytes} bytes, in {seconds:.1} s ({rate:.0} MB/s)")?;

    let started = Instant::now();
    let source = BufReader::with_capacity(1 << 16, File::open(path)?);
    let report = verify(source, &signer.public().clone().into(), &[])?;
    let seconds = started.elapsed().as_secs_f64();
    let (rate, checkpoints) = (count as f64 / seconds, report.checkpoints);
    writeln!(
        out,
        "verified, with {checkpoints} checkpoints, in {seconds:.1} s ({rate:.0} events/s)"
    )?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or(" unknown");
    writeln!(out, "peak memory {}", peak.trim())?;
    Ok(())
}

fn write_export(count: i64, path: &str, signer: &Signer) -> Result<(), Box<dyn Error>> {
    let manifest = Manifest {
        format: FORMAT.into(),
        version: VERSION,
        chain: CHAIN.into(),
        from: 1,
        to: count,
        count,
        previous: GENESIS,
        created_us: 1,
        keys: vec![signer.public().to_string()],
    };
    let mut writer = ExportWriter::new(BufWriter::new(File::create(path)?), manifest)?;
    let (mut head, mut last) = (GENESIS, None);
    for seq in 1..=count {
        let event = event(seq);
        head = event.hash(&head);
        writer.event(&event, &head)?;
        if seq % EVENTS_PER_CHECKPOINT == 0 || seq == count {
            let tree = Tree::new(leaves(seq, head));
            let checkpoint = checkpoint(&tree, seq, last.as_ref());
            let note = checkpoint.sign(&[signer])?;
            writer.checkpoint(&tree.prove(CHAIN, &note).ok_or("the chain has a leaf")?)?;
            last = Some(checkpoint);
        }
    }
    writer.finish()?;
    Ok(())
}

fn checkpoint(tree: &Tree, time_us: i64, last: Option<&Checkpoint>) -> Checkpoint {
    Checkpoint {
        origin: ORIGIN.into(),
        chains: tree.size(),
        root: tree.root(),
        number: last.map_or(1, |last| last.number + 1),
        time_us,
        previous: last.map_or(GENESIS, Checkpoint::digest),
    }
}

/// This chain among a hundred others.
fn leaves(size: i64, head: Hash) -> Vec<Leaf> {
    let other = |n| Leaf { chain: format!("ten_{n}"), size: n, head: [1; 32] };
    let own = Leaf { chain: CHAIN.into(), size, head };
    (0..100).map(other).chain([own]).collect()
}

fn event(seq: i64) -> Event {
    let command = format!("cargo test --workspace -- --nocapture {seq} | tail -n 50");
    let detail = Detail {
        salt: [7; 16],
        actor: "builder (agent)".into(),
        address: Some("192.0.2.7".into()),
        reasons: vec!["every command only reads".into()],
        stdout_sha256: Some([3; 32]),
        stderr_sha256: Some([4; 32]),
        data: format!(r#"{{"command":"{command}","cwd":"/work"}}"#),
    };
    Event {
        chain: CHAIN.into(),
        seq,
        time_us: 1_764_000_000_000_000 + seq,
        role: "agent".into(),
        token_id: Some("tok_01890a5d-ac96-774b-bcce-b302099a8057".into()),
        action: "exec.authorize".into(),
        object: "exe_01890a5d-ac96-774b-bcce-b302099a8057".into(),
        session_id: Some("ses_01890a5d-ac96-774b-bcce-b302099a8057".into()),
        exec_id: Some("exe_01890a5d-ac96-774b-bcce-b302099a8057".into()),
        outcome: "allow".into(),
        decision: None,
        sandbox: None,
        detail_sha256: detail.digest(),
        detail: Some(detail),
    }
}
