//! PID 1 in a real container, with the profile that the executor gives it, and these tests in the
//! executor's place: they speak frames and trust nothing.
#![allow(clippy::expect_used, clippy::print_stdout, missing_docs)]

mod ending;
mod epochs;
mod harness;
mod helper;
mod isolation;
mod limits;
mod reattach;
mod signals;
mod soak;
mod stdin;
mod survivors;
mod terminal;
mod throughput;
