//! What time it is in a turn.

use std::rc::Rc;

use crate::base::time::{Now, Stamp};
use crate::wire::http::decoder::http_date;
use crate::wire::protocol::timestamp;

/// The one reading of the clocks that a turn works with.
#[derive(Debug)]
pub(super) struct TurnTime {
    pub(super) now: Now,
    pub(super) stamp: Stamp,
    timestamp: Option<Rc<str>>,
    http_date: String,
    http_date_second: i64,
}

impl TurnTime {
    pub(super) fn new(now: Now) -> Self {
        Self {
            now,
            stamp: Stamp::default(),
            timestamp: None,
            http_date: http_date(now.unix_micros),
            http_date_second: now.unix_micros.div_euclid(1_000_000),
        }
    }

    pub(super) fn advance(&mut self, now: Now, stamp: Stamp) {
        self.stamp = stamp;
        self.now = now;
        self.timestamp = None;
        let second = now.unix_micros.div_euclid(1_000_000);
        if second != self.http_date_second {
            self.http_date_second = second;
            self.http_date = http_date(now.unix_micros);
        }
    }

    /// The timestamp that everything of this turn bears.
    pub(super) fn timestamp(&mut self) -> Rc<str> {
        Rc::clone(self.timestamp.get_or_insert_with(|| Rc::from(timestamp(self.now.unix_micros))))
    }

    /// The `Date` of this turn's responses.
    pub(super) fn http_date(&self) -> &str {
        &self.http_date
    }
}
