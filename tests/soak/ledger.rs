//! What some of the users must find after a kill: every heal that was acknowledged, in a session that no kill has cut.
//!
//! The ledger says only what is certain. When two heals came close enough together, or an outage lay between them whose grace
//! covers the second, they are in one session: a chain. When it is not certain, a new chain begins; the chains of a machine
//! that lags are short, and no less true.

/// Seconds between which something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Between(pub u32, pub u32);

/// The service's clock may be some milliseconds off ours, and so another second.
pub const SLACK: u32 = 1;

/// A time in which the service was not there, as it says itself.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    pub from: u32,
    pub to: u32,
}

/// What is known of one user.
#[derive(Debug, Clone)]
pub struct Entry {
    pub number: u64,
    /// The first attempt to heal, whatever became of it.
    attempted: u32,
    /// When the session of the last acknowledged heal had been opened at the latest, and that heal.
    chain: Option<(u32, Between)>,
}

impl Entry {
    pub fn new(number: u64, attempted: u32) -> Self {
        Self { number, attempted, chain: None }
    }

    pub fn healed(&mut self, at: Between, ttl: u32, outages: &[Outage]) {
        let opened = match self.chain {
            Some((opened, last)) if is_one_session(last, at, ttl, outages) => opened,
            _ => at.1,
        };
        self.chain = Some((opened, at));
    }

    /// Whether the user is certain to be online at the end of `second`.
    pub fn is_online_at(&self, second: u32, ttl: u32) -> bool {
        self.chain.is_some_and(|(_, last)| second + SLACK < last.0 - SLACK + ttl)
    }

    /// Nothing can be said of whom retention may have dropped by `now`.
    pub fn is_kept_at(&self, now: u32, ttl: u32, retain: u32) -> bool {
        self.chain.is_some_and(|(_, last)| now + SLACK <= last.0 - SLACK + ttl + retain)
    }

    /// Whether the last acknowledged heal is in `history`, in a session as old as it must be, and nothing is older than the user.
    pub fn fits(&self, history: &[(u32, u32)], ttl: u32) -> bool {
        let Some((opened, last)) = self.chain else { return true };
        let has_last = |&&(online_at, offline_at): &&(u32, u32)| {
            online_at <= opened + SLACK && offline_at + SLACK >= last.0 + ttl
        };
        history.iter().any(|session| has_last(&session))
            && history.iter().all(|&(online_at, _)| online_at + SLACK >= self.attempted)
    }
}

/// Whether a heal at `next` is certain to continue the session of one at `last`.
fn is_one_session(last: Between, next: Between, ttl: u32, outages: &[Outage]) -> bool {
    let (earliest, latest) = (last.0 - SLACK + ttl, last.1 + SLACK + ttl);
    let now = next.1 + SLACK;
    let is_granted =
        |outage: &Outage| outage.from <= earliest && latest < outage.to && now <= outage.to + ttl;
    now <= earliest || outages.iter().any(is_granted)
}

/// No heal after this continues a session with this deadline, or an earlier one: each outage, oldest first, grants a ttl from its
/// end to whoever could still have healed when it began.
pub fn extendable_until(deadline: u32, ttl: u32, outages: &[Outage]) -> u32 {
    outages.iter().fold(deadline, |until, outage| {
        if outage.from <= until + SLACK { until.max(outage.to + ttl) } else { until }
    })
}

/// The rules that the judgement rests on, written out.
#[test]
fn the_ledger_is_sure_of_what_is_certain_and_of_nothing_else() {
    let at = |second| Between(second, second);
    assert!(is_one_session(at(100), at(102), 4, &[]));
    assert!(!is_one_session(at(100), at(103), 4, &[]));
    // The deadline, in 103 to 105, falls into an outage, and from its end there is a ttl.
    let outage = Outage { from: 102, to: 107 };
    assert!(is_one_session(at(100), at(110), 4, &[outage]));
    assert!(!is_one_session(at(100), at(111), 4, &[outage]));
    assert!(!is_one_session(at(100), at(107), 4, &[Outage { from: 104, to: 107 }]));
    assert!(!is_one_session(at(100), at(107), 4, &[Outage { from: 102, to: 105 }]));

    let outages =
        [Outage { from: 102, to: 107 }, Outage { from: 110, to: 112 }, Outage { from: 130, to: 131 }];
    assert_eq!(extendable_until(100, 4, &outages), 100);
    assert_eq!(extendable_until(103, 4, &outages), 116);
    assert_eq!(extendable_until(117, 4, &outages), 117);

    let mut entry = Entry::new(1, 100);
    entry.healed(at(100), 4, &[]);
    entry.healed(at(102), 4, &[]);
    assert!(entry.fits(&[(100, 106)], 4));
    assert!(!entry.fits(&[], 4), "lost");
    assert!(!entry.fits(&[(100, 104)], 4), "the last one lost");
    assert!(!entry.fits(&[(102, 106)], 4), "cut");
    assert!(!entry.fits(&[(90, 95), (100, 106)], 4), "somebody else's");
    assert!(entry.is_kept_at(107, 4, 3) && !entry.is_kept_at(108, 4, 3));
}
