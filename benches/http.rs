//! What a heal costs over HTTP, against servers that answer a fixed string.
//!
//! ```text
//!   cargo bench --bench http
//!   cargo bench --bench http -- --durability      only what the journal costs
//!   cargo bench --bench http -- --metrics         only what metrics cost
//! ```
//!
//! Each server is this program again, in a process of its own, pinned to one core; the client runs on another. The servers take
//! turns several times; the figure is the processor time of the server's process per request, and what is printed last are
//! ratios of medians. On a shared machine the absolute figures drift, the ratios hardly.
//!
//! The service's clock runs ten times as fast as time does, so that nearly every heal extends its session; the shares are
//! printed.

#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)] // a measuring program
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use heartbeat::config::Settings;
use heartbeat::{Clock, Disk, Durability, Engine, SystemClock, Ttl, UnixSeconds, http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USERS: usize = 100_000;
/// So few that their part of the roster stays in the core's own cache: what is left is the cost of HTTP.
const USERS_FEW: usize = 10_000;
const ROUNDS: usize = 5;
const RUN: Duration = Duration::from_secs(2);
const CONNECTIONS: usize = 64;
const BATCH: usize = 10_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--serve") {
        serve(&arguments[at + 1]);
        return;
    }
    pin(1);
    println!(
        "server on one core, client on another, {CONNECTIONS} connections, {ROUNDS} rounds of {RUN:?}\n"
    );
    let asked = |part: &str| arguments.iter().any(|argument| argument == part);
    let is_all = !asked("--durability") && !asked("--metrics");
    if is_all {
        for (pipeline, users) in [(1, USERS), (16, USERS), (16, USERS_FEW)] {
            compare(pipeline, users, &["axum", "hyper", "heartbeat"]);
        }
        batches();
    }
    if is_all || asked("--metrics") {
        for pipeline in [1, 16] {
            metrics(pipeline);
        }
    }
    if is_all || asked("--durability") {
        for pipeline in [1, 16] {
            durabilities(pipeline);
        }
    }
}

/// The service with its metrics, scraped once a second, and without any. The difference is small, so they take more turns.
fn metrics(pipeline: usize) {
    let mut ratios = Vec::new();
    for round in 0..3 * ROUNDS {
        // Who comes second finds the machine as the first has left it.
        let names = if round % 2 == 0 { ["uncounted", "scraped"] } else { ["scraped", "uncounted"] };
        let cpu = names.map(|name| measure(name, pipeline, USERS).cpu_micros);
        ratios.push(if round % 2 == 0 { cpu[1] / cpu[0] } else { cpu[0] / cpu[1] });
    }
    ratios.sort_by(f64::total_cmp);
    let at = |share: usize| ratios[ratios.len() * share / 4];
    println!(
        "metrics, {USERS} users, {pipeline} requests in a pipeline: {:.3} times the CPU a request without them (quartiles {:.3}, {:.3})",
        at(2),
        at(1),
        at(3)
    );
}

/// Scrapes until the server is gone.
fn scrape(address: SocketAddr) {
    std::thread::spawn(move || {
        while let Ok(mut stream) = TcpStream::connect(address) {
            let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            let mut answer = String::new();
            if stream.write_all(request).and_then(|()| stream.read_to_string(&mut answer)).is_err() {
                return;
            }
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
            std::thread::sleep(Duration::from_secs(1));
        }
    });
}

/// The service without a journal and in each durability mode, in turn.
fn durabilities(pipeline: usize) {
    let names = ["memory", "process", "interval", "always"];
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); names.len()];
    for _ in 0..ROUNDS {
        for (name, runs) in names.iter().zip(&mut runs) {
            runs.push(measure(name, pipeline, USERS));
        }
    }
    println!("durability, {USERS} users, {pipeline} requests in a pipeline");
    let rate = |runs: &[Run]| median(runs.iter().map(|run| run.rate));
    let memory = rate(&runs[0]);
    for (name, runs) in names.iter().zip(&runs) {
        let cpu = median(runs.iter().map(|run| run.cpu_micros));
        let share = rate(runs) / memory;
        println!(
            "  {name:<10} {cpu:>7.3} µs of CPU a request   {:>9.0} requests/s, {share:.2} of memory's",
            rate(runs)
        );
        if *name == "always" {
            let heals_a_sync = median(runs.iter().map(|run| run.heals_a_sync.unwrap_or(0.0)));
            println!("             {heals_a_sync:.1} heals a sync");
        }
    }
    println!();
}

