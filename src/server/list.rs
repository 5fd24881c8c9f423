//! A list on its way to the client that asked for it: what to ask the engine next, what its head says.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::store::engine::{Query, Selection, Span};
use crate::wire::body::ListRange;
use crate::wire::http::decoder::BodyEnd;
use crate::wire::http::gzip::Gzip;

use super::exchange::Exchange;

/// The weight in bytes of the records at which a list ends.
const LIST_BYTES_MAX: usize = 4 << 20;

/// What stands for itself in a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A list on its way to the client that asked for it.
#[derive(Debug)]
pub(super) struct List {
    pub(super) exchange: Exchange,
    pub(super) of: Selection,
    pub(super) range: ListRange,
    /// How its end is told where it does not fit into one slice.
    pub(super) end: BodyEnd,
    /// There where it may be compressed.
    pub(super) gzip: Option<Gzip>,
    /// Which records are in it, once that is known.
    pub(super) span: Option<Span>,
    /// The id up to which they were read.
    pub(super) read: u64,
    pub(super) is_begun: bool,
    /// Whether a slice is being sent; the next one is read after that.
    pub(super) is_sending: bool,
}

impl List {
    /// What is to be asked next, within these bounds of a slice.
    pub(super) fn question(&self, records_max: usize, bytes_max: usize) -> Query {
        let of = self.of.clone();
        match self.span {
            None => {
                let ListRange { limit, after, before } = self.range;
                Query::Span { of, after, before, records_max: limit, bytes_max: LIST_BYTES_MAX }
            }
            Some(Span { last, .. }) => {
                Query::List { of, after: self.read, through: last, records_max, bytes_max }
            }
        }
    }

    /// What comes before the records.
    pub(super) const fn opening(&self) -> &'static [u8] {
        match self.of {
            Selection::Messages(_) => b"{\"messages\":[",
            Selection::Events(_) => b"{\"events\":[",
        }
    }

    /// The `Link` to the pages before and behind this one (RFC 8288), relative to the request's own URI; empty where
    /// there are none.
    pub(super) fn links(&self) -> String {
        let Some(span) = self.span else { return String::new() };
        let mut base = format!("?limit={}", self.range.limit);
        let (name, value) = match &self.of {
            Selection::Messages(channel) => ("channel_id", channel),
            Selection::Events(kind) => ("type", kind),
        };
        if let Some(value) = value {
            base.push_str(&format!("&{name}={}", utf8_percent_encode(value, PLAIN)));
        }
        let mut links = Vec::new();
        if span.has_newer {
            let end = self.range.before.filter(|_| self.range.after.is_some());
            let end = end.map_or_else(String::new, |before| format!("&before={before}"));
            links.push(format!("<{base}&after={}{end}>; rel=\"next\"", span.last));
        }
        if span.has_older {
            links.push(format!("<{base}&before={}>; rel=\"prev\"", span.first));
        }
        links.join(", ")
    }
}
