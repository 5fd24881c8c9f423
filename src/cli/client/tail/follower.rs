//! The position of a follower, and its reaction to messages (PROTOCOL.md, "14. polecat.v1"). It has no socket
//! and no clock.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::wire::protocol::Sequence;

use super::super::format::{Part, Style, time};
use super::super::incoming::{Gap, Health, Hello, Incoming, Reconnect, Resumed};
use super::super::server::{Failure, excerpt};

#[derive(Debug)]
pub(super) struct Follower {
    path: String,
    sequence: Sequence,
    /// The id to resume after; `None` while only new messages are wanted.
    cursor: Option<u64>,
    /// The epoch of that id.
    epoch: Option<String>,
    /// The epoch of the latest `hello`, until the next message. If a gap follows and a break loses it, the
    /// server must be able to report it again.
    next_epoch: Option<String>,
    /// The last id that was shown and means the same to the server.
    shown: u64,
    /// Connections that have sent `hello`.
    hellos: u64,
    /// Whether everything is shown from the oldest message on, so that nothing older can be missed.
    wants_all: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum FollowerStep {
    Show,
    Hello {
        heartbeat_ms: u64,
    },
    Live,
    Reconnect {
        after_ms: u64,
    },
    /// Print this on stderr.
    Tell(String),
    Nothing,
}

impl Follower {
    /// Follows `channel`, or the events, from after the id `after`, or from the time of connecting.
    pub(super) fn new(channel: Option<&str>, after: Option<u64>) -> Self {
        let (path, sequence) = match channel {
            Some(name) => {
                (format!("/api/ws/{}", utf8_percent_encode(name, NON_ALPHANUMERIC)), Sequence::Messages)
            }
            None => ("/ws".to_owned(), Sequence::Events),
        };
        let (epoch, next_epoch, shown) = (None, None, 0);
        Self {
            path,
            sequence,
            cursor: after,
            epoch,
            next_epoch,
            shown,
            hellos: 0,
            wants_all: after == Some(0),
        }
    }

    pub(super) fn target(&self) -> String {
        let Some(cursor) = self.cursor else { return self.path.clone() };
        let mut target = format!("{}?last_event_id={}", self.path, self.sequence.text(cursor));
        if let Some(epoch) = &self.epoch {
            target += "&epoch=";
            target.extend(utf8_percent_encode(epoch, NON_ALPHANUMERIC));
        }
        target
    }

    pub(super) fn take(&mut self, text: &str) -> Result<FollowerStep, Failure> {
        let incoming = Incoming::parse(text)?;
        if incoming.is_published() {
            return self.record(&incoming);
        }
        let step = match &*incoming.kind {
            "hello" => self.hello(&incoming.payload()?),
            "resumed" => self.resumed(incoming.payload()?),
            "gap" => self.gap(&incoming.payload()?),
            _ => of_any_connection(&incoming)?,
        };
        if let Some(id) = self.id_of(&incoming)
            && (incoming.kind != "hello" || self.cursor.is_none())
        {
            self.stands_at(id);
        }
        Ok(step)
    }

    fn hello(&mut self, hello: &Hello) -> FollowerStep {
        const EPOCH_BYTES_MAX: usize = 255;
        self.hellos += 1;
        self.next_epoch = Some(hello.epoch.chars().take(EPOCH_BYTES_MAX).collect());
        FollowerStep::Hello { heartbeat_ms: hello.heartbeat_interval_ms }
    }

    fn resumed(&self, Resumed { count, more }: Resumed) -> FollowerStep {
        if self.hellos < 2 {
            return FollowerStep::Nothing;
        }
        FollowerStep::Tell(match count {
            0 => "reconnected; nothing was missed".to_owned(),
            _ if more => format!("reconnected; more than {count} that came in the meantime follow"),
            _ => format!("reconnected; {count} that came in the meantime follow"),
        })
    }

    fn gap(&mut self, gap: &Gap) -> FollowerStep {
        let id = |text: &str| self.sequence.parse(text);
        let agreed = gap.agreed.as_deref().and_then(id).unwrap_or(0);
        self.shown = self.shown.min(agreed);
        FollowerStep::Tell(gap_line(gap, self.sequence, self.hellos < 2 && self.wants_all))
    }

