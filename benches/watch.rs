//! What followers cost those who heal: a service without any, and with a thousand of several kinds.
//!
//! ```text
//!   cargo bench --bench watch
//! ```
//!
//! The server is this program again, in a process of its own, pinned to one core with one worker; clients run on another. On 64
//! connections they heal users who are online, while in the server 2,000 others come and go every second: 4,000 transitions.
//! The kinds take turns several times; the figure is the processor time of the server's process per heal, everything it does for
//! its followers included, and what is printed last are ratios of medians.

#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)] // a measuring program
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_possible_wrap)]

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use heartbeat::config::Settings;
use heartbeat::{Engine, Ttl, UserId, http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USERS: usize = 100_000;
const COMING_AND_GOING: i64 = 200;
const CONNECTIONS: usize = 64;
const WATCHERS: usize = 1_000;
const ROUNDS: usize = 5;
const RUN: Duration = Duration::from_secs(3);
/// Until the sockets of those who read slowly are full.
const FILL: Duration = Duration::from_secs(3);

/// Who follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nobody,
    /// Read half a kilobyte a second of the 400 that there are.
    Slow,
    /// Read everything about ten users each, of whom nobody comes or goes.
    Ids,
    /// Read everything.
    All,
}

const KINDS: [Kind; 4] = [Kind::Nobody, Kind::Slow, Kind::Ids, Kind::All];

fn main() {
    if std::env::args().any(|argument| argument == "--serve") {
        return serve();
    }
    pin(1);
    println!("server on one core, clients on another, {WATCHERS} followers, {ROUNDS} rounds of {RUN:?}\n");
    let mut cpus: [Vec<f64>; KINDS.len()] = Default::default();
    for _ in 0..ROUNDS {
        for (kind, cpus) in KINDS.into_iter().zip(&mut cpus) {
            cpus.push(measure(kind));
        }
    }
    let medians = cpus.map(median);
    for (kind, cpu) in KINDS.into_iter().zip(medians) {
        println!(
            "  {:<8} {cpu:>7.3} µs of CPU a heal, {:.3} times that without followers",
            format!("{kind:?}"),
            cpu / medians[0]
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Microseconds of processor time a heal.
fn measure(kind: Kind) -> f64 {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let followers: Vec<_> = match kind {
            Kind::Nobody => Vec::new(),
            kind => (0..WATCHERS).map(|index| tokio::spawn(follow(server.address, kind, index))).collect(),
        };
        heal(server.address, FILL).await;
        let cpu = server.cpu();
        let healed = heal(server.address, RUN).await;
        let cpu = (server.cpu() - cpu) * 1e6 / healed as f64;
        for follower in &followers {
            assert!(!follower.is_finished(), "a follower was closed");
        }
        cpu
    })
}

async fn follow(address: SocketAddr, kind: Kind, index: usize) {
    let socket = TcpSocket::new_v4().unwrap();
    if kind == Kind::Slow {
        socket.set_recv_buffer_size(4 * 1024).unwrap();
    }
    let mut stream = socket.connect(address).await.unwrap();
    let ids: Vec<_> = (0..10).map(|id| (10 * index + id).to_string()).collect();
    let query = if kind == Kind::Ids { format!("?ids={}", ids.join(",")) } else { String::new() };
    stream.write_all(format!("GET /v1/watch{query} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
    let mut bytes = vec![0; if kind == Kind::Slow { 512 } else { 64 * 1024 }];
    while stream.read(&mut bytes).await.unwrap() > 0 {
        if kind == Kind::Slow {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Each connection heals one user after the other. Gives how many heals were answered.
async fn heal(address: SocketAddr, run: Duration) -> u64 {
    let until = Instant::now() + run;
    let connections: Vec<_> = (0..CONNECTIONS)
        .map(|index| {
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (mut user, mut healed) = (index * USERS / CONNECTIONS, 0);
                let mut answer = vec![0; 1024];
                while Instant::now() < until {
                    user = (user + 7_919) % USERS;
                    let request = format!("PUT /heal/{user} HTTP/1.1\r\nHost: a\r\n\r\n");
                    stream.write_all(request.as_bytes()).await.unwrap();
                    assert!(stream.read(&mut answer).await.unwrap() > 0);
                    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
                    healed += 1;
                }
                healed
            })
        })
        .collect();
    let mut healed = 0;
    for connection in connections {
        healed += connection.await.unwrap();
    }
    healed
}

/// A server in a process of its own; it ends when this is dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("--serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, address: line.trim().parse().unwrap() }
    }

    /// Seconds of processor time of the process so far, from `/proc`, which counts in hundredths.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn pin(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).unwrap();
}

/// Serves, and lets users come and go, until standard input ends.
fn serve() {
    pin(0);
    // A client that is killed takes its server with it.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let ttl = Ttl::from_seconds(3_600).unwrap();
    let engine = Arc::new(Engine::builder().ttl(ttl).events_held(1 << 20).build());
    for user in 0..USERS as i64 {
        engine.heal(UserId::new(user)).unwrap();
    }
    let settings =
        Settings { listen: vec!["127.0.0.1:0".parse().unwrap()], threads: 1, ..Settings::default() };
    let server = http::Server::start(Arc::clone(&engine), &settings).unwrap();
    println!("{}", server.addresses()[0]);
    loop {
        for user in 1..=COMING_AND_GOING {
            engine.heal(UserId::new(-user)).unwrap();
            engine.leave(UserId::new(-user)).unwrap();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
