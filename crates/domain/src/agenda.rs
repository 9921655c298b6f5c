//! What a session's workflow has to do next: the pure half of its loop.
//!
//! Turns run one after another in the order they came; execs run beside them. Knows ids only:
//! what a turn or an exec contains stands in the control plane's database.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::ids::{ExecId, TurnId};

/// Most pieces of work that one session carries out at once; what waits for a human does not count.
pub const MAX_PARALLEL: usize = 32;
/// Most pieces of work that wait in one session; the control plane refuses more long before.
pub const MAX_WAITING: usize = 1000;

/// One piece of work of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// One user message until the agent is idle.
    Turn(TurnId),
    /// One command that a client asked for without a model.
    Exec(ExecId),
}

/// A piece of work that was started. A turn may run several commands side by side: branches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Active {
    work: Work,
    branches: usize,
    /// Branches that wait for a human. When all do, the work can be cut off and carried over.
    parked: usize,
}

/// The work of one session: what waits, what runs, what was called off.
#[derive(Debug, Clone, Default)]
pub struct Agenda {
    waiting: VecDeque<Work>,
    active: Vec<Active>,
    cancelled: BTreeSet<ExecId>,
    interrupts: u64,
    shutdown: bool,
}

impl Agenda {
    /// An agenda that goes on where an earlier run of the workflow stopped.
    pub fn resume(carried: impl IntoIterator<Item = Work>) -> Self {
        Self { waiting: carried.into_iter().collect(), ..Self::default() }
    }

    /// Adds work unless it is known already. Signals may arrive twice.
    ///
    /// Returns whether it was added.
    pub fn offer(&mut self, work: Work) -> bool {
        let known = self.waiting.contains(&work) || self.is_active(work);
        let accepted = !known && self.waiting.len() < MAX_WAITING;
        if accepted {
            self.waiting.push_back(work);
        }
        accepted
    }

    /// Takes the next piece of work that may start now.
    pub fn start_next(&mut self) -> Option<Work> {
        let busy = self.active.iter().filter(|active| active.parked < active.branches).count();
        if busy >= MAX_PARALLEL {
            return None;
        }
        let turn_runs = self.active.iter().any(|active| matches!(active.work, Work::Turn(_)));
        let at =
            self.waiting.iter().position(|work| matches!(work, Work::Exec(_)) || !turn_runs)?;
        let work = self.waiting.remove(at)?;
        self.active.push(Active { work, branches: 1, parked: 0 });
        Some(work)
    }

    /// Whether [`Agenda::start_next`] would give something.
    pub fn can_start(&self) -> bool {
        self.clone().start_next().is_some()
    }

    /// The work goes on in this many branches at once; none of them is parked.
    pub fn branch(&mut self, work: Work, branches: usize) {
        self.update(work, |active| (active.branches, active.parked) = (branches.max(1), 0));
    }

    /// A branch of the work waits for a human.
    pub fn park(&mut self, work: Work) {
        self.update(work, |active| active.parked += 1);
    }

    /// A branch goes on after [`Agenda::park`].
    pub fn unpark(&mut self, work: Work) {
        self.update(work, |active| active.parked = active.parked.saturating_sub(1));
    }

    /// A branch of the work is done, others go on.
    pub fn end_branch(&mut self, work: Work) {
        self.update(work, |active| active.branches = active.branches.saturating_sub(1).max(1));
    }

    /// The work is done.
    pub fn finish(&mut self, work: Work) {
        self.active.retain(|active| active.work != work);
        if let Work::Exec(exec_id) = work {
            self.cancelled.remove(&exec_id);
        }
        if self.active.is_empty() {
            self.cancelled.clear();
        }
    }

    /// Calls off one exec. Ignored when nothing is under way that it could belong to.
    pub fn cancel(&mut self, exec_id: ExecId) {
        if !(self.active.is_empty() && self.waiting.is_empty())
            && self.cancelled.len() < MAX_WAITING
        {
            self.cancelled.insert(exec_id);
        }
    }

    /// Whether this exec was called off, by itself or with the whole session.
    pub fn is_cancelled(&self, exec_id: ExecId) -> bool {
        self.shutdown || self.cancelled.contains(&exec_id)
    }

