//! Which of the execs that policy allows by itself are put before a reviewer. What is drawn among
//! those that a rule is for is not decided here.

use serde::{Deserialize, Serialize};

use crate::limits::{MAX_NAME_BYTES, MAX_SAMPLE_ONE_IN, MAX_SAMPLING_RULES};

/// Longest name of a policy rule or program that a sampling rule may look for, in bytes.
const MAX_WANTED_BYTES: usize = 256;

/// The sampling rules of a tenant, in order: the first that draws an exec is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// The rules.
    pub rules: Vec<SamplingRule>,
}

/// One rule. Without `policy_rule` and `program` it is for every exec; with both, for execs that
/// have both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SamplingRule {
    /// Its name: letters, digits, `-` and `_`.
    pub id: String,
    /// Draws one exec in so many, on average; 1 draws each.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1_000_000))]
    pub one_in: u32,
    /// Only execs that this policy rule allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_rule: Option<String>,
    /// Only execs that run this program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
}

/// Sampling rules that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSampling {
    /// More than anybody needs.
    #[error("there may be at most {MAX_SAMPLING_RULES} sampling rules")]
    TooMany,
    /// A name that is none.
    #[error(
        "rules[{0}].id must have 1 to {MAX_NAME_BYTES} letters, digits, - or _, and no other rule's"
    )]
    Id(usize),
    /// A rate that is none.
    #[error("rules[{0}].one_in must be between 1 and {MAX_SAMPLE_ONE_IN}")]
    OneIn(usize),
    /// A text that is none.
    #[error("rules[{0}].{1} must have 1 to {MAX_WANTED_BYTES} bytes without NUL characters")]
    Wanted(usize, &'static str),
}

impl Sampling {
    /// Checks every limit.
    ///
    /// # Errors
    /// Names the first rule that breaks one, counted from 0.
    pub fn validate(&self) -> Result<(), InvalidSampling> {
        if self.rules.len() > MAX_SAMPLING_RULES {
            return Err(InvalidSampling::TooMany);
        }
        for (n, rule) in self.rules.iter().enumerate() {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            let is_named = (1..=MAX_NAME_BYTES).contains(&rule.id.len());
            let is_taken = self.rules[..n].iter().any(|earlier| earlier.id == rule.id);
            if !is_named || is_taken || !rule.id.bytes().all(plain) {
                return Err(InvalidSampling::Id(n));
            }
            if !(1..=MAX_SAMPLE_ONE_IN).contains(&rule.one_in) {
                return Err(InvalidSampling::OneIn(n));
            }
            let wanted = [("policy_rule", &rule.policy_rule), ("program", &rule.program)];
            let unfit = |text: &String| {
                !(1..=MAX_WANTED_BYTES).contains(&text.len()) || text.contains('\0')
            };
            if let Some((name, _)) =
                wanted.into_iter().find(|(_, text)| text.as_ref().is_some_and(unfit))
            {
                return Err(InvalidSampling::Wanted(n, name));
            }
        }
        Ok(())
    }
}

impl SamplingRule {
    /// Whether the rule is for an exec that these policy rules allowed and that runs these programs.
    pub fn is_for(&self, policy_rules: &[String], programs: &[&str]) -> bool {
        let has_rule = |wanted: &String| policy_rules.contains(wanted);
        let has_program = |wanted: &String| programs.contains(&wanted.as_str());
        self.policy_rule.as_ref().is_none_or(has_rule)
            && self.program.as_ref().is_none_or(has_program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(id: &str, one_in: u32) -> SamplingRule {
        SamplingRule { id: id.into(), one_in, policy_rule: None, program: None }
    }

    #[test]
    fn a_rule_is_for_what_it_names() {
        let rules = ["reads".to_owned()];
        let curl = SamplingRule { program: Some("curl".into()), ..rule("curl", 1) };
        let both = SamplingRule { policy_rule: Some("reads".into()), ..curl.clone() };
        assert!(rule("all", 1).is_for(&[], &[]));
        assert!(curl.is_for(&[], &["ls", "curl"]) && !curl.is_for(&rules, &["ls"]));
        assert!(both.is_for(&rules, &["curl"]));
        assert!(!both.is_for(&[], &["curl"]) && !both.is_for(&rules, &["ls"]));
    }

    #[test]
    fn what_breaks_a_limit_is_named() {
        let check = |rules: Vec<SamplingRule>| Sampling { rules }.validate();
        assert_eq!(check(vec![rule("a", 1), rule("b-_9", MAX_SAMPLE_ONE_IN)]), Ok(()));
        assert_eq!(check(vec![rule("a", 1), rule("a", 1)]), Err(InvalidSampling::Id(1)));
        assert_eq!(check(vec![rule("", 1)]), Err(InvalidSampling::Id(0)));
        assert_eq!(check(vec![rule("a b", 1)]), Err(InvalidSampling::Id(0)));
        assert_eq!(check(vec![rule("a", 0)]), Err(InvalidSampling::OneIn(0)));
        let long = SamplingRule { program: Some("x".repeat(257)), ..rule("a", 1) };
        assert_eq!(check(vec![long]), Err(InvalidSampling::Wanted(0, "program")));
        let many = (0..51).map(|n| rule(&format!("r{n}"), 1)).collect();
        assert_eq!(check(many), Err(InvalidSampling::TooMany));
    }
}
