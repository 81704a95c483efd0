//! A client's connection: one call after the other, and an error when the service dies under it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Far more than an answer takes on any machine, far less than a hang.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Connection(BufReader<TcpStream>);

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    pub fn call(&mut self, method: &str, target: &str) -> io::Result<(u16, String)> {
        self.write(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
    }

    /// With users in bulk: 8 bytes each.
    pub fn send(&mut self, target: &str, users: &[u64]) -> io::Result<(u16, String)> {
        let length = users.len() * 8;
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
        );
        let mut request = head.into_bytes();
        request.extend(users.iter().flat_map(|user| user.to_le_bytes()));
        self.write(&request)
    }

    fn write(&mut self, request: &[u8]) -> io::Result<(u16, String)> {
        self.0.get_mut().write_all(request)?;
        let (mut line, mut status, mut length) = (String::new(), None, 0);
        loop {
            line.clear();
            if self.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let text = line.trim_end().to_ascii_lowercase();
            if text.is_empty() {
                break;
            }
            status = status.or_else(|| text.split(' ').nth(1)?.parse().ok());
            if let Some(value) = text.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).map_err(hang)?;
        Ok((status.unwrap(), String::from_utf8(body).unwrap()))
    }

    fn read_line(&mut self, line: &mut String) -> io::Result<usize> {
        self.0.read_line(line).map_err(hang)
    }
}

/// A service that is killed closes its connections; one that says nothing hangs, and that is a finding.
fn hang(error: io::Error) -> io::Error {
    assert!(error.kind() != io::ErrorKind::WouldBlock, "no answer within {PATIENCE:?}");
    error
}
