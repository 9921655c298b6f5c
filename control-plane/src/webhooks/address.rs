//! Which addresses a webhook may reach: those of the public internet, and no others. Names are
//! resolved once, here, and the connection goes to what was checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Whether an address is one that anybody on the internet could reach.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || matches!((a, b, c), (0, ..) | (192, 0, 0) | (192, 88, 99) | (198, 18 | 19, _))
        || (a == 100 && (64..128).contains(&b))
        // Multicast, reserved, broadcast.
        || a >= 224;
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let first = address.segments()[0];
    // Only global unicast; what carries an IPv4 address inside leads past the check above.
    let is_global = (0x2000..0x4000).contains(&first);
    let is_tunnel = first == 0x2002 || (first == 0x2001 && address.segments()[1] < 0x0200);
    let is_documentation = (first == 0x2001 && address.segments()[1] == 0x0db8) || first == 0x3fff;
    is_global && !is_tunnel && !is_documentation
}

/// The addresses of a host; none when it has none, or any that is not public.
pub(super) async fn resolve(host: &str, port: u16, allow_private: bool) -> Option<Vec<SocketAddr>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found: Vec<SocketAddr> = tokio::net::lookup_host((bare, port)).await.ok()?.collect();
    let fine = allow_private || found.iter().all(|address| is_public(address.ip()));
    (fine && !found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_the_public_internet_is_refused() {
        for text in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.192",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
        ] {
            assert!(!is_public(text.parse().expect("an address")), "{text}");
        }
        for text in ["1.1.1.1", "8.8.8.8", "100.128.0.1", "172.32.0.1", "2606:4700::1111"] {
            assert!(is_public(text.parse().expect("an address")), "{text}");
        }
    }

    #[tokio::test]
    async fn a_name_or_a_spelling_of_this_machine_is_refused() {
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            assert!(resolve(host, 80, false).await.is_none(), "{host}");
            assert!(resolve(host, 80, true).await.is_some(), "{host}");
        }
    }
}
