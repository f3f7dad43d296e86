//! The queues of one level, and whose turn it is.
//!
//! Fair queuing for requests: progress is what every busy queue would have been given by now if all were served at the same
//! rate, in seconds of a seat. Each queue remembers where on that scale its next request would begin; the one whose request
//! would be done first is next. How long a request takes is guessed when it starts and put right when it leaves.
//!
//! Invariant: the seats of limited levels in use exceed the limit only when a single request asks for more than the limit, or
//! after the limit was lowered.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::dealer::deal;
use super::level::Discipline;
use super::{Refusal, Ticket};

/// How long a request is thought to take before it is known, in seconds.
const ESTIMATE: f64 = 0.003;

pub(super) struct QueueSet {
    discipline: Discipline,
    limit: u32,
    /// There may be more than are wanted, until those at the end are idle.
    queues: Vec<Queue>,
    running: HashMap<Ticket, Running>,
    /// Which queue each waits in.
    waiting: HashMap<Ticket, usize>,
    seats_running: u32,
    seats_waiting: u32,
    /// Queues in which something waits or of which something runs. Counted, because every request asks for it.
    busy: u32,
    progress: f64,
    synced: Duration,
    /// The queue that was last served.
    robin: usize,
    /// Requests that have come so far, so that hands are not always looked through from the same end.
    arrivals: usize,
}

struct Running {
    queue: Option<usize>,
    seats: u32,
    started: Duration,
}

struct Waiting {
    ticket: Ticket,
    seats: u32,
    /// Progress when it came.
    arrived: f64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    seats_waiting: u32,
    running: u32,
    /// Progress at which its next request begins.
    start: f64,
}

impl Queue {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running == 0
    }

    /// No request begins before it has come: a queue saves nothing up for later.
    fn bound(&mut self) {
        if let Some(first) = self.waiting.front() {
            self.start = self.start.max(first.arrived);
        }
    }

    /// Progress at which its next request is done.
    fn finish(&self) -> Option<f64> {
        let first = self.waiting.front()?;
        Some(self.start + work(first.seats))
    }
}

fn work(seats: u32) -> f64 {
    f64::from(seats) * ESTIMATE
}

