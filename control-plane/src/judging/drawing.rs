//! Draws execs for review. Anybody can draw again and get the same: the exec's id is the lot, and it
//! is given out here, so that whoever asks for an exec cannot choose it.

use domain::ids::ExecId;
use domain::sampling::{Sampling, SamplingRule};
use sha2::{Digest, Sha256};

/// The name of the first sampling rule that draws the exec, if one does.
pub fn draw<'a>(
    sampling: &'a Sampling,
    exec_id: ExecId,
    policy_rules: &[String],
    programs: &[&str],
) -> Option<&'a str> {
    let draws =
        |rule: &&SamplingRule| rule.is_for(policy_rules, programs) && is_drawn(rule, exec_id);
    sampling.rules.iter().find(draws).map(|rule| rule.id.as_str())
}

/// The first eight bytes of SHA-256 over the rule's name, a space and the exec's id, as a big-endian
/// number, are divisible by `one_in`. Each rule draws its own lots.
fn is_drawn(rule: &SamplingRule, exec_id: ExecId) -> bool {
    let digest = Sha256::digest(format!("{} {exec_id}", rule.id));
    let lot = digest.iter().take(8).fold(0, |lot: u64, byte| (lot << 8) | u64::from(*byte));
    lot.is_multiple_of(rule.one_in.max(1).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(rules: &[(&str, u32)]) -> Sampling {
        let rule = |&(id, one_in): &(&str, u32)| SamplingRule {
            id: id.into(),
            one_in,
            policy_rule: None,
            program: None,
        };
        Sampling { rules: rules.iter().map(rule).collect() }
    }

    #[test]
    fn one_in_so_many_is_drawn_and_always_the_same() {
        let rules = sampling(&[("tenth", 10)]);
        let ids: Vec<ExecId> = (0..10_000).map(|n| uuid::Uuid::from_u128(n).into()).collect();
        let drawn = |rules: &Sampling| -> Vec<bool> {
            ids.iter().map(|id| draw(rules, *id, &[], &[]).is_some()).collect()
        };
        let first = drawn(&rules);
        let count = first.iter().filter(|drawn| **drawn).count();
        assert!((850..1150).contains(&count), "{count}");
        assert_eq!(first, drawn(&rules));
        assert_ne!(first, drawn(&sampling(&[("other", 10)])), "a rule draws its own lots");
    }

    #[test]
    fn the_first_rule_that_draws_is_named() {
        let id = uuid::Uuid::from_u128(7).into();
        assert_eq!(draw(&sampling(&[("all", 1), ("too", 1)]), id, &[], &[]), Some("all"));
        assert_eq!(draw(&Sampling::default(), id, &[], &[]), None);
    }
}
