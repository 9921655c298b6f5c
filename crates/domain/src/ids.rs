//! Typed, prefixed ids such as `ses_…`: 32 lower-case hex digits of a UUID behind a prefix.
//!
//! Making a new id needs randomness, so callers pass the UUID in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {kind} id: expected `{prefix}` followed by 32 hex digits")]
pub struct InvalidId {
    kind: &'static str,
    prefix: &'static str,
}

macro_rules! id {
    ($name:ident, $prefix:literal, $kind:literal) => {
        #[doc = concat!("Identifies one ", $kind, "; written `", $prefix, "` and 32 hex digits.")]
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Uuid);

        impl $name {
            /// The prefix that tells this kind of id from others.
            pub const PREFIX: &'static str = $prefix;
        }

        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .pattern(Some(concat!("^", $prefix, "[0-9a-f]{32}$")))
                    .into()
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {}

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, self.0.simple())
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse($prefix, text).map(Self).ok_or(InvalidId { kind: $kind, prefix: $prefix })
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

id!(TenantId, "ten_", "tenant");
id!(TokenId, "tok_", "token");
id!(SessionId, "ses_", "session");
id!(TurnId, "trn_", "turn");
id!(ExecId, "exe_", "exec");
id!(SandboxId, "sbx_", "sandbox");
id!(ApprovalId, "apr_", "approval");
id!(ExecutorId, "exr_", "executor");
id!(GrantId, "gra_", "grant");
id!(WebhookId, "whk_", "webhook");
id!(CallId, "cal_", "call");
id!(FileCallId, "fcl_", "file call");
id!(ReviewId, "rev_", "review");

/// One spelling per id: upper-case digits or dashes would make two texts equal.
fn parse(prefix: &str, text: &str) -> Option<Uuid> {
    let digits = text.strip_prefix(prefix)?;
    let canonical = digits.len() == 32
        && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    canonical.then(|| Uuid::try_parse(digits).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text() {
        let id = ExecId::from(Uuid::from_u128(0xfeed));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string(), "exe_0000000000000000000000000000feed");
    }

    #[test]
    fn other_spellings_and_kinds_are_refused() {
        for text in [
            "",
            "exe_",
            "ses_0000000000000000000000000000feed",
            "exe_0000000000000000000000000000FEED",
            "exe_00000000-0000-0000-0000-00000000feed",
            "exe_0000000000000000000000000000feed ",
        ] {
            assert!(text.parse::<ExecId>().is_err(), "{text:?}");
        }
    }
}
