//! The binary as it is, with system calls that strace lets fail: a second opinion on what `tests/durable` says of a seam in it.
//!
//! Whatever fails, once or from then on: nobody's acknowledged heal is lost, reads go on, `/readyz` says why writes are refused,
//! the process goes on (a start may end with 74), and what failed once is overcome without help. And a log of the calls shows the
//! order on which it rests: a file is synced before it gets its name, the folder after that and before the file is used, and in
//! `always` the journal between a heal and its acknowledgement.
//!
//! It takes `ptrace` and strace, so it is only built with the feature `root-tests`; `tests/all` builds it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![allow(clippy::disallowed_methods, reason = "what is promised is a time that really passes")]

mod process;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use process::Service;
use wire::Client;

const STRACE: &str = "/usr/bin/strace";
/// Cases under way at once: most of their time they wait for the next attempt.
const AT_ONCE: usize = 4;
/// How long heals are sent. Segments have 341 slots: it is enough for several.
const DRIVEN: Duration = Duration::from_millis(2_500);
const HEALS_MAX: u64 = 1_500;
/// The service tries again every second, and a snapshot waits up to ten for a segment.
const BACK_WITHIN: Duration = Duration::from_secs(30);
/// The exit code of an I/O error.
const IO: i32 = 74;

/// Which calls fail.
#[derive(Debug, Clone, Copy)]
struct Case {
    call: &'static str,
    errno: &'static str,
    /// As strace counts: from 1, in each thread; with `+`, from then on.
    when: &'static str,
    on: On,
    durability: &'static str,
}

/// Calls on what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    Anything,
    Folder,
    /// Segments that are being prepared, and snapshots being written.
    Temporaries,
}

const fn case(call: &'static str, errno: &'static str, when: &'static str, on: On) -> Case {
    Case { call, errno, when, on, durability: "interval" }
}

const fn always(case: Case) -> Case {
    Case { durability: "always", ..case }
}

const CASES: [Case; 24] = [
    always(case("fdatasync", "EIO", "1", On::Anything)),
    always(case("fdatasync", "EIO", "40", On::Anything)),
    always(case("fdatasync", "ENOSPC", "40", On::Anything)),
    always(case("fdatasync", "EIO", "40+", On::Anything)),
    case("fdatasync", "EIO", "2", On::Anything),
    case("fdatasync", "EIO", "2+", On::Anything),
    case("fallocate", "ENOSPC", "1", On::Anything),
    case("fallocate", "ENOSPC", "3+", On::Anything),
    case("fallocate", "EIO", "2", On::Anything),
    always(case("fallocate", "EIO", "1+", On::Anything)),
    case("pwrite64", "ENOSPC", "1", On::Temporaries),
    case("pwrite64", "EIO", "2", On::Temporaries),
    always(case("pwrite64", "ENOSPC", "4+", On::Temporaries)),
    case("/^rename", "EIO", "1", On::Anything),
    case("/^rename", "ENOSPC", "2", On::Anything),
    case("/^rename", "EIO", "3+", On::Anything),
    case("openat", "EIO", "1", On::Temporaries),
    case("openat", "ENOSPC", "2", On::Temporaries),
    always(case("openat", "ENOSPC", "3+", On::Temporaries)),
    case("fsync", "EIO", "1", On::Folder),
    case("fsync", "EIO", "2", On::Folder),
    always(case("fsync", "EIO", "3+", On::Folder)),
    case("fsync", "EIO", "2", On::Anything),
    case("fsync", "ENOSPC", "3+", On::Temporaries),
];

impl Case {
    fn is_for_good(self) -> bool {
        self.when.ends_with('+')
    }

    /// strace runs beside the service and not above it: the process that is started is the service itself.
    fn strace(self, folder: &Path) -> Command {
        let Self { call, errno, when, .. } = self;
        let mut command = strace(Path::new("/dev/null"), call);
        command.args(["-e", &format!("inject={call}:error={errno}:when={when}")]);
        let temporaries = || {
            let segments = (1..40).map(|number| format!("journal-{number:010}.seg.tmp"));
            segments.chain((1..20).map(|number| format!("snapshot-{number:010}.snap.tmp")))
        };
        match self.on {
            On::Anything => {}
            On::Folder => {
                command.arg("-P").arg(folder);
            }
            On::Temporaries => {
                for name in temporaries() {
                    command.arg("-P").arg(folder.join(name));
                }
            }
        }
        command
    }
}

