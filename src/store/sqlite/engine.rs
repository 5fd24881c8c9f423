//! One writer, one transaction for all that a turn published.

use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::base::time::Now;
use crate::store::engine::{
    Answer, Commits, Cut, Engine, EngineError, Health, Query, QueryId, Record, SETTLE_BYTES_MAX,
};
use crate::store::terms::Terms;
use crate::wire::protocol::ID_MAX;

use super::checkpoint::WriteAheadLog;
use super::clocks::Moment;
use super::counts::Counts;
use super::details::{Details, KeptCounts};
use super::file::{DatabaseFile, OpenError};
use super::health::{BEGIN, COMMIT, Setback, Watch};
use super::housekeeping::{Done, Housekeeping};
use super::keys::Keys;
use super::lists::Search;
use super::options::StoreOptions;
use super::queries::{Ids, Known};
use super::questions::{Progress, Question};
use super::retention::Retention;
use super::shrink::Shrink;
use super::terms::NewTerm;
use super::verify::Verification;
use super::{counts, health, keys, lists, queries, questions, retention, schema, terms, verify};

/// The number of appends that an empty queue keeps room for.
const APPENDS_CAPACITY_IDLE: usize = 1024;

/// Stores records in an SQLite file. All work is done in [`Engine::settle`].
#[derive(Debug)]
pub struct SqliteEngine {
    connection: Connection,
    terms: Terms,
    /// The current term, if its row is not in the file yet.
    unstored_term: Option<NewTerm>,
    known: Known,
    appends: Vec<Append>,
    questions: VecDeque<(Question, QueryId)>,
    /// Queries for details of channels, whose answers take several settles. Only the first one is being
    /// worked on, so at most one unfinished answer is in memory.
    listings: VecDeque<(Details, QueryId)>,
    watch: Watch,
    housekeeping: Housekeeping,
    counts: Counts,
    commits: Commits,
    kept: KeptCounts,
    log: WriteAheadLog,
    verification: Verification,
    /// Keeps other polecats away while this one runs.
    _file: Option<DatabaseFile>,
}

#[derive(Debug)]
struct Append {
    record: Record,
    key: Option<Rc<str>>,
    query_id: Option<QueryId>,
}

impl SqliteEngine {
    /// Opens the database at `path`, and creates it if it does not exist. A file of the channel service is
    /// taken over as it is: missing parts are added, and its messages are counted once, which takes some
    /// seconds per million.
    ///
    /// # Errors
    /// If the file cannot be opened, is not a database, is damaged, or has tables of other shapes. A file
    /// that is refused for its contents is not written to.
    pub fn open(path: &Path, options: &StoreOptions) -> Result<Self, OpenError> {
        // Locked before anything is read: another polecat may be changing it.
        let file = DatabaseFile::lock(path)?;
        let is_new = file.is_new();
        let connection = schema::open(&file, options.durability)?;
        if is_new {
            file.sync()?;
        }
        let mut engine = Self::with(connection, options)
            .map_err(|error| OpenError::refusal(path, &schema::explanation(path, &error)))?;
        engine._file = Some(file);
        Ok(engine)
    }

    fn with(connection: Connection, options: &StoreOptions) -> rusqlite::Result<Self> {
        connection.set_prepared_statement_cache_capacity(2 * statements().count());
        let mut counts = Counts::default();
        // Which triggers run must be decided before statements are compiled.
        counts.begin(&connection)?;
        for sql in statements() {
            connection.prepare_cached(sql)?;
        }
        let (terms, unstored) = terms::begin(&connection, options.durability)?;
        let (unstored_term, failed) = unstored.unzip();
        let known = Known::read(&connection)?;
        let keys = Keys::read(&connection, known.newest, options.idempotency_window_ms)?;
        let shrink = Shrink::new(&connection)?;
        let has_too_many_pages = shrink.over(&connection)? > 0;
        let log = WriteAheadLog::open(&connection)?;
        let engine = Self {
            terms,
            unstored_term,
            verification: Verification::new(&connection, known)?,
            known,
            appends: Vec::new(),
            questions: VecDeque::new(),
            listings: VecDeque::new(),
            watch: Watch::new(failed.map(Setback::from)),
            housekeeping: Housekeeping::new(keys, Retention::new(options), shrink, has_too_many_pages),
            counts,
            commits: Commits::default(),
            kept: KeptCounts::default(),
            log,
            connection,
            _file: None,
        };
        engine.be_patient();
        Ok(engine)
    }

