//! Many users with random ids, healed in a random order, again and again.

use std::ops::AddAssign;
use std::sync::Arc;

use heartbeat::{Clock, Engine, Heal, ManualClock, UnixSeconds, UserId};

pub const NOON: UnixSeconds = UnixSeconds::new(1_638_360_000);

pub const SEED: u64 = 7;

/// A small generator of random numbers (splitmix64): the same ones in each run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn ids(&mut self, count: usize) -> Vec<UserId> {
        (0..count).map(|_| UserId::new(self.next().cast_signed())).collect()
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = usize::try_from(self.next() % (last as u64 + 1)).expect("it is less than a usize");
            items.swap(last, other);
        }
    }
}

/// Lets the processor begin nothing of what follows before all that came before is done, its reads included.
#[inline]
pub fn wait() {
    #[cfg(target_arch = "x86_64")]
    #[allow(unused_unsafe)] // safe in later versions of the standard library
    #[allow(unsafe_code)]
    // SAFETY: every processor of this architecture has this instruction, and it touches nothing.
    unsafe {
        std::arch::x86_64::_mm_lfence();
    }
}

/// What the heals of a measurement did.
#[derive(Debug, Default, Clone, Copy)]
pub struct Shares {
    pub opened: u64,
    pub extended: u64,
    pub unchanged: u64,
}

impl Shares {
    /// Without a branch: it is inside what is measured.
    pub fn count(&mut self, heal: Heal) {
        self.opened += u64::from(heal == Heal::Opened);
        self.extended += u64::from(heal == Heal::Extended);
        self.unchanged += u64::from(heal == Heal::Unchanged);
    }
}

impl AddAssign for Shares {
    fn add_assign(&mut self, other: Self) {
        self.opened += other.opened;
        self.extended += other.extended;
        self.unchanged += other.unchanged;
    }
}

impl std::fmt::Display for Shares {
    #[allow(clippy::cast_precision_loss)] // three digits are shown
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = (self.opened + self.extended + self.unchanged).max(1) as f64;
        let share = |count: u64| count as f64 * 100.0 / all;
        write!(
            f,
            "{:.1} % opened, {:.1} % extended, {:.1} % unchanged",
            share(self.opened),
            share(self.extended),
            share(self.unchanged)
        )
    }
}

/// An engine and its users, all of them online.
pub struct Crowd {
    pub engine: Arc<Engine>,
    pub order: Vec<UserId>,
}

impl Crowd {
    pub fn new(count: usize, clock: Arc<dyn Clock>) -> Self {
        Self::of(Engine::builder().clock(clock).build(), count)
    }

    pub fn of(engine: Engine, count: usize) -> Self {
        let engine = Arc::new(engine);
        let mut random = Random(SEED);
        let mut order = random.ids(count);
        for &user in &order {
            // Refused only while the journal's next segment is not ready yet.
            while engine.heal(user).is_err() {
                std::thread::yield_now();
            }
        }
        random.shuffle(&mut order);
        Self { engine, order }
    }

    pub fn by_hand(count: usize) -> (Self, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(NOON));
        (Self::new(count, clock.clone()), clock)
    }

    /// Heals some of the users; if it `WAITS`, none before the one before has been.
    pub fn heal<const WAITS: bool>(&self, users: &[UserId]) -> Shares {
        let mut shares = Shares::default();
        for &user in users {
            shares.count(self.engine.heal(user).expect("there is no limit on users"));
            if WAITS {
                wait();
            }
        }
        shares
    }
}