fn strace(log: &Path, calls: &str) -> Command {
    let mut command = Command::new(STRACE);
    command.env_clear().args(["-D", "-f", "-q", "--seccomp-bpf", "-o"]).arg(log);
    command.args(["-e", &format!("trace={calls}")]);
    command
}

fn start(folder: &Path, durability: &str, traced_by: Option<Command>) -> Service {
    let folder = folder.to_str().unwrap();
    let arguments = [
        &["--data-dir", folder, "--durability", durability, "--segment-bytes", "16KiB", "--ttl", "1h"][..],
        &["--threads", "2", "--sync-interval", "100ms"],
    ];
    Service::start(&arguments.concat(), |command| {
        if let Some(mut strace) = traced_by {
            strace.arg(process::BINARY).args(command.get_args());
            *command = strace;
        }
    })
}

/// What has come of a case.
#[derive(Debug, Default)]
struct Told {
    acknowledged: BTreeSet<u64>,
    refused: u64,
    has_not_started: bool,
    snapshot: Option<String>,
}

fn run(case: Case) -> Told {
    let folder = tempfile::tempdir().unwrap();
    let mut told = Told::default();
    let mut service = start(folder.path(), case.durability, Some(case.strace(folder.path())));
    match service.listening_or_refused() {
        Ok(address) => {
            let snapshot = thread::spawn(move || take_snapshot(address).ok());
            drive(case, &mut Client::connect(address), &mut told);
            service.kill();
            told.snapshot = snapshot.join().unwrap();
        }
        Err((code, last)) => {
            assert_eq!(code, Some(IO), "{last}");
            told.has_not_started = true;
        }
    }
    let mut service = start(folder.path(), case.durability, None);
    let address =
        service.listening_or_refused().unwrap_or_else(|refused| panic!("second start: {refused:?}"));
    let mut client = Client::connect(address);
    for id in &told.acknowledged {
        let answer = client.call("GET", &format!("/checkup/{id}"));
        assert_eq!(answer.brief(), (200, format!("{{\"id\":{id},\"status\":\"online\"}}").as_str()));
    }
    assert_eq!(heal_patiently(&mut client, 1_000_000), 0, "it works");
    told
}

/// Gives the status; an error if the service ends before it answers.
fn take_snapshot(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"POST /v1/admin/snapshot HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(String::from_utf8_lossy(&status[9..]).into_owned())
}

/// Heals one user after the other, each once.
fn drive(case: Case, client: &mut Client, told: &mut Told) {
    let start = Instant::now();
    let mut id = 0;
    // Since when each heal has been refused, and whether `/readyz` has said why.
    let (mut refusing, mut is_told) = (None, false);
    // What fails for good must be felt.
    let is_driven =
        |refused| start.elapsed() > if case.is_for_good() && refused == 0 { BACK_WITHIN } else { DRIVEN };
    while id < HEALS_MAX && !is_driven(told.refused) {
        id += 1;
        match client.call("PUT", &format!("/heal/{id}")).status {
            200 => {
                told.acknowledged.insert(id);
                refusing = None;
            }
            503 => {
                told.refused += 1;
                let since = *refusing.get_or_insert_with(|| {
                    is_told = false;
                    Instant::now()
                });
                let readiness = client.call("GET", "/readyz");
                is_told |= readiness.status == 503 && !readiness.body.contains("\"reasons\":[]");
                assert!(
                    is_told || since.elapsed() < Duration::from_secs(1),
                    "nobody says why: {}",
                    readiness.body
                );
                if let Some(known) = told.acknowledged.first() {
                    assert_eq!(client.call("GET", &format!("/checkup/{known}")).status, 200, "reads go on");
                }
                thread::park_timeout(Duration::from_millis(10));
            }
            status => panic!("{status}"),
        }
    }
    if !case.is_for_good() {
        heal_patiently(client, HEALS_MAX + 1);
        told.acknowledged.insert(HEALS_MAX + 1);
    }
}

/// Until it is taken; how often it was not.
fn heal_patiently(client: &mut Client, id: u64) -> u32 {
    let start = Instant::now();
    let mut refused = 0;
    while client.call("PUT", &format!("/heal/{id}")).status != 200 {
        assert!(start.elapsed() < BACK_WITHIN, "heals are refused for ever");
        refused += 1;
        thread::park_timeout(Duration::from_millis(20));
    }
    refused
}

