//! In `always` a write is answered when the disk has confirmed it, and nobody else waits for that.
//!
//! The disk is held up by a listener that does not return: no sync can begin before it does.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use super::Server;
use crate::config::Settings;
use crate::durability::Durability;
use crate::engine::{Disk, Engine};
use crate::session::Status;
use crate::user_id::UserId;

const PATIENCE: Duration = Duration::from_secs(20);

/// A service on one worker, over a disk that confirms nothing until it is released.
struct Held {
    engine: Arc<Engine>,
    server: Server,
    release: mpsc::Sender<()>,
    folder: tempfile::TempDir,
}

impl Held {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk =
            Disk { segment_bytes: 16 << 10, durability: Durability::Always, ..Disk::at(folder.path()) };
        let engine = Arc::new(Engine::builder().open(disk).unwrap().0);
        let settings =
            Settings { listen: vec![([127, 0, 0, 1], 0).into()], threads: 1, ..Settings::default() };
        let server = Server::start(Arc::clone(&engine), &settings).unwrap();
        let (release, released) = mpsc::channel();
        let (held, is_held) = mpsc::channel();
        let released = Mutex::new(released);
        // Later syncs are free: nobody holds the other end any more.
        engine.on_sync(move |_| {
            let _ = held.send(());
            let _ = released.lock().unwrap().recv_timeout(PATIENCE);
        });
        for user in [2, 3, 6] {
            engine.heal_unconfirmed(UserId::new(user)).unwrap();
        }
        engine.heal(UserId::new(999)).unwrap();
        is_held.recv_timeout(PATIENCE).unwrap();
        Self { engine, server, release, folder }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.addresses()[0]).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn release(self) -> (Server, Arc<Engine>, tempfile::TempDir) {
        drop(self.release);
        (self.server, self.engine, self.folder)
    }
}

fn request(line: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// Reads until `count` bodies have come, and gives status lines and bodies.
fn answers(stream: &mut TcpStream, count: usize) -> String {
    let mut read = String::new();
    let mut bytes = [0; 4_096];
    while read.matches('}').count() < count {
        let length = stream.read(&mut bytes).unwrap();
        assert!(length > 0, "closed after {read}");
        read += std::str::from_utf8(&bytes[..length]).unwrap();
    }
    read
}

fn is_silent(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Sends writes of each sort, on a connection each and a read behind the first of them, and waits until all are applied.
fn write_everything(held: &Held) -> Vec<TcpStream> {
    let bulk = |target: &str, body: &str| {
        let length = body.len();
        format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let requests = [
        request("PUT /heal/1") + &request("GET /checkup/1"),
        request("DELETE /heal/2"),
        request("DELETE /v1/users/3"),
        bulk("/heal/4", "a body"),
        bulk("/v1/heal", "5\n5"),
        bulk("/v1/leave", "6\n6"),
        bulk("/v1/import", r#"{"id":7,"online_at":7,"offline_at":9}"#),
    ];
    let mut streams: Vec<TcpStream> = requests.iter().map(|_| held.connect()).collect();
    for (stream, request) in streams.iter_mut().zip(&requests) {
        stream.write_all(request.as_bytes()).unwrap();
    }
    let is_applied = || {
        let status = |user| held.engine.status(UserId::new(user));
        let is_known = |user| held.engine.profile(UserId::new(user)).is_some();
        [1, 4, 5, 7].into_iter().all(is_known)
            && [2, 6].into_iter().all(|user| status(user) == Status::Offline)
            && !is_known(3)
    };
    while !is_applied() {
        std::thread::yield_now();
    }
    streams
}

#[test]
fn a_write_waits_for_the_disk_and_holds_up_nobody_else() {
    let held = Held::start();
    let mut writers = write_everything(&held);
    let mut reader = held.connect();
    for _ in 0..20 {
        reader.write_all(request("GET /checkup/999").as_bytes()).unwrap();
        assert!(answers(&mut reader, 1).contains(r#"{"id":999,"status":"#));
    }
    assert!(writers.iter().all(is_silent), "nothing is acknowledged");

    let (_server, _engine, _folder) = held.release();
    let first = answers(&mut writers[0], 2);
    let positions = [first.find(r#"{"status":"online"}"#), first.find(r#"{"id":1,"status":""#)];
    assert!(positions[0].is_some() && positions[0] < positions[1], "in order: {first}");
    for writer in &mut writers[1..] {
        let answer = answers(writer, 1);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[test]
fn a_write_that_the_disk_fails_to_take_is_refused_as_unknown() {
    let held = Held::start();
    let mut writers = write_everything(&held);
    held.engine.fail_journal();
    let (server, engine, _folder) = held.release();
    for (index, writer) in writers.iter_mut().enumerate() {
        let answer = answers(writer, 1);
        assert!(answer.starts_with("HTTP/1.1 503"), "{index}: {answer}");
        assert!(answer.contains("retry-after: 1\r\n"), "{index}: {answer}");
        let sentence = "the disk has failed to take the journal; whether the write is kept is unknown, and repeating it is safe";
        assert!(answer.contains(sentence), "{index}: {answer}");
    }
    // Two single ones, and two ids of a request in bulk.
    assert_eq!(server.stats().heals.refused, 4);
    assert!(engine.refusal().is_some());
}

/// A sync that hangs ends nothing and wakes nobody.
#[test]
fn who_waits_for_a_disk_that_hangs_is_told_so() {
    let held = Held::start();
    let mut writers = write_everything(&held);
    held.engine.hang_journal();
    for (index, writer) in writers.iter_mut().enumerate() {
        let answer = answers(writer, 1);
        assert!(answer.starts_with("HTTP/1.1 503"), "{index}: {answer}");
        assert!(
            answer.contains("has not confirmed the journal in time; whether the write is kept is unknown"),
            "{answer}"
        );
    }
    let mut late = held.connect();
    late.write_all(request("PUT /heal/8").as_bytes()).unwrap();
    let answer = answers(&mut late, 1);
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("in time; repeat"), "{answer}");
    late.write_all(request("GET /readyz").as_bytes()).unwrap();
    assert!(answers(&mut late, 1).contains("the disk has not confirmed the journal in time"));
    held.release();
}
