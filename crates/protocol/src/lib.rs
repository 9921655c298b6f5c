//! Everything that crosses from one Bulkhead process to another, as serde types.
//!
//! Knows no SQL, no HTTP, no Docker and no Temporal; a change here is a change of a wire format.

pub mod binary;
pub mod calls;
pub mod checks;
pub mod enrolment;
pub mod exec;
pub mod files;
pub mod frame;
pub mod git;
pub mod grant;
pub mod init;
pub mod output_frame;
pub mod sealed;
pub mod session;
pub mod tools;