#[test]
fn whatever_call_fails_nothing_acknowledged_is_lost_and_the_service_goes_on() {
    let cases = Mutex::new(CASES.iter());
    let next = || cases.lock().unwrap().next().copied();
    let told = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = next() {
                    let outcome = std::panic::catch_unwind(|| run(case));
                    told.lock().unwrap().push((case, outcome));
                }
            });
        }
    });
    let told = told.into_inner().unwrap();
    for (case, outcome) in &told {
        match outcome {
            Ok(told) => println!(
                "{case:?}: {} acknowledged, {} refused, snapshot {:?}, started {}",
                told.acknowledged.len(),
                told.refused,
                told.snapshot,
                !told.has_not_started
            ),
            Err(_) => println!("{case:?}: FAILED"),
        }
    }
    assert!(told.iter().all(|(_, outcome)| outcome.is_ok()));
    // What fails for good must have been felt: else strace has let nothing fail.
    let unfelt: Vec<_> = told
        .iter()
        .filter_map(|(case, outcome)| Some((case, outcome.as_ref().ok()?)))
        .filter(|(case, told)| case.is_for_good() && told.refused == 0 && !told.has_not_started)
        .filter(|(_, told)| told.snapshot.as_deref() == Some("200"))
        .collect();
    assert!(unfelt.is_empty(), "{unfelt:?}");
}

/// A call in strace's log, which has begun in one line and ended in that or a later one.
#[derive(Debug, Default)]
struct Logged {
    text: String,
    began: usize,
    ended: usize,
}

impl Logged {
    fn is(&self, call: &str) -> bool {
        self.text.starts_with(call)
    }

    /// One that was asked for something of this file and has done it.
    fn is_done(&self, call: &str, path: &str) -> bool {
        self.is(call) && self.names(path) && !self.text.contains(" = -1 ")
    }

    /// As an open file, or as a name.
    fn names(&self, path: &str) -> bool {
        self.text.contains(&format!("<{path}>")) || self.text.contains(&format!("\"{path}\""))
    }
}

fn calls_of(log: &str) -> Vec<Logged> {
    let mut calls: Vec<Logged> = Vec::new();
    let mut unfinished = BTreeMap::new();
    for (at, line) in log.lines().enumerate() {
        let (thread, text) = line.split_once(' ').unwrap();
        let text = text.trim_start();
        if let Some(rest) = text.strip_prefix("<... ") {
            if let Some(index) = unfinished.remove(thread) {
                let call: &mut Logged = &mut calls[index];
                call.ended = at;
                call.text.push_str(rest.split_once("resumed>").unwrap().1);
            }
        } else if let Some(begun) = text.strip_suffix(" <unfinished ...>") {
            unfinished.insert(thread, calls.len());
            calls.push(Logged { text: begun.into(), began: at, ended: usize::MAX });
        } else {
            calls.push(Logged { text: text.into(), began: at, ended: at });
        }
    }
    calls
}

/// What happened to this file under its temporary and its own name, and to the folder until it was used or the next one came.
fn publication(calls: &[Logged], folder: &str, name: &str) -> Vec<&'static str> {
    let (own, temporary) = (format!("{folder}/{name}"), format!("{folder}/{name}.tmp"));
    let mut steps = Vec::new();
    // When the last step had ended.
    let (mut ended, mut is_named) = (0, false);
    for call in calls {
        let step = ["openat", "fallocate", "pwrite64", "fsync", "rename"]
            .into_iter()
            .find(|step| call.is_done(step, &temporary))
            .or_else(|| call.is_done("mmap", &own).then_some("mmap"))
            // Also another thread's, if it has begun late enough.
            .or_else(|| {
                let is_it = is_named && call.began > ended && call.is_done("fsync", folder);
                is_it.then_some("fsync of the folder")
            });
        let Some(step) = step else { continue };
        assert!(call.began >= ended, "{step} of {name} has begun before the step before it had ended");
        ended = call.ended;
        if steps.last() != Some(&step) {
            steps.push(step);
        }
        match step {
            "rename" => is_named = true,
            "fsync of the folder" => is_named = false,
            _ => {}
        }
    }
    steps
}

/// A line begins with the thread's id, which strace fills up to five characters.
fn is_the_end_of(line: &str, process: u32) -> bool {
    let (id, said) = line.split_once(' ').unwrap_or_default();
    id == process.to_string() && said.trim_start() == "+++ exited with 0 +++"
}