    /// Commits everything in the queue, or nothing.
    fn commit(&mut self, now: Now, answers: &mut Vec<Answer>) {
        let begun = Instant::now();
        let moment = self.housekeeping.moment(now);
        let keys = &self.housekeeping.keys;
        let term = self.unstored_term.as_ref();
        let newest = self.known.newest;
        match store(&self.connection, term, &self.appends, keys, &mut self.counts, newest, moment) {
            Ok(Stored { outcomes, newest, has_keys }) => {
                self.unstored_term = None;
                self.known.newest = newest;
                if has_keys {
                    self.housekeeping.keys.noted(moment);
                }
                let appends = self.appends.drain(..).zip(outcomes);
                let before = answers.len();
                let mut weight = 0;
                answers.extend(appends.map(|(append, outcome)| {
                    weight += append.record.weight();
                    outcome.into_answer(append)
                }));
                let is_committed = |answer: &&Answer| matches!(answer, Answer::Committed { .. });
                let count = answers[before..].iter().filter(is_committed).count();
                if count > 0 {
                    let duration_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                    self.commits.duration_us.observe(duration_us);
                    self.commits.records.observe(count as u64);
                    self.watch.succeeded();
                    self.housekeeping.appended(count, newest, now);
                    self.log.wrote(weight, now);
                }
            }
            Err(setback) => {
                health::end_transaction(&self.connection);
                let error = EngineError(setback.told_apart(&self.connection).to_string());
                let bytes = self.appends.iter().map(|append| append.record.weight()).sum();
                self.watch.failed(error.0.clone(), bytes, now);
                answers.extend(self.appends.drain(..).map(|append| Answer::Refused {
                    query_id: append.query_id,
                    weight: append.record.weight(),
                    error: error.clone(),
                }));
            }
        }
        self.appends.shrink_to(APPENDS_CAPACITY_IDLE);
        self.be_patient();
    }

    /// Finds out whether a store that could not be written can be written again.
    fn probe(&mut self, now: Now) {
        if self.watch.due_in_ms(now) == Some(0) {
            self.watch.probe(&self.connection, self.known.newest, now);
            self.log.wrote(0, now);
            self.be_patient();
        }
    }

    /// Deletes a few expired records, if it is time for that.
    fn keep_house(&mut self, now: Now) {
        if !self.watch.is_sound() || self.housekeeping.due_in_ms(now) != Some(0) {
            return;
        }
        // Other programs may hold the lock as long as they like.
        self.wait_for_locks(Duration::ZERO);
        let newest = self.known.newest;
        self.housekeeping.shrink.is_held = self.log.is_held();
        let done = self.housekeeping.step(&self.connection, &mut self.counts, &mut self.kept, newest, now);
        if done != Done::Nothing {
            self.log.deleted(now);
        }
        if done == Done::Deleted {
            match Ids::oldest(&self.connection, newest) {
                Ok(oldest) => self.known.oldest = oldest,
                Err(error) => log::error!("the oldest record could not be looked up: {error}"),
            }
        }
        self.be_patient();
    }

    fn be_patient(&self) {
        self.wait_for_locks(self.watch.patience());
    }

    fn wait_for_locks(&self, patience: Duration) {
        if let Err(error) = self.connection.busy_timeout(patience) {
            log::error!("the time to wait for other programs' locks could not be set: {error}");
        }
    }

