//! New ids: the one place that draws randomness and time for them.

use uuid::Uuid;

/// A new id. Ids sort by the time of their making.
pub fn new<T: From<Uuid>>() -> T {
    T::from(Uuid::now_v7())
}
