//! When a worker hangs in the kernel, whoever comes anew is served by another; when all do, and the disk does not answer, they
//! are refused.

#![allow(clippy::disallowed_methods, reason = "a worker that hangs is known by the time that passes")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;

use super::Server;
use super::recipient::SILENCE;
use crate::config::Settings;
use crate::engine::{Disk, Engine};

const PATIENCE: Duration = Duration::from_secs(20);

/// A service whose workers hang, one for each that asks for it.
struct Hanging {
    /// Dropped first: the server's end waits for its workers.
    release: mpsc::Sender<()>,
    engine: Arc<Engine>,
    server: Server,
    hangs: mpsc::Receiver<()>,
    _folder: tempfile::TempDir,
}

impl Hanging {
    fn start(threads: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk { segment_bytes: 16 << 10, ..Disk::at(folder.path()) };
        let engine = Arc::new(Engine::builder().open(disk).unwrap().0);
        let settings = Settings { listen: vec![([127, 0, 0, 1], 0).into()], threads, ..Settings::default() };
        let (hang, hangs) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let block = move || {
            hang.send(()).unwrap();
            let _ = released.lock().unwrap().recv();
            std::future::ready("")
        };
        let more = Router::new().route("/hang", get(block));
        let server = Server::start_with_routes(Arc::clone(&engine), &settings, &more).unwrap();
        Self { engine, server, hangs, release, _folder: folder }
    }

    /// Lets one of the workers hang; gives the connection that it hangs for.
    fn hang(&self) -> TcpStream {
        let stream = self.ask("GET /hang");
        self.hangs.recv_timeout(PATIENCE).unwrap();
        stream
    }

    fn ask(&self, line: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.server.addresses()[0]).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        stream
    }

    fn release(self) -> Server {
        drop(self.release);
        self.server
    }
}

/// What comes until `}`.
fn answer(stream: &mut TcpStream) -> String {
    let (mut read, mut bytes) = (String::new(), [0; 4_096]);
    while !read.contains('}') {
        let length = stream.read(&mut bytes).unwrap();
        assert!(length > 0, "closed after {read:?}");
        read += std::str::from_utf8(&bytes[..length]).unwrap();
    }
    read
}

#[test]
fn who_is_given_to_a_worker_that_hangs_is_given_to_another() {
    let hanging = Hanging::start(2);
    let _hung = hanging.hang();
    // Each has the same number of connections in turn, so some of these wait for the one that hangs.
    let mut streams: Vec<TcpStream> = (0..6).map(|user| hanging.ask(&format!("PUT /heal/{user}"))).collect();
    for stream in &mut streams {
        assert!(answer(stream).starts_with("HTTP/1.1 200"));
    }
    hanging.release();
}

#[test]
fn when_all_workers_hang_and_the_disk_does_who_comes_anew_is_refused() {
    let hanging = Hanging::start(1);
    let _hung = hanging.hang();
    let mut before = hanging.ask("PUT /heal/1");
    let start = Instant::now();
    hanging.engine.hang_journal();
    let refused = |stream: &mut TcpStream| {
        let answer = answer(stream);
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(
            answer.contains("retry-after: 1\r\n") && answer.contains("connection: close\r\n"),
            "{answer}"
        );
        assert!(answer.contains("the disk has not confirmed the journal in time; repeat"), "{answer}");
        // The syncer of this test is well, and would say so.
        hanging.engine.hang_journal();
    };
    // Given to the worker before anybody could know.
    let outcome = loop {
        hanging.engine.hang_journal();
        before.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        if before.peek(&mut [0]).is_ok() {
            break start.elapsed();
        }
        assert!(start.elapsed() < PATIENCE, "it is refused");
    };
    assert!(outcome + Duration::from_secs(1) > SILENCE, "{outcome:?}");
    refused(&mut before);
    refused(&mut hanging.ask("PUT /heal/2"));
    refused(&mut hanging.ask("GET /checkup/2"));
    refused(&mut hanging.ask("POST /v1/heal"));
    let mut health = hanging.ask("GET /readyz");
    assert!(answer(&mut health).contains("the disk has not confirmed the journal in time"));
    assert_eq!(hanging.server.stats().heals.refused, 2);
    assert_eq!(hanging.engine.figures().users, 0);
    hanging.release();
}
