//! What a run in memory has recorded, and what it is about to record.

use std::collections::HashSet;
use std::sync::Arc;

use antiphon_kernel::{Event, ValueRef};
use serde_json::Value;

use crate::api::EngineError;
use crate::blobs::{Blob, Blobs};
use crate::journal::{Birth, Gate, Journal, Receipt, Standing, Urgency, Write};

/// The run's end of the journal.
pub(crate) struct Tape {
    journal: Arc<Journal>,
    /// The run's number.
    n: u64,
    /// Shut after the first failure.
    pub gate: Arc<Gate>,
    /// The number of the last event.
    pub seq: u64,
    /// The time of the last event.
    pub at: u64,
    /// The number of the last event that is in a snapshot.
    snapshot: u64,
    /// The last write.
    pub receipt: Receipt,
    birth: Option<Birth>,
    events: Vec<String>,
    blobs: Vec<Blob>,
    stored: HashSet<Arc<str>>,
    urgency: Urgency,
}

/// Where a run's recording begins.
pub(crate) struct Start {
    /// The run's number.
    pub n: u64,
    /// What is to be recorded of a new run.
    pub birth: Option<Birth>,
    /// The number of the last event so far.
    pub seq: u64,
    /// The number of the last event in a snapshot.
    pub snapshot: u64,
    /// The time of the last event.
    pub at: u64,
}

/// A snapshot is worth it after so many events.
const SNAPSHOT: u64 = 64;

impl Tape {
    pub(crate) fn new(journal: Arc<Journal>, start: Start) -> Self {
        let receipt = journal.readable();
        Self {
            journal,
            n: start.n,
            gate: Arc::default(),
            seq: start.seq,
            at: start.at,
            snapshot: start.snapshot,
            receipt,
            birth: start.birth,
            events: Vec::new(),
            blobs: Vec::new(),
            stored: HashSet::new(),
            urgency: Urgency::Lazy,
        }
    }

    /// Moves a large value out of line.
    pub(crate) fn store(&mut self, value: Arc<Value>, blobs: &Blobs) -> ValueRef {
        let (reference, blob) = blobs.split(value);
        if let Some((sha256, json)) = blob
            && self.stored.insert(Arc::clone(&sha256))
        {
            self.blobs.push((sha256, json));
        }
        reference
    }

    /// Notes an event for the next write.
    pub(crate) fn note(&mut self, event: &Event) -> Result<(), EngineError> {
        let json = serde_json::to_string(event)
            .map_err(|error| EngineError::Storage(format!("an event can't be recorded: {error}")))?;
        self.events.push(json);
        self.seq += 1;
        self.at = event.at;
        Ok(())
    }

    /// The next write is this urgent at least.
    pub(crate) fn urge(&mut self, urgency: Urgency) {
        self.urgency = self.urgency.max(urgency);
    }

    /// Whether there is something to write.
    pub(crate) fn has_news(&self) -> bool {
        !self.events.is_empty()
    }

    /// Whether the events since the last snapshot are many.
    pub(crate) fn wants_snapshot(&self) -> bool {
        self.seq - self.snapshot >= SNAPSHOT
    }

    /// Hands what was noted to the journal.
    pub(crate) fn commit(&mut self, standing: Option<Standing>) -> Receipt {
        self.write(standing, None)
    }

    /// Likewise, with the kernel's state as JSON.
    pub(crate) fn commit_snapshot(&mut self, state: String) -> Receipt {
        self.snapshot = self.seq;
        self.write(None, Some((self.seq, state)))
    }

    fn write(&mut self, standing: Option<Standing>, snapshot: Option<(u64, String)>) -> Receipt {
        let events = std::mem::take(&mut self.events);
        let write = Write {
            run: self.n,
            ticket: 0,
            gate: Arc::clone(&self.gate),
            birth: self.birth.take(),
            blobs: std::mem::take(&mut self.blobs),
            first_seq: self.seq + 1 - events.len() as u64,
            events,
            standing,
            snapshot,
        };
        self.receipt = self.journal.append(write, std::mem::take(&mut self.urgency));
        self.receipt.clone()
    }
}
