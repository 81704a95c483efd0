//! A frozen file system (`fsfreeze`, as a backup of the volume does it) hangs whoever stores into the journal, and nobody else:
//! whoever asks how the service is doing is answered throughout, whoever comes anew is refused in time, and after the thaw
//! everything goes on with nothing lost.
//!
//! Freezing takes root and a loop device, so these tests are only built with the feature `root-tests`; `tests/all` builds them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![allow(clippy::disallowed_methods, reason = "what is promised is a time that really passes")]

mod loop_mount;
mod namespace;
mod process;
mod wire;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use loop_mount::LoopMount;
use rstest::rstest;
use wire::{Client, PATIENCE};

/// As Kubernetes' probes have it; whoever waits longer for health takes the service for dead.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
/// The interval and five seconds: README, "What survives what". One look and one turn of the scheduler more.
const REFUSED_WITHIN: Duration = Duration::from_millis(1_000 + 5_000 + 1_500);
const FROZEN: Duration = Duration::from_secs(10);
/// How soon everything must go on after the thaw.
const RESUMED_WITHIN: Duration = Duration::from_secs(5);
/// Longer than the test: a session that ends has been cut.
const TTL: u32 = 3_600;
const SETTINGS: [&str; 4] = ["--ttl", "1h", "--segment-bytes", "1MiB"];
const THREADS: usize = 2;

