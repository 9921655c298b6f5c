//! The executor: one tenant's commands on one host. It verifies grants, keeps sandboxes, journals
//! what it starts, and reports the one true result of each command.
//!
//! It is the only process that talks to Docker. It knows no SQL and holds one tenant's key.

pub mod activities;
pub mod backoff;
mod calls;
mod cgroup;
mod clock;
pub mod control;
pub mod data_dir;
mod dialogue;
pub mod docker;
pub mod doctor;
pub mod enrol;
pub mod executor;
pub mod failpoint;
mod frames;
pub mod grant;
pub mod grant_keys;
mod hold;
mod interaction;
mod inventory;
pub mod journal;
mod keeper;
mod link;
pub mod profile;
mod report;
mod requests;
mod result;
mod run;
mod runs;
mod sandbox;
pub mod sandboxes;
pub mod settings;
pub mod ship;
mod spool;
mod spool_file;
pub mod spool_folder;
mod start;
mod window;
pub mod worker;
pub mod workspace;
