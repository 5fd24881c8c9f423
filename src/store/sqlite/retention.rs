//! How much is kept: the oldest records are deleted, in steps that are small enough for a turn.
//!
//! Rows are deleted in the order of their ids. By count, a row is deleted if it is neither among the newest
//! rows to keep nor among as many newest ids. By age, all rows up to the last one that is known to be old are
//! deleted. Records that were stored since the start age by the monotonic clock. Older ones age by their
//! timestamps, once the wall clock can be believed ([`super::clocks`]). A row with a useless timestamp counts
//! as old as the row after it: the timestamp cannot be read (the channel service's files may have anything in
//! them), is in the future, or is from a clock that was never set.

use jiff::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use crate::base::time::Now;
use crate::store::engine::Cut;

use super::clocks::{Jump, Moment};
use super::counts::{Counts, DELETE_MESSAGE, DELETED_CHANNEL};
use super::details::Deleted;
use super::marks::Marks;
use super::options::StoreOptions;
use super::queries::{Ids, row_id};

/// The bytes of content at which a step ends: the pages of a long row are visited one by one, to read the
/// columns after it and to free them.
const STEP_BYTES_MAX: usize = 1 << 20;
const MICROS_PER_DAY: f64 = 86_400e6;
/// 2020-01-01. A record with an earlier time got it from a clock that nobody had set.
const PLAUSIBLE_MICROS_MIN: i64 = 1_577_836_800_000_000;

pub(super) const MESSAGES_TOTAL: &str = "SELECT count FROM polecat_counts WHERE kind = 'total' AND name = ''";
const MESSAGES: Table = Table {
    oldest: "SELECT id, octet_length(content) FROM messages WHERE id <= ?1 ORDER BY id",
    ages: "SELECT id, octet_length(content), timestamp FROM messages WHERE id > ?1 AND id <= ?2 ORDER BY id",
};
const EVENTS: Table = Table {
    oldest: "SELECT id, octet_length(payload) FROM events WHERE id <= ?1 ORDER BY id",
    ages: "SELECT id, octet_length(payload), timestamp FROM events WHERE id > ?1 AND id <= ?2 ORDER BY id",
};

const DELETE_EVENT: &str = "DELETE FROM events WHERE id = ?1";

pub(super) const ALL: [&str; 6] =
    [MESSAGES_TOTAL, MESSAGES.oldest, MESSAGES.ages, EVENTS.oldest, EVENTS.ages, DELETE_EVENT];

#[derive(Debug)]
struct Table {
    oldest: &'static str,
    ages: &'static str,
}

/// What to keep, and the progress of the search for old records.
#[derive(Debug)]
pub(super) struct Retention {
    messages: TableRetention,
    events: TableRetention,
    age_max_micros: Option<i64>,
}

/// One table, and what is known about the ages of its rows.
#[derive(Debug)]
struct TableRetention {
    table: Table,
    rows_max: Option<u64>,
    /// Which of the rows stored since the start are old, and when all earlier rows are.
    marks: Option<Marks>,
    /// The newest row at the start.
    before: i64,
    /// Rows up to this id are old.
    old_to: i64,
    /// Rows up to this id were looked at and are not known to be young.
    scanned_to: i64,
}

/// The rows that one step deletes.
#[derive(Debug)]
pub(super) struct RetentionStep {
    messages: Vec<i64>,
    events: Vec<i64>,
    /// Whether another step has to follow.
    pub(super) is_cut: bool,
}

impl RetentionStep {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.events.is_empty()
    }

    /// Deletes the rows, within a transaction. Adds the messages to `deleted`, if it is given.
    pub(super) fn delete(
        &self,
        connection: &Connection,
        counts: &mut Counts,
        mut deleted: Option<&mut Vec<Deleted>>,
    ) -> rusqlite::Result<()> {
        let mut tally = counts.begin(connection)?;
        let mut delete = connection.prepare_cached(DELETE_MESSAGE)?;
        for id in &self.messages {
            let mut rows = delete.query((id,))?;
            while let Some(row) = rows.next()? {
                tally.deleted(connection, row)?;
                if let Some(deleted) = &mut deleted {
                    deleted.push(Deleted::read(row, DELETED_CHANNEL, *id)?);
                }
            }
        }
        let mut delete = connection.prepare_cached(DELETE_EVENT)?;
        for id in &self.events {
            delete.execute((id,))?;
        }
        tally.write(connection)
    }
}

