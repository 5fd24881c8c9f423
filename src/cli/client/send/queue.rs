//! The messages that are not acknowledged yet, in order.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::super::sent::{Moment, Sent};
use super::super::terminal::tell;

/// With this many bytes, a queue accepts no more; one message may be longer.
const BYTES_MAX: usize = 1 << 20;

/// What all messages of a run have in common.
#[derive(Debug, Clone, Args)]
pub(super) struct Form {
    /// The author [default: the name in USER, or unknown]
    #[arg(long, value_name = "NAME")]
    author: Option<String>,

    /// The lane, for your own use
    #[arg(long, value_name = "NAME")]
    lane: Option<String>,

    /// The provider, for your own use
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,

    /// The token count of each message; the server adds them up
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    token_count: Option<i64>,
}

#[derive(Serialize)]
struct Outgoing<'a> {
    r#type: &'a str,
    id: u64,
    idempotency_key: &'a str,
    author: &'a str,
    content: &'a str,
    lane: Option<&'a str>,
    provider: Option<&'a str>,
    token_count: Option<i64>,
}

#[derive(Debug)]
struct Entry {
    /// The number of the line; rising.
    number: u64,
    text: String,
    is_under_way: bool,
    /// Set if it may be stored.
    sent: Option<Sent>,
    /// Whether a response was lost.
    is_doubtful: bool,
}

/// Messages that are not known to be stored.
#[derive(Debug)]
pub(super) struct Queue {
    form: Form,
    key: String,
    window: usize,
    entries: VecDeque<Entry>,
    bytes: usize,
    under_way: usize,
    /// When the last answer came, or when the first message without an answer was sent.
    answered: Instant,
    refused: u64,
    has_lines: bool,
}

impl Queue {
    pub(super) fn new(mut form: Form, key: String, window: usize) -> Self {
        let login = || std::env::var("USER").ok().filter(|name| !name.is_empty());
        form.author = form.author.or_else(login).or_else(|| Some("unknown".to_owned()));
        Self {
            form,
            key,
            window,
            entries: VecDeque::new(),
            bytes: 0,
            under_way: 0,
            answered: Instant::now(),
            refused: 0,
            has_lines: true,
        }
    }

    pub(super) fn push_only(&mut self, content: &str) {
        self.has_lines = false;
        let key = self.key.clone();
        self.push_with(1, &key, content);
    }

    pub(super) fn push(&mut self, number: u64, content: &str) {
        let key = format!("{}-{number}", self.key);
        self.push_with(number, &key, content);
    }

    fn push_with(&mut self, number: u64, key: &str, content: &str) {
        let outgoing = Outgoing {
            r#type: "message",
            id: number,
            idempotency_key: key,
            author: self.form.author.as_deref().unwrap_or_default(),
            content,
            lane: self.form.lane.as_deref(),
            provider: self.form.provider.as_deref(),
            token_count: self.form.token_count,
        };
        let Ok(text) = serde_json::to_string(&outgoing) else { return };
        self.bytes += text.len();
        let entry = Entry { number, text, is_under_way: false, sent: None, is_doubtful: false };
        self.entries.push_back(entry);
    }

    /// The next message to send; it counts as sent. A message that the server would not accept is refused. So
    /// is one that the server might store twice, since it remembers keys only for `memory`.
    pub(super) fn next_to_send(&mut self, bytes_max: usize, memory: Duration, now: Moment) -> Option<&str> {
        if self.under_way >= self.window {
            return None;
        }
        let index = loop {
            let index = self.entries.iter().position(|entry| !entry.is_under_way)?;
            let entry = &mut self.entries[index];
            let is_too_long = entry.text.len() > bytes_max;
            let why = match &mut entry.sent {
                _ if is_too_long => format!("longer than the {bytes_max} bytes that the server accepts"),
                Some(sent) => match sent.check(memory, now) {
                    Ok(()) => break index,
                    Err(why) => why,
                },
                None => {
                    entry.sent = Some(Sent::new(now, memory));
                    break index;
                }
            };
            let number = entry.number;
            self.refused_for_good(number, &why);
        };
        if self.under_way == 0 {
            self.answered = Instant::now();
        }
        self.under_way += 1;
        let entry = self.entries.get_mut(index)?;
        entry.is_under_way = true;
        Some(&entry.text)
    }

    /// The server has stored it; returns whether that is new.
    pub(super) fn stored(&mut self, number: u64) -> bool {
        self.answered = Instant::now();
        self.remove(number).is_some()
    }

    /// It is not stored, and must be sent again.
    pub(super) fn refused_for_now(&mut self, number: u64) {
        self.answered = Instant::now();
        if let Ok(index) = self.entries.binary_search_by_key(&number, |entry| entry.number) {
            let entry = &mut self.entries[index];
            if !entry.is_doubtful {
                entry.sent = None;
            }
            self.under_way -= usize::from(std::mem::take(&mut entry.is_under_way));
        }
    }

    /// It is not sent again. It is not stored, unless a response was lost.
    pub(super) fn refused_for_good(&mut self, number: u64, why: &str) {
        self.answered = Instant::now();
        if let Some(entry) = self.remove(number) {
            let what = if self.has_lines { format!("line {number}") } else { "the message".to_owned() };
            let how = if entry.is_doubtful { "may or may not be stored" } else { "is not stored" };
            self.refuse(&format!("{what} {how}: {why}"));
        }
    }

