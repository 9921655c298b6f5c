//! Waiting times that double up to a bound, for whatever is tried again.

use std::time::Duration;

/// See the module.
pub struct Backoff {
    next: Duration,
    initial: Duration,
    max: Duration,
}

impl Backoff {
    /// Starts at `initial` and never exceeds `max`.
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self { next: initial, initial, max }
    }

    /// What to wait before the next try.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (self.next * 2).min(self.max);
        wait
    }

    /// Something worked: the next failure starts small again.
    pub fn reset(&mut self) {
        self.next = self.initial;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_its_bound_and_starts_again() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(350));
        assert_eq!(
            [backoff.next_wait(), backoff.next_wait(), backoff.next_wait()],
            [ms(100), ms(200), ms(350)]
        );
        backoff.reset();
        assert_eq!(backoff.next_wait(), ms(100));
    }
}