/// The seam that `tests/durable` looks at has the same steps, by other names: create, reserve, write, sync file, rename, sync folder,
/// map.
#[test]
fn the_system_calls_come_in_the_order_on_which_everything_rests() {
    let folder = tempfile::tempdir().unwrap();
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut traced = strace(
        log.path(),
        "openat,fallocate,pwrite64,fsync,fdatasync,/^rename,mmap,read,recvfrom,write,writev,sendto,sendmsg",
    );
    traced.args(["-y", "-s", "48"]);
    let mut service = start(folder.path(), "always", Some(traced));
    let address = service.listening();
    let mut client = Client::connect(address);
    for id in 1..=400 {
        heal_patiently(&mut client, id);
    }
    assert_eq!(take_snapshot(address).unwrap(), "200");
    heal_patiently(&mut client, 401);
    service.signal(rustix::process::Signal::TERM);
    assert!(service.wait().success());
    // strace runs on for a moment after what it traces.
    let asked = Instant::now();
    let text = loop {
        let text = fs::read_to_string(log.path()).unwrap();
        if text.lines().any(|line| is_the_end_of(line, service.id())) {
            break text;
        }
        assert!(asked.elapsed() < BACK_WITHIN, "strace says no end: {:?}", text.lines().last());
        thread::yield_now();
    };

    let calls = calls_of(&text);
    let folder = folder.path().to_str().unwrap();
    let segment =
        ["openat", "fallocate", "pwrite64", "fsync", "rename", "fsync of the folder", "mmap"].as_slice();
    let snapshot = ["openat", "pwrite64", "fsync", "rename", "fsync of the folder"].as_slice();
    for number in 1..=4 {
        assert_eq!(publication(&calls, folder, &format!("journal-{number:010}.seg")), segment);
    }
    assert_eq!(publication(&calls, folder, "snapshot-0000000001.snap"), snapshot);
    assert_eq!(acknowledged_after_a_sync(&calls), 401);
}

/// A disk that cannot read a file says nothing about what is in it. A start that took it for damaged would put it aside, and a
/// repair would replace it.
#[test]
fn a_file_that_the_disk_cannot_read_is_not_taken_for_a_damaged_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = start(folder.path(), "always", None);
    let address = service.listening();
    let mut client = Client::connect(address);
    (1..=200).for_each(|id| assert_eq!(heal_patiently(&mut client, id), 0));
    assert_eq!(take_snapshot(address).unwrap(), "200");
    (201..=400).for_each(|id| assert_eq!(heal_patiently(&mut client, id), 0));
    service.kill();

    let files = || {
        let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = names.map(|path| (fs::read(&path).unwrap(), path)).collect();
        files.sort();
        files
    };
    let before = files();
    let directory = folder.path().to_str().unwrap();
    let commands: [&[&str]; 4] = [
        &["verify", directory],
        &["repair", directory],
        &["repair", "--apply", directory],
        &["serve", "--data-dir", directory, "--listen", "127.0.0.1:0"],
    ];
    let mut refused = 0;
    for (_, path) in before.iter().filter(|(bytes, _)| !bytes.is_empty()) {
        for arguments in commands {
            let mut command = strace(Path::new("/dev/null"), "pread64");
            command.args(["-e", "inject=pread64:error=EIO:when=1+", "-P"]).arg(path);
            let done = command.arg(process::BINARY).args(arguments).output().unwrap();
            let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
            assert_eq!(done.status.code(), Some(IO), "{} {arguments:?}: {said}", path.display());
            assert!(said.contains(path.file_name().unwrap().to_str().unwrap()), "{arguments:?}: {said}");
            refused += 1;
        }
        assert!(files() == before, "{}: something has changed", path.display());
    }
    assert!(refused >= 4 * 3, "a snapshot and two segments at least");
}

/// How many heals were acknowledged, each after a sync of the journal that had begun after the heal had come.
fn acknowledged_after_a_sync(calls: &[Logged]) -> usize {
    let mut acknowledged = 0;
    // When the last heal had come, and whether a sync that began later has succeeded.
    let mut came = None;
    for call in calls {
        let is_answer = ["write", "sendto", "sendmsg"].iter().any(|send| call.is(send));
        if (call.is("read") || call.is("recvfrom")) && call.text.contains("\"PUT /heal/") {
            came = Some(call.ended);
        } else if is_answer && call.text.contains("\"HTTP/1.1 200") {
            let Some(came) = came.take() else { continue };
            let covers = |sync: &&Logged| {
                sync.is("fdatasync") && sync.text.contains(".seg>") && sync.text.ends_with(" = 0")
            };
            let sync = calls.iter().filter(covers).find(|sync| came < sync.began && sync.ended < call.began);
            assert!(sync.is_some(), "{} comes before a sync", call.text);
            acknowledged += 1;
        }
    }
    acknowledged
}
