//! Whether a long life was flat: the last third of its samples against the second (in the first it settles). And whether all
//! lives were: the last third of the last long one against that of the first.
//!
//! | figure | the later median is at most | why so much |
//! |---|---|---|
//! | memory, all and anonymous | 1.05 × the earlier + 4 MiB | the allocator's pages, a snapshot under way, tables that double |
//! | descriptors | + 3 | files that a snapshot, a sync or the preparer has open just then |
//! | threads | + 2 | those that read the disk for `/v1/status` come and go |
//! | files and bytes on disk | 2 × + 8 segments | snapshots come later on a machine that lags, and the journal is as long as they are apart |
//! | files that nobody needs | 0 | they are there only while a snapshot prunes |
//! | users known | who is here, and who departed within the time to settle + 10 s | a leak of users grows by the hour, not by this |
//!
//! Latency is told and not judged.

use super::Times;
use std::fmt;

use super::sample::Sample;

/// A figure, its medians in the earlier and the later samples, and the bound of the later one.
pub struct Figure {
    name: &'static str,
    earlier: u64,
    later: u64,
    bound: Option<u64>,
}

impl Figure {
    pub fn is_flat(&self) -> bool {
        self.bound.is_none_or(|bound| self.later <= bound)
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, earlier, later, .. } = self;
        write!(f, "{name}: {earlier}, then {later}")?;
        self.bound.map_or(Ok(()), |bound| write!(f, " of at most {bound}"))
    }
}

const MIB: u64 = 1 << 20;

/// The second and the last third.
pub fn thirds(life: &[Sample]) -> (&[Sample], &[Sample]) {
    assert!(life.len() >= 9, "{} samples are too few to judge", life.len());
    let third = life.len() / 3;
    (&life[third..2 * third], &life[2 * third..])
}

/// What the figures of `later` came to after those of `earlier`.
pub fn judge(
    (earlier, later): (&[Sample], &[Sample]),
    times: &Times,
    window: u64,
    segment_bytes: u64,
) -> Vec<Figure> {
    let figure = |name, of: fn(&Sample) -> u64, bound: &dyn Fn(u64) -> Option<u64>| {
        let (earlier, later) = (median(earlier, of), median(later, of));
        Figure { name, earlier, later, bound: bound(earlier) }
    };
    let memory = |before: u64| Some(before + before / 20 + 4 * MIB);
    let users = window + window * u64::from(times.settle() + 10) / u64::from(times.stay);
    vec![
        figure("resident bytes", |s| s.resident, &memory),
        figure("anonymous bytes", |s| s.anonymous, &memory),
        figure("descriptors", |s| s.descriptors, &|before| Some(before + 3)),
        figure("threads", |s| s.threads, &|before| Some(before + 2)),
        figure("files", |s| s.files.all(), &|before| Some(2 * before + 8)),
        figure("disk bytes", |s| s.files.bytes, &|before| Some(2 * before + 8 * segment_bytes)),
        figure("needless files", |s| s.files.needless, &|_| Some(0)),
        figure("users", |s| s.users, &|_| Some(users)),
        figure("sessions", |s| s.sessions, &|_| None),
        figure("heal p50 µs", |s| s.p50, &|_| None),
        figure("heal p99 µs", |s| s.p99, &|_| None),
    ]
}

fn median(samples: &[Sample], of: fn(&Sample) -> u64) -> u64 {
    let mut figures: Vec<u64> = samples.iter().map(of).collect();
    figures.sort_unstable();
    figures[figures.len() / 2]
}