    /// Answers queries in at most `steps_max` steps. Lists get only the last step, however many there are:
    /// subscribers wait for pages.
    fn answer(&mut self, steps_max: usize, answers: &mut Vec<Answer>) {
        let reserved = usize::from(steps_max > 1 && !self.listings.is_empty());
        let (mut steps_left, mut bytes) = (steps_max, 0);
        while steps_left > reserved
            && bytes < SETTLE_BYTES_MAX
            && let Some((question, query_id)) = self.questions.pop_front()
        {
            steps_left -= 1;
            match question.step(&self.connection, self.known, query_id) {
                Ok(Progress::Done(answer)) => {
                    bytes += answer.weight();
                    answers.push(answer);
                }
                Ok(Progress::Unfinished(rest)) => self.questions.push_back((rest, query_id)),
                Err(error) => answers.push(failed(query_id, &error)),
            }
        }
        if steps_left > 0
            && let Some((mut listing, query_id)) = self.listings.pop_front()
        {
            match listing.step(&self.connection, self.known.newest, &mut self.kept) {
                Ok(true) => answers.push(listing.into_answer(query_id)),
                Ok(false) => self.listings.push_front((listing, query_id)),
                Err(error) => answers.push(failed(query_id, &error)),
            }
        }
    }
}

impl Engine for SqliteEngine {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn terms(&self) -> &Terms {
        &self.terms
    }

    fn idempotency_window_ms(&self) -> u64 {
        self.housekeeping.keys.window_ms()
    }

    fn newest_message(&self) -> u64 {
        self.known.newest.message
    }

    fn newest_event(&self) -> u64 {
        self.known.newest.event
    }

    fn oldest_message(&self) -> u64 {
        self.known.oldest.message
    }

    fn oldest_event(&self) -> u64 {
        self.known.oldest.event
    }

    fn append(&mut self, record: Record, key: Option<Rc<str>>, query_id: Option<QueryId>) {
        self.appends.push(Append { record, key, query_id });
    }

    fn ask(&mut self, query: Query, query_id: QueryId) {
        let question = match query {
            Query::Page { stream, after, records_max, bytes_max } => {
                let cut = Cut::new(records_max, bytes_max, usize::MAX);
                Question::List { of: stream.into(), after, through: None, cut }
            }
            Query::Count { stream, after, through, count_max } => {
                Question::Count { stream, after, through, count_max }
            }
            Query::Span { of, after, before, records_max, bytes_max } => {
                Question::Span(Search::new(of, after, before, Cut::new(records_max, bytes_max, usize::MAX)))
            }
            Query::List { of, after, through, records_max, bytes_max, each_bytes_max } => {
                let cut = Cut::new(records_max, bytes_max, each_bytes_max);
                Question::List { of, after, through: Some(through), cut }
            }
            Query::Names { of, after, names_max, bytes_max, each_bytes_max } => {
                let cut = Cut::new(names_max, bytes_max, each_bytes_max);
                Question::Names { of, after, cut }
            }
            Query::Totals => Question::Totals,
            Query::ChannelDetails { after, channels_max, bytes_max } => {
                let details = Details::new(after.as_deref(), channels_max, bytes_max);
                return self.listings.push_back((details, query_id));
            }
        };
        self.questions.push_back((question, query_id));
    }

    fn settle(&mut self, now: Now, reads_max: usize, answers: &mut Vec<Answer>) {
        self.housekeeping.read_clocks(self.known.newest, now);
        if !self.appends.is_empty() {
            self.commit(now, answers);
        }
        self.probe(now);
        self.keep_house(now);
        self.answer(reads_max, answers);
    }

    fn maintain(&mut self, now: Now) {
        if self.log.due_in_ms(now) == Some(0) {
            self.wait_for_locks(Duration::ZERO);
            self.log.maintain(&self.connection, now, &mut self.commits);
            self.be_patient();
        } else if self.verification.due_in_ms(now) == Some(0) {
            let is_quiet = self.log.quiet_in_ms(now) == 0;
            let rows_max = if is_quiet { verify::QUIET_STEP_ROWS } else { verify::BUSY_STEP_ROWS };
            self.verification.step(&self.connection, rows_max, now);
            self.commits.faults = self.verification.faults;
        }
    }

