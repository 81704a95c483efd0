//! Where the service is: `http://host:port`.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

use anyhow::Context as _;

/// The address of a running service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceUrl {
    /// `host` or `host:port`, as it goes into the Host header.
    host: String,
    port: u16,
}

/// An address that this tool cannot drive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("give the service as http://host:port, without a path; other schemes than http are not supported")]
pub struct InvalidUrl;

impl FromStr for ServiceUrl {
    type Err = InvalidUrl;

    fn from_str(url: &str) -> Result<Self, InvalidUrl> {
        let scheme = url.get(..7).ok_or(InvalidUrl)?;
        if !scheme.eq_ignore_ascii_case("http://") {
            return Err(InvalidUrl);
        }
        let authority = &url[7..];
        let host = authority.strip_suffix('/').unwrap_or(authority);
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        if host.is_empty() || !host.bytes().all(named) {
            return Err(InvalidUrl);
        }
        // Behind the bracket, if there is one, a colon begins the port.
        let name_end = host.rfind(']').map_or(0, |bracket| bracket + 1);
        let (name, port) = match host[name_end..].rfind(':') {
            Some(colon) => {
                (&host[..name_end + colon], host[name_end + colon + 1..].parse().map_err(|_| InvalidUrl)?)
            }
            None => (host, 80),
        };
        let bracketed = name.starts_with('[') && name.ends_with(']');
        if name.is_empty() || port == 0 || (name.contains([':', '[', ']']) && !bracketed) {
            return Err(InvalidUrl);
        }
        Ok(Self { host: host.into(), port })
    }
}

impl From<SocketAddr> for ServiceUrl {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.to_string(), port: address.port() }
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.host)
    }
}

impl ServiceUrl {
    /// What goes into the Host header.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The first address that the name has. May ask a name server.
    pub fn resolve(&self) -> anyhow::Result<SocketAddr> {
        let name_end = self.host.rfind(']').map_or(0, |bracket| bracket + 1);
        let colon = self.host[name_end..].rfind(':').map_or(self.host.len(), |colon| name_end + colon);
        let name = self.host[..colon].trim_start_matches('[').trim_end_matches(']');
        let mut addresses = (name, self.port)
            .to_socket_addrs()
            .with_context(|| format!("cannot find the address of {self}"))?;
        addresses.next().with_context(|| format!("{self} has no address"))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("http://127.0.0.1:3519", "127.0.0.1:3519", "127.0.0.1:3519")]
    #[case("HTTP://127.0.0.1:3519/", "127.0.0.1:3519", "127.0.0.1:3519")]
    #[case("http://127.0.0.1", "127.0.0.1", "127.0.0.1:80")]
    #[case("http://[::1]:3519", "[::1]:3519", "[::1]:3519")]
    #[case("http://[::1]", "[::1]", "[::1]:80")]
    fn a_host_and_a_port_are_taken(#[case] url: &str, #[case] host: &str, #[case] address: &str) {
        let url: ServiceUrl = url.parse().unwrap();
        assert_eq!(url.host(), host);
        assert_eq!(url.resolve().unwrap().to_string(), address);
    }

    #[rstest]
    #[case("https://127.0.0.1:3519")]
    #[case("127.0.0.1:3519")]
    #[case("http://")]
    #[case("http://:80")]
    #[case("http://a:0")]
    #[case("http://a:65536")]
    #[case("http://a:b:80")]
    #[case("http://a/path")]
    #[case("http://user@a")]
    #[case("http://a\r\nx: y")]
    #[case("ähttp://")]
    fn anything_else_is_refused(#[case] url: &str) {
        assert_eq!(url.parse::<ServiceUrl>(), Err(InvalidUrl));
    }
}
