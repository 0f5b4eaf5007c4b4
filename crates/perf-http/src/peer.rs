//! Who is asking: the address of the connection, or the one a trusted proxy vouches for.

use axum::extract::ConnectInfo;
use http::{Extensions, HeaderMap, Method, Request, Uri};
use perf_core::InvalidConfig;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Everything of a request but its body, for code that decides before the body is read.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target.
    pub uri: &'a Uri,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// What outer layers and the server left for inner ones.
    pub extensions: &'a Extensions,
}

impl<'a> Head<'a> {
    /// The head of `request`.
    #[must_use]
    pub fn of<B>(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }

    /// The address at the other end of the connection, if the server recorded it as axum's `ConnectInfo<SocketAddr>`.
    /// [`Server`](crate::Server) does; with `axum::serve` use `into_make_service_with_connect_info::<SocketAddr>()`.
    #[must_use]
    pub fn peer(&self) -> Option<IpAddr> {
        let ConnectInfo(address) = self.extensions.get::<ConnectInfo<SocketAddr>>()?;
        Some(address.ip().to_canonical())
    }
}

/// A block of addresses: `10.0.0.0/8`, `2001:db8::/32`, or one address.
///
/// ```
/// use perf_http::Cidr;
///
/// let private: Cidr = "10.0.0.0/8".parse().unwrap();
/// assert!(private.contains("10.1.2.3".parse().unwrap()));
/// assert!(!private.contains("11.0.0.1".parse().unwrap()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// Whether `address` lies in the block. An IPv4 address mapped into IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(block), IpAddr::V4(address)) => same_prefix(
                u128::from(block.to_bits()) << 96,
                u128::from(address.to_bits()) << 96,
                self.prefix,
            ),
            (IpAddr::V6(block), IpAddr::V6(address)) => {
                same_prefix(block.to_bits(), address.to_bits(), self.prefix)
            }
            _ => false,
        }
    }
}

fn same_prefix(a: u128, b: u128, prefix: u8) -> bool {
    prefix == 0 || (a ^ b) >> (128 - u32::from(prefix)) == 0
}

impl FromStr for Cidr {
    type Err = InvalidConfig;

    fn from_str(text: &str) -> Result<Self, InvalidConfig> {
        let refused =
            || InvalidConfig::new("trusted_proxies", text, "an address or a block such as 10.0.0.0/8");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| refused())?)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().map_err(|_| refused())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(longest);
        if prefix > longest { Err(refused()) } else { Ok(Self { address, prefix }) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The proxies whose word about the client's address is taken. Empty, the default, trusts nobody.
///
/// `X-Forwarded-For` is read from right to left, because only what our own proxies appended can be believed: the first
/// address that is not one of them is the client. A client that sends the header itself only adds to its left.
///
/// ```
/// use perf_http::TrustedProxies;
///
/// let proxies = TrustedProxies::parse(["10.0.0.0/8"]).unwrap();
/// let client = proxies.client("10.0.0.7".parse().unwrap(), ["6.6.6.6, 192.0.2.9, 10.0.0.3"]);
/// assert_eq!(client, "192.0.2.9".parse::<std::net::IpAddr>().unwrap());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Cidr>);

impl TrustedProxies {
    /// Reads addresses and blocks.
    ///
    /// # Errors
    /// [`InvalidConfig`] naming the first text that is neither.
    pub fn parse<'t>(blocks: impl IntoIterator<Item = &'t str>) -> Result<Self, InvalidConfig> {
        blocks.into_iter().map(Cidr::from_str).collect::<Result<_, _>>().map(Self)
    }

    /// Whether `address` is one of our proxies.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|block| block.contains(address))
    }

    /// The client behind the connection from `peer`, given the values of `X-Forwarded-For` in the order they arrived. An
    /// entry that is not an address ends the search: the last proxy that could be believed then counts as the client.
    #[must_use]
    pub fn client<'v>(
        &self,
        peer: IpAddr,
        forwarded: impl IntoIterator<Item = &'v str, IntoIter: DoubleEndedIterator>,
    ) -> IpAddr {
        let mut client = peer.to_canonical();
        for entry in forwarded.into_iter().rev().flat_map(|value| value.rsplit(',')) {
            if !self.contains(client) {
                break;
            }
            let Some(next) = address_in(entry.trim()) else { break };
            client = next.to_canonical();
        }
        client
    }

    /// The client of a request, or `None` when the server did not record the address of the connection.
    #[must_use]
    pub fn client_of(&self, head: Head<'_>) -> Option<IpAddr> {
        let peer = head.peer()?;
        if self.0.is_empty() || !self.contains(peer) {
            return Some(peer);
        }
        let forwarded = head.headers.get_all("x-forwarded-for").iter();
        let values: Vec<&str> = forwarded.map(|value| value.to_str().unwrap_or("")).collect();
        Some(self.client(peer, values))
    }
}

/// The address in an entry, with or without a port and brackets.
fn address_in(entry: &str) -> Option<IpAddr> {
    entry
        .parse::<IpAddr>()
        .ok()
        .or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn proxies() -> TrustedProxies {
        TrustedProxies::parse(["10.0.0.0/8", "fd00::/8", "192.0.2.1"]).unwrap()
    }

    #[test]
    fn without_trusted_proxies_the_header_is_ignored() {
        assert_eq!(TrustedProxies::default().client(ip("203.0.113.5"), ["1.1.1.1"]), ip("203.0.113.5"));
        assert_eq!(proxies().client(ip("203.0.113.5"), ["1.1.1.1"]), ip("203.0.113.5"));
    }

    #[test]
    fn the_header_is_read_from_right_to_left_over_all_its_lines() {
        let lines = ["6.6.6.6, 7.7.7.7", "198.51.100.4, 10.9.9.9"];
        assert_eq!(proxies().client(ip("10.0.0.1"), lines), ip("198.51.100.4"));
    }

    #[test]
    fn when_every_entry_is_ours_the_leftmost_is_the_client() {
        assert_eq!(proxies().client(ip("10.0.0.1"), ["10.0.0.2, fd00::1"]), ip("10.0.0.2"));
    }

    #[test]
    fn what_is_not_an_address_ends_the_search() {
        assert_eq!(proxies().client(ip("10.0.0.1"), ["1.1.1.1, unknown"]), ip("10.0.0.1"));
        assert_eq!(proxies().client(ip("10.0.0.1"), [""]), ip("10.0.0.1"));
    }

    #[test]
    fn ports_brackets_and_mapped_addresses_are_understood() {
        for (entry, expected) in [
            ("198.51.100.4:8080", "198.51.100.4"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::ffff:198.51.100.4", "198.51.100.4"),
        ] {
            assert_eq!(proxies().client(ip("::ffff:10.0.0.1"), [entry]), ip(expected), "{entry}");
        }
    }

    #[test]
    fn blocks_that_are_none_are_refused_by_name() {
        for text in ["10.0.0.0/33", "::/129", "example.org", "10.0.0/8", "10.0.0.0/x", ""] {
            assert_eq!(text.parse::<Cidr>().unwrap_err().value(), text);
        }
        assert!("0.0.0.0/0".parse::<Cidr>().unwrap().contains(ip("8.8.8.8")));
    }

    proptest! {
        #[test]
        fn a_client_cannot_choose_its_address(forged in "[ -~]{0,60}", address in any::<u32>()) {
            let client = IpAddr::from(std::net::Ipv4Addr::from_bits(address));
            prop_assume!(!proxies().contains(client));
            let line = format!("{forged}, {client}");
            prop_assert_eq!(proxies().client(ip("10.0.0.1"), [line.as_str()]), client);
        }
    }
}
