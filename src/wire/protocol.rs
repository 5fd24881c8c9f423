//! The JSON messages: PROTOCOL.md as types. What is parsed here is legal from
//! then on; what can be built here can be sent.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::Serialize;

/// A message of a channel, as it is stored; its id is the store's.
/// Serialized in the order of the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// The channel's name: 1 to 200 bytes where polecat took it in, anything in
    /// an old database.
    pub channel_id: Rc<str>,
    /// Who wrote it.
    pub author: String,
    /// What was written.
    pub content: String,
    /// ISO 8601 in UTC with microseconds, see [`timestamp`].
    pub timestamp: Rc<str>,
    /// Free for the clients' use.
    pub lane: Option<String>,
    /// Free for the clients' use; the summary counts by it.
    pub provider: Option<String>,
    /// Tokens that the message cost; the summary adds them up.
    pub token_count: Option<i64>,
}

impl Message {
    /// Bytes that the message takes in memory, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        96 + self.channel_id.len()
            + self.author.len()
            + self.content.len()
            + optional(&self.lane)
            + optional(&self.provider)
    }
}

/// An event of the stream on `/ws`, as it is stored; its id is the store's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The `type` of the envelope.
    pub kind: String,
    /// The `payload`: the text of a JSON object.
    pub payload: String,
    /// What the event was caused by.
    pub correlation_id: Option<String>,
    /// ISO 8601 in UTC with microseconds, see [`timestamp`].
    pub timestamp: Rc<str>,
}

impl Event {
    /// Bytes that the event takes in memory, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        96 + self.kind.len() + self.payload.len() + self.correlation_id.as_ref().map_or(0, String::len)
    }
}

/// A message as `/api/messages` and broadcasts show it: with its id.
#[derive(Debug, Serialize)]
pub struct NumberedMessage<'a> {
    /// The store's id.
    pub id: u64,
    /// Everything else.
    #[serde(flatten)]
    pub message: &'a Message,
}

/// Totals over all stored messages, as `/api/summary` shows them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// How many messages are stored.
    pub total_messages: u64,
    /// The sum of their token counts; it saturates.
    pub total_tokens: i64,
    /// Messages by provider, null and empty ones left out.
    pub by_provider: BTreeMap<String, u64>,
    /// Messages by lane, null and empty ones left out.
    pub by_lane: BTreeMap<String, u64>,
}
