//! What is said about a handful of numbers.

use std::time::Duration;

use serde_json::{Value, json};

/// Samples in ascending order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// Times, in milliseconds.
    pub(crate) fn times(times: impl IntoIterator<Item = Duration>) -> Self {
        Self::new(times.into_iter().map(|time| time.as_secs_f64() * 1000.0))
    }

    /// Numbers of any unit.
    pub(crate) fn new(numbers: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Self(sorted)
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The nearest-rank percentile: always one of the samples, 0 when there is none.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        let at = rank.clamp(1, self.0.len().max(1)) - 1;
        self.0.get(at).copied().unwrap_or(0.0)
    }

    /// The middle one.
    pub(crate) fn p50(&self) -> f64 {
        self.percentile(0.50)
    }

    /// For `bench.json`.
    pub(crate) fn json(&self) -> Value {
        let (p95, p99) = (self.percentile(0.95), self.percentile(0.99));
        json!({ "samples": self.len(), "p50": self.p50(), "p95": p95, "p99": p99 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_samples() {
        let samples = Samples::times((1..=100).rev().map(Duration::from_millis));
        let close = |share, expected: f64| (samples.percentile(share) - expected).abs() < 1e-9;
        assert!(close(0.5, 50.0) && close(0.99, 99.0) && close(1.0, 100.0));
        assert!(Samples::default().p50().abs() < 1e-9);
    }
}
