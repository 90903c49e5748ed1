//! What reaches a call before its answer, beside questions. Most calls hear nothing: such an inbox holds no memory, and unlike a
//! channel it wakes nobody when its call ends.
#![expect(deprecated, reason = "MCP deprecates logging, and servers use it")]

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use rmcp::model::LoggingMessageNotificationParam;
use tokio::sync::Notify;

use crate::call::Progress;

/// Something that a server says about a call.
#[derive(Debug)]
pub(crate) enum CallEvent {
    /// It gets on.
    Progress(Progress),
    /// It says something for people who look after it.
    Log(LoggingMessageNotificationParam),
}

/// Such events of one call, in order. One task takes them out.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    events: Mutex<VecDeque<CallEvent>>,
    news: Notify,
}

impl Inbox {
    pub(crate) fn put(&self, event: CallEvent) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
        self.news.notify_one();
    }

    /// The next, if it is there already.
    pub(crate) fn take(&self) -> Option<CallEvent> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// The next. Whoever stops waiting loses nothing.
    pub(crate) async fn next(&self) -> CallEvent {
        loop {
            if let Some(event) = self.take() {
                return event;
            }
            self.news.notified().await;
        }
    }
}