impl QueueSet {
    pub(super) fn new(discipline: Discipline, now: Duration) -> Self {
        let mut set = Self {
            discipline: Discipline::Reject,
            limit: 0,
            queues: Vec::new(),
            running: HashMap::new(),
            waiting: HashMap::new(),
            seats_running: 0,
            seats_waiting: 0,
            busy: 0,
            progress: 0.0,
            synced: now,
            robin: 0,
            arrivals: 0,
        };
        set.set_discipline(discipline);
        set
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    pub(super) fn seats_running(&self) -> u32 {
        self.seats_running
    }

    pub(super) fn seats_waiting(&self) -> u32 {
        self.seats_waiting
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    pub(super) fn set_discipline(&mut self, discipline: Discipline) {
        self.discipline = discipline;
        let wanted = self.queues_wanted();
        if self.queues.len() < wanted {
            self.queues.resize_with(wanted, Queue::default);
        }
        self.drop_idle();
    }

    /// Changes the seats; tells who starts.
    pub(super) fn set_limit(&mut self, limit: u32, now: Duration) -> Vec<Ticket> {
        self.sync(now);
        self.limit = limit;
        self.dispatch(now)
    }

    /// Takes a request in; tells who starts, it included.
    pub(super) fn arrive(
        &mut self,
        ticket: Ticket,
        hash: u64,
        seats: u32,
        now: Duration,
    ) -> Result<Vec<Ticket>, Refusal> {
        self.sync(now);
        let Discipline::Queue {
            queues,
            hand,
            length_max,
        } = self.discipline
        else {
            if !self.fits(seats) {
                return Err(Refusal::ConcurrencyLimit);
            }
            self.start(ticket, None, seats, now);
            return Ok(vec![ticket]);
        };
        let index = self.choose(&deal(hash, queues, hand));
        let progress = self.progress;
        let full = self.seats_running >= self.limit;
        let Some(queue) = self.queues.get_mut(index) else {
            return Err(Refusal::ConcurrencyLimit);
        };
        if full && queue.waiting.len() >= length_max {
            return Err(Refusal::QueueFull);
        }
        if queue.is_idle() {
            queue.start = progress;
            self.busy += 1;
        }
        queue.waiting.push_back(Waiting {
            ticket,
            seats,
            arrived: progress,
        });
        queue.seats_waiting += seats;
        queue.bound();
        self.seats_waiting += seats;
        self.waiting.insert(ticket, index);
        Ok(self.dispatch(now))
    }

    /// A request is done; tells who starts.
    pub(super) fn leave(&mut self, ticket: Ticket, now: Duration) -> Vec<Ticket> {
        self.sync(now);
        let Some(done) = self.running.remove(&ticket) else {
            return Vec::new();
        };
        self.seats_running -= done.seats;
        if let Some(queue) = done.queue.and_then(|index| self.queues.get_mut(index)) {
            let took = now.saturating_sub(done.started).as_secs_f64();
            queue.running -= 1;
            queue.start += f64::from(done.seats) * (took - ESTIMATE);
            queue.bound();
            self.busy -= u32::from(queue.is_idle());
        }
        self.drop_idle();
        self.dispatch(now)
    }

    /// A request does not want to wait any longer; `None` when it does not wait.
    pub(super) fn give_up(&mut self, ticket: Ticket, now: Duration) -> Option<Vec<Ticket>> {
        self.sync(now);
        let queue = self.queues.get_mut(self.waiting.remove(&ticket)?)?;
        let place = queue.waiting.iter().position(|w| w.ticket == ticket)?;
        let gone = queue.waiting.remove(place)?;
        queue.seats_waiting -= gone.seats;
        queue.bound();
        self.busy -= u32::from(queue.is_idle());
        self.seats_waiting -= gone.seats;
        self.drop_idle();
        // It may have been a wide one that kept a smaller one waiting.
        Some(self.dispatch(now))
    }

    fn queues_wanted(&self) -> usize {
        match self.discipline {
            Discipline::Queue { queues, .. } => queues as usize,
            Discipline::Exempt | Discipline::Reject => 0,
        }
    }

    fn drop_idle(&mut self) {
        let wanted = self.queues_wanted();
        while self.queues.len() > wanted && self.queues.last().is_some_and(Queue::is_idle) {
            self.queues.pop();
        }
    }

    /// Moves progress on, by the state that has held since the last time.
    fn sync(&mut self, now: Duration) {
        let seconds = now.saturating_sub(self.synced).as_secs_f64();
        self.synced = self.synced.max(now);
        if self.busy > 0 {
            let wanted = self.seats_running + self.seats_waiting;
            self.progress += f64::from(wanted.min(self.limit)) / f64::from(self.busy) * seconds;
        }
    }

    /// The queue of the hand in which the least work waits.
    fn choose(&mut self, hand: &[u32]) -> usize {
        let offset = self.arrivals % hand.len().max(1);
        self.arrivals = self.arrivals.wrapping_add(1);
        let waiting = |index: &usize| self.queues.get(*index).map_or(0, |q| q.seats_waiting);
        let cards = hand[offset..].iter().chain(&hand[..offset]);
        let indexes = cards.map(|card| *card as usize);
        indexes.min_by_key(waiting).unwrap_or_default()
    }

    fn fits(&self, seats: u32) -> bool {
        if self.discipline == Discipline::Exempt {
            return true;
        }
        if seats > self.limit {
            // It will never fit, so it runs alone.
            return self.running.is_empty();
        }
        self.seats_running + seats <= self.limit
    }

    fn start(&mut self, ticket: Ticket, queue: Option<usize>, seats: u32, now: Duration) {
        self.seats_running += seats;
        self.running.insert(
            ticket,
            Running {
                queue,
                seats,
                started: now,
            },
        );
    }

    /// Starts whatever there is room for.
    fn dispatch(&mut self, now: Duration) -> Vec<Ticket> {
        let mut started = Vec::new();
        while !self.waiting.is_empty() && self.seats_running < self.limit {
            match self.dispatch_one(now) {
                Some(ticket) => started.push(ticket),
                None => break,
            }
        }
        started
    }

    /// Starts the request whose turn it is. When there is no room for it nobody else starts either, or wide requests would
    /// never come to their turn.
    fn dispatch_one(&mut self, now: Duration) -> Option<Ticket> {
        let index = self.next_queue()?;
        let seats = self.queues[index].waiting.front()?.seats;
        if !self.fits(seats) {
            return None;
        }
        let queue = &mut self.queues[index];
        let first = queue.waiting.pop_front()?;
        queue.seats_waiting -= seats;
        queue.running += 1;
        queue.start += work(seats);
        queue.bound();
        self.robin = index;
        self.seats_waiting -= seats;
        self.waiting.remove(&first.ticket);
        self.start(first.ticket, Some(index), seats, now);
        Some(first.ticket)
    }

    /// The queue whose next request is done first; of equal ones, the first after the one that was last served.
    fn next_queue(&self) -> Option<usize> {
        if self.waiting.len() == 1 {
            // As good as always, and worth not to look through all queues.
            return self.waiting.values().next().copied();
        }
        let count = self.queues.len();
        let mut best: Option<(usize, f64)> = None;
        for step in 1..=count {
            let index = (self.robin + step) % count;
            if let Some(finish) = self.queues[index].finish()
                && best.is_none_or(|(_, earliest)| finish < earliest)
            {
                best = Some((index, finish));
            }
        }
        best.map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests;
