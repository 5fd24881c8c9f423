//! A list on its way to the client that asked for it: what to ask the engine next, what its head says.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::store::engine::{Names, Query, Selection, Span, StoredName};
use crate::wire::body::ListRange;
use crate::wire::http::decoder::BodyEnd;
use crate::wire::http::gzip::Gzip;
use crate::wire::protocol::write_json;

use crate::server::response_context::ResponseContext;

/// The weight in bytes of the records at which a list ends.
const LIST_BYTES_MAX: usize = 4 << 20;

/// What stands for itself in a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A list on its way to the client that asked for it.
#[derive(Debug)]
pub(in crate::server) struct List {
    pub(in crate::server) response: ResponseContext,
    pub(in crate::server) what: What,
    /// How its end is told if it does not fit into one slice.
    pub(in crate::server) end: BodyEnd,
    /// There if it may be compressed.
    pub(in crate::server) gzip: Option<Gzip>,
    pub(in crate::server) is_begun: bool,
    /// Whether the engine is asked for a slice.
    pub(in crate::server) is_asked: bool,
    /// Whether a slice is being sent; the next one is read after that.
    pub(in crate::server) is_sending: bool,
}

/// The bounds of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) struct Slice {
    pub(in crate::server) records_max: usize,
    /// Weight at which it ends.
    pub(in crate::server) bytes_max: usize,
    /// Weight that a record or name may have: it ends before one that has more.
    pub(in crate::server) each_bytes_max: usize,
}

/// What is listed.
#[derive(Debug)]
pub(in crate::server) enum What {
    Records(Records),
    Names(NameSections),
}

/// Messages or events.
#[derive(Debug)]
pub(in crate::server) struct Records {
    pub(in crate::server) of: Selection,
    pub(in crate::server) range: ListRange,
    /// Which ones, once that is known.
    pub(in crate::server) span: Option<Span>,
    /// The id up to which they were read.
    pub(in crate::server) read: u64,
}

/// Names, in one section after the other.
#[derive(Debug)]
pub(in crate::server) struct NameSections {
    /// Those that are not complete.
    left: &'static [Section],
    after: Option<StoredName>,
    /// Whether a name of the first of them was written.
    has_names: bool,
    /// What is written and not sent. It is empty while nothing is asked of the engine.
    pub(in crate::server) part: Vec<u8>,
}

#[derive(Debug)]
struct Section {
    /// What is named; `None` for the totals.
    of: Option<Names>,
    opening: &'static str,
    closing: &'static str,
}

const CHANNELS: [Section; 1] =
    [Section { of: Some(Names::Channels), opening: "{\"channels\":[", closing: "]}" }];

const SUMMARY: [Section; 3] = [
    Section { of: None, opening: "{\"summary\":{\"total_messages\":", closing: "" },
    Section { of: Some(Names::Providers), opening: ",\"by_provider\":{", closing: "}" },
    Section { of: Some(Names::Lanes), opening: ",\"by_lane\":{", closing: "}}}" },
];

impl List {
    /// One of which nothing was asked yet.
    pub(in crate::server) const fn new(
        response: ResponseContext,
        what: What,
        end: BodyEnd,
        gzip: Option<Gzip>,
    ) -> Self {
        Self { response, what, end, gzip, is_begun: false, is_asked: false, is_sending: false }
    }

    /// What is to be asked next, within these bounds of a slice.
    pub(in crate::server) fn question(&self, slice: Slice) -> Query {
        match &self.what {
            What::Records(records) => records.question(slice),
            What::Names(names) => names.question(slice),
        }
    }

    /// The `Link` to the pages before and behind this one (RFC 8288), relative to the request's own URI; empty if
    /// there are none.
    pub(in crate::server) fn links(&self) -> String {
        match &self.what {
            What::Records(records) => records.links(),
            What::Names(_) => String::new(),
        }
    }
}

impl Records {
    fn question(&self, slice: Slice) -> Query {
        let Slice { records_max, bytes_max, each_bytes_max } = slice;
        let of = self.of.clone();
        match self.span {
            None => {
                let ListRange { limit, after, before } = self.range;
                Query::Span { of, after, before, records_max: limit, bytes_max: LIST_BYTES_MAX }
            }
            Some(Span { last, .. }) => {
                Query::List { of, after: self.read, through: last, records_max, bytes_max, each_bytes_max }
            }
        }
    }

