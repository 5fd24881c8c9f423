//! Details of the kept messages of each channel. Their number is counted along the channel's part of the
//! index, once. The count is remembered: next time, only newer messages are counted, and those that retention
//! deletes are subtracted. Nothing of this is stored, and it costs nothing until somebody asks.

use std::collections::HashMap;
use std::rc::Rc;

use rusqlite::{Connection, Row};

use crate::store::engine::{Answer, ChannelDetail, Cut, Names, QueryId, StoredName};

use super::queries::{COUNT_ROWS, Ids, row_id};
use super::questions::{CHANNEL_COUNT, next_name};

/// The most channels whose counts are remembered. Beyond that, counting begins anew.
const CHANNELS_MAX: usize = 100_000;

/// Index entries that can be counted in the time that it takes to find a channel.
const ROWS_PER_CHANNEL: usize = 16;

/// Messages by channel, as far as they were counted; for lookups only.
#[derive(Debug, Default)]
pub(super) struct KeptCounts {
    counts: HashMap<StoredName, Counted>,
}

/// Messages of one channel up to the id `through`, which is that of the newest of them.
#[derive(Debug, Default, Clone, Copy)]
struct Counted {
    through: i64,
    count: u64,
}

impl KeptCounts {
    /// Whether nothing was counted, so that deletions do not matter.
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Subtracts a message whose deletion is committed.
    pub(super) fn deleted(&mut self, message: &Deleted) {
        if let Some(counted) = self.counts.get_mut(&message.channel)
            && message.id <= counted.through
        {
            counted.count = counted.count.saturating_sub(1);
        }
    }

    fn of(&mut self, channel: &StoredName) -> &mut Counted {
        if self.counts.len() >= CHANNELS_MAX && !self.counts.contains_key(channel) {
            self.counts = HashMap::new();
        }
        self.counts.entry(channel.clone()).or_default()
    }
}

/// A message that is deleted in a transaction.
#[derive(Debug)]
pub(super) struct Deleted {
    channel: StoredName,
    id: i64,
}

impl Deleted {
    /// Reads a row that has the channel's name in the column `place`.
    pub(super) fn read(row: &Row<'_>, place: usize, id: i64) -> rusqlite::Result<Self> {
        Ok(Self { channel: StoredName::from(row.get_ref(place)?), id })
    }
}

/// A page of channels that is collected over several settles.
#[derive(Debug)]
pub(super) struct Details {
    channels: Vec<ChannelDetail>,
    cut: Cut,
    /// The channel that was looked at last.
    last: Option<StoredName>,
    /// Whether its messages are not all counted yet.
    is_counting: bool,
    is_cut: bool,
}

impl Details {
    pub(super) fn new(after: Option<&str>, channels_max: usize, bytes_max: usize) -> Self {
        let cut = Cut::new(channels_max, bytes_max, usize::MAX);
        Self {
            channels: Vec::new(),
            cut,
            last: after.map(StoredName::of_text),
            is_counting: false,
            is_cut: false,
        }
    }

    /// Reads the next slice and returns whether it was the last.
    pub(super) fn step(
        &mut self,
        connection: &Connection,
        newest: Ids,
        kept: &mut KeptCounts,
    ) -> rusqlite::Result<bool> {
        let mut rows_left = COUNT_ROWS;
        while rows_left > 0 {
            if !self.is_counting {
                if self.cut.is_full() {
                    self.is_cut = true;
                    return Ok(true);
                }
                rows_left = rows_left.saturating_sub(ROWS_PER_CHANNEL);
                if !self.find_next(connection)? {
                    return Ok(true);
                }
            }
            let Some(channel) = &self.last else { return Ok(true) };
            let counted = kept.of(channel);
            count(connection, channel, counted, newest, &mut rows_left)?;
            // If counting ended for lack of rows, there may be more of them.
            self.is_counting = rows_left == 0;
            if !self.is_counting {
                let name = Rc::from(channel.as_text());
                let detail =
                    ChannelDetail { name, newest: counted.through.unsigned_abs(), kept: counted.count };
                // Rows that another program has added are not known yet.
                if detail.kept > 0 && self.cut.takes(detail.weight()) {
                    self.channels.push(detail);
                }
            }
        }
        Ok(false)
    }

    /// Skips to the next channel. A value that is not text is not a channel name, and sorts after all text.
    fn find_next(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        let Some((name, _)) = next_name(connection, Names::Channels, self.last.as_ref())? else {
            return Ok(false);
        };
        let is_text = !name.is_blob;
        self.last = Some(name);
        Ok(is_text)
    }

    pub(super) fn into_answer(self, query_id: QueryId) -> Answer {
        Answer::ChannelDetails { query_id, channels: self.channels, is_cut: self.is_cut }
    }
}

/// Continues to count where it ended, at most `rows_left` entries.
fn count(
    connection: &Connection,
    channel: &StoredName,
    counted: &mut Counted,
    newest: Ids,
    rows_left: &mut usize,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(CHANNEL_COUNT)?;
    let mut rows = statement.query((channel, counted.through, row_id(newest.message)))?;
    while *rows_left > 0
        && let Some(row) = rows.next()?
    {
        counted.through = row.get(0)?;
        counted.count += 1;
        *rows_left -= 1;
    }
    Ok(())
}
