//! Which addresses may be dialled. The judgement falls on the address itself, where it is dialled: what a name says
//! before or afterwards does not matter.

use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::LazyLock;

/// Networks that are not the public internet, with what they are.
const NOT_PUBLIC: &[(&str, &str)] = &[
    ("0.0.0.0/8", "this network"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by a carrier"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved for protocols"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "6to4 relay"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmarks"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    // Unspecified, loopback and addresses that embed an IPv4 one.
    ("::/96", "loopback or embedded IPv4"),
    ("64:ff9b::/96", "NAT64"),
    ("64:ff9b:1::/48", "NAT64"),
    ("100::/64", "discard"),
    ("100:0:0:1::/64", "discard"),
    // Teredo is among them.
    ("2001::/23", "reserved for protocols"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("3fff::/20", "documentation"),
    ("5f00::/16", "segment routing"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
];

static NETWORKS: LazyLock<Vec<(IpNet, &str)>> = LazyLock::new(|| {
    let parse = |(network, kind): &(&str, &'static str)| {
        let network = network.parse().expect("a constant of this module");
        (network, *kind)
    };
    NOT_PUBLIC.iter().map(parse).collect()
});

/// The one part of IPv6 that addresses of the public internet are of.
static GLOBAL_UNICAST: LazyLock<IpNet> =
    LazyLock::new(|| "2000::/3".parse().expect("a constant of this module"));

/// An address that is not dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{address} is not dialled ({kind}); push.allow_networks may name its network")]
pub(crate) struct Blocked {
    pub(crate) address: IpAddr,
    pub(crate) kind: &'static str,
}

/// The rule of this node.
#[derive(Debug)]
pub(crate) struct Guard {
    allowed: Vec<IpNet>,
}

impl Guard {
    pub(crate) fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    /// # Errors
    /// When nothing may be sent to this address.
    pub(crate) fn check(&self, address: IpAddr) -> Result<(), Blocked> {
        // An IPv4 address in IPv6 clothes is that IPv4 address.
        let plain = address.to_canonical();
        if self.allowed.iter().any(|network| network.contains(&plain)) {
            return Ok(());
        }
        match NETWORKS.iter().find(|(network, _)| network.contains(&plain)) {
            Some((_, kind)) => Err(Blocked { address, kind }),
            // Whatever else is not handed out yet may embed an IPv4 address, as `::ffff:0:0:0/96` does.
            None if plain.is_ipv6() && !GLOBAL_UNICAST.contains(&plain) => Err(Blocked {
                address,
                kind: "not global unicast",
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(guard: &Guard, address: &str) -> Option<&'static str> {
        guard
            .check(address.parse().unwrap())
            .err()
            .map(|blocked| blocked.kind)
    }

    #[test]
    fn only_public_addresses_are_dialled() {
        let guard = Guard::new(Vec::new());
        for (address, expected) in [
            ("0.0.0.0", "this network"),
            ("10.1.2.3", "private"),
            ("100.64.0.1", "shared by a carrier"),
            ("100.127.255.255", "shared by a carrier"),
            ("127.0.0.1", "loopback"),
            ("127.8.8.8", "loopback"),
            ("169.254.169.254", "link-local"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.0.0.8", "reserved for protocols"),
            ("192.0.2.1", "documentation"),
            ("192.88.99.1", "6to4 relay"),
            ("192.168.1.1", "private"),
            ("198.18.0.1", "benchmarks"),
            ("198.19.255.255", "benchmarks"),
            ("198.51.100.1", "documentation"),
            ("203.0.113.1", "documentation"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "reserved"),
            ("::", "loopback or embedded IPv4"),
            ("::1", "loopback or embedded IPv4"),
            ("::10.0.0.1", "loopback or embedded IPv4"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:169.254.169.254", "link-local"),
            ("64:ff9b::a00:1", "NAT64"),
            ("64:ff9b:1::1", "NAT64"),
            ("100::1", "discard"),
            ("2001::1", "reserved for protocols"),
            ("2001:20::1", "reserved for protocols"),
            ("2001:db8::1", "documentation"),
            ("2002:a00:1::1", "6to4"),
            ("3fff::1", "documentation"),
            ("5f00::1", "segment routing"),
            ("fc00::1", "private"),
            ("fd12:3456::1", "private"),
            ("fe80::1", "link-local"),
            ("fec0::1", "site-local"),
            ("ff02::1", "multicast"),
            ("::ffff:0:10.0.0.1", "not global unicast"),
            ("1fff::1", "not global unicast"),
            ("4000::1", "not global unicast"),
            ("e000::1", "not global unicast"),
        ] {
            assert_eq!(kind(&guard, address), Some(expected), "{address}");
        }
        for address in [
            "1.1.1.1",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.255.255",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.255.255",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "2606:4700::1111",
            "2001:4860:4860::8888",
        ] {
            assert_eq!(kind(&guard, address), None, "{address}");
        }
    }

    #[test]
    fn an_operator_opens_networks_one_by_one() {
        let guard = Guard::new(vec!["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        for address in ["10.1.2.3", "::ffff:10.1.2.3", "fd00::1"] {
            assert_eq!(kind(&guard, address), None, "{address}");
        }
        assert_eq!(kind(&guard, "10.2.0.1"), Some("private"));
        assert_eq!(kind(&guard, "fc00::1"), Some("private"));
        assert_eq!(kind(&guard, "127.0.0.1"), Some("loopback"));
    }
}
