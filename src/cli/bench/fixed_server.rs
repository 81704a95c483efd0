//! A server for tests that gives every request the same answer.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What the server does with a heal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// 200 at once.
    Heals,
    /// 200 after 20 ms.
    HealsLate,
    /// 503.
    Refuses,
    /// Answers three and then closes without answering the fourth.
    ClosesAfterThree,
    /// Answers in something else than HTTP.
    SpeaksGarbage,
}

/// Runs until it is dropped.
#[derive(Debug)]
pub struct FixedServer {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    heals: Arc<AtomicU64>,
}

impl FixedServer {
    /// Starts one on a free port of the loopback interface.
    pub fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (stopped, heals) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let server = Self { address, stopped: Arc::clone(&stopped), heals: Arc::clone(&heals) };
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let heals = Arc::clone(&heals);
                std::thread::spawn(move || serve(stream, behaviour, &heals));
            }
        });
        server
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Heals that arrived.
    pub fn heals(&self) -> u64 {
        self.heals.load(Ordering::Relaxed)
    }
}

impl Drop for FixedServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes it; if that fails it is gone already.
        let _woken = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream, behaviour: Behaviour, heals: &AtomicU64) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4_096];
    let mut answered = 0;
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        bytes.extend_from_slice(&chunk[..read]);
        while let Some((request, length)) = first_request(&bytes) {
            bytes.drain(..length);
            let answer = match request {
                Request::Status => ok(r#"{"version":"fixed","online":3,"process":{"cpu_seconds":1.5}}"#),
                Request::Heal(ids) => {
                    heals.fetch_add(ids, Ordering::Relaxed);
                    answered += 1;
                    let Some(answer) = heal(behaviour, answered, ids) else { return };
                    answer
                }
            };
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn heal(behaviour: Behaviour, answered: u32, ids: u64) -> Option<String> {
    let healed = ok(&format!(r#"{{"status":"online","healed":{ids},"opened":0}}"#));
    match behaviour {
        Behaviour::Heals => Some(healed),
        Behaviour::HealsLate => {
            std::thread::park_timeout(Duration::from_millis(20));
            Some(healed)
        }
        Behaviour::Refuses => Some("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".into()),
        Behaviour::ClosesAfterThree => (answered <= 3).then_some(healed),
        Behaviour::SpeaksGarbage => Some("220 mail.example ESMTP\r\n".into()),
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

enum Request {
    Status,
    Heal(u64),
}

/// The first complete request and its length in bytes.
fn first_request(bytes: &[u8]) -> Option<(Request, usize)> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let body: usize = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    if bytes.len() < head + body {
        return None;
    }
    let request = if text.starts_with("PUT /heal/") {
        Request::Heal(1)
    } else if text.starts_with("POST /v1/heal ") {
        Request::Heal(body as u64 / 8)
    } else {
        Request::Status
    };
    Some((request, head + body))
}
