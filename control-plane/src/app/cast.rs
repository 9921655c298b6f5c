//! The recording of an exec's terminal, read as it is written: a few chunks at a time, each time in
//! a transaction of its own.

use std::collections::VecDeque;

use domain::access::Operation;
use domain::ids::{ExecId, TenantId};

use super::{App, AppError, Caller};
use crate::asciicast::Recording;
use crate::store::{Arrival, Resized};

/// Chunks read at a time; one has at most a request's body.
const CHUNKS: i64 = 16;
/// Sizes read at a time.
const SIZES: i64 = 256;
/// What executors give to a command with a terminal that says nothing else.
const TERMINAL: &str = "xterm-256color";

/// A recording under way.
pub struct Cast {
    app: App,
    tenant_id: TenantId,
    exec_id: ExecId,
    recording: Recording,
    header: Option<String>,
    chunks: VecDeque<Arrival>,
    /// Where the next chunk begins.
    offset: u64,
    sizes: VecDeque<Resized>,
    /// The last size that was read.
    last_size: i64,
    /// There may be more of them.
    more_sizes: bool,
}

impl App {
    /// Begins the recording of an exec's terminal, as far as its output has arrived.
    ///
    /// # Errors
    /// When the caller may not read, there is no such exec, or it has no terminal.
    pub async fn record_terminal(
        &self,
        caller: &Caller,
        exec_id: ExecId,
    ) -> Result<Cast, AppError> {
        let tenant_id = caller.authorize(Operation::ReadWork)?;
        let mut scope = self.store.tenant(tenant_id).await?;
        let exec = scope.get_exec(exec_id).await.map_err(AppError::of("exec"))?;
        let Some(size) = exec.terminal else {
            return Err(AppError::Conflict {
                code: "exec_without_terminal",
                message: "the exec has no terminal; its output is at /output".into(),
            });
        };
        let terminal = exec.env.get("TERM").map_or(TERMINAL, String::as_str);
        let (recording, header) = Recording::begin(exec.started_at, size, terminal);
        Ok(Cast {
            app: self.clone(),
            tenant_id,
            exec_id,
            recording,
            header: Some(header),
            chunks: VecDeque::new(),
            offset: 0,
            sizes: VecDeque::new(),
            last_size: 0,
            more_sizes: false,
        })
    }
}

impl Cast {
    /// The next lines, and how to go on; after the last ones there is no way on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next(mut self) -> Result<(String, Option<Self>), AppError> {
        if let Some(header) = self.header.take() {
            return Ok((header, Some(self)));
        }
        self.read().await?;
        let size_is_next = match (self.sizes.front(), self.chunks.front()) {
            (Some(size), Some(chunk)) => chunk.arrived_at.is_some_and(|at| size.at <= at),
            (size, _) => size.is_some(),
        };
        if size_is_next && let Some(Resized { at, size, .. }) = self.sizes.pop_front() {
            return Ok((self.recording.resize(at, size), Some(self)));
        }
        match self.chunks.pop_front() {
            Some(chunk) => Ok((self.recording.output(chunk.arrived_at, &chunk.bytes), Some(self))),
            None => Ok((self.recording.finish(), None)),
        }
    }

    /// Sees to it that what comes next is at hand, if there is anything.
    async fn read(&mut self) -> Result<(), AppError> {
        let wants_sizes = self.sizes.is_empty() && self.more_sizes;
        if !self.chunks.is_empty() && !wants_sizes {
            return Ok(());
        }
        let mut scope = self.app.store.tenant(self.tenant_id).await?;
        if self.chunks.is_empty() {
            let chunks = scope.list_arrivals(self.exec_id, self.offset, CHUNKS).await?;
            self.offset = chunks.last().map_or(self.offset, Arrival::end);
            self.chunks.extend(chunks);
        }
        if self.sizes.is_empty() {
            let sizes = scope.list_terminal_sizes(self.exec_id, self.last_size, SIZES).await?;
            self.last_size = sizes.last().map_or(self.last_size, |last| last.number);
            self.more_sizes = i64::try_from(sizes.len()).is_ok_and(|count| count == SIZES);
            self.sizes.extend(sizes);
        }
        Ok(())
    }
}