    /// Interrupts the turn that runs now.
    pub fn interrupt(&mut self) {
        self.interrupts += 1;
    }

    /// Counts interrupts, so that a turn can see that one came since it started.
    pub fn interrupts(&self) -> u64 {
        self.interrupts
    }

    /// Ends the session as soon as what is under way has stopped.
    pub fn request_shutdown(&mut self) {
        self.shutdown = true;
    }

    /// Whether the session was asked to end.
    pub fn is_shutting_down(&self) -> bool {
        self.shutdown
    }

    /// Whether the session was asked to end and nothing is left to do.
    pub fn is_over(&self) -> bool {
        self.shutdown && self.active.is_empty() && self.waiting.is_empty()
    }

    /// Whether the workflow may start a new run: nothing is under way that a cut would lose.
    pub fn can_carry_over(&self) -> bool {
        !self.shutdown && self.active.iter().all(|active| active.parked >= active.branches)
    }

    /// What a new run of the workflow has to go on with, in order.
    pub fn carry_over(&self) -> Vec<Work> {
        self.active.iter().map(|active| active.work).chain(self.waiting.iter().copied()).collect()
    }

    fn is_active(&self, work: Work) -> bool {
        self.active.iter().any(|active| active.work == work)
    }

    fn update(&mut self, work: Work, change: impl FnOnce(&mut Active)) {
        if let Some(active) = self.active.iter_mut().find(|active| active.work == work) {
            change(active);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn turn(n: u128) -> Work {
        Work::Turn(Uuid::from_u128(n).into())
    }

    fn exec(n: u128) -> Work {
        Work::Exec(Uuid::from_u128(n).into())
    }

    #[test]
    fn turns_wait_for_each_other_and_execs_do_not() {
        let mut agenda = Agenda::resume([turn(1), turn(2), exec(3)]);
        assert_eq!(agenda.start_next(), Some(turn(1)));
        assert_eq!(agenda.start_next(), Some(exec(3)));
        assert_eq!(agenda.start_next(), None);
        agenda.finish(turn(1));
        assert_eq!(agenda.start_next(), Some(turn(2)));
    }

    #[test]
    fn a_repeated_signal_adds_nothing() {
        let mut agenda = Agenda::default();
        assert!(agenda.offer(exec(1)));
        assert!(!agenda.offer(exec(1)));
        agenda.start_next();
        assert!(!agenda.offer(exec(1)));
    }

    #[test]
    fn only_parked_work_is_carried_over() {
        let mut agenda = Agenda::resume([turn(1), turn(2)]);
        agenda.start_next();
        assert!(!agenda.can_carry_over());
        agenda.park(turn(1));
        assert!(agenda.can_carry_over());
        assert_eq!(agenda.carry_over(), [turn(1), turn(2)]);
        agenda.unpark(turn(1));
        assert!(!agenda.can_carry_over());
    }

    #[test]
    fn a_turn_is_parked_only_when_all_its_branches_are() {
        let mut agenda = Agenda::resume([turn(1)]);
        agenda.start_next();
        agenda.branch(turn(1), 2);
        agenda.park(turn(1));
        assert!(!agenda.can_carry_over());
        agenda.end_branch(turn(1));
        assert!(agenda.can_carry_over());
    }

    #[test]
    fn shutdown_cancels_everything_and_ends_when_idle() {
        let mut agenda = Agenda::resume([exec(1)]);
        agenda.start_next();
        agenda.request_shutdown();
        assert!(agenda.is_cancelled(Uuid::from_u128(1).into()));
        assert!(!agenda.is_over());
        agenda.finish(exec(1));
        assert!(agenda.is_over());
    }

    #[test]
    fn a_cancel_is_forgotten_with_its_exec() {
        let mut agenda = Agenda::resume([exec(1), exec(2)]);
        agenda.start_next();
        agenda.start_next();
        agenda.cancel(Uuid::from_u128(1).into());
        assert!(agenda.is_cancelled(Uuid::from_u128(1).into()));
        agenda.finish(exec(1));
        assert!(!agenda.is_cancelled(Uuid::from_u128(1).into()));
    }
}
