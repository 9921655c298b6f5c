//! The transfers of `bulkhead files`: streams with their sums checked on both sides.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use futures::Stream;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

use crate::client::{Client, Put, Stream as Output, hex};
use crate::console;
use crate::files::{Arrival, PackError, Unpacked, pack, unpack};

/// Bytes on their way at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces of an archive that wait to be sent.
const QUEUE: usize = 4;

/// Sends the file `local`, or stdin for `-`.
pub(super) async fn put(client: &Client, url: &str, local: &Path) -> Result<Value> {
    let (answer, sent) = if local == Path::new("-") {
        client.upload(url, None, pieces(tokio::io::stdin())).await?
    } else {
        let opening = || format!("cannot read {}", local.display());
        let file = tokio::fs::File::open(local).await.with_context(opening)?;
        let metadata = file.metadata().await.with_context(opening)?;
        if metadata.is_dir() {
            bail!("{} is a folder: copy it with `bulkhead files upload`", local.display());
        }
        // A pipe has no length that could be promised.
        let length = metadata.is_file().then_some(metadata.len());
        client.upload(url, length, pieces(file.take(length.unwrap_or(u64::MAX)))).await?
    };
    taken(answer, &sent)
}

fn taken(answer: Put, sent: &str) -> Result<Value> {
    ensure!(
        answer.sha256 == sent,
        "the server got something else than was sent (SHA-256 {}, sent {sent}): send it again",
        console::printable(&answer.sha256)
    );
    let mut done = Value::Object(answer.rest);
    done["sha256"] = answer.sha256.into();
    Ok(done)
}

fn pieces(
    from: impl AsyncRead + Send + Unpin + 'static,
) -> impl Stream<Item = io::Result<Vec<u8>>> + Send + 'static {
    futures::stream::unfold(Some(from), |from| async {
        let mut from = from?;
        let mut piece = vec![0; PIECE_BYTES];
        match from.read(&mut piece).await {
            Ok(0) => None,
            Ok(read) => {
                piece.truncate(read);
                Some((Ok(piece), Some(from)))
            }
            Err(problem) => Some((Err(problem), None)),
        }
    })
}

/// Fetches a file to `local`, or to stdout for `-`; then there is nothing to print.
pub(super) async fn get(client: &Client, url: &str, local: &Path) -> Result<Option<Value>> {
    let to_stdout = local == Path::new("-");
    let mut download = client.download(url).await?;
    let promised = download.sha256().map(str::to_owned).context(
        "the server promises no SHA-256 for the file; are client and server of the same version?",
    )?;
    let length = download.length();
    let writing = || format!("cannot write {}", local.display());
    let mut arrival =
        if to_stdout { None } else { Some(Arrival::begin(local).with_context(writing)?) };
    let (mut digest, mut bytes) = (Sha256::new(), 0);
    while let Some(piece) = download.next().await? {
        digest.update(&piece);
        bytes += piece.len() as u64;
        match &mut arrival {
            Some(arrival) => arrival.write(&piece).with_context(writing)?,
            None => console::write_stream(Output::Stdout, &piece)?,
        }
    }
    let got = hex(&digest.finalize());
    ensure!(
        got == promised && length.is_none_or(|length| length == bytes),
        "the download is damaged ({bytes} bytes, SHA-256 {got}; promised {promised}): try again"
    );
    let Some(arrival) = arrival else { return Ok(None) };
    arrival.finish().with_context(writing)?;
    Ok(Some(json!({"path": local.to_string_lossy(), "bytes": bytes, "sha256": got})))
}

/// Sends a folder as an archive that is packed while it is sent.
pub(super) async fn upload(client: &Client, url: &str, folder: &Path) -> Result<Value> {
    ensure!(folder.is_dir(), "{} is not a folder", folder.display());
    let (sender, receiver) = mpsc::channel(QUEUE);
    let root = folder.to_path_buf();
    let packing = tokio::task::spawn_blocking(move || {
        let out = io::BufWriter::with_capacity(PIECE_BYTES, Sender(sender.clone()));
        let packed = pack(&root, out);
        if packed.is_err() {
            // Without it the archive would seem to end here. A server that left needs none.
            let _ = sender.blocking_send(Err(io::ErrorKind::Other.into()));
        }
        packed
    });
    let archive = futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    let answer = client.upload(url, None, archive).await;
    let skipped = match packing.await? {
        Ok(skipped) => skipped,
        // The server's own words, if it said why it takes no more.
        Err(PackError::Send(source)) => {
            return Err(match answer {
                Err(problem) => problem.into(),
                Ok(_) => PackError::Send(source).into(),
            });
        }
        Err(problem) => return Err(problem.into()),
    };
    for path in skipped {
        let path = path.to_string_lossy().into_owned();
        console::say(format_args!("skipped {}: not a file", console::printable(&path)));
    }
    let (answer, sent) = answer?;
    taken(answer, &sent)
}

struct Sender(mpsc::Sender<io::Result<Vec<u8>>>);

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(bytes.to_vec()));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Fetches a folder as an archive and unpacks it into `folder`, which is made.
pub(super) async fn download(client: &Client, url: &str, folder: &Path) -> Result<Value> {
    let mut download = client.download(url).await?;
    let writing = || format!("cannot write into {}", folder.display());
    std::fs::create_dir_all(folder).with_context(writing)?;
    let mut archive = nameless(folder).with_context(writing)?;
    while let Some(piece) = download.next().await? {
        archive.write_all(&piece).with_context(writing)?;
    }
    let Unpacked { entries, bytes } = {
        use io::Seek;
        archive.rewind()?;
        unpack(&mut archive, folder)?
    };
    Ok(json!({"path": folder.to_string_lossy(), "entries": entries, "bytes": bytes}))
}

/// A file that is gone when we are.
fn nameless(folder: &Path) -> io::Result<File> {
    let flags = nix::fcntl::OFlag::O_TMPFILE;
    let mut options = File::options();
    options.read(true).write(true).mode(0o600).custom_flags(flags.bits());
    options.open(folder).or_else(|_| {
        // Not every file system has nameless files.
        options.custom_flags(0).create_new(true);
        let path = folder.join(format!(".bulkhead-{}.part", std::process::id()));
        let file = options.open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    })
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
