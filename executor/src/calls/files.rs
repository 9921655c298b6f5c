//! Work on files: has the helper do it inside the session's sandbox and answers with what it says,
//! as far as that can be true. Nothing of it runs on the host.

use std::time::Duration;

use domain::ids::ExecId;
use protocol::calls::{Call, CallReply};
use protocol::files::{
    FileError, FileErrorCode, FileReply, FileRequest, MAX_ARCHIVE_BYTES, MAX_FILE_BYTES,
};
use protocol::init::{Exit, Stdin};
use uuid::Uuid;

use super::helper::{Event, Helper, HelperError, gate};
use super::replica::{Answer, ClientBody, Replica};
use super::{CallError, Desk};
use crate::hold::{FileUse, Hold};
use crate::sandboxes::{SandboxError, Wanted};
use crate::start::files_frame;

/// Longest answer without the bytes behind it.
const MAX_HEADER_BYTES: usize = 1024 * 1024;

/// Does it and answers.
pub(super) async fn work(
    desk: &Desk,
    replica: &Replica,
    call: &Call,
    request: &FileRequest,
    limit: Duration,
) -> Result<(), CallError> {
    let body = if reads(request) { Some(replica.get_body().await?) } else { None };
    let mut helper = match start(desk, call, request, body, limit).await {
        Ok(started) => started,
        Err(refusal) => return Ok(replica.reply(&refusal).await?),
    };
    let (reply, rest) = match hear_header(&mut helper, request).await {
        Ok(Ok(header)) => header,
        Ok(Err(refusal)) => return Ok(replica.reply(&CallReply::FilesRefused(refusal)).await?),
        Err(HelperError::Busy) => return Ok(replica.reply(&busy()).await?),
        Err(HelperError::Call(error)) => return Err(error),
        Err(error) => {
            tracing::debug!(session = %call.session_id, %error, "work on files failed");
            let why = match error {
                HelperError::Refused => {
                    "the sandbox can start nothing now: other commands of the session may use up \
                     its processes or its memory; try again when one of them has ended"
                }
                HelperError::Paused => {
                    "somebody has paused the sandbox's container: nothing runs there until it is \
                     unpaused or removed"
                }
                _ => "the sandbox broke off: try again",
            };
            let why = why.to_owned();
            return Ok(replica.reply(&CallReply::Unavailable(why)).await?);
        }
    };
    let Some(size) = Size::of_bytes(&reply) else {
        return Ok(replica.reply(&CallReply::Files(reply)).await?);
    };
    // What fails before its first byte can still be told.
    let first = match rest.is_empty() {
        true => helper.next().await,
        false => Ok(Event::Piece(rest)),
    };
    let first = match first {
        Ok(Event::End(exit)) if exit.code != Some(0) => {
            let refusal = refusal(helper.stderr(), exit);
            return Ok(replica.reply(&CallReply::FilesRefused(refusal)).await?);
        }
        Ok(event) => event,
        Err(HelperError::Call(error)) => return Err(error),
        Err(_) => return Err(CallError::Aborted),
    };
    let (answer, upload) = replica.reply_with_bytes(CallReply::Files(reply));
    let copy = async {
        copy(&mut helper, size, first, &answer).await?;
        // Reached only when all is well: without it the answer counts as broken off.
        answer.finish().await
    };
    let (uploaded, copied) = tokio::join!(upload, copy);
    copied?;
    Ok(uploaded?)
}

async fn start(
    desk: &Desk,
    call: &Call,
    request: &FileRequest,
    body: Option<ClientBody>,
    limit: Duration,
) -> Result<Helper, CallReply> {
    let malformed = |_| CallReply::Unavailable("the call is malformed".into());
    let limits = call.limits.validate();
    limits.map_err(|error| CallReply::Unavailable(error.to_string()))?;
    let json = serde_json::to_string(request).map_err(malformed)?;
    let wanted = Wanted {
        session_id: call.session_id,
        limits: call.limits,
        image: call.image_digest.clone(),
        min_generation: call.min_generation,
    };
    let made = desk.sandboxes.get_or_create(wanted).await;
    let (sandbox, connection) = made.map_err(|error| {
        let reason = &error as &dyn std::error::Error;
        tracing::warn!(session = %call.session_id, reason, "no sandbox for a call");
        CallReply::Unavailable(explain(&error))
    })?;
    let exec_id = ExecId::from(Uuid::now_v7());
    let stdin = if body.is_some() { Stdin::Open } else { Stdin::Closed };
    let frame = files_frame(exec_id, json, stdin, desk.uid, limit);
    // What a body is for is done behind its end.
    let hold = match changes(request) && body.is_none() {
        true => gate(sandbox.files.take(FileUse::Changes)).await.map_err(|_| busy())?,
        false => Hold::Nothing,
    };
    Ok(Helper::start(sandbox, connection, frame, body, hold))
}

