//! Shares of the places for calls that take as long as their client likes: no session and no token
//! has all of them, so that whoever stops reading keeps nobody else waiting.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::ids::{SessionId, TokenId};
use protocol::calls::Call;

use super::MAX_CALLS;

/// Long calls of one session at once.
const PER_SESSION: usize = MAX_CALLS / 4;
/// Long calls of one token at once.
const PER_TOKEN: usize = MAX_CALLS / 2;

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Shares(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    sessions: HashMap<SessionId, usize>,
    tokens: HashMap<TokenId, usize>,
}

/// The place of a long call, until it is dropped.
pub(super) struct Share {
    shares: Shares,
    session_id: SessionId,
    token_id: Option<TokenId>,
}

impl Shares {
    /// A place for a call; a short one needs none. Otherwise a sentence for people.
    pub(super) fn take(&self, call: &Call) -> Result<Option<Share>, String> {
        if !call.what.is_long() {
            return Ok(None);
        }
        let (session_id, token_id) = (call.session_id, call.token_id);
        let mut counts = self.lock();
        if counts.sessions.get(&session_id).is_some_and(|count| *count >= PER_SESSION) {
            return Err(busy("session", PER_SESSION));
        }
        if token_id.is_some_and(|id| counts.tokens.get(&id).is_some_and(|it| *it >= PER_TOKEN)) {
            return Err(busy("token", PER_TOKEN));
        }
        *counts.sessions.entry(session_id).or_default() += 1;
        if let Some(id) = token_id {
            *counts.tokens.entry(id).or_default() += 1;
        }
        drop(counts);
        Ok(Some(Share { shares: self.clone(), session_id, token_id }))
    }

    /// A panic elsewhere leaves the counts whole: nothing panics between their changes.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.shares.lock();
        give_back(&mut counts.sessions, &self.session_id);
        if let Some(id) = &self.token_id {
            give_back(&mut counts.tokens, id);
        }
    }
}

fn give_back<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

fn busy(whose: &str, limit: usize) -> String {
    format!(
        "the {whose} has {limit} calls about files or input under way at the executor: let one of \
         them end, then try again"
    )
}

#[cfg(test)]
mod tests {
    use domain::limits::SandboxLimits;
    use protocol::calls::CallKind;
    use protocol::files::FileRequest;
    use uuid::Uuid;

    use super::*;

    fn call(session: u128, token: u128, what: CallKind) -> Call {
        Call {
            session_id: Uuid::from_u128(session).into(),
            limits: SandboxLimits::default(),
            image_digest: String::new(),
            min_generation: 1,
            token_id: Some(Uuid::from_u128(token).into()),
            what,
            timeout_ms: 1,
        }
    }

    fn read() -> CallKind {
        CallKind::Files(FileRequest::Get { path: "a".into(), max_bytes: 1 })
    }

    #[test]
    fn a_session_and_a_token_have_their_share_and_no_more() {
        let shares = Shares::default();
        let take = |session, token| shares.take(&call(session, token, read())).map(Option::unwrap);
        let mut held: Vec<_> = (0..PER_SESSION).map(|_| take(1, 1).expect("a place")).collect();
        assert!(take(1, 2).is_err(), "the same session, by another token");
        held.extend((0..PER_TOKEN - PER_SESSION).map(|_| take(2, 1).expect("a place")));
        let why = take(3, 1).err().expect("the same token, in another session");
        assert!(why.contains("the token has 32 calls"), "{why}");
        let signal = CallKind::Signal { exec_id: Uuid::from_u128(9).into(), signal: 15 };
        assert!(shares.take(&call(1, 1, signal)).expect("short").is_none());
        assert!(take(3, 2).is_ok(), "somebody else");
        held.clear();
        assert!(take(1, 1).is_ok());
        let counts = shares.lock();
        assert!(counts.sessions.is_empty() && counts.tokens.is_empty());
    }
}
