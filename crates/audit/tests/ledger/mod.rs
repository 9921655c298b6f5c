//! A platform in memory, with keys, chains and checkpoints, that exports one chain.
#![allow(dead_code, missing_docs)] // each test file uses a part of it

use audit::export::{ExportWriter, FORMAT, Manifest};
use audit::{
    ChainProof, Checkpoint, Decision, Detail, Event, GENESIS, Hash, KeyRing, Leaf, Sandbox, Signer,
    Tree, VERSION,
};

pub const CHAIN: &str = "ten_01890a5d-ac96-774b-bcce-b302099a8057";
pub const ORIGIN: &str = "bulkhead.test/audit";

pub struct Ledger {
    pub signers: Vec<Signer>,
    pub events: Vec<(Event, Hash)>,
    pub proofs: Vec<ChainProof>,
    pub last: Option<Checkpoint>,
}

pub fn signer(seed: u8) -> Signer {
    Signer::new(ORIGIN, &[seed; 32]).expect("a good name")
}

impl Ledger {
    pub fn new() -> Self {
        Self { signers: vec![signer(1)], events: Vec::new(), proofs: Vec::new(), last: None }
    }

    /// Three events, a checkpoint, two events, a checkpoint.
    pub fn small() -> Self {
        let mut ledger = Self::new();
        ledger.append(3);
        ledger.checkpoint();
        ledger.append(2);
        ledger.checkpoint();
        ledger
    }

    pub fn keys(&self) -> KeyRing {
        self.signers[0].public().clone().into()
    }

    pub fn head(&self) -> Hash {
        self.events.last().map_or(GENESIS, |(_, hash)| *hash)
    }

    pub fn append(&mut self, count: usize) {
        for _ in 0..count {
            let event = event(self.events.len() as i64 + 1);
            let hash = event.hash(&self.head());
            self.events.push((event, hash));
        }
    }

    /// Computes all hashes from `seq` on anew, as somebody would who can write the table.
    pub fn rehash(&mut self) {
        let mut head = GENESIS;
        for (place, (event, hash)) in self.events.iter_mut().enumerate() {
            event.seq = place as i64 + 1;
            if let Some(detail) = &event.detail {
                event.detail_sha256 = detail.digest();
            }
            head = event.hash(&head);
            *hash = head;
        }
    }

    pub fn checkpoint(&mut self) {
        let size = self.events.len() as i64;
        let leaf = |chain: &str, size, head| Leaf { chain: chain.into(), size, head };
        let tree = Tree::new(vec![
            leaf("system", 7, [8; 32]),
            leaf("ten_00000000-0000-7000-8000-000000000000", 2 * size, [9; 32]),
            leaf(CHAIN, size, self.head()),
        ]);
        let checkpoint = Checkpoint {
            origin: ORIGIN.into(),
            chains: tree.size(),
            root: tree.root(),
            number: self.last.as_ref().map_or(1, |last| last.number + 1),
            time_us: 1_764_000_000_000_000 + size,
            previous: self.last.as_ref().map_or(GENESIS, Checkpoint::digest),
        };
        let signers: Vec<&Signer> = self.signers.iter().collect();
        let note = checkpoint.sign(&signers).expect("of this origin");
        self.proofs.push(tree.prove(CHAIN, &note).expect("in the tree"));
        self.last = Some(checkpoint);
    }

    pub fn manifest(&self, from: usize) -> Manifest {
        let to = self.events.len() as i64;
        let from = from as i64;
        Manifest {
            format: FORMAT.into(),
            version: VERSION,
            chain: CHAIN.into(),
            from,
            to,
            count: to + 1 - from,
            previous: match from {
                1 => GENESIS,
                _ => self.events[from as usize - 2].1,
            },
            created_us: 1_764_000_001_000_000,
            keys: self.signers.iter().map(|signer| signer.public().to_string()).collect(),
        }
    }

    pub fn export_from(&self, from: usize) -> Vec<u8> {
        let mut writer = ExportWriter::new(Vec::new(), self.manifest(from)).expect("memory");
        let mut proofs =
            self.proofs.iter().filter(|proof| proof.size >= from as i64 - 1).peekable();
        let mut checkpoints = |writer: &mut ExportWriter<Vec<u8>>, seq| {
            while let Some(proof) = proofs.next_if(|proof| proof.size == seq) {
                writer.checkpoint(proof).expect("memory");
            }
        };
        checkpoints(&mut writer, from as i64 - 1);
        for (event, hash) in &self.events[from - 1..] {
            writer.event(event, hash).expect("memory");
            checkpoints(&mut writer, event.seq);
        }
        writer.finish().expect("memory")
    }

    pub fn export(&self) -> Vec<u8> {
        self.export_from(1)
    }
}

/// An event with other fields absent each time, and text that JSON must escape.
pub fn event(seq: i64) -> Event {
    let some = |text: &str| (seq % 2 == 1).then(|| text.to_owned());
    let detail = Detail {
        salt: [seq as u8; 16],
        actor: "Zoë \"builder\" (agent)".into(),
        address: some("2001:db8::1"),
        reasons: vec!["reads only".into(); seq as usize % 3],
        stdout_sha256: (seq % 3 == 0).then_some([3; 32]),
        stderr_sha256: (seq % 3 == 1).then_some([4; 32]),
        data: format!(r#"{{"command":"printf '\t%s\n' \u0007 {seq}/\\ & <b>"}}"#),
    };
    Event {
        chain: CHAIN.into(),
        seq,
        time_us: 1_764_000_000_000_000 + seq,
        role: "agent".into(),
        token_id: some("tok_1"),
        action: "exec.authorize".into(),
        object: "exe_1".into(),
        session_id: some("ses_1"),
        exec_id: some("exe_1"),
        outcome: "allow".into(),
        decision: (seq % 2 == 1).then(|| Decision {
            outcome: "allow".into(),
            rules: vec!["reads-only".into(), "née".into()],
            policy_version: Some(3),
            approver: None,
        }),
        sandbox: (seq % 3 == 0).then(|| Sandbox {
            id: "sbx_1".into(),
            generation: 2,
            image_digest: some("sha256:00"),
        }),
        detail_sha256: detail.digest(),
        detail: Some(detail),
    }
}

/// The lines of an export, without their newlines.
pub fn lines(export: &[u8]) -> Vec<Vec<u8>> {
    let body = export.strip_suffix(b"\n").expect("a last newline");
    body.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// Joins lines again as they are.
pub fn join(lines: &[Vec<u8>]) -> Vec<u8> {
    lines.iter().flat_map(|line| [line.as_slice(), b"\n"].concat()).collect()
}

/// Joins lines, and makes the end line fit them: what somebody does who tampers with care.
pub fn join_with_fitting_end(lines: &[Vec<u8>]) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let mut bytes = join(&lines[..lines.len() - 1]);
    let sha256 = audit::hex::encode(&Sha256::digest(&bytes));
    let count = bytes.iter().filter(|byte| **byte == b'\n').count();
    bytes.extend(format!("{{\"end\":{{\"lines\":{count},\"sha256\":\"{sha256}\"}}}}\n").bytes());
    bytes
}