    /// The text before the records.
    pub(in crate::server) const fn opening(&self) -> &'static [u8] {
        match self.of {
            Selection::Messages(_) => b"{\"messages\":[",
            Selection::Events(_) => b"{\"events\":[",
        }
    }

    fn links(&self) -> String {
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

impl NameSections {
    /// All channels.
    pub(in crate::server) const fn channels() -> Self {
        Self::of(&CHANNELS)
    }

    /// The totals, and messages by provider and by lane.
    pub(in crate::server) const fn summary() -> Self {
        Self::of(&SUMMARY)
    }

    const fn of(left: &'static [Section]) -> Self {
        Self { left, after: None, has_names: false, part: Vec::new() }
    }

    fn question(&self, slice: Slice) -> Query {
        let Slice { bytes_max, each_bytes_max, .. } = slice;
        match self.left.first().and_then(|section| section.of) {
            Some(of) => {
                let after = self.after.clone();
                Query::Names { of, after, names_max: usize::MAX, bytes_max, each_bytes_max }
            }
            None => Query::Totals,
        }
    }

    /// Writes the totals. Returns whether that was all.
    pub(in crate::server) fn write_totals(&mut self, messages: u64, tokens: i64) -> bool {
        self.write_opening();
        write_json(&messages, &mut self.part);
        self.part.extend_from_slice(b",\"total_tokens\":");
        write_json(&tokens, &mut self.part);
        self.end_section()
    }

    /// Writes a slice of names, behind which `next` is asked for. Returns whether that was all.
    pub(in crate::server) fn write_names(
        &mut self,
        names: &[(String, u64)],
        next: Option<StoredName>,
    ) -> bool {
        if self.after.is_none() {
            self.write_opening();
        }
        let is_counted = self.left.first().is_some_and(|section| section.of != Some(Names::Channels));
        for (name, count) in names {
            if std::mem::replace(&mut self.has_names, true) {
                self.part.push(b',');
            }
            write_json(name, &mut self.part);
            if is_counted {
                self.part.push(b':');
                write_json(count, &mut self.part);
            }
        }
        self.after = next;
        self.after.is_none() && self.end_section()
    }

    fn write_opening(&mut self) {
        self.part.extend(self.left.first().map(|section| section.opening.as_bytes()).unwrap_or_default());
    }

    fn end_section(&mut self) -> bool {
        if let Some((section, left)) = self.left.split_first() {
            self.part.extend_from_slice(section.closing.as_bytes());
            self.left = left;
        }
        self.has_names = false;
        self.left.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Vec<(String, u64)> {
        names.iter().zip(1..).map(|(name, count)| ((*name).to_owned(), count)).collect()
    }

    #[test]
    fn names_are_put_together_as_they_always_were() {
        let mark = || Some(StoredName { bytes: b"b".to_vec(), is_blob: false });
        let mut channels = NameSections::channels();
        assert!(!channels.write_names(&named(&["a", "b"]), mark()));
        let slice = Slice { records_max: 9, bytes_max: 9, each_bytes_max: 9 };
        assert!(matches!(channels.question(slice), Query::Names { of: Names::Channels, after: Some(_), .. }));
        assert!(channels.write_names(&named(&["\"c\""]), None));
        assert_eq!(channels.part, br#"{"channels":["a","b","\"c\""]}"#);
        let mut none = NameSections::channels();
        assert!(none.write_names(&[], None));
        assert_eq!(none.part, br#"{"channels":[]}"#);

        let mut summary = NameSections::summary();
        assert_eq!(summary.question(slice), Query::Totals);
        assert!(!summary.write_totals(3, -5));
        assert!(!summary.write_names(&named(&["p"]), None));
        assert!(!summary.write_names(&named(&["b"]), mark()));
        assert!(!summary.write_names(&[], mark()));
        assert!(summary.write_names(&named(&["c"]), None));
        assert_eq!(
            String::from_utf8_lossy(&summary.part),
            r#"{"summary":{"total_messages":3,"total_tokens":-5,"by_provider":{"p":1},"by_lane":{"b":1,"c":1}}}"#
        );
    }
}