impl Retention {
    pub(super) fn new(options: &StoreOptions) -> Self {
        // A nonsensical number keeps everything.
        let days = options.retain_days.filter(|days| *days > 0.0);
        #[expect(clippy::cast_possible_truncation, reason = "saturates after some 290,000 years")]
        let age_max_micros = days.map(|days| (days * MICROS_PER_DAY) as i64);
        let age_max_ms = age_max_micros.map(|age| age.unsigned_abs() / 1_000);
        Self {
            messages: TableRetention::new(MESSAGES, options.retain_messages, age_max_ms),
            events: TableRetention::new(EVENTS, options.retain_events, age_max_ms),
            age_max_micros,
        }
    }

    /// Records that everything up to `newest` is from before the start.
    pub(super) fn start(&mut self, newest: Ids, now: Now) {
        self.messages.before = row_id(newest.message);
        self.events.before = row_id(newest.event);
        if self.age_max_micros.is_some() && newest.message.max(newest.event) > 0 {
            log::info!(
                "records from before this start are deleted by age once the clock has not been set for an hour"
            );
        }
        self.stored(newest, now);
    }

    /// Records that everything up to `newest` is stored by now.
    pub(super) fn stored(&mut self, newest: Ids, now: Now) {
        for (table, newest) in [(&mut self.messages, newest.message), (&mut self.events, newest.event)] {
            if let Some(marks) = &mut table.marks {
                marks.note(row_id(newest), now.monotonic_ms);
            }
        }
    }

    /// The rows looked at so far were judged by a clock that may have been wrong.
    pub(super) fn clock_was_set(&mut self, jump: Jump) {
        for table in [&mut self.messages, &mut self.events] {
            table.scanned_to = table.old_to;
        }
        if self.age_max_micros.is_some() && jump.is_first {
            log::warn!(
                "the wall clock was set {jump}: records from before the start are not deleted by age until the clock \
                 has not been set for an hour"
            );
        }
    }

    pub(super) const fn keeps_all(&self) -> bool {
        self.messages.rows_max.is_none() && self.events.rows_max.is_none() && self.age_max_micros.is_none()
    }

    /// Milliseconds by which a record may exceed its age before it is looked for.
    pub(super) fn scan_interval_ms(&self) -> Option<u64> {
        self.age_max_micros.map(|age| (age.unsigned_abs() / 8_000).clamp(1_000, 60_000))
    }

    /// Finds the rows to delete, at most `rows_max` of each table. Only reads.
    pub(super) fn step(
        &mut self,
        connection: &Connection,
        newest: Ids,
        rows_max: usize,
        moment: Moment,
    ) -> rusqlite::Result<RetentionStep> {
        let now = moment.now;
        let ages = self
            .age_max_micros
            .filter(|_| moment.undisturbed_in_ms == 0)
            .map(|age| Ages { old_before: now.unix_micros.saturating_sub(age), now: now.unix_micros });
        for table in [&mut self.messages, &mut self.events] {
            table.grow_old(now.monotonic_ms);
        }
        let total = match self.messages.rows_max {
            Some(_) => {
                connection.prepare_cached(MESSAGES_TOTAL)?.query_row((), |row| row.get::<_, i64>(0))?
            }
            None => 0,
        };
        let total = u64::try_from(total).unwrap_or_default();
        let (messages, messages_cut) =
            self.messages.step(connection, total, newest.message, ages, rows_max)?;
        // The ids of events rise by one, and only the oldest are ever missing.
        let (events, events_cut) = self.events.step(connection, u64::MAX, newest.event, ages, rows_max)?;
        Ok(RetentionStep { messages, events, is_cut: messages_cut || events_cut })
    }
}

#[derive(Debug, Clone, Copy)]
struct Ages {
    /// Microseconds since 1970.
    now: i64,
    old_before: i64,
}

impl Ages {
    /// Whether a record with this timestamp is old; `None` if the timestamp does not say.
    fn is_old(self, timestamp: ValueRef<'_>) -> Option<bool> {
        let micros =
            unix_micros(timestamp).filter(|micros| (PLAUSIBLE_MICROS_MIN..=self.now).contains(micros))?;
        Some(micros < self.old_before)
    }
}

