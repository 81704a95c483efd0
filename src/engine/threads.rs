//! Work on the whole roster, shared out among threads that live no longer than the work.

use std::sync::atomic::AtomicUsize;

use super::roster::SHARDS;
use crate::sync::Ordering;

/// Runs `work(thread)` on so many threads and gives their results.
pub(super) fn on_threads<R: Send>(threads: usize, work: impl Fn(usize) -> R + Sync) -> Vec<R> {
    std::thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = (1..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        let mut results = vec![work(0)];
        for thread in running {
            results.push(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results
    })
}

/// Threads take the shards in turn.
pub(super) fn for_each_shard(threads: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    on_threads(threads, |_| {
        loop {
            let shard = next.fetch_add(1, Ordering::Relaxed);
            if shard >= SHARDS {
                return;
            }
            work(shard);
        }
    });
}
