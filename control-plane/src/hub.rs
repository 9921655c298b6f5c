//! Wakes whoever waits for a session's news. One database listener serves any number of waiters;
//! it only says "look", the tables tell.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::ids::SessionId;
use tokio::sync::watch;

use crate::store::Store;

/// See the module.
#[derive(Default)]
pub struct Hub {
    sessions: Mutex<HashMap<SessionId, watch::Sender<u64>>>,
    is_listening: AtomicBool,
}

impl Hub {
    /// Subscribes to a session. Subscribe before reading the table, or news may fall between.
    pub fn subscribe(&self, session_id: SessionId) -> watch::Receiver<u64> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() > 64 && sessions.len().is_power_of_two() {
            sessions.retain(|_, sender| sender.receiver_count() > 0);
        }
        sessions.entry(session_id).or_insert_with(|| watch::channel(0).0).subscribe()
    }

    /// Whether announcements arrive; otherwise waiters have to look by themselves.
    pub fn is_listening(&self) -> bool {
        self.is_listening.load(Ordering::Relaxed)
    }

    fn wake(&self, session_id: SessionId) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = sessions.get(&session_id) {
            sender.send_modify(|count| *count += 1);
            if sender.receiver_count() == 0 {
                sessions.remove(&session_id);
            }
        }
    }

    fn wake_all(&self) {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.values().for_each(|sender| sender.send_modify(|count| *count += 1));
    }

    /// Listens for as long as the process lives. After an interruption everybody looks once.
    pub async fn listen(self: Arc<Self>, store: Store) {
        loop {
            match store.listen().await {
                Ok(mut listener) => {
                    self.is_listening.store(true, Ordering::Relaxed);
                    self.wake_all();
                    loop {
                        match listener.try_recv().await {
                            Ok(Some(news)) => {
                                if let Ok(session_id) = news.payload().parse() {
                                    self.wake(session_id);
                                }
                            }
                            Ok(None) => self.wake_all(),
                            Err(error) => {
                                tracing::warn!(%error, "lost the database listener");
                                break;
                            }
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "cannot listen for events; will try again"),
            }
            self.is_listening.store(false, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}
