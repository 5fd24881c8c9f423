//! The position of a follower of several channels on one socket, and its reaction to messages (PROTOCOL.md, "16. Many
//! channels on one socket"). It has no socket and no clock.

use std::collections::BTreeMap;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::wire::protocol::Sequence;

use super::super::incoming::{Hello, Incoming, StreamGap, Subscribed};
use super::super::server::{Failure, excerpt};
use super::follower::{FollowerStep, gap_line, of_any_connection};

/// The cursor before everything (PROTOCOL 16.3).
const BEGINNING: &str = "0.0.0";

#[derive(Debug)]
pub(super) struct ManyFollower {
    channels: Vec<String>,
    /// Whether the events are followed, too.
    events: bool,
    /// Where to resume; `None` while only new messages are wanted.
    cursor: Option<String>,
    /// The last id of each channel that was shown, or that is before all that are; `None` is events.
    shown: BTreeMap<Option<String>, u64>,
    /// Connections that have sent `hello`.
    hellos: u64,
    /// Whether all that was asked for on this connection is answered. Until then the old cursor is kept: if a gap follows
    /// and a break loses it, the server must be able to report it again.
    is_answered: bool,
    wants_all: bool,
}

impl ManyFollower {
    /// Follows channels, and perhaps the events, from the oldest message on if it `wants_all`, or from the time of
    /// connecting.
    pub(super) fn new(channels: &[String], events: bool, wants_all: bool) -> Self {
        let mut named = Vec::new();
        for name in channels {
            if !named.contains(name) {
                named.push(name.clone());
            }
        }
        Self {
            channels: named,
            events,
            cursor: wants_all.then(|| BEGINNING.to_owned()),
            shown: BTreeMap::new(),
            hellos: 0,
            is_answered: false,
            wants_all,
        }
    }

    pub(super) fn target(&self) -> String {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let channels = self.channels.iter().map(|name| format!("channel={}", encoded(name)));
        let events = self.events.then(|| "events=1".to_owned());
        let cursor = self.cursor.iter().map(|cursor| format!("cursor={}", encoded(cursor)));
        format!("/api/stream?{}", channels.chain(events).chain(cursor).collect::<Vec<_>>().join("&"))
    }

    pub(super) fn take(&mut self, text: &str) -> Result<FollowerStep, Failure> {
        let incoming = Incoming::parse(text)?;
        if incoming.is_published() {
            return self.record(&incoming);
        }
        let step = match &*incoming.kind {
            "hello" => {
                let hello = incoming.payload::<Hello>()?;
                self.hellos += 1;
                self.is_answered = false;
                FollowerStep::Hello { heartbeat_ms: hello.heartbeat_interval_ms }
            }
            "subscribed" => {
                // Nothing older was asked for: from here on, nothing is to be missed.
                self.cursor = self.cursor.take().or_else(|| incoming.cursor.as_deref().map(str::to_owned));
                return self.subscribed(incoming.payload()?);
            }
            "gap" => self.gap(&incoming.payload()?),
            _ => of_any_connection(&incoming)?,
        };
        if let Some(cursor) = incoming.cursor.as_deref().filter(|_| self.is_answered) {
            self.cursor = Some(cursor.to_owned());
        }
        Ok(step)
    }

    fn subscribed(
        &mut self,
        Subscribed { channels, events, refused, more }: Subscribed,
    ) -> Result<FollowerStep, Failure> {
        if let Some(one) = refused.first() {
            let name = excerpt(one.channel.as_deref().unwrap_or("events"));
            let text = format!("the server refuses the channel {name:?}: {}", excerpt(&one.code));
            // Room for more may come by itself, but not on this connection; a name never becomes right.
            return Err(match &*one.code {
                "invalid_name" | "too_many_on_connection" => Failure::lasting(text),
                _ => Failure::passing(text),
            });
        }
        for one in channels {
            let from = Sequence::Messages.parse(&one.from).unwrap_or(0);
            self.shown.entry(Some(one.channel)).or_insert(from);
        }
        if let Some(events) = events {
            self.shown.entry(None).or_insert(Sequence::Events.parse(&events.from).unwrap_or(0));
        }
        self.is_answered = !more;
        let has_resumed = self.is_answered && self.hellos > 1 && self.cursor.is_some();
        Ok(if has_resumed {
            FollowerStep::Tell("reconnected; messages that came in the meantime follow".to_owned())
        } else {
            FollowerStep::Nothing
        })
    }

