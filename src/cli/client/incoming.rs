//! The server's messages on a WebSocket with `polecat.v1`, as far as our own clients use them.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::server::{Failure, excerpt};

#[derive(Debug, Deserialize)]
pub(super) struct Incoming<'t> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'t, str>,
    #[serde(borrow, default)]
    pub(super) payload: Option<&'t RawValue>,
    /// The stored message, in a broadcast of a channel.
    #[serde(borrow, default)]
    pub(super) data: Option<&'t RawValue>,
    #[serde(borrow, default)]
    pub(super) correlation_id: Option<Cow<'t, str>>,
    #[serde(borrow, default)]
    pub(super) timestamp: Option<Cow<'t, str>>,
    #[serde(borrow, default)]
    pub(super) event_id: Option<Cow<'t, str>>,
    /// On a connection with many channels.
    #[serde(borrow, default)]
    pub(super) cursor: Option<Cow<'t, str>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Hello {
    pub(super) epoch: String,
    pub(super) heartbeat_interval_ms: u64,
    pub(super) message_bytes_max: u64,
    /// 0 if the server does not say: then it may remember no key.
    #[serde(default)]
    pub(super) idempotency_window_ms: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Resumed {
    pub(super) count: u64,
    /// Whether there are more than `count`; older servers count all.
    #[serde(default)]
    pub(super) more: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Gap {
    pub(super) requested: String,
    #[serde(default)]
    pub(super) agreed: Option<String>,
    pub(super) oldest: String,
}

/// The same on a connection with many channels.
#[derive(Debug, Deserialize)]
pub(super) struct StreamGap {
    /// `None` for events.
    pub(super) channel: Option<String>,
    #[serde(flatten)]
    pub(super) gap: Gap,
}

#[derive(Debug, Deserialize)]
pub(super) struct Subscribed {
    pub(super) channels: Vec<Begins>,
    #[serde(default)]
    pub(super) events: Option<EventsBegin>,
    pub(super) refused: Vec<RefusedChannel>,
    pub(super) more: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Begins {
    pub(super) channel: String,
    pub(super) from: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct EventsBegin {
    pub(super) from: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct RefusedChannel {
    pub(super) channel: Option<String>,
    pub(super) code: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Reconnect {
    pub(super) after_ms: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Health {
    pub(super) status: String,
    #[serde(default)]
    pub(super) reason: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Acknowledged {
    #[serde(default)]
    pub(super) id: Option<u64>,
    pub(super) event_id: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Refused {
    pub(super) code: String,
    pub(super) message: String,
    #[serde(default)]
    pub(super) id: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Stored {
    pub(super) id: u64,
    #[serde(default)]
    pub(super) channel_id: String,
    pub(super) author: String,
    pub(super) content: String,
    pub(super) timestamp: String,
    #[serde(default)]
    pub(super) lane: Option<String>,
    #[serde(default)]
    pub(super) provider: Option<String>,
}

impl<'t> Incoming<'t> {
    pub(super) fn parse(text: &'t str) -> Result<Self, Failure> {
        serde_json::from_str(text).map_err(|error| nonsense(text, &error))
    }

    /// Whether it was published: a message has data, and an event a correlation id. The server's own messages
    /// have neither. Only those have reserved types; events can have any type.
    pub(super) const fn is_published(&self) -> bool {
        self.data.is_some() || self.correlation_id.is_some()
    }

    /// The payload, which has this form in messages of this type.
    pub(super) fn payload<T: Deserialize<'t>>(&self) -> Result<T, Failure> {
        let json = self.payload.map_or("null", RawValue::get);
        serde_json::from_str(json).map_err(|error| nonsense(json, &error))
    }

    pub(super) fn stored(&self) -> Result<Stored, Failure> {
        let json = self.data.map_or("null", RawValue::get);
        serde_json::from_str(json).map_err(|error| nonsense(json, &error))
    }
}

fn nonsense(text: &str, error: &serde_json::Error) -> Failure {
    Failure::lasting(format!(
        "the server sent something that polecat does not send ({}): {}",
        clean_error(error),
        excerpt(text)
    ))
}

/// The error quotes text that came from outside.
fn clean_error(error: &serde_json::Error) -> String {
    excerpt(&error.to_string())
}
