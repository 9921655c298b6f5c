//! What can go wrong with a request, in words for the person who made it.

use serde::{Deserialize, Serialize};

/// An error that the control plane answered (`application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{title} ({status} {code}){}", suffix(.detail))]
pub struct ApiProblem {
    /// The HTTP status.
    pub status: u16,
    /// Stable name of the error.
    #[serde(default)]
    pub code: String,
    /// What it is, in a few words.
    #[serde(default)]
    pub title: String,
    /// What it is about this time.
    #[serde(default)]
    pub detail: Option<String>,
}

fn suffix(detail: &Option<String>) -> String {
    detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default()
}

impl ApiProblem {
    /// Reads the body of an error answer. One that is none of ours keeps its status.
    pub(super) fn from_answer(status: u16, body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_else(|_| Self {
            status,
            code: "unreadable_answer".into(),
            title: "the server answered with an error that is not Bulkhead's".into(),
            detail: None,
        })
    }
}

/// Why a request brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is unusable.
    #[error("`{url}` is not an http or https address")]
    InvalidUrl {
        /// What was given.
        url: String,
    },
    /// There was no answer, or it broke off.
    #[error("no answer from the control plane at {url}; is it running? `bulkhead dev` starts one")]
    Transport {
        /// Where it was expected.
        url: String,
        /// What the network said.
        source: reqwest::Error,
    },
    /// An answer broke off.
    #[error("the download from {url} broke off before its end; try again")]
    BrokenDownload {
        /// Where it came from.
        url: String,
        /// What the network said.
        source: reqwest::Error,
    },
    /// The control plane said no.
    #[error(transparent)]
    Problem(#[from] ApiProblem),
    /// The answer has another shape than this version knows.
    #[error("{path} answered something unexpected; are client and server of the same version?")]
    UnexpectedAnswer {
        /// The path asked for.
        path: String,
        /// What did not fit.
        source: serde_json::Error,
    },
}

impl ClientError {
    /// The control plane's own error, if it is one.
    pub fn problem(&self) -> Option<&ApiProblem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// The HTTP status, if there was an error answer.
    pub fn status(&self) -> Option<u16> {
        self.problem().map(|problem| problem.status)
    }

    /// Whether asking again may help: there was no answer, or the server is in trouble.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::BrokenDownload { .. } => true,
            Self::Problem(problem) => matches!(problem.status, 429 | 502 | 503 | 504),
            Self::InvalidUrl { .. } | Self::UnexpectedAnswer { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_read_and_told() {
        let body = br#"{"type":"about:blank","title":"Not found","status":404,"code":"not_found","detail":"no such session"}"#;
        let problem = ApiProblem::from_answer(404, body);
        assert_eq!(problem.to_string(), "Not found (404 not_found): no such session");
    }

    #[test]
    fn a_foreign_answer_keeps_its_status() {
        let problem = ApiProblem::from_answer(502, b"<html>Bad gateway</html>");
        assert_eq!((problem.status, problem.code.as_str()), (502, "unreadable_answer"));
        assert!(ClientError::from(problem).is_transient());
    }
}