/// Measures the servers in turn and prints medians and ratios.
fn compare(pipeline: usize, users: usize, servers: &[&str]) {
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); servers.len()];
    for _ in 0..ROUNDS {
        for (server, runs) in servers.iter().zip(&mut runs) {
            runs.push(measure(server, pipeline, users));
        }
    }
    println!("{users} users, {pipeline} requests in a pipeline");
    let medians: Vec<f64> = runs.iter().map(|runs| median(runs.iter().map(|run| run.cpu_micros))).collect();
    for ((server, runs), cpu) in servers.iter().zip(&runs).zip(&medians) {
        let rate = median(runs.iter().map(|run| run.rate));
        println!("  {server:<10} {cpu:>7.3} µs of CPU a request   {rate:>9.0} requests/s");
        if let Some(shares) = &runs[0].shares {
            println!("  {:<10} {shares}", "");
        }
    }
    let ours = medians[servers.len() - 1];
    for (server, cpu) in servers.iter().zip(&medians).take(servers.len() - 1) {
        println!(
            "  CPU of heartbeat / {server}: {:.2}; throughput a core {:.2} times",
            ours / cpu,
            cpu / ours
        );
    }
    println!();
}

#[derive(Clone)]
struct Run {
    cpu_micros: f64,
    rate: f64,
    shares: Option<String>,
    heals_a_sync: Option<f64>,
}