    fn gap(&mut self, gap: &StreamGap) -> FollowerStep {
        let sequence = if gap.channel.is_some() { Sequence::Messages } else { Sequence::Events };
        let agreed = gap.gap.agreed.as_deref().and_then(|id| sequence.parse(id)).unwrap_or(0);
        let name = gap.channel.as_deref().unwrap_or("events");
        if let Some(shown) = self.shown.get_mut(&gap.channel) {
            *shown = (*shown).min(agreed);
        }
        let line = gap_line(&gap.gap, sequence, self.hellos < 2 && self.wants_all);
        FollowerStep::Tell(format!("{}: {line}", excerpt(name)))
    }

    fn record(&mut self, incoming: &Incoming<'_>) -> Result<FollowerStep, Failure> {
        let (channel, id) = if incoming.data.is_some() {
            let stored = incoming.stored()?;
            (Some(stored.channel_id), stored.id)
        } else {
            let text = incoming.event_id.as_deref().unwrap_or_default();
            let id = Sequence::Events.parse(text).ok_or_else(|| {
                Failure::lasting(format!("the server sent an event with the id {:?}", excerpt(text)))
            })?;
            (None, id)
        };
        let shown = self.shown.entry(channel).or_default();
        if id <= *shown {
            return Ok(FollowerStep::Nothing);
        }
        *shown = id;
        Ok(FollowerStep::Show)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn follower() -> ManyFollower {
        ManyFollower::new(&["a".to_owned(), "b c".to_owned()], false, false)
    }

    fn control(kind: &str, payload: &str, cursor: &str) -> String {
        format!(
            r#"{{"type":"{kind}","payload":{payload},"correlation_id":null,"timestamp":"T","cursor":"{cursor}"}}"#
        )
    }

    fn hello(cursor: &str) -> String {
        let payload = r#"{"epoch":"e","heartbeat_interval_ms":1000,"message_bytes_max":1000}"#;
        control("hello", payload, cursor)
    }

    fn subscribed(from: u64, more: bool, cursor: &str) -> String {
        let one = |name: &str| format!(r#"{{"channel":"{name}","from":"message-{from:05}"}}"#);
        let channels = format!("[{},{}]", one("a"), one("b c"));
        let payload =
            format!(r#"{{"id":null,"channels":{channels},"events":null,"refused":[],"more":{more}}}"#);
        control("subscribed", &payload, cursor)
    }

    fn message(channel: &str, id: u64) -> String {
        let data =
            format!(r#"{{"id":{id},"channel_id":"{channel}","author":"x","content":"c","timestamp":"T"}}"#);
        format!(r#"{{"type":"message","data":{data},"event_id":"message-{id:05}"}}"#)
    }

    #[test]
    fn each_channel_is_shown_once_and_the_cursor_is_taken_when_all_is_answered() {
        let mut follower = follower();
        assert_eq!(follower.target(), "/api/stream?channel=a&channel=b%20c");
        assert_eq!(follower.take(&hello("5.0.e")).unwrap(), FollowerStep::Hello { heartbeat_ms: 1000 });
        follower.take(&subscribed(5, false, "5.0.e")).unwrap();
        assert_eq!(follower.take(&message("a", 7)).unwrap(), FollowerStep::Show);
        assert_eq!(follower.take(&message("b c", 6)).unwrap(), FollowerStep::Show);
        assert_eq!(follower.take(&message("a", 7)).unwrap(), FollowerStep::Nothing, "it was shown");
        assert_eq!(follower.take(&message("a", 4)).unwrap(), FollowerStep::Nothing, "it is from before");
        follower.take(&control("heartbeat", "{}", "7.0.e")).unwrap();
        assert_eq!(follower.target(), "/api/stream?channel=a&channel=b%20c&cursor=7%2E0%2Ee");
        // The next connection: until all is answered, the old cursor would be asked for again.
        follower.take(&hello("3.0.f")).unwrap();
        follower.take(&subscribed(3, true, "3.0.f")).unwrap();
        follower.take(&control("heartbeat", "{}", "3.0.f")).unwrap();
        assert!(follower.target().ends_with("7%2E0%2Ee"));
        let told = follower.take(&subscribed(3, false, "3.0.f")).unwrap();
        assert!(matches!(&told, FollowerStep::Tell(line) if line.contains("reconnected")), "{told:?}");
        let gap = r#"{"channel":"a","requested":"message-00007","agreed":"message-00003","oldest":"message-00001","newest":"message-00004"}"#;
        let told = follower.take(&control("gap", gap, "")).unwrap();
        assert!(matches!(&told, FollowerStep::Tell(line) if line.starts_with("a: gap")), "{told:?}");
        assert_eq!(follower.take(&message("a", 4)).unwrap(), FollowerStep::Show, "it is another one");
        follower.take(&control("live", r#"{"channels":["a","b c"],"events":false}"#, "4.0.f")).unwrap();
        assert!(follower.target().ends_with("4%2E0%2Ef"));
    }

    #[test]
    fn events_beside_channels_have_ids_of_their_own() {
        let mut follower = ManyFollower::new(&["a".to_owned()], true, true);
        assert_eq!(follower.target(), "/api/stream?channel=a&events=1&cursor=0%2E0%2E0");
        follower.take(&hello("0.0.e")).unwrap();
        let payload = r#"{"channels":[{"channel":"a","from":"message-00006"}],"events":{"from":"event-00002"},"refused":[],"more":false}"#;
        follower.take(&control("subscribed", payload, "6.2.e")).unwrap();
        // An event may be called like a control message.
        let event = |id: u64| {
            format!(
                r#"{{"type":"gap","payload":{{}},"correlation_id":"x","timestamp":"T","event_id":"event-{id:05}"}}"#
            )
        };
        let gap = r#"{"channel":null,"requested":"event-00003","agreed":"event-00002","oldest":"event-00001","newest":"event-00004"}"#;
        for (text, is_shown) in [
            (event(2), false),
            (message("a", 7), true),
            (event(3), true),
            (event(3), false),
            (message("a", 7), false),
        ] {
            let step = if is_shown { FollowerStep::Show } else { FollowerStep::Nothing };
            assert_eq!(follower.take(&text).unwrap(), step, "{text}");
        }
        let told = follower.take(&control("gap", gap, "")).unwrap();
        assert!(matches!(&told, FollowerStep::Tell(line) if line.starts_with("events: gap")), "{told:?}");
        assert_eq!(follower.take(&event(3)).unwrap(), FollowerStep::Show, "it is another one");
        assert_eq!(follower.take(&message("a", 7)).unwrap(), FollowerStep::Nothing);
        assert!(follower.take(&event(4).replace("event-", "message-")).is_err());
    }

    #[test]
    fn a_channel_that_is_refused_ends_it_or_is_tried_again() {
        for (code, is_lasting) in
            [("invalid_name", true), ("too_many_on_connection", true), ("too_many_channels", false)]
        {
            let payload = format!(
                r#"{{"id":null,"channels":[],"events":null,"refused":[{{"channel":"a","code":"{code}"}}],"more":false}}"#
            );
            let failure = follower().take(&control("subscribed", &payload, "0.0.e")).unwrap_err();
            assert_eq!((!failure.is_passing, failure.text.contains(code)), (is_lasting, true), "{failure:?}");
        }
    }
}
