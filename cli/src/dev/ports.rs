//! Ports that nobody uses.

use std::net::{Ipv4Addr, TcpListener};

use super::DevError;

/// The wanted port if it is free, or any free one.
///
/// It is free when looked at; a program that takes it before ours does will be named in our
/// program's log.
pub(super) fn choose(wanted: Option<u16>) -> Result<u16, DevError> {
    let port = wanted.unwrap_or(0);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(|source| DevError::Port { port, source })
}
