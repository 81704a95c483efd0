//! A service of the bench's own, on a free port, that cannot outlive it.
//!
//! It stops when its standard input ends, and the other end of that is here: however the bench ends, the kernel closes it.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;

/// How long it may take to listen.
const START_WITHIN: Duration = Duration::from_secs(30);
/// How long it may take to stop: its drain timeout of 10 s, and as much again.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// A log line is read up to this length; what follows counts as the next line.
const LINE_MAX: u64 = 64 * 1024;

/// A running service.
#[derive(Debug)]
pub struct OwnService {
    child: Child,
    address: SocketAddr,
    /// Disconnected when its log ends.
    log: Receiver<SocketAddr>,
    last_line: LastLine,
}

/// The last line of its log.
type LastLine = Arc<Mutex<String>>;

/// The command that starts this program as a service for [`OwnService::start`], with its data in `folder`.
pub fn serve_command(folder: &Path) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--until-stdin-closes"]);
    command.arg("--data-dir").arg(folder);
    // With fewer lines than by default, the address might not be among them.
    command.env_remove("HEARTBEAT_LOG");
    Ok(command)
}

impl OwnService {
    /// Runs `command` and waits until its log says where it listens.
    ///
    /// # Errors
    /// When it cannot be run, ends before it listens (with its last log line), or does not listen in time.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        // An interrupt from the terminal is for the bench, which reports and then stops the service.
        command.process_group(0);
        let mut child = command.spawn().context("cannot start a service")?;
        let stderr = child.stderr.take().context("the service has no stderr")?;

        let last_line = LastLine::default();
        let (found, log) = channel();
        let shared = Arc::clone(&last_line);
        let drain = move || {
            read_log(BufReader::new(stderr), &shared, |address| {
                // Nobody waits any more once starting has failed.
                let _told = found.send(address);
            });
        };
        let drained = std::thread::Builder::new().name("service-log".into()).spawn(drain);

        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut service = Self { child, address: unspecified, log, last_line };
        drained.context("cannot read the service's log")?;
        match service.log.recv_timeout(START_WITHIN) {
            Ok(address) => service.address = address,
            Err(RecvTimeoutError::Timeout) => {
                bail!("the service did not listen within {START_WITHIN:?}; {}", service.last_words())
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = service.child.wait().context("cannot wait for the service")?;
                bail!("the service ended at start with {status}; {}", service.last_words());
            }
        }
        Ok(service)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it and waits for its end.
    ///
    /// # Errors
    /// When it does not end in time, or ends with an error.
    pub fn stop(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        // It says its address once, before this: what comes now is the end of its log.
        if self.log.recv_timeout(STOP_WITHIN) == Err(RecvTimeoutError::Timeout) {
            bail!("the service did not stop within {STOP_WITHIN:?}; {}", self.last_words());
        }
        let status = self.child.wait().context("cannot wait for the service")?;
        if !status.success() {
            bail!("the service ended with {status}; {}", self.last_words());
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let line = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.is_empty() { "it logged nothing".into() } else { format!("its last log line: {line}") }
    }
}

impl Drop for OwnService {
    /// Ends it, if it was not stopped.
    fn drop(&mut self) {
        // Both fail only when it has ended and was waited for already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Reads the log to its end, so that the service never waits for us; says the address when it comes.
fn read_log(mut log: impl io::BufRead, last_line: &Mutex<String>, found: impl FnOnce(SocketAddr)) {
    let mut found = Some(found);
    let mut line = Vec::new();
    while log.by_ref().take(LINE_MAX).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line).trim().to_owned();
        if let Some(address) = listening_on(&text)
            && let Some(found) = found.take()
        {
            found(address);
        }
        if !text.is_empty() {
            *last_line.lock().unwrap_or_else(PoisonError::into_inner) = text;
        }
        line.clear();
    }
}

/// The first address, if the log line names addresses.
fn listening_on(line: &str) -> Option<SocketAddr> {
    #[derive(Deserialize)]
    struct Line {
        fields: Fields,
    }
    #[derive(Deserialize)]
    struct Fields {
        message: String,
        addresses: String,
    }
    // While it recovers it says where, too, and is not ready yet.
    let line = serde_json::from_str::<Line>(line).ok().filter(|line| line.fields.message == "listening")?;
    let separators = |c: char| c.is_whitespace() || c == ',';
    line.fields.addresses.split(separators).find_map(|address| address.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTENING: &str = r#"{"timestamp":"t","level":"INFO","fields":{"message":"listening","addresses":"127.0.0.1:43211"},"target":"heartbeat"}"#;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("LISTENING", LISTENING);
        command
    }

    #[test]
    fn the_address_is_read_from_the_log() {
        assert_eq!(listening_on(LISTENING), Some(SocketAddr::from(([127, 0, 0, 1], 43_211))));
        let two = r#"{"fields":{"message":"listening","addresses":"[::1]:1, 127.0.0.1:2"}}"#;
        assert_eq!(listening_on(two), Some("[::1]:1".parse().unwrap()));
        assert_eq!(listening_on(r#"{"fields":{"message":"recovered"}}"#), None);
        assert_eq!(listening_on(&LISTENING.replace("\"listening\"", "\"recovering\"")), None);
        assert_eq!(listening_on("not JSON"), None);
    }

    #[test]
    fn it_runs_until_its_input_ends_and_its_log_is_drained() {
        let script = r#"echo '{"fields":{}}' >&2; echo "$LISTENING" >&2; cat; head -c 300000 /dev/zero >&2"#;
        let service = OwnService::start(shell(script)).unwrap();
        assert_eq!(service.address().port(), 43_211);
        service.stop().unwrap();
    }

    #[test]
    fn one_that_dies_at_start_is_quoted() {
        let error = OwnService::start(shell("echo 'port in use' >&2; exit 74")).unwrap_err().to_string();
        assert_eq!(error, "the service ended at start with exit status: 74; its last log line: port in use");
    }

    #[test]
    fn one_that_ends_with_an_error_is_reported() {
        let service = OwnService::start(shell(r#"echo "$LISTENING" >&2; cat; exit 3"#)).unwrap();
        let error = service.stop().unwrap_err().to_string();
        assert!(error.starts_with("the service ended with exit status: 3"), "{error}");
    }
}
