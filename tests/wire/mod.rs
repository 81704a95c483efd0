//! A service on a free port with a clock that stands still, and a client that sends exactly the bytes it is told.

#![allow(dead_code, reason = "each test binary uses a part of this")]

pub mod hung;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use heartbeat::config::Settings;
use heartbeat::{Builder, Disk, Durability, Engine, ManualClock, Recovery, UnixSeconds, http};

/// 2021-12-01T12:00:00Z, the instant of the original's examples.
pub const NOON: u32 = 1_638_360_000;

/// A client gives up after this long: far more than any answer takes, far less than a hang.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running service.
pub struct Service {
    pub engine: Arc<Engine>,
    pub clock: Arc<ManualClock>,
    pub server: http::Server,
}

impl Service {
    pub fn start() -> Self {
        Self::start_with(|engine| engine, |_| {})
    }

    pub fn start_with(engine: impl FnOnce(Builder) -> Builder, change: impl FnOnce(&mut Settings)) -> Self {
        let clock = Arc::new(ManualClock::at(UnixSeconds::new(NOON)));
        let engine = Arc::new(engine(Engine::builder().clock(clock.clone())).build());
        let mut settings = settings();
        change(&mut settings);
        let server = http::Server::start(Arc::clone(&engine), &settings).unwrap();
        Self { engine, clock, server }
    }

    /// Over an engine that keeps what it knows in `folder`, in segments of 341 slots. Its clock stands at `now`.
    pub fn open(folder: &Path, durability: Durability, now: u32) -> Self {
        let clock = Arc::new(ManualClock::at(UnixSeconds::new(now)));
        let (engine, recovery) = open(folder, durability, &clock);
        let settings = settings();
        let server = http::Server::listen(&settings, Arc::default()).unwrap();
        server.serve(Arc::clone(&engine), Some(recovery));
        Self { engine, clock, server }
    }

    /// On one worker, with further routes.
    pub fn start_with_routes(more: &axum::Router) -> Self {
        let clock = Arc::new(ManualClock::at(UnixSeconds::new(NOON)));
        let engine = Arc::new(Engine::builder().clock(clock.clone()).build());
        let settings =
            Settings { listen: vec![([127, 0, 0, 1], 0).into()], threads: 1, ..Settings::default() };
        let server = http::Server::start_with_routes(Arc::clone(&engine), &settings, more).unwrap();
        Self { engine, clock, server }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.addresses()[0]
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// One request on a connection of its own.
    pub fn call(&self, method: &str, target: &str) -> Response {
        self.connect().call(method, target)
    }

    /// One request with a body.
    pub fn send(&self, method: &str, target: &str, content_type: &str, body: &[u8]) -> Response {
        self.connect().send(method, target, content_type, body)
    }

    /// The body of a GET, which must succeed.
    pub fn get(&self, target: &str) -> String {
        let response = self.call("GET", target);
        assert_eq!(response.status, 200, "{target}: {response:?}");
        response.body
    }
}

pub fn settings() -> Settings {
    Settings { listen: vec![([127, 0, 0, 1], 0).into()], threads: 2, ..Settings::default() }
}

pub fn open(folder: &Path, durability: Durability, clock: &Arc<ManualClock>) -> (Arc<Engine>, Recovery) {
    let disk = Disk { segment_bytes: 16 << 10, durability, ..Disk::at(folder) };
    let (engine, recovery) = Engine::builder().clock(clock.clone()).events_held(1_000).open(disk).unwrap();
    (Arc::new(engine), recovery)
}

/// A connection.
pub struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    /// An error if nobody listens there, yet.
    pub fn try_connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::new() })
    }

    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Writes what the other end may no longer want to read.
    pub fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    pub fn set_write_timeout(&self, timeout: Duration) {
        self.stream.set_write_timeout(Some(timeout)).unwrap();
    }

    /// Nothing more will be sent.
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    pub fn call(&mut self, method: &str, target: &str) -> Response {
        self.write(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        self.response_to(method)
    }

    pub fn send(&mut self, method: &str, target: &str, content_type: &str, body: &[u8]) -> Response {
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
        );
        self.write([head.as_bytes(), body].concat());
        self.response_to(method)
    }

    /// What comes, up to `text` and with it.
    pub fn read_until(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.read.windows(text.len()).position(|bytes| bytes == text.as_bytes()) {
                let rest = self.read.split_off(at + text.len());
                return String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap();
            }
            let mut more = [0; 4096];
            let count = self.stream.read(&mut more).unwrap();
            assert!(count > 0, "the connection ends without {text:?}");
            self.read.extend_from_slice(&more[..count]);
        }
    }

    /// The next response, to a request whose method allows a body in it.
    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    pub fn response_to(&mut self, method: &str) -> Response {
        let head_end = loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(self.fill() > 0, "the connection was closed instead of an answer");
        };
        let head = String::from_utf8(self.read.drain(..head_end).collect()).unwrap();
        let mut response = Response::parse(&head);
        // An event stream has no end: it is left where its events begin.
        if response.header("content-type") == Some("text/event-stream") {
            return response;
        }
        let has_body = method != "HEAD" && response.status != 204;
        if has_body && response.header("transfer-encoding") == Some("chunked") {
            response.bytes = self.chunks();
            return response.read();
        }
        let length = match response.header("content-length") {
            Some(length) if has_body => length.parse().unwrap(),
            _ => 0,
        };
        while self.read.len() < length {
            assert!(self.fill() > 0, "the connection was closed within an answer");
        }
        response.bytes = self.read.drain(..length).collect();
        response.read()
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = self.read.windows(2).position(|window| window == b"\r\n") {
                    break end;
                }
                assert!(self.fill() > 0, "the connection was closed within an answer");
            };
            let head: Vec<u8> = self.read.drain(..end + 2).collect();
            let length = usize::from_str_radix(std::str::from_utf8(&head[..end]).unwrap(), 16).unwrap();
            while self.read.len() < length + 2 {
                assert!(self.fill() > 0, "the connection was closed within an answer");
            }
            body.extend(self.read.drain(..length));
            self.read.drain(..2);
            if length == 0 {
                return body;
            }
        }
    }

    /// Whether the other end closes the connection without another byte.
    pub fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0]) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// Whether nothing has come so far.
    pub fn is_silent(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let read = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        self.read.is_empty() && read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    fn fill(&mut self) -> usize {
        let mut bytes = [0; 4096];
        let read = self.stream.read(&mut bytes).unwrap();
        self.read.extend_from_slice(&bytes[..read]);
        read
    }
}

/// What was answered.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// As text; empty if it is compressed.
    pub body: String,
    pub bytes: Vec<u8>,
}

impl Response {
    fn parse(head: &str) -> Self {
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Self { status, headers, body: String::new(), bytes: Vec::new() }
    }

    fn read(mut self) -> Self {
        if self.header("content-encoding").is_none() {
            self.body = String::from_utf8(self.bytes.clone()).unwrap();
        }
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Status and body.
    pub fn brief(&self) -> (u16, &str) {
        (self.status, &self.body)
    }
}
