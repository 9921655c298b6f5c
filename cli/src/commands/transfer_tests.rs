//! Transfers with a server that does not keep its word.

use std::fs;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;
use crate::scratch::Scratch;

/// A client of a server that gives one answer, with these bytes, and hangs up.
async fn answering(answer: Vec<u8>) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut request = Vec::new();
        while !is_whole(&request) {
            let count = stream.read_buf(&mut request).await.expect("a request");
            assert!(count > 0, "the request is whole");
        }
        stream.write_all(&answer).await.expect("answered");
        let _ = stream.shutdown().await;
        // Closed with something unread, the connection would be reset, and the answer lost.
        let _ = stream.read_to_end(&mut request).await;
    });
    Client::new(&url, Some("t")).expect("a client")
}

/// Whether the request is there with its body: an answer that comes earlier says nothing of it.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.to_lowercase().lines().find_map(|line| {
        line.strip_prefix("content-length: ").map(|length| length.parse::<usize>())
    });
    length.is_none_or(|length| body.len() >= length.expect("a number"))
}

fn file(promised: &[u8], length: usize, bytes: &[u8]) -> Vec<u8> {
    let sum = hex(&Sha256::digest(promised));
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nx-content-sha256: {sum}\r\n\
         connection: close\r\n\r\n"
    );
    [head.as_bytes(), bytes].concat()
}

#[tokio::test]
async fn a_whole_file_arrives() {
    let scratch = Scratch::new();
    let client = answering(file(b"hello", 5, b"hello")).await;
    let done = get(&client, "/x", &scratch.path().join("a")).await.expect("arrived");
    assert_eq!(done.expect("told")["bytes"], 5);
    assert_eq!(fs::read(scratch.path().join("a")).expect("read"), b"hello");
    assert_eq!(scratch.names(), ["a"]);
}

#[tokio::test]
async fn a_file_with_another_sum_or_a_missing_end_leaves_nothing() {
    for answer in [file(b"hello", 5, b"hullo"), file(b"hello", 5, b"hel")] {
        let scratch = Scratch::new();
        let client = answering(answer).await;
        get(&client, "/x", &scratch.path().join("a")).await.expect_err("damaged");
        assert_eq!(scratch.names(), [] as [&str; 0]);
    }
}

#[tokio::test]
async fn a_server_that_took_something_else_is_found_out() {
    let scratch = Scratch::new();
    let local = scratch.path().join("a");
    fs::write(&local, "hello").expect("written");
    for (taken, good) in [(&b"hello"[..], true), (b"hullo", false)] {
        let body = json!({"sha256": hex(&Sha256::digest(taken)), "bytes": 5}).to_string();
        let head = format!("HTTP/1.1 201 Created\r\ncontent-length: {}\r\n\r\n", body.len());
        let client = answering([head.as_bytes(), body.as_bytes()].concat()).await;
        let outcome = put(&client, "/x", &local).await;
        assert_eq!(outcome.is_ok(), good, "{outcome:?}");
    }
}

#[tokio::test]
async fn an_archive_that_breaks_off_writes_nothing() {
    let scratch = Scratch::new();
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o644);
    archive.append_data(&mut header, "a", &b"data"[..]).expect("appended");
    let archive = archive.into_inner().expect("finished");
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", archive.len() + 1);
    let client = answering([head.as_bytes(), &archive].concat()).await;
    download(&client, "/x", &scratch.path().join("d")).await.expect_err("broken off");
    assert_eq!(fs::read_dir(scratch.path().join("d")).expect("a folder").count(), 0);
}
