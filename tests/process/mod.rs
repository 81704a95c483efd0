//! A running `heartbeat`, and what else the tests of the binary need from outside it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub const BINARY: &str = env!("CARGO_BIN_EXE_heartbeat");

/// A running `heartbeat` whose log is JSON; killed when dropped.
#[allow(dead_code, reason = "each test binary uses a part of this")]
pub struct Service {
    child: Child,
    log: Option<BufReader<ChildStderr>>,
    /// Its data, if the test did not say where.
    _data: Option<TempDir>,
}

#[allow(dead_code, reason = "each test binary uses a part of this")]
impl Service {
    /// Started with `args`; `alter` sees the command before it runs. Without `--data-dir` its data is gone with it.
    pub fn start(args: &[&str], alter: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(BINARY);
        command.env_clear().args(["--listen", "127.0.0.1:0", "--log-format", "json"]).args(args);
        let data = (!args.contains(&"--data-dir")).then(|| tempfile::tempdir().unwrap());
        if let Some(data) = &data {
            command.arg("--data-dir").arg(data.path()).args(["--segment-bytes", "64KiB"]);
        }
        alter(&mut command);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = child.stderr.take().map(BufReader::new);
        Self { child, log, _data: data }
    }

    /// Reads the log up to the line whose message begins with `message`, and gives that one.
    pub fn logged(&mut self, message: &str) -> Value {
        let log = self.log.as_mut().unwrap();
        let mut text = String::new();
        loop {
            let start = text.len();
            assert!(log.read_line(&mut text).unwrap() > 0, "no {message:?} in:\n{text}");
            let line: Value = serde_json::from_str(&text[start..]).unwrap();
            if line["fields"]["message"].as_str().unwrap().starts_with(message) {
                return line;
            }
        }
    }

    /// Waits until it serves, and says where.
    pub fn listening(&mut self) -> SocketAddr {
        let line = self.logged("listening");
        let addresses = line["fields"]["addresses"].as_str().unwrap();
        addresses.split(',').next().unwrap().parse().unwrap()
    }

    /// The same, or the exit code and the last line of one that does not get so far.
    pub fn listening_or_refused(&mut self) -> Result<SocketAddr, (Option<i32>, String)> {
        let mut last = String::new();
        loop {
            let mut line = String::new();
            if self.log.as_mut().unwrap().read_line(&mut line).unwrap() == 0 {
                return Err((self.wait().code(), last));
            }
            if line.contains("\"listening\"") {
                let line: Value = serde_json::from_str(&line).unwrap();
                return Ok(line["fields"]["addresses"].as_str().unwrap().parse().unwrap());
            }
            last = line;
        }
    }

    /// With SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The next line, whatever it says.
    pub fn next_line(&mut self) -> Value {
        let mut text = String::new();
        assert!(self.log.as_mut().unwrap().read_line(&mut text).unwrap() > 0, "the log has ended");
        serde_json::from_str(&text).unwrap()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// As if whoever reads the log had died.
    pub fn stop_reading_log(&mut self) {
        self.log = None;
    }

    /// For whoever reads it to its end.
    pub fn take_log(&mut self) -> BufReader<ChildStderr> {
        self.log.take().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    pub fn wait(&mut self) -> ExitStatus {
        // `Child::wait` closes stdin, which would be the very thing that some tests do not do.
        let stdin = self.child.stdin.take();
        let status = self.child.wait().unwrap();
        drop(stdin);
        status
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes one connection, reads the head of its request, sends `answer`; gives the head.
#[allow(dead_code, reason = "each test binary uses a part of this")]
pub fn answer_once(listener: &TcpListener, answer: &str) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    stream.write_all(answer.as_bytes()).unwrap();
    String::from_utf8(head).unwrap()
}