    fn record(&mut self, incoming: &Incoming<'_>) -> Result<FollowerStep, Failure> {
        let Some(id) = self.id_of(incoming) else {
            let id = incoming.event_id.as_deref().unwrap_or_default();
            return Err(Failure::lasting(format!("the server sent a message with the id {:?}", excerpt(id))));
        };
        self.stands_at(id);
        if id <= self.shown {
            return Ok(FollowerStep::Nothing);
        }
        self.shown = id;
        Ok(FollowerStep::Show)
    }

    /// Everything up to `id` was sent.
    fn stands_at(&mut self, id: u64) {
        self.cursor = Some(id);
        if let Some(epoch) = self.next_epoch.take() {
            self.epoch = Some(epoch);
        }
    }

    fn id_of(&self, incoming: &Incoming<'_>) -> Option<u64> {
        self.sequence.parse(incoming.event_id.as_deref()?)
    }
}

/// The reaction to a control message that is the same on a connection with one channel and with many.
pub(super) fn of_any_connection(incoming: &Incoming<'_>) -> Result<FollowerStep, Failure> {
    Ok(match &*incoming.kind {
        "live" => FollowerStep::Live,
        "reconnect" => {
            let Reconnect { after_ms } = incoming.payload()?;
            FollowerStep::Reconnect { after_ms }
        }
        "health_status" => health(&incoming.payload()?),
        // Heartbeats, and messages of later versions.
        _ => FollowerStep::Nothing,
    })
}

fn health(health: &Health) -> FollowerStep {
    FollowerStep::Tell(match &health.reason {
        _ if health.status == "ok" => "the server can store again".to_owned(),
        Some(reason) => format!("the server cannot store messages: {}", excerpt(reason)),
        None => format!("the server reports its health as {}", excerpt(&health.status)),
    })
}

/// The line that tells of a gap. A follower that `wants_all` from the beginning has nothing older, and gets another line.
pub(super) fn gap_line(gap: &Gap, sequence: Sequence, wants_all: bool) -> String {
    let id = |text: &str| sequence.parse(text);
    let agreed = gap.agreed.as_deref().and_then(id).unwrap_or(0);
    let (requested, oldest) = (excerpt(&gap.requested), excerpt(&gap.oldest));
    if wants_all {
        format!("gap: everything before {oldest} has been deleted")
    } else if id(&gap.requested).is_some_and(|requested| requested > agreed) {
        format!(
            "gap: {requested} now means something else: the server has another database, or its database went back to an \
             earlier moment; everything that it has after {} follows",
            sequence.text(agreed)
        )
    } else {
        format!(
            "gap: messages may be missing after {requested}; everything that is kept from {oldest} on follows"
        )
    }
}

/// Appends a message of a channel, or an event, in a form for people; `is_named` says which.
pub(super) fn write_for_people(
    text: &str,
    is_named: bool,
    style: Style,
    out: &mut String,
) -> Result<(), Failure> {
    let incoming = Incoming::parse(text)?;
    if incoming.data.is_none() {
        write_event(&incoming, is_named, style, out);
        return Ok(());
    }
    let stored = incoming.stored()?;
    style.push(Part::Faint, &format!("{} {} ", stored.id, time(&stored.timestamp)), out);
    if is_named {
        style.push(Part::Faint, &format!("{} ", stored.channel_id), out);
    }
    style.push(Part::Name, &stored.author, out);
    style.push(Part::Plain, ": ", out);
    style.push(Part::Plain, &stored.content, out);
    for (name, value) in [("lane", &stored.lane), ("provider", &stored.provider)] {
        if let Some(value) = value {
            style.push(Part::Faint, &format!(" {name}={value}"), out);
        }
    }
    Ok(())
}

fn write_event(event: &Incoming<'_>, is_named: bool, style: Style, out: &mut String) {
    let id = event.event_id.as_deref().unwrap_or_default();
    let number = Sequence::Events.parse(id).unwrap_or_default();
    let timestamp = event.timestamp.as_deref().unwrap_or_default();
    let mark = if is_named { "(event) " } else { "" };
    style.push(Part::Faint, &format!("{number} {} {mark}", time(timestamp)), out);
    style.push(Part::Name, &event.kind, out);
    let payload = event.payload.map_or("{}", serde_json::value::RawValue::get);
    out.push(' ');
    // The only control characters that it can have are white space; others are escaped as in any text.
    style.push(Part::Plain, &payload.replace(['\n', '\r', '\t'], " "), out);
    if let Some(correlation) = &event.correlation_id {
        style.push(Part::Faint, &format!(" {correlation}"), out);
    }
}

#[cfg(test)]
mod tests;