fn now() -> u32 {
    u32::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// An address where nobody listens.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// What is known of one user's heals: the seconds in which they were sent and answered.
#[derive(Debug, Default)]
struct Heals {
    first_sent: u32,
    last_sent: u32,
    /// Of those acknowledged: when the first answer came, and when the last of them was sent.
    acknowledged: Option<(u32, u32)>,
    /// One was sent that was not answered with 200 or 503.
    is_unknown: bool,
}

/// What was sent and what was answered.
#[derive(Default)]
struct Ledger(Mutex<BTreeMap<u64, Heals>>);

impl Ledger {
    /// Heals `user`; gives the status.
    fn heal(&self, client: &mut Client, user: u64) -> u16 {
        let sent = now();
        {
            let mut users = self.0.lock().unwrap();
            let heals = users.entry(user).or_insert(Heals { first_sent: sent, ..Heals::default() });
            heals.last_sent = sent;
            heals.is_unknown = true;
        }
        let status = client.call("PUT", &format!("/heal/{user}")).status;
        let mut users = self.0.lock().unwrap();
        let heals = users.get_mut(&user).unwrap();
        heals.is_unknown = false;
        match status {
            200 => {
                let first = heals.acknowledged.map_or_else(now, |(first, _)| first);
                heals.acknowledged = Some((first, sent));
            }
            // In `always` it may have happened.
            503 => heals.is_unknown = true,
            other => panic!("{other}"),
        }
        status
    }

    /// Everything acknowledged is there, in one piece, and nothing that was never sent.
    fn check(&self, client: &mut Client) {
        let users = self.0.lock().unwrap();
        for (&user, heals) in &*users {
            let body = client.call("GET", &format!("/heart_rhythm/{user}")).body;
            let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
            let sessions = answer["history"].as_array().unwrap();
            let Some((first_answered, last_sent)) = heals.acknowledged else {
                assert!(sessions.is_empty() || heals.is_unknown, "{user}: {heals:?} {body}");
                continue;
            };
            let [session] = &sessions[..] else { panic!("{user}: one session of {heals:?}, not {body}") };
            let second = |name: &str| u32::try_from(session[name].as_u64().unwrap()).unwrap();
            let (online_at, offline_at) = (second("online_at"), second("offline_at"));
            assert!((heals.first_sent..=first_answered).contains(&online_at), "{user}: {heals:?} {body}");
            assert!(offline_at >= last_sent + TTL, "{user}: {heals:?} {body}");
            assert!(offline_at <= now() + TTL, "{user}: {heals:?} {body}");
        }
        assert_eq!(client.call("GET", "/heart_rhythm/99999999").body, r#"{"id":99999999,"history":[]}"#);
    }
}

/// One who asks again and again how the service is doing, each time on a connection of its own.
struct Observer {
    address: SocketAddr,
    path: &'static str,
    /// When it was asked, and what was answered.
    answers: Vec<(Instant, u16, String)>,
}

impl Observer {
    fn new(address: SocketAddr, path: &'static str) -> Self {
        Self { address, path, answers: Vec::new() }
    }

    fn watch(&mut self, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            let asked = Instant::now();
            let answer = Client::connect(self.address).call("GET", self.path);
            let took = asked.elapsed();
            assert!(took < ANSWERED_WITHIN, "{} at {}: {took:?}", self.path, self.address);
            self.answers.push((asked, answer.status, answer.body));
            thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// The first answer that `is_such`, to what was asked after `since`.
    fn first(&self, since: Instant, is_such: impl Fn(u16, &str) -> bool) -> Duration {
        let found = self.answers.iter().find(|(at, status, body)| *at >= since && is_such(*status, body));
        found.map_or_else(|| panic!("{} never", self.path), |(at, ..)| *at - since)
    }
}

/// One who comes anew, with one heal.
struct Knock {
    sent: Instant,
    answered: Instant,
    status: u16,
}

impl Knock {
    fn at(address: SocketAddr, ledger: &Ledger, user: u64) -> Self {
        let sent = Instant::now();
        let status = ledger.heal(&mut Client::connect(address), user);
        Self { sent, answered: Instant::now(), status }
    }
}

#[rstest]
#[case::interval("interval")]
#[case::always("always")]
fn a_frozen_file_system_hangs_no_observer_refuses_who_comes_anew_and_loses_nothing(#[case] durability: &str) {
    let mount = LoopMount::new();
    let metrics = free_address();
    let metrics_listen = metrics.to_string();
    let settings =
        [&SETTINGS[..], &["--durability", durability, "--metrics-listen", &metrics_listen]].concat();
    let mut service = mount.start(&settings);
    let address = service.listening();
    let ledger = Ledger::default();
    let (is_over, healed) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut observers: Vec<Observer> = ["/livez", "/readyz"]
        .map(|path| Observer::new(address, path))
        .into_iter()
        .chain(["/livez", "/readyz", "/metrics"].map(|path| Observer::new(metrics, path)))
        .collect();

    let (frozen_at, thawed_at, knocks) = thread::scope(|scope| {
        for index in 0..4 {
            let (ledger, is_over, healed) = (&ledger, &is_over, &healed);
            scope.spawn(move || {
                // What hangs is answered after the thaw, on the same connection.
                let mut client = Client::connect(address);
                for user in (0..500).map(|user| index * 1_000 + user).cycle() {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    if ledger.heal(&mut client, user) == 200 {
                        healed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for observer in &mut observers {
            scope.spawn(|| observer.watch(&is_over));
        }
        let _is_over = SetWhenDropped(&is_over);
        let heal_some = || {
            let (since, before) = (Instant::now(), healed.load(Ordering::Relaxed));
            while healed.load(Ordering::Relaxed) < before + 100 {
                assert!(since.elapsed() < RESUMED_WITHIN, "heals are taken");
                thread::park_timeout(Duration::from_millis(10));
            }
        };
        heal_some();

        let frozen = mount.freeze();
        let frozen_at = Instant::now();
        let mut knocking = Vec::new();
        while frozen_at.elapsed() < FROZEN {
            let (ledger, user) = (&ledger, 1_000_000 + knocking.len() as u64);
            knocking.push(scope.spawn(move || Knock::at(address, ledger, user)));
            thread::park_timeout(Duration::from_millis(250));
        }
        let thawed_at = Instant::now();
        drop(frozen);
        let knocks: Vec<Knock> = knocking.into_iter().map(|knock| knock.join().unwrap()).collect();
        heal_some();
        while Client::connect(address).call("GET", "/readyz").status != 200 {
            assert!(thawed_at.elapsed() < RESUMED_WITHIN, "it is ready again");
            thread::park_timeout(Duration::from_millis(10));
        }
        (frozen_at, thawed_at, knocks)
    });

    for observer in observers.iter().filter(|observer| observer.path == "/readyz") {
        let said_so = observer.first(frozen_at, |status, body| {
            status == 503 && body.contains("the disk has not confirmed the journal in time")
        });
        assert!(said_so < REFUSED_WITHIN, "{said_so:?}");
    }
    observers[4].first(frozen_at, |_, body| body.contains("heartbeat_journal_accepting 0\n"));

    // A worker that had not hung yet may have taken one and hung with it.
    let (mut refused, mut hung) = (0, 0);
    for Knock { sent, answered, status } in &knocks {
        if *answered > thawed_at {
            hung += 1;
            continue;
        }
        assert_eq!(*status, 503, "nothing can be acknowledged");
        let deadline = (frozen_at + REFUSED_WITHIN).max(*sent + ANSWERED_WITHIN);
        assert!(*answered < deadline, "{:?} after the freeze", *answered - frozen_at);
        refused += 1;
    }
    assert!(hung <= THREADS && refused >= 30, "{hung} hung, {refused} were refused");

    ledger.check(&mut Client::connect(address));
    service.kill();
    let mut service = mount.start(&settings);
    ledger.check(&mut Client::connect(service.listening()));
}

/// Also when the test fails: nobody else ends the threads.
struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_snapshot_that_meets_a_frozen_file_system_is_finished_after_the_thaw_and_reads_go_on() {
    let mount = LoopMount::new();
    let mut service = mount.start(&SETTINGS);
    let address = service.listening();
    let ledger = Ledger::default();
    let mut client = Client::connect(address);
    for user in 0..100 {
        assert_eq!(ledger.heal(&mut client, user), 200);
    }

    let frozen = mount.freeze();
    // One is taken, and hangs; the other is told so.
    let mut askers = [(); 2].map(|()| Client::connect(address));
    for asker in &mut askers {
        asker.write("POST /v1/admin/snapshot HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let start = Instant::now();
    while askers.iter_mut().all(Client::is_silent) {
        assert!(start.elapsed() < PATIENCE, "one of them is answered");
    }
    for user in 0..100 {
        let answer = client.call("GET", &format!("/checkup/{user}"));
        assert_eq!(answer.brief(), (200, format!("{{\"id\":{user},\"status\":\"online\"}}").as_str()));
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(Client::connect(address).call("GET", path).status, 200, "{path}");
    }
    assert!(askers.iter_mut().any(Client::is_silent), "the other waits");
    drop(frozen);

    let mut statuses = askers.map(|mut asker| asker.response().status);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    assert_eq!(ledger.heal(&mut client, 100), 200);
    service.kill();
    let mut service = mount.start(&SETTINGS);
    ledger.check(&mut Client::connect(service.listening()));
}
