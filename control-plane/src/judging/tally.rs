//! Whether the votes on an approval are enough for what the rule asks.

use policy::Approvers;

use crate::store::Vote;

/// Enough people, and among them one of each role that the rule names.
pub fn is_enough(votes: &[Vote], needed: &Approvers) -> bool {
    let count = u32::try_from(votes.len()).unwrap_or(u32::MAX);
    let has = |role: &String| votes.iter().any(|vote| vote.role == *role);
    count >= needed.count.max(1) && needed.roles.iter().all(has)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::approval::ApprovalScope;
    use time::OffsetDateTime;

    fn votes(roles: &[&str]) -> Vec<Vote> {
        let vote = |role: &&str| Vote {
            actor: format!("x ({role})"),
            role: (*role).into(),
            scope: ApprovalScope::Once,
            created_at: OffsetDateTime::UNIX_EPOCH,
        };
        roles.iter().map(vote).collect()
    }

    #[test]
    fn the_number_and_the_roles_count() {
        let needed = |count, roles: &[&str]| Approvers {
            count,
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        };
        assert!(is_enough(&votes(&["reviewer"]), &needed(1, &[])));
        assert!(!is_enough(&votes(&[]), &needed(0, &[])));
        assert!(!is_enough(&votes(&["reviewer"]), &needed(2, &[])));
        assert!(!is_enough(&votes(&["reviewer", "reviewer"]), &needed(2, &["owner"])));
        assert!(is_enough(&votes(&["reviewer", "owner"]), &needed(2, &["owner"])));
        assert!(!is_enough(&votes(&["owner"]), &needed(1, &["owner", "reviewer"])));
    }
}
