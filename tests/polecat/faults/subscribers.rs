//! Subscribers that resume after each death of the server: PROTOCOL.md, "7. Resume".

use serde_json::Value;

use crate::support::Socket;

use super::publishers::next_json;
use super::site::{Origin, Sequence, Site, number};

/// A subscriber.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listener {
    pub(crate) sequence: Sequence,
    /// Whether it speaks `polecat.v1`.
    pub(crate) is_v1: bool,
    /// Whether it begins with new messages, and not with everything.
    pub(crate) is_late: bool,
}

/// Everything that a subscriber has received.
#[derive(Debug)]
pub(crate) struct Run {
    /// The id after which it begins.
    pub(crate) start: u64,
    pub(crate) got: Vec<(u64, Origin)>,
    /// The number of connections.
    pub(crate) connections: usize,
}

/// The publisher of the very last message.
pub(crate) const END: &str = "the end";

impl Listener {
    /// Listens until the end.
    pub(crate) fn listen(self, site: &Site) -> Run {
        let mut run = Run { start: 0, got: Vec::new(), connections: 0 };
        // The id to resume from, and the epoch that it belongs to.
        let mut last = (!self.is_late).then(|| self.sequence.zero().to_owned());
        let mut epoch = None;
        let mut generation = 0;
        loop {
            let (addr, current) = site.next(generation);
            generation = current;
            let name = format!("{self:?}");
            let Ok(mut socket) = self.connect(addr, last.as_deref(), epoch.as_deref()) else {
                site.note_break(generation, &name);
                continue;
            };
            run.connections += 1;
            let has_asked = last.is_some();
            while let Some(message) = next_json(&mut socket) {
                site.note_seen(&name);
                match message["type"].as_str() {
                    Some("hello") => self.greet(&message, &mut epoch, &mut last, &mut run),
                    Some("resumed") => assert!(has_asked, "{name}: {message}"),
                    Some("gap") => panic!("{name} was to miss nothing: {message}"),
                    Some("live" | "heartbeat") => {}
                    _ => {
                        run.got.push(self.origin(&message));
                        if run.got.last().is_some_and(|(_, (author, _))| author == END) {
                            return run;
                        }
                    }
                }
                if let Some(event_id) = message["event_id"].as_str() {
                    last = Some(event_id.to_owned());
                }
            }
            site.note_break(generation, &name);
        }
    }

    fn connect(
        self,
        addr: std::net::SocketAddr,
        last: Option<&str>,
        epoch: Option<&str>,
    ) -> Result<Socket, tungstenite::Error> {
        let mut target = format!("{}?", self.sequence.target());
        if let Some(last) = last {
            target += &format!("last_event_id={last}&");
        }
        if let Some(epoch) = epoch {
            target += &format!("epoch={epoch}");
        }
        let headers = [("Sec-WebSocket-Protocol", "polecat.v1")];
        Socket::try_connect(addr, &target, if self.is_v1 { &headers } else { &[] })
    }

    fn greet(self, hello: &Value, epoch: &mut Option<String>, last: &mut Option<String>, run: &mut Run) {
        *epoch = Some(hello["payload"]["epoch"].as_str().expect("an epoch").to_owned());
        if last.is_none() {
            run.start = number(hello["event_id"].as_str().expect("an id"));
        }
    }

    fn origin(self, message: &Value) -> (u64, Origin) {
        let id = number(message["event_id"].as_str().expect("an id"));
        match self.sequence {
            Sequence::Messages => {
                assert_eq!(message["data"]["id"], id);
                (id, origin_of(&message["data"]))
            }
            Sequence::Events => {
                let name = message["type"].as_str().expect("a type").to_owned();
                (id, (name, message["payload"]["number"].as_u64().expect("a number")))
            }
        }
    }
}

/// The publisher of a stored message, and its number.
pub(crate) fn origin_of(message: &Value) -> Origin {
    let number = message["content"].as_str().expect("a string").parse().expect("a number");
    (message["author"].as_str().expect("a string").to_owned(), number)
}
