//! The harness of the end-to-end tests: a real stack started by `bulkhead dev`, typed callers, and
//! answers as they came. A stack that does not start fails the tests; nothing is ever skipped.

mod caller;
mod executor;
mod replica;
mod session;
mod stack;
mod tenant;

pub use caller::{Answer, Caller};
pub use executor::TestExecutor;
pub use replica::Replica;
pub use session::TestSession;
pub use stack::{Stack, bin_dir, temporal_program};
pub use tenant::TestTenant;
