//! Who is served next: askers in turn, each in its own order; and not more of them wait than makes sense.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A bounded queue with a lane for each asker.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
    capacity: usize,
}

struct State<T> {
    /// Those who wait; the first is served next. No lane is empty.
    lanes: VecDeque<(Arc<str>, VecDeque<T>)>,
    closed: bool,
}

/// Why something can't wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// So many wait already.
    Full(usize),
    /// Nobody is served any more.
    Closed,
}

impl<T> Queue<T> {
    /// A queue in which so many can wait.
    pub(crate) fn new(capacity: usize) -> Self {
        let state = Mutex::new(State { lanes: VecDeque::new(), closed: false });
        Self { state, ready: Condvar::new(), capacity }
    }

    /// Waits, behind what the same asker wants already. Those who went away in the meantime need no place: `gone` tells.
    pub(crate) fn push(&self, asker: &Arc<str>, item: T, gone: impl Fn(&T) -> bool) -> Result<(), Refusal> {
        let mut state = self.state();
        if state.closed {
            return Err(Refusal::Closed);
        }
        for (_, lane) in &mut state.lanes {
            lane.retain(|item| !gone(item));
        }
        state.lanes.retain(|(_, lane)| !lane.is_empty());
        let waiting: usize = state.lanes.iter().map(|(_, lane)| lane.len()).sum();
        if waiting >= self.capacity {
            return Err(Refusal::Full(waiting));
        }
        match state.lanes.iter_mut().find(|(name, _)| name == asker) {
            Some((_, lane)) => lane.push_back(item),
            None => state.lanes.push_back((asker.clone(), VecDeque::from([item]))),
        }
        self.ready.notify_one();
        Ok(())
    }

    /// The next to be served, once there is one; `None` when it is closed and nobody waits any more.
    pub(crate) fn pop(&self) -> Option<T> {
        let mut state = self.state();
        loop {
            if let Some((asker, mut lane)) = state.lanes.pop_front() {
                let next = lane.pop_front();
                if !lane.is_empty() {
                    state.lanes.push_back((asker, lane));
                }
                return next;
            }
            if state.closed {
                return None;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes nobody any more.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.ready.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use super::*;

    fn queue_of(capacity: usize, items: &[(&str, u32)]) -> Queue<u32> {
        let queue = Queue::new(capacity);
        for (asker, item) in items {
            queue.push(&Arc::from(*asker), *item, |_| false).unwrap();
        }
        queue
    }

    fn drain(queue: &Queue<u32>) -> Vec<u32> {
        queue.close();
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn one_who_wants_much_does_not_hold_up_one_who_wants_little() {
        let queue =
            queue_of(9, &[("map", 1), ("map", 2), ("map", 3), ("map", 4), ("chat", 10), ("other", 20), ("chat", 11)]);
        assert_eq!(drain(&queue), [1, 10, 20, 2, 11, 3, 4]);
    }

    #[test]
    fn who_comes_back_stands_behind_those_who_wait() {
        let queue = queue_of(9, &[("a", 1), ("b", 2)]);
        assert_eq!(queue.pop(), Some(1));
        queue.push(&Arc::from("a"), 3, |_| false).unwrap();
        assert_eq!(drain(&queue), [2, 3]);
    }

    #[test]
    fn it_is_bounded_but_those_who_went_away_take_no_place() {
        let queue = queue_of(2, &[("a", 1), ("b", 2)]);
        assert_eq!(queue.push(&Arc::from("c"), 3, |_| false), Err(Refusal::Full(2)));
        queue.push(&Arc::from("c"), 3, |item| *item == 1).unwrap();
        assert_eq!(drain(&queue), [2, 3]);
        assert_eq!(queue.push(&Arc::from("c"), 4, |_| false), Err(Refusal::Closed));
    }

    #[test]
    fn a_thread_that_waits_wakes_up() {
        let queue = Arc::new(Queue::new(1));
        let waiting = std::thread::spawn({
            let queue = queue.clone();
            move || (queue.pop(), queue.pop())
        });
        queue.push(&Arc::from("a"), 7, |_| false).unwrap();
        queue.close();
        assert_eq!(waiting.join().unwrap(), (Some(7), None));
    }
}
