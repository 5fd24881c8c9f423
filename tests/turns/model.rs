//! What must be: the record of all that was committed, and what each kind of
//! peer may see of it. Nothing here asks the server.

use std::collections::BTreeMap;
use std::rc::Rc;

use polecat::hub::engine::{Answer, Record};

use crate::pipe::Newest;

/// The name under which the events are kept; no channel is called so.
pub(crate) const EVENTS: &str = "";

/// What the engine has said. Every publish bears a key of its own: what its
/// content begins with, or the type of its event.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    newest: Newest,
    streams: BTreeMap<String, Vec<Entry>>,
    committed: BTreeMap<String, u64>,
    /// How many appends were refused.
    pub(crate) refused: u64,
    /// How many questions failed, pages among them.
    pub(crate) failures: u64,
    /// How many pages were given.
    pub(crate) pages: u64,
}

/// A record as its subscribers see it.
#[derive(Debug)]
struct Entry {
    id: u64,
    text: Rc<str>,
}

impl Ledger {
    pub(crate) fn starting_at(newest: &Newest) -> Self {
        Self { newest: Rc::clone(newest), ..Self::default() }
    }

    /// Writes down what the engine says.
    pub(crate) fn note(&mut self, answer: &Answer) {
        match answer {
            Answer::Committed { id, record, .. } => self.commit(*id, record),
            Answer::Refused { .. } => self.refused += 1,
            Answer::Failed { .. } => self.failures += 1,
            Answer::Page { .. } => self.pages += 1,
            Answer::Repeated { .. }
            | Answer::Count { .. }
            | Answer::Messages { .. }
            | Answer::Channels { .. }
            | Answer::Summary { .. } => {}
        }
    }

    fn commit(&mut self, id: u64, record: &Record) {
        let mut newest = self.newest.get();
        let (which, stream, key, text) = match record {
            Record::Message(message) => {
                let key = message.content.split(' ').next().unwrap_or_default();
                let text = format!(
                    "{{\"type\":\"message\",\"data\":{{\"id\":{id},\"channel_id\":\"{}\",\"author\":\"{}\",\
                     \"content\":\"{}\",\"timestamp\":\"{}\",\"lane\":null,\"provider\":null,\
                     \"token_count\":null}},\"event_id\":\"message-{id:05}\"}}",
                    message.channel_id, message.author, message.content, message.timestamp
                );
                (0, &*message.channel_id, key, text)
            }
            Record::Event(event) => {
                let cause = event.correlation_id.as_deref().expect("an event has a cause");
                let text = format!(
                    "{{\"type\":\"{}\",\"payload\":{},\"correlation_id\":\"{cause}\",\
                     \"timestamp\":\"{}\",\"event_id\":\"event-{id:05}\"}}",
                    event.kind, event.payload, event.timestamp
                );
                (1, EVENTS, &*event.kind, text)
            }
        };
        assert!(id > newest[which], "ids rise");
        newest[which] = id;
        self.newest.set(newest);
        let entry = Entry { id, text: Rc::from(text) };
        self.streams.entry(stream.to_owned()).or_default().push(entry);
        assert!(self.committed.insert(key.to_owned(), id).is_none(), "{key} is stored twice");
    }

    /// The id under which a publish was committed, if it was.
    pub(crate) fn id_of(&self, key: &str) -> Option<u64> {
        self.committed.get(key).copied()
    }

    /// The newest announced id of events or of messages.
    pub(crate) fn newest(&self, stream: &str) -> u64 {
        self.newest.get()[usize::from(stream == EVENTS)]
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.committed.len()
    }

    fn stream(&self, stream: &str) -> &[Entry] {
        self.streams.get(stream).map_or(&[], Vec::as_slice)
    }
}

/// What one subscriber has yet to see, from its join or resume point on.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    stream: String,
    /// The id up to which it has seen everything.
    pub(crate) after: u64,
    /// The index in the stream of what must come next.
    next: usize,
}

impl Run {
    pub(crate) fn after(ledger: &Ledger, stream: &str, after: u64) -> Self {
        let next = ledger.stream(stream).partition_point(|entry| entry.id <= after);
        Self { stream: stream.to_owned(), after, next }
    }

    /// Takes in one broadcast: it must be the next record, to the byte.
    pub(crate) fn take(&mut self, ledger: &Ledger, text: &str) {
        let Some(entry) = ledger.stream(&self.stream).get(self.next) else {
            panic!("nothing more is committed, but there came {text}");
        };
        assert_eq!(text, &*entry.text, "records come in order, once, and whole");
        self.after = entry.id;
        self.next += 1;
    }

    /// Takes in the id of a heartbeat: all up to it was sent, and it says no less
    /// than was sent.
    pub(crate) fn take_heartbeat(&mut self, ledger: &Ledger, id: u64) {
        assert!(id >= self.after, "a heartbeat is behind: {id}, but {} was sent", self.after);
        assert!(id <= ledger.newest(&self.stream), "a heartbeat is ahead of the store: {id}");
        if let Some(entry) = ledger.stream(&self.stream).get(self.next) {
            assert!(id < entry.id, "a heartbeat says {id}, but {} was not sent", entry.id);
        }
        self.after = id;
    }

    /// Whether there is nothing more to come.
    pub(crate) fn is_through(&self, ledger: &Ledger) -> bool {
        self.next == ledger.stream(&self.stream).len()
    }
}
