//! Accepts connections: a bounded number, each with a bounded time for its headers, and a bounded
//! wait for those that are under way when the server stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::Service;

use super::addresses::Addresses;
use super::stalled::Unstalled;

/// Connections at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// Largest request line and headers together, in bytes; looked at between two reads, so that up to
/// twice as much may get in.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// How long requests may go on after the server was told to stop.
const DRAIN: Duration = Duration::from_secs(3);

/// What one peer may take.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// How long it may take nothing of what is written to it.
    pub write_timeout: Duration,
    /// Connections at once from one address.
    pub per_address: usize,
}

/// Serves until `stop` resolves, then lets what is under way finish, for a moment.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    stop: impl Future<Output = ()>,
) {
    let addresses = Addresses::new(limits.per_address);
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let (stream, address) = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok(connection) => connection,
                Err(error) => {
                    // Out of descriptors, most likely: others have to end first.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        // One that has too many: closed at once, before a byte of it is read.
        let Some(place) = addresses.take(address.ip()) else { continue };
        let connection =
            connections.watch(connect(stream, address, limits.write_timeout, router.clone()));
        tokio::spawn(async move {
            // A client that breaks off is its own business.
            let _ = connection.await;
            drop((place, permit));
        });
    }
    let _ = tokio::time::timeout(DRAIN, connections.shutdown()).await;
}

fn connect(
    stream: TcpStream,
    address: SocketAddr,
    write_timeout: Duration,
    router: Router,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> + Send {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(address));
        router.clone().call(request)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(Unstalled::new(stream, write_timeout)), service)
}
