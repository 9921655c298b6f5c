//! The verifier on files that nobody wrote in earnest: it never panics, and never believes one.
//!
//! Seeded, so that a failure repeats.
#![allow(clippy::expect_used, clippy::unwrap_used)] // a test that cannot go on fails

mod ledger;

use audit::export::{read_checkpoints, verify};
use audit::{Checkpoint, KeyRing};
use ledger::{Ledger, join_with_fitting_end, lines};

/// xorshift64* (Vigna 2016).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit.max(1)
    }
}

/// Pieces that a parser may stumble over.
const PIECES: [&[u8]; 24] = [
    b"\n",
    b"\n\n",
    b"{}\n",
    b"null",
    b"-1",
    b"1e999",
    b"9223372036854775807",
    b"18446744073709551615",
    b"-9223372036854775808",
    b"\"",
    b"\\",
    b"\\ud800",
    b"\\u0000",
    b"\xff",
    b"\xed\xa0\x80",
    b"[",
    b"{",
    b"\xe2\x80\x94 ",
    b"==",
    b"+",
    b"{\"event\":",
    b"{\"checkpoint\":",
    b"{\"end\":",
    b"{\"manifest\":",
];

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    let start = random.below(bytes.len());
    let end = (start + random.below(40)).min(bytes.len());
    match random.below(6) {
        0 => bytes[start] = random.below(256) as u8,
        1 => drop(bytes.drain(start..end)),
        2 => {
            let piece = PIECES[random.below(PIECES.len())];
            drop(bytes.splice(start..start, piece.iter().copied()));
        }
        3 => {
            let piece = PIECES[random.below(PIECES.len())];
            drop(bytes.splice(start..end, piece.iter().copied()));
        }
        4 => {
            let copy = bytes[start..end].to_vec();
            let place = random.below(bytes.len());
            drop(bytes.splice(place..place, copy));
        }
        _ => bytes.truncate(start),
    }
}

#[test]
fn a_mutated_export_is_never_believed() {
    let ledger = Ledger::small();
    let (good, keys) = (ledger.export(), ledger.keys());
    let mut random = Random(0x5eed);
    for _ in 0..3000 {
        let mut bytes = good.clone();
        for _ in 0..=random.below(3) {
            if !bytes.is_empty() {
                mutate(&mut bytes, &mut random);
            }
        }
        let believed = verify(&*bytes, &keys, &[]).is_ok();
        assert!(!believed || bytes == good, "{}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn a_mutated_line_is_never_believed_even_with_a_fitting_end() {
    let ledger = Ledger::small();
    let (good, keys) = (lines(&ledger.export()), ledger.keys());
    let mut random = Random(0xfeed);
    for _ in 0..3000 {
        let mut changed = good.clone();
        // Not the manifest, of which a part is information only.
        let line = 1 + random.below(good.len() - 2);
        mutate(&mut changed[line], &mut random);
        let export = join_with_fitting_end(&changed);
        // The first checkpoint may be absent or twice: the second covers everything.
        let harmless = changed == good || export == ledger_without_first_checkpoint(&good);
        assert!(
            verify(&*export, &keys, &[]).is_err() || harmless,
            "{}",
            String::from_utf8_lossy(&export)
        );
    }
}

fn ledger_without_first_checkpoint(good: &[Vec<u8>]) -> Vec<u8> {
    let mut lines = good.to_vec();
    lines.remove(4);
    join_with_fitting_end(&lines)
}

#[test]
fn random_bytes_are_no_export_no_key_and_no_checkpoint() {
    let keys = Ledger::small().keys();
    let mut random = Random(0xbad);
    for _ in 0..3000 {
        let bytes: Vec<u8> = match random.below(2) {
            0 => (0..random.below(300)).map(|_| random.below(256) as u8).collect(),
            _ => (0..random.below(30)).flat_map(|_| PIECES[random.below(24)].to_vec()).collect(),
        };
        assert!(verify(&*bytes, &keys, &[]).is_err());
        assert!(read_checkpoints(&*bytes).is_err());
        let text = String::from_utf8_lossy(&bytes);
        assert!(KeyRing::parse(&text).is_err());
        assert!(Checkpoint::open(&text, &keys).is_err());
    }
}

#[test]
fn a_line_without_end_is_refused() {
    let ledger = Ledger::small();
    let start = ledger.export()[..100].to_vec();
    let endless = std::io::Read::chain(&*start, std::io::repeat(b'x'));
    let source = std::io::BufReader::new(endless);
    assert!(verify(source, &ledger.keys(), &[]).is_err());
}

/// Files of the corpus: one defect each, and the sentence that a reader gets.
#[test]
fn the_corpus_is_refused_with_these_sentences() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
    let read = |name: &str| std::fs::read(format!("{folder}/{name}")).expect(name);
    let keys = KeyRing::parse(&String::from_utf8(read("audit.pub")).expect("UTF-8")).expect("keys");
    let said = |name: &str| match verify(&*read(name), &keys, &[]) {
        Ok(report) => format!("holds, {} to {}", report.from, report.to),
        Err(error) => error.to_string(),
    };
    let expected = String::from_utf8(read("expected.txt")).expect("UTF-8");
    for line in expected.lines() {
        let (name, sentence) = line.split_once(": ").expect("name: sentence");
        assert_eq!(said(name), sentence, "{name}");
    }
    let files = std::fs::read_dir(folder).expect("corpus").count();
    assert_eq!(files, expected.lines().count() + 2, "every file has its sentence");
}