impl TableRetention {
    fn new(table: Table, rows_max: Option<u64>, age_max_ms: Option<u64>) -> Self {
        let marks = age_max_ms.map(Marks::new);
        Self { table, rows_max, marks, before: i64::MAX, old_to: i64::MIN, scanned_to: i64::MIN }
    }

    /// Finds out which rows are old by the monotonic clock.
    fn grow_old(&mut self, now_ms: u64) {
        if let Some(id) = self.marks.as_mut().and_then(|marks| marks.old_to(now_ms)) {
            self.old_to = self.old_to.max(id);
            self.scanned_to = self.scanned_to.max(id);
        }
    }

    /// The rows to delete now, and whether there may be more.
    fn step(
        &mut self,
        connection: &Connection,
        total: u64,
        newest: u64,
        ages: Option<Ages>,
        rows_max: usize,
    ) -> rusqlite::Result<(Vec<i64>, bool)> {
        let (rows_to_delete, is_cut) = self.rows_to_delete(connection, total, newest, rows_max)?;
        let Some(ages) = ages.filter(|_| !is_cut) else { return Ok((rows_to_delete, is_cut)) };
        let is_cut = self.scan(connection, ages, rows_max)?;
        Ok((rows_to_delete, is_cut))
    }

    fn rows_to_delete(
        &self,
        connection: &Connection,
        total: u64,
        newest: u64,
        rows_max: usize,
    ) -> rusqlite::Result<(Vec<i64>, bool)> {
        let over = self.rows_max.map_or(0, |max| total.saturating_sub(max));
        let over_to = self.rows_max.map_or(i64::MIN, |max| row_id(newest.saturating_sub(max)));
        let mut statement = connection.prepare_cached(self.table.oldest)?;
        let mut rows = statement.query((over_to.max(self.old_to),))?;
        let (mut ids, mut cut) = (Vec::new(), Cut::new(rows_max, STEP_BYTES_MAX, usize::MAX));
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            if id > self.old_to && ids.len() as u64 >= over {
                break;
            }
            if !cut.takes(length(row)?) {
                return Ok((ids, true));
            }
            ids.push(id);
        }
        Ok((ids, false))
    }

    /// Continues to look for old rows that were stored before the start. Returns whether it is worth
    /// continuing.
    fn scan(&mut self, connection: &Connection, ages: Ages, rows_max: usize) -> rusqlite::Result<bool> {
        let mut statement = connection.prepare_cached(self.table.ages)?;
        let mut rows = statement.query((self.scanned_to, self.before))?;
        let (mut found, mut cut) = (false, Cut::new(rows_max, STEP_BYTES_MAX, usize::MAX));
        while let Some(row) = rows.next()? {
            if !cut.takes(length(row)?) {
                return Ok(true);
            }
            let id = row.get(0)?;
            match ages.is_old(row.get_ref(2)?) {
                Some(false) => break,
                Some(true) => {
                    self.old_to = id;
                    found = true;
                }
                None => {}
            }
            self.scanned_to = id;
        }
        Ok(found)
    }
}

/// The length of a row, which is its second column.
fn length(row: &Row<'_>) -> rusqlite::Result<usize> {
    let length = row.get::<_, Option<i64>>(1)?.unwrap_or_default();
    Ok(usize::try_from(length).unwrap_or_default())
}

/// The time of a timestamp, in microseconds since 1970; one without an offset is UTC.
fn unix_micros(value: ValueRef<'_>) -> Option<i64> {
    let text = value.as_str().ok()?;
    let parsed = text.parse::<Timestamp>().or_else(|_| format!("{text}Z").parse());
    parsed.ok().map(Timestamp::as_microsecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ages_of_many_formats_are_known() {
        let micros = |text: &str| unix_micros(ValueRef::Text(text.as_bytes()));
        let expected = micros("2026-01-05T09:30:00.000000+00:00");
        assert_eq!(expected, Some(1_767_605_400_000_000));
        for text in [
            "2026-01-05T09:30:00+00:00",
            "2026-01-05 09:30:00",
            "2026-01-05T09:30:00Z",
            "2026-01-05T11:30:00+02:00",
        ] {
            assert_eq!(micros(text), expected, "{text}");
        }
        for text in ["", "then", "1767605400", "2026-13-05T09:30:00Z", "05.01.2026 09:30"] {
            assert_eq!(micros(text), None, "{text}");
        }
        assert_eq!(unix_micros(ValueRef::Integer(5)), None);
    }
}
