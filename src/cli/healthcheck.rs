//! `heartbeat healthcheck`: asks a service whether it is ready, for containers that have no curl.
//!
//! One request by hand over a blocking socket: a runtime and a client would take longer to start than the answer takes. It
//! speaks HTTP only, and reads no more of an answer than it shows.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::exit::{Exit, Failure};
use super::flags::SettingFlags;

/// Arguments of `heartbeat healthcheck`.
#[derive(Debug, Args)]
pub(super) struct HealthcheckArgs {
    /// Ask this one, such as `http://127.0.0.1:3519`, and not the first listen address of the settings
    #[arg(long)]
    url: Option<Url>,
    #[command(flatten)]
    settings: SettingFlags,
}

/// For connecting, for writing, and for each read.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The reasons of a service that is not ready fit many times.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;
const BODY_CHARS_SHOWN: usize = 200;

/// Where to ask: host and port as one text, and a path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Url {
    authority: String,
    path: String,
}

#[derive(Debug, thiserror::Error)]
enum InvalidUrl {
    #[error("write a URL that begins with http://, such as http://127.0.0.1:3519")]
    Scheme,
    #[error("write a host and, unless it is 80, a port, such as http://127.0.0.1:3519")]
    Authority,
}

impl FromStr for Url {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let rest = text.strip_prefix("http://").ok_or(InvalidUrl::Scheme)?;
        let is_odd = |c: char| c.is_whitespace() || c.is_control();
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.is_empty() || rest.contains(is_odd) || authority.contains(['@', '?', '#']) {
            return Err(InvalidUrl::Authority);
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let path = if path.len() > 1 { path } else { "/readyz" };
        Ok(Self { authority, path: path.to_owned() })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// Exit 0 if it is ready.
pub(super) fn run(args: &HealthcheckArgs) -> Result<Exit, Failure> {
    let url = match &args.url {
        Some(url) => url.clone(),
        None => ready_url(args.settings.inputs().load()?.settings.listen[0]),
    };
    let answer =
        ask(&url).map_err(|error| Failure::Check(format!("not ready: {url} does not answer: {error}")))?;
    match judge(&answer) {
        Ok(()) => Ok(Exit::Done),
        Err(said) => Err(Failure::Check(format!("not ready: {url} answered {said}"))),
    }
}

/// Where a service that listens on `address` can be asked: one that listens everywhere, at loopback.
fn ready_url(address: SocketAddr) -> Url {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    Url { authority: SocketAddr::new(ip, address.port()).to_string(), path: "/readyz".into() }
}

fn ask(url: &Url) -> io::Result<Vec<u8>> {
    let mut stream = connect(&url.authority)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let Url { authority, path } = url;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

/// The first address that takes the connection; a name may have several.
fn connect(authority: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in authority.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Whether the answer is a 200; if not, what it is, in one line.
fn judge(answer: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut words = head.lines().next().unwrap_or("").split(' ');
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    match words.next().and_then(|code| code.parse::<u16>().ok()) {
        Some(200) if is_http => Ok(()),
        Some(code) if is_http => {
            let body: String = body.chars().filter(|c| !c.is_control()).take(BODY_CHARS_SHOWN).collect();
            Err(format!("{code} {body}").trim_end().to_owned())
        }
        _ => Err("something that is not HTTP".into()),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("http://127.0.0.1:3519", "http://127.0.0.1:3519/readyz")]
    #[case("http://127.0.0.1:3519/", "http://127.0.0.1:3519/readyz")]
    #[case("http://heart.example", "http://heart.example:80/readyz")]
    #[case("http://[::1]:3519/livez", "http://[::1]:3519/livez")]
    #[case("http://[::1]", "http://[::1]:80/readyz")]
    fn urls(#[case] given: &str, #[case] asked: &str) {
        assert_eq!(given.parse::<Url>().unwrap().to_string(), asked);
    }

    #[rstest]
    #[case("https://127.0.0.1:3519")]
    #[case("127.0.0.1:3519")]
    #[case("http://")]
    #[case("http:///readyz")]
    #[case("http://a:1/x\r\ny")]
    #[case("http://user@a:1")]
    fn bad_urls(#[case] given: &str) {
        assert!(given.parse::<Url>().is_err());
    }

    #[rstest]
    #[case("0.0.0.0:3519", "http://127.0.0.1:3519/readyz")]
    #[case("[::]:3519", "http://[::1]:3519/readyz")]
    #[case("192.0.2.7:80", "http://192.0.2.7:80/readyz")]
    fn a_service_that_listens_everywhere_is_asked_at_loopback(#[case] listen: &str, #[case] asked: &str) {
        assert_eq!(ready_url(listen.parse().unwrap()).to_string(), asked);
    }

    #[rstest]
    #[case("HTTP/1.1 200 OK\r\n\r\n{\"ready\":true}", Ok(()))]
    #[case("HTTP/1.1 503 Service Unavailable\r\nx: y\r\n\r\n{\"ready\":false}", Err("503 {\"ready\":false}"))]
    #[case("HTTP/1.1 404 Not Found\r\n\r\n", Err("404"))]
    #[case("SSH-2.0-x 200", Err("something that is not HTTP"))]
    #[case("", Err("something that is not HTTP"))]
    fn answers(#[case] answer: &str, #[case] verdict: Result<(), &str>) {
        assert_eq!(judge(answer.as_bytes()), verdict.map_err(str::to_owned));
    }
}
