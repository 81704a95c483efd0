//! A timer that is exact to some microseconds.
//!
//! tokio's own timer counts milliseconds and rounds up: a heal due now would be sent half a millisecond late on average, and
//! that would be most of the latency reported. The kernel's `timerfd` counts nanoseconds.

use std::io;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;

use super::moment;

/// One timer, for one task.
#[derive(Debug)]
pub struct Timer {
    /// Not a pipe, but read like one: eight bytes when the alarm has gone off, nothing before. tokio offers no other way to
    /// wait for a descriptor of one's own without unsafe code.
    fd: Receiver,
    armed: Option<Instant>,
}

impl Timer {
    /// A timer of the current runtime. It costs a file descriptor; without one left, the kernel's error.
    pub fn new() -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Self { fd: Receiver::from_owned_fd_unchecked(fd)?, armed: None })
    }

    /// Waits until `at`, or until an earlier moment that was waited for before and given up: the caller looks at the clock.
    /// Leaving that earlier alarm in place saves a system call for each answer that comes before its time-out.
    pub async fn wait_until(&mut self, at: Instant) -> io::Result<()> {
        if self.armed.is_none_or(|armed| at < armed) {
            self.arm(at)?;
        }
        loop {
            self.fd.readable().await?;
            match self.fd.try_read(&mut [0; 8]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => {
                    self.armed = None;
                    return read.map(drop);
                }
            }
        }
    }

    fn arm(&mut self, at: Instant) -> io::Result<()> {
        // Zero would disarm it.
        let after = at.saturating_duration_since(moment::now()).max(Duration::from_nanos(1));
        let it_value = Timespec::try_from(after).map_err(io::Error::other)?;
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })?;
        self.armed = Some(at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_that_long_and_again() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut timer = Timer::new().unwrap();
            for _ in 0..3 {
                let at = moment::now() + Duration::from_micros(300);
                timer.wait_until(at).await.unwrap();
                assert!(moment::now() >= at);
            }
        });
    }

    #[test]
    fn an_earlier_alarm_that_was_given_up_still_wakes() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut timer = Timer::new().unwrap();
            let (soon, later) =
                (moment::now() + Duration::from_millis(1), moment::now() + Duration::from_secs(3_600));
            tokio::select! {
                biased;
                _ = timer.wait_until(soon) => panic!("not yet"),
                () = std::future::ready(()) => {}
            }
            timer.wait_until(later).await.unwrap();
            assert!(moment::now() >= soon);
        });
    }
}
