//! The export of a chain: a file that proves itself to whoever has the public key.
//!
//! One JSON object a line: a manifest, events in order with checkpoints among them, and an end line
//! that shows that the file is complete.

mod error;
mod keepsake;
mod kept;
mod line;
mod reader;
mod verifier;
mod writer;

pub use error::{Problem, VerifyError};
pub use keepsake::{Keepsake, KeptError, read_checkpoints, read_kept};
pub use line::{BrokenOff, FORMAT, Manifest};
pub use verifier::{Report, verify, verify_against};
pub use writer::{ExportWriter, checkpoint_line};