    /// A line is not sent at all.
    pub(super) fn refuse(&mut self, why: &str) {
        self.refused += 1;
        tell(why);
    }

    /// Messages in flight when the connection broke are sent again.
    pub(super) fn send_all_again(&mut self) {
        for entry in &mut self.entries {
            entry.is_doubtful |= std::mem::take(&mut entry.is_under_way);
        }
        self.under_way = 0;
    }

    pub(super) fn halve_window(&mut self) {
        self.window = (self.window / 2).max(1);
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let index = self.entries.binary_search_by_key(&number, |entry| entry.number).ok()?;
        let entry = self.entries.remove(index)?;
        self.bytes -= entry.text.len();
        self.under_way -= usize::from(entry.is_under_way);
        Some(entry)
    }

    pub(super) fn has_room(&self) -> bool {
        self.entries.len() < self.window && self.bytes < BYTES_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of the first message that is not known to be stored.
    pub(super) fn first(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.number)
    }

    /// Whether the first one may be stored nevertheless.
    pub(super) fn is_doubtful(&self) -> bool {
        self.entries.front().is_some_and(|entry| entry.is_doubtful)
    }

    /// How many messages will not be stored, or are not known to be.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }

    /// Since when an answer is outstanding; `None` if none is.
    pub(super) fn answered(&self) -> Option<Instant> {
        (self.under_way > 0).then_some(self.answered)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// For how long the server remembers a key.
    const MEMORY: Duration = Duration::from_secs(10);

    fn queue() -> Queue {
        let form = Form { author: Some("a".to_owned()), lane: None, provider: None, token_count: None };
        Queue::new(form, "k".to_owned(), 3)
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_in_order_with_its_key() {
        let mut queue = queue();
        for number in 1..=3 {
            assert!(queue.has_room());
            queue.push(number, "x");
        }
        assert!(!queue.has_room());
        let next =
            |queue: &mut Queue, ms| queue.next_to_send(1000, MEMORY, Moment::at_ms(ms)).map(str::to_owned);
        let first = next(&mut queue, 0).unwrap();
        assert_eq!(
            first,
            r#"{"type":"message","id":1,"idempotency_key":"k-1","author":"a","content":"x","lane":null,"provider":null,"token_count":null}"#
        );
        assert!(next(&mut queue, 0).unwrap().contains("k-2"));
        assert!(queue.answered().is_some());
        assert!(queue.stored(2) && !queue.stored(2) && !queue.stored(77));
        queue.send_all_again();
        assert_eq!((queue.first(), queue.answered()), (Some(1), None));
        assert_eq!(next(&mut queue, 7_999), Some(first.clone()));
        assert!(next(&mut queue, 7_999).unwrap().contains("k-3"));
        assert_eq!(next(&mut queue, 7_999), None);
        queue.refused_for_now(1);
        assert_eq!(next(&mut queue, 7_999), Some(first));
        queue.refused_for_good(1, "why");
        assert!(queue.stored(3) && queue.is_empty() && queue.answered().is_none());
        assert_eq!((queue.refused(), queue.bytes, queue.under_way), (1, 0, 0));
    }

    #[test]
    fn what_is_too_long_is_refused_and_the_next_goes_out() {
        let mut queue = queue();
        queue.push(1, &"x".repeat(2000));
        queue.push(2, "y");
        assert!(queue.next_to_send(1000, MEMORY, Moment::at_ms(0)).unwrap().contains("k-2"));
        assert_eq!((queue.refused(), queue.first()), (1, Some(2)));
    }
    #[test]
    fn what_may_be_stored_is_not_sent_again_once_its_key_may_be_forgotten() {
        let mut queue = queue();
        for number in 1..=3 {
            queue.push(number, "x");
        }
        let next = |queue: &mut Queue, ms| {
            queue.next_to_send(1000, MEMORY, Moment::at_ms(ms)).map(|text| text.contains("\"k-1\""))
        };
        assert_eq!((next(&mut queue, 0), next(&mut queue, 0)), (Some(true), Some(false)));
        // The store has refused the second one, and no response was lost: its age begins anew.
        queue.refused_for_now(2);
        queue.send_all_again();
        assert_eq!(next(&mut queue, 8_000), Some(false), "the second, not the first");
        assert_eq!((queue.refused(), queue.first()), (1, Some(2)));
        // Refused after a response was lost: it may be stored nevertheless.
        queue.send_all_again();
        assert_eq!(next(&mut queue, 15_999), Some(false));
        queue.refused_for_now(2);
        assert_eq!(next(&mut queue, 16_000), Some(false), "the third");
        assert_eq!((queue.refused(), queue.first()), (2, Some(3)));
        // If a server does not say how long it remembers keys, only unsent messages are sent to it.
        queue.send_all_again();
        queue.push(4, "x");
        let text = queue.next_to_send(1000, Duration::ZERO, Moment::at_ms(16_000)).unwrap();
        assert!(text.contains("\"k-4\""));
        assert_eq!((queue.refused(), queue.first(), queue.bytes), (3, Some(4), queue.entries[0].text.len()));
    }
}