fn busy() -> CallReply {
    let message = "a git command that policy allowed is reading the workspace, and nothing was \
                   changed: try again when it has ended, or cancel it";
    CallReply::FilesRefused(FileError { code: FileErrorCode::Busy, message: message.into() })
}

fn explain(error: &SandboxError) -> String {
    match error {
        SandboxError::Closed => "the session is closed".to_owned(),
        _ => error.not_started().message().to_owned(),
    }
}

/// Whether it changes files.
fn changes(request: &FileRequest) -> bool {
    match request {
        FileRequest::Put { .. }
        | FileRequest::Mkdir { .. }
        | FileRequest::Delete { .. }
        | FileRequest::PutArchive { .. } => true,
        FileRequest::Get { .. }
        | FileRequest::Stat { .. }
        | FileRequest::List { .. }
        | FileRequest::GetArchive { .. } => false,
    }
}

/// Whether it reads a body.
fn reads(request: &FileRequest) -> bool {
    matches!(request, FileRequest::Put { .. } | FileRequest::PutArchive { .. })
}

type Header = Result<(FileReply, Vec<u8>), FileError>;

/// What the helper answers, with the first bytes behind it. An answer without any counts only when
/// the helper has ended well.
async fn hear_header(helper: &mut Helper, request: &FileRequest) -> Result<Header, HelperError> {
    let mut line = Vec::new();
    let end = loop {
        match helper.next().await? {
            Event::Piece(bytes) => line.extend_from_slice(&bytes),
            Event::End(exit) => return Ok(Err(refusal(helper.stderr(), exit))),
        }
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            break end;
        }
        if line.len() > MAX_HEADER_BYTES {
            return Ok(Err(failed()));
        }
    };
    let mut rest = line.split_off(end);
    rest.remove(0);
    let reply = serde_json::from_slice(&line).ok().filter(|reply| fits(request, reply));
    let Some(reply) = reply.filter(|_| line.len() <= MAX_HEADER_BYTES) else {
        return Ok(Err(failed()));
    };
    if Size::of_bytes(&reply).is_none() {
        let ended = if rest.is_empty() { helper.next().await? } else { Event::Piece(Vec::new()) };
        match ended {
            Event::End(exit) if exit.code == Some(0) => {}
            Event::End(exit) => return Ok(Err(refusal(helper.stderr(), exit))),
            Event::Piece(_) => return Ok(Err(failed())),
        }
    }
    Ok(Ok((reply, rest)))
}

/// Copies the bytes behind the header, exactly as many as there have to be.
async fn copy(
    helper: &mut Helper,
    size: Size,
    first: Event,
    answer: &Answer,
) -> Result<(), CallError> {
    let mut copied = 0;
    let mut event = first;
    loop {
        match event {
            Event::Piece(bytes) => {
                copied += bytes.len() as u64;
                if copied > size.most() {
                    return Err(CallError::Aborted);
                }
                if !bytes.is_empty() {
                    answer.send(bytes).await?;
                }
            }
            Event::End(exit) => {
                let whole = exit.code == Some(0) && size.allows(copied);
                return if whole { Ok(()) } else { Err(CallError::Aborted) };
            }
        }
        event = helper.next().await.map_err(|error| {
            tracing::debug!(%error, "an answer breaks off");
            CallError::Aborted
        })?;
    }
}

/// How many bytes follow an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Exactly(u64),
    AtMost(u64),
}

impl Size {
    fn of_bytes(reply: &FileReply) -> Option<Self> {
        match reply {
            FileReply::Get { bytes, .. } => Some(Self::Exactly(*bytes)),
            FileReply::GetArchive { .. } => Some(Self::AtMost(MAX_ARCHIVE_BYTES)),
            _ => None,
        }
    }

    fn most(self) -> u64 {
        match self {
            Self::Exactly(bytes) | Self::AtMost(bytes) => bytes,
        }
    }

