//! One file per measurement.

pub(crate) mod audit;
pub(crate) mod cancel;
pub(crate) mod control;
pub(crate) mod history;
pub(crate) mod inside;
pub(crate) mod memory;
pub(crate) mod output;
pub(crate) mod parallel;
pub(crate) mod start;
pub(crate) mod warm;
