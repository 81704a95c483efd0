//! One connection: sends what its [`Source`] has due, reads the answers, and connects again when the connection ends.
//!
//! At most `pipeline` requests are in flight; requests due together are written together. What is due while the connection is
//! full, or down, is sent as soon as it can be, and its latency counts from when it was due.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::WriteHalf;
use tokio::time::timeout;

use super::moment;
use super::response::Responses;
use super::source::{Dispatched, Source};
use super::tally::{Failure, SharedTally};
use super::timer::Timer;

/// A connection that takes longer than this has failed.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A request unanswered for this long has failed, and its connection with it.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The pause before connecting again; doubled each time, until an answer comes.
const BACK_OFF_MIN: Duration = Duration::from_millis(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// Requests are not prepared beyond this many bytes that the peer has not taken yet.
const OUTGOING_MAX: usize = 1024 * 1024;

/// Connects, in bounded time.
pub async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT_WITHIN, TcpStream::connect(to)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One connection's work.
#[derive(Debug)]
pub struct Lane<S> {
    to: SocketAddr,
    source: S,
    pipeline: usize,
    /// Nothing is sent from here on, due or not.
    gives_up: Instant,
    tally: SharedTally,
    timer: Timer,
    /// Oldest first, as they are answered.
    in_flight: VecDeque<Dispatched>,
    back_off: Duration,
}

/// How a conversation ended.
enum Parting {
    /// Nothing is due any more.
    Done,
    /// It cannot go on. Whatever is in flight failed.
    Broken(Failure),
}

impl<S: Source> Lane<S> {
    /// A lane to `to` that sends nothing after `gives_up`. Costs a file descriptor besides the connection's.
    pub fn new(
        to: SocketAddr,
        source: S,
        pipeline: u32,
        gives_up: Instant,
        tally: SharedTally,
    ) -> io::Result<Self> {
        let pipeline = usize::try_from(pipeline).unwrap_or(usize::MAX);
        let (in_flight, back_off) = (VecDeque::new(), BACK_OFF_MIN);
        Ok(Self { to, source, pipeline, gives_up, tally, timer: Timer::new()?, in_flight, back_off })
    }

    /// Sends until nothing is due any more. Begins with `stream` if that connection was made before.
    pub async fn run(mut self, mut stream: Option<TcpStream>) {
        loop {
            if let Some(stream) = stream.take() {
                match self.converse(stream).await {
                    Parting::Done => break,
                    Parting::Broken(failure) => self.abandon(failure),
                }
            }
            if self.wake(0).is_none() {
                break;
            }
            let until = (moment::now() + self.back_off).min(self.gives_up);
            tokio::time::sleep_until(until.into()).await;
            self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
            stream = connect(self.to).await.ok();
            if stream.is_none() {
                self.tally.lock().connects_failed += 1;
            }
        }
        self.tally.lock().unsent += self.source.unsent();
    }

    async fn converse(&mut self, mut stream: TcpStream) -> Parting {
        let (mut reader, writer) = stream.split();
        let mut outgoing = Outgoing::default();
        let mut responses = Responses::default();
        loop {
            let now = moment::now();
            if self.in_flight.front().is_some_and(|sent| now >= sent.sent_at + ANSWER_WITHIN) {
                return Parting::Broken(Failure::TimedOut);
            }
            self.take_due(now, &mut outgoing);
            if let Err(error) = outgoing.write_to(&writer) {
                return Parting::Broken(kind(&error));
            }
            let Some(wake) = self.wake(outgoing.left()) else { return Parting::Done };
            let read = tokio::select! {
                read = reader.read_buf(responses.room()) => read.map(Some),
                writable = writer.writable(), if outgoing.left() > 0 => writable.map(|()| None),
                woken = self.timer.wait_until(wake) => woken.map(|()| None),
            };
            match read {
                Ok(None) => {}
                Ok(Some(0)) => return Parting::Broken(Failure::Closed),
                Ok(Some(_)) => {
                    if let Err(failure) = self.settle(&mut responses) {
                        return Parting::Broken(failure);
                    }
                }
                Err(error) => return Parting::Broken(kind(&error)),
            }
        }
    }

    fn take_due(&mut self, now: Instant, outgoing: &mut Outgoing) {
        let mut heals = 0;
        while now < self.gives_up
            && self.has_room(outgoing.left())
            && self.source.due().is_some_and(|due| due <= now)
        {
            let sent = self.source.take(now, &mut outgoing.bytes);
            heals += u64::from(sent.heals);
            self.in_flight.push_back(sent);
        }
        if heals > 0 {
            self.tally.lock().sent += heals;
        }
    }

    fn has_room(&self, outgoing: usize) -> bool {
        self.in_flight.len() < self.pipeline && outgoing < OUTGOING_MAX
    }

    /// When to look again at the latest, with so many bytes not yet written; `None` when there is nothing to wait for.
    fn wake(&self, outgoing: usize) -> Option<Instant> {
        let answer = self.in_flight.front().map(|sent| sent.sent_at + ANSWER_WITHIN);
        let open = self.has_room(outgoing) && moment::now() < self.gives_up;
        let due = self.source.due().filter(|_| open).map(|due| due.min(self.gives_up));
        [answer, due].into_iter().flatten().min()
    }

    /// Counts the answers that are complete.
    fn settle(&mut self, responses: &mut Responses) -> Result<(), Failure> {
        let now = moment::now();
        let mut tally = self.tally.lock();
        while let Some(response) = responses.take().map_err(|_| Failure::Malformed)? {
            let Some(sent) = self.in_flight.pop_front() else { return Err(Failure::Malformed) };
            tally.last_answer = Some(now);
            self.back_off = BACK_OFF_MIN;
            let heals = u64::from(sent.heals);
            match response.status {
                200 => match self.source.healed(response.body) {
                    Some(healed) => {
                        let healed = healed.min(heals);
                        tally.acknowledge(healed, now.saturating_duration_since(sent.intended));
                        if healed < heals {
                            tally.fail(Failure::NotHealed, heals - healed);
                        }
                    }
                    None => tally.fail(Failure::Malformed, heals),
                },
                code => tally.fail(Failure::Status(code), heals),
            }
            self.source.settled(&sent, now);
            if response.closes {
                return Err(Failure::Closed);
            }
        }
        Ok(())
    }

    fn abandon(&mut self, failure: Failure) {
        let now = moment::now();
        let mut tally = self.tally.lock();
        tally.connections_lost += 1;
        for sent in self.in_flight.drain(..) {
            tally.fail(failure, u64::from(sent.heals));
            self.source.settled(&sent, now);
        }
    }
}

fn kind(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
            Failure::Closed
        }
        _ => Failure::Io,
    }
}

/// Requests on their way out.
#[derive(Debug, Default)]
struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
}

impl Outgoing {
    fn left(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Writes as much as the peer takes now.
    fn write_to(&mut self, writer: &WriteHalf<'_>) -> io::Result<()> {
        while self.left() > 0 {
            match writer.try_write(&self.bytes[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.bytes.drain(..self.written);
        self.written = 0;
        Ok(())
    }
}