    fn allows(self, bytes: u64) -> bool {
        match self {
            Self::Exactly(exactly) => bytes == exactly,
            Self::AtMost(most) => bytes <= most,
        }
    }
}

/// Whether an answer is one to this request, within its limits.
fn fits(request: &FileRequest, reply: &FileReply) -> bool {
    match (request, reply) {
        (FileRequest::Get { max_bytes, .. }, FileReply::Get { bytes, .. }) => {
            *bytes <= (*max_bytes).min(MAX_FILE_BYTES)
        }
        (FileRequest::List { limit, .. }, FileReply::List { entries, .. }) => {
            entries.len() as u64 <= u64::from(*limit)
        }
        (FileRequest::Put { .. }, FileReply::Put { .. })
        | (FileRequest::Stat { .. }, FileReply::Stat { .. })
        | (FileRequest::Mkdir { .. }, FileReply::Mkdir { .. })
        | (FileRequest::Delete { .. }, FileReply::Delete { .. })
        | (FileRequest::PutArchive { .. }, FileReply::PutArchive { .. })
        | (FileRequest::GetArchive { .. }, FileReply::GetArchive { .. }) => true,
        _ => false,
    }
}

/// Why the helper ended without an answer, in its own words if it found any.
fn refusal(stderr: &[u8], exit: Exit) -> FileError {
    let line = stderr.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let said = serde_json::from_slice(line).ok();
    said.filter(|_| exit.code == Some(1)).unwrap_or_else(|| match exit {
        Exit { timed_out: true, .. } => FileError {
            code: FileErrorCode::Failed,
            message: "it took too long: try with less, or with more time".into(),
        },
        _ => failed(),
    })
}

fn failed() -> FileError {
    let message = "the work on files failed inside the sandbox: try again".into();
    FileError { code: FileErrorCode::Failed, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXIT: Exit = Exit {
        code: Some(1),
        signal: None,
        timed_out: false,
        cancelled: false,
        duration_ms: 1,
        survivors: 0,
    };

    #[test]
    fn a_refusal_is_the_helpers_first_line_or_a_general_sentence() {
        let said = br#"{"code":"not_found","message":"there is no a"}"#;
        let code = |stderr: &[u8], exit| refusal(stderr, exit).code;
        assert_eq!(code(said, EXIT), FileErrorCode::NotFound);
        assert_eq!(code(&[said, &b"\nnoise"[..]].concat(), EXIT), FileErrorCode::NotFound);
        for (stderr, exit) in [
            (&b""[..], EXIT),
            (b"a panic", EXIT),
            (br#"{"code":"root_password","message":""}"#, EXIT),
            (said, Exit { code: Some(0), ..EXIT }),
            (said, Exit { code: None, signal: Some(9), ..EXIT }),
        ] {
            assert_eq!(code(stderr, exit), FileErrorCode::Failed);
        }
        let late = refusal(b"", Exit { code: None, signal: Some(15), timed_out: true, ..EXIT });
        assert!(late.message.contains("too long"));
    }

    #[test]
    fn an_answer_to_another_request_or_over_its_limits_is_none() {
        let asked = |max_bytes| FileRequest::Get { path: "a".into(), max_bytes };
        let got = |bytes| FileReply::Get { bytes, sha256: String::new(), modified_at_ms: 0 };
        assert!(fits(&asked(5), &got(5)));
        assert!(!fits(&asked(5), &got(6)));
        assert!(!fits(&asked(u64::MAX), &got(MAX_FILE_BYTES + 1)));
        assert!(!fits(&asked(5), &FileReply::Mkdir { created: true }));
        let list = FileRequest::List { path: String::new(), after: None, limit: 0 };
        assert!(fits(&list, &FileReply::List { entries: Vec::new(), more: true }));
    }

    #[test]
    fn a_files_bytes_are_exactly_as_many_as_announced() {
        let get = FileReply::Get { bytes: 5, sha256: String::new(), modified_at_ms: 0 };
        let size = Size::of_bytes(&get).expect("bytes follow");
        assert!(size.allows(5) && !size.allows(4) && !size.allows(6));
        let archive = FileReply::GetArchive { entries: 1, bytes: 1 };
        let size = Size::of_bytes(&archive).expect("bytes follow");
        assert!(size.allows(0) && !size.allows(MAX_ARCHIVE_BYTES + 1));
        assert_eq!(Size::of_bytes(&FileReply::Mkdir { created: true }), None);
    }
}
