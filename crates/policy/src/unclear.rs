//! Why something was not understood: one sentence for the person who is asked.

/// A part of a script that the engine does not fully understand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unclear(String);

impl Unclear {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// What is understood, or why it is not.
pub(crate) type Clear<T> = Result<T, Unclear>;

/// Refuses with a sentence.
pub(crate) fn refuse<T>(reason: impl Into<String>) -> Clear<T> {
    Err(Unclear::new(reason))
}