fn measure(name: &str, pipeline: usize, users: usize) -> Run {
    let server = Server::start(name);
    let requests = Arc::new(requests(users));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // A client that sleeps must be woken, at the server's expense, and the slower the server the more often it sleeps.
    runtime.spawn(async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    if !["axum", "hyper"].contains(&name) {
        server.open_sessions();
    }
    if name == "scraped" {
        scrape(server.address);
    }
    runtime.block_on(drive(server.address, &requests, pipeline, RUN / 4));
    let (before, syncs) = (server.heals(), server.syncs());
    let (cpu, start) = (server.cpu(), Instant::now());
    let answered = runtime.block_on(drive(server.address, &requests, pipeline, RUN));
    let (cpu, elapsed) = (server.cpu() - cpu, start.elapsed());
    Run {
        cpu_micros: cpu * 1e6 / answered as f64,
        rate: answered as f64 / elapsed.as_secs_f64(),
        shares: before.zip(server.heals()).map(|(before, after)| shares(before, after)),
        heals_a_sync: syncs
            .zip(server.syncs())
            .map(|(before, after)| answered as f64 / (after - before) as f64),
    }
}

/// One request for each user, all of one length, in an order that no cache foresees.
fn requests(users: usize) -> Vec<Vec<u8>> {
    shuffled_ids(users)
        .iter()
        .map(|id| format!("PUT /heal/{id:07} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into_bytes())
        .collect()
}

fn shuffled_ids(users: usize) -> Vec<usize> {
    let mut ids: Vec<usize> = (0..users).collect();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for last in (1..ids.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ids.swap(last, (state % (last as u64 + 1)) as usize);
    }
    ids
}

/// Each connection sends `pipeline` requests and waits for as many answers, again and again. Gives how many were answered.
async fn drive(address: SocketAddr, requests: &Arc<Vec<Vec<u8>>>, pipeline: usize, run: Duration) -> u64 {
    let until = Instant::now() + run;
    let connections: Vec<_> = (0..CONNECTIONS)
        .map(|index| {
            let requests = Arc::clone(requests);
            tokio::spawn(async move {
                let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut at = index * requests.len() / CONNECTIONS;
                let mut answer = vec![0; 1024];
                stream.write_all(&requests[at]).await.unwrap();
                let length = stream.read(&mut answer).await.unwrap();
                assert!(
                    answer.starts_with(b"HTTP/1.1 200 OK"),
                    "{}",
                    String::from_utf8_lossy(&answer[..length])
                );
                let mut answers = vec![0; length * pipeline];
                let mut out = Vec::new();
                let mut answered = 0;
                while Instant::now() < until {
                    out.clear();
                    for _ in 0..pipeline {
                        at = (at + 1) % requests.len();
                        out.extend_from_slice(&requests[at]);
                    }
                    stream.write_all(&out).await.unwrap();
                    stream.read_exact(&mut answers).await.unwrap();
                    assert!(answers.starts_with(b"HTTP/1.1 200 OK"));
                    answered += pipeline as u64;
                }
                answered
            })
        })
        .collect();
    let mut answered = 0;
    for connection in connections {
        answered += connection.await.unwrap();
    }
    answered
}

/// Batches of ids on some connections, single heals on another of the same worker.
fn batches() {
    let mut rates = Vec::new();
    let mut latencies = hdrhistogram::Histogram::<u64>::new(3).unwrap();
    for _ in 0..ROUNDS {
        let server = Server::start("heartbeat");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (healed, cpu) = runtime.block_on(async {
            let address = server.address;
            let until = Instant::now() + RUN;
            let batches: Vec<_> =
                (0..4).map(|index| tokio::spawn(send_batches(address, index, until))).collect();
            let single = tokio::spawn(send_singles(address, until));
            tokio::time::sleep(RUN / 10).await;
            let cpu = server.cpu();
            let mut healed = 0;
            for batch in batches {
                healed += batch.await.unwrap();
            }
            latencies.add(single.await.unwrap()).unwrap();
            (healed, (server.cpu() - cpu) / 0.9)
        });
        rates.push(healed as f64 / cpu);
    }
    println!(
        "POST /v1/heal, binary, {BATCH} ids, 4 connections, single heals beside them on the same worker"
    );
    println!("  heals a second of CPU: {:.2} million", median(rates.into_iter()) / 1e6);
    let millis = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e6;
    println!(
        "  single heals: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        millis(0.5),
        millis(0.99),
        millis(1.0)
    );
}

async fn send_batches(address: SocketAddr, index: usize, until: Instant) -> u64 {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let ids = shuffled_ids(USERS);
    let mut answer = vec![0; 1024];
    let mut healed = 0;
    let mut at = index * ids.len() / 4;
    while Instant::now() < until {
        let mut request = format!(
            "POST /v1/heal HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
            8 * BATCH
        )
        .into_bytes();
        for _ in 0..BATCH {
            at = (at + 1) % ids.len();
            request.extend_from_slice(&ids[at].to_le_bytes());
        }
        stream.write_all(&request).await.unwrap();
        let length = stream.read(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&answer[..length]));
        healed += BATCH as u64;
    }
    healed
}

async fn send_singles(address: SocketAddr, until: Instant) -> hdrhistogram::Histogram<u64> {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut latencies = hdrhistogram::Histogram::new(3).unwrap();
    let mut answer = vec![0; 1024];
    while Instant::now() < until {
        let sent = Instant::now();
        stream.write_all(b"PUT /heal/1 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut answer).await.unwrap() > 0);
        latencies.record(sent.elapsed().as_nanos() as u64).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    latencies
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A server in a process of its own; it ends when this is dropped.
struct Server {
    child: Child,
    address: SocketAddr,
    /// Where its data are; empty without.
    folder: PathBuf,
}

impl Server {
    fn start(name: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--serve", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (address, folder) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        Self { child, address: address.parse().unwrap(), folder: folder.into() }
    }

    /// Seconds of processor time of the process so far, from `/proc`, which counts in hundredths.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }

    /// One request and its whole answer.
    fn call(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Heals everybody once, so that the heals to be measured extend.
    fn open_sessions(&self) {
        let ids: Vec<u8> = (0..USERS).flat_map(usize::to_le_bytes).collect();
        let head = format!(
            "POST /v1/heal HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
            ids.len()
        );
        self.call(&[head.as_bytes(), &ids].concat());
    }

    /// Heals that opened, extended and changed nothing, if the server counts them.
    fn heals(&self) -> Option<[u64; 3]> {
        let answer = self.call(b"GET /v1/status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let status: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
        let heals = status.get("heals")?;
        Some([heals["opened"].as_u64()?, heals["extended"].as_u64()?, heals["unchanged"].as_u64()?])
    }
}

impl Server {
    /// Syncs of the journal so far, if there is one.
    fn syncs(&self) -> Option<u64> {
        let answer = self.call(b"GET /v1/status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let status: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
        status.get("journal")?.get("syncs")?.as_u64()
    }
}

fn shares(before: [u64; 3], after: [u64; 3]) -> String {
    let counts: Vec<f64> = after.iter().zip(before).map(|(after, before)| (after - before) as f64).collect();
    let total: f64 = counts.iter().sum();
    let share = |index: usize| 100.0 * counts[index] / total;
    format!("opened {:.1} %, extended {:.1} %, unchanged {:.1} %", share(0), share(1), share(2))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        if !self.folder.as_os_str().is_empty() {
            std::fs::remove_dir_all(&self.folder).unwrap();
        }
    }
}

fn pin(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).unwrap();
}

/// Runs one of the servers until its standard input ends.
fn serve(name: &str) {
    pin(0);
    // A client that is killed takes its server with it.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match name {
        "axum" => runtime.block_on(serve_axum()),
        "hyper" => runtime.block_on(serve_hyper()),
        name => serve_heartbeat(name),
    }
}

fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    println!("{}", listener.local_addr().unwrap());
    listener
}

async fn serve_axum() {
    let router = axum::Router::new()
        .route("/heal/{user_id}", axum::routing::put(|| async { "{\"status\":\"online\"}" }))
        .fallback(|| async { "" });
    axum::serve(tokio::net::TcpListener::from_std(listen()).unwrap(), router).await.unwrap();
}

async fn serve_hyper() {
    let listener = tokio::net::TcpListener::from_std(listen()).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::spawn(async move {
            let answer = hyper::service::service_fn(|_| async {
                let body = bytes::Bytes::from_static(b"{\"status\":\"online\"}");
                Ok::<_, Infallible>(hyper::Response::new(http_body_util::Full::new(body)))
            });
            // A client that goes away mid-answer is no concern here.
            let _ = hyper::server::conn::http1::Builder::new()
                .pipeline_flush(true)
                .serve_connection(hyper_util::rt::TokioIo::new(stream), answer)
                .await;
        });
    }
}

/// The real clock, and as many seconds on top as it was told.
struct FastClock {
    system: SystemClock,
    ahead: AtomicU32,
}

impl Clock for FastClock {
    fn now(&self) -> UnixSeconds {
        self.system.now().plus(self.ahead.load(Ordering::Relaxed))
    }

    fn until(&self, at: UnixSeconds) -> Duration {
        self.system.until(at.minus(self.ahead.load(Ordering::Relaxed)))
    }
}

fn serve_heartbeat(name: &str) {
    let clock = Arc::new(FastClock { system: SystemClock::start(), ahead: AtomicU32::new(0) });
    // Long enough that nobody lapses between two heals.
    let ttl = Ttl::from_seconds(3_600).unwrap();
    let builder = Engine::builder().ttl(ttl).clock(clock.clone());
    let durability = match name {
        "process" => Some(Durability::Process),
        "interval" => Some(Durability::Interval),
        "always" => Some(Durability::Always),
        _ => None,
    };
    // Beside the sources: a temporary folder may be in memory. Whoever kills this process removes it.
    let folder = durability.map(|_| tempfile::tempdir_in(".").unwrap().keep());
    let engine = match durability.zip(folder.clone()) {
        Some((durability, folder)) => builder.open(Disk { durability, ..Disk::at(folder) }).unwrap().0,
        None => builder.build(),
    };
    let engine = Arc::new(engine);
    let settings =
        Settings { listen: vec!["127.0.0.1:0".parse().unwrap()], threads: 1, ..Settings::default() };
    let server = match name {
        "uncounted" => http::Server::start_uncounted(engine, &settings).unwrap(),
        _ => http::Server::start(engine, &settings).unwrap(),
    };
    println!("{} {}", server.addresses()[0], folder.unwrap_or_default().display());
    loop {
        std::thread::sleep(Duration::from_millis(100));
        clock.ahead.fetch_add(1, Ordering::Relaxed);
    }
}