    fn due_in_ms(&self, now: Now) -> Option<u64> {
        if !self.appends.is_empty() || !self.questions.is_empty() || !self.listings.is_empty() {
            return Some(0);
        }
        // Nothing is deleted while nothing can be stored.
        let house = self.watch.due_in_ms(now).or_else(|| self.housekeeping.due_in_ms(now));
        [house, self.log.due_in_ms(now), self.verification.due_in_ms(now)].into_iter().flatten().min()
    }

    fn health(&self) -> &Health {
        self.watch.health()
    }

    fn commits(&self) -> Option<&Commits> {
        Some(&self.commits)
    }
}

/// All statements that run while the server does. They are compiled when the file is opened, so that a file
/// which they do not fit is refused.
fn statements() -> impl Iterator<Item = &'static str> {
    counts::ALL
        .into_iter()
        .chain(queries::ALL)
        .chain(questions::ALL)
        .chain(lists::ALL)
        .chain(keys::ALL)
        .chain(retention::ALL)
        .chain(health::ALL)
        .chain(verify::ALL)
}

/// The outcome of one transaction.
struct Stored {
    /// One for each append.
    outcomes: Vec<Outcome>,
    newest: Ids,
    has_keys: bool,
}

enum Outcome {
    Committed(u64),
    Repeated(u64, Record),
}

impl Outcome {
    fn into_answer(self, append: Append) -> Answer {
        let Append { record, query_id, .. } = append;
        match self {
            Self::Committed(id) => {
                let weight = record.weight();
                Answer::Committed { id, record, query_id, weight }
            }
            Self::Repeated(id, first) => {
                Answer::Repeated { id, record: first, query_id, weight: record.weight() }
            }
        }
    }
}

/// Inserts all of `appends` in one transaction, except those whose key was used before. If `term`, to which
/// they belong, is not stored yet, it is stored first. `newest` are the ids known so far. If this fails, the
/// caller must end the transaction.
fn store(
    connection: &Connection,
    term: Option<&NewTerm>,
    appends: &[Append],
    keys: &Keys,
    counts: &mut Counts,
    mut newest: Ids,
    moment: Moment,
) -> Result<Stored, Setback> {
    connection.prepare_cached(BEGIN)?.execute(())?;
    let mut tally = counts.begin(connection)?;
    if let Some(term) = term {
        term.store(connection)?;
    }
    let (mut outcomes, mut has_keys) = (Vec::with_capacity(appends.len()), false);
    for Append { record, key, .. } in appends {
        if let Some(key) = key
            && let Some((id, first)) = keys.find(connection, record, key, moment)?
        {
            outcomes.push(Outcome::Repeated(id, first));
            continue;
        }
        let id = queries::insert(connection, record)?;
        let newest = match record {
            Record::Message(message) => {
                tally.stored(message);
                &mut newest.message
            }
            Record::Event(_) => &mut newest.event,
        };
        if id <= *newest {
            return Err(Setback::IdsWentBack);
        }
        if id > ID_MAX {
            return Err(Setback::IdsUsedUp);
        }
        *newest = id;
        if let Some(key) = key {
            keys.note(connection, record, key, id, moment)?;
            has_keys = true;
        }
        outcomes.push(Outcome::Committed(id));
    }
    tally.write(connection)?;
    connection.prepare_cached(COMMIT)?.execute(())?;
    Ok(Stored { outcomes, newest, has_keys })
}

fn failed(query_id: QueryId, error: &rusqlite::Error) -> Answer {
    Answer::Failed { query_id, error: EngineError(error.to_string()) }
}

#[cfg(test)]
mod tests;
