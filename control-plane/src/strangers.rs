//! How many requests without a good token one address may send in a minute, at this process.
//!
//! Memory is bounded: addresses beyond `MAX_ADDRESSES` in one minute share one count.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use time::OffsetDateTime;

use crate::rates::Standing;

/// Addresses that have a count of their own in one minute.
const MAX_ADDRESSES: usize = 20_000;
/// What the others may send together, in shares of one address.
const SHARES_OF_THE_REST: i64 = 10;

#[derive(Default)]
struct Window {
    minute: i64,
    counts: HashMap<IpAddr, i64>,
    rest: i64,
}

/// See the module.
pub struct Strangers {
    per_minute: i64,
    window: Mutex<Window>,
}

impl Strangers {
    /// Nobody has sent anything yet; an address may send `per_minute`.
    pub fn new(per_minute: i64) -> Self {
        Self { per_minute, window: Mutex::default() }
    }

    /// Counts a request, unless it is one too many.
    pub fn take(&self, address: IpAddr) -> Standing {
        self.take_at(address, OffsetDateTime::now_utc().unix_timestamp())
    }

    fn take_at(&self, address: IpAddr, now_s: i64) -> Standing {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now_s.div_euclid(60);
        if minute > window.minute {
            *window = Window { minute, ..Window::default() };
        }
        let address = network(address);
        let has_room = window.counts.len() < MAX_ADDRESSES || window.counts.contains_key(&address);
        let (count, limit) = if has_room {
            (window.counts.entry(address).or_default(), self.per_minute)
        } else {
            (&mut window.rest, self.per_minute.saturating_mul(SHARES_OF_THE_REST))
        };
        let refused = *count >= limit;
        if !refused {
            *count += 1;
        }
        let (remaining, reset_s) = (limit - *count, 60 - now_s.rem_euclid(60));
        Standing { limit, remaining, reset_s, refused }
    }
}

/// Whoever has one address of IPv6 has all that share its first 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_so_many_requests_in_a_minute() {
        let strangers = Strangers::new(2);
        let one = address("192.0.2.1");
        let first = strangers.take_at(one, 60);
        assert_eq!(first, Standing { limit: 2, remaining: 1, reset_s: 60, refused: false });
        assert!(!strangers.take_at(one, 61).refused);
        assert!(strangers.take_at(one, 119).refused);
        assert!(!strangers.take_at(address("192.0.2.2"), 119).refused, "another address");
        assert!(!strangers.take_at(one, 120).refused, "the next minute");
    }

    #[test]
    fn addresses_of_one_network_of_ipv6_count_together() {
        let strangers = Strangers::new(1);
        assert!(!strangers.take_at(address("2001:db8::1"), 60).refused);
        assert!(strangers.take_at(address("2001:db8::2"), 60).refused);
        assert!(!strangers.take_at(address("2001:db8:0:1::1"), 60).refused);
        assert!(!strangers.take_at(address("192.0.2.1"), 60).refused);
        assert!(strangers.take_at(address("::ffff:192.0.2.1"), 60).refused);
    }

    #[test]
    fn many_addresses_take_no_more_memory_and_share_a_count() {
        let strangers = Strangers::new(1);
        let nth = |n: usize| IpAddr::from(u32::try_from(n).expect("small").to_be_bytes());
        let let_in = (0..MAX_ADDRESSES + 100).filter(|n| !strangers.take_at(nth(*n), 60).refused);
        assert_eq!(let_in.count(), MAX_ADDRESSES + 10);
        let window = strangers.window.lock().expect("not poisoned");
        assert_eq!(window.counts.len(), MAX_ADDRESSES);
    }
}
