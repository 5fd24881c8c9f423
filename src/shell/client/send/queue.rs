//! What is not acknowledged yet, in its order.

use std::collections::VecDeque;
use std::time::Instant;

use clap::Args;
use serde::Serialize;

use super::super::tell;

/// Bytes in a queue, beyond which it takes no more; one message may be longer.
const BYTES_MAX: usize = 1 << 20;

/// What all messages of a run have in common.
#[derive(Debug, Clone, Args)]
pub(super) struct Form {
    /// Who says it [default: the name in USER, or unknown]
    #[arg(long, value_name = "NAME")]
    author: Option<String>,

    /// The lane, for your own use
    #[arg(long, value_name = "NAME")]
    lane: Option<String>,

    /// The provider, for your own use
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,

    /// The tokens of each message, which the server adds up
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
    /// Of the line; rising.
    number: u64,
    text: String,
    is_under_way: bool,
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
    /// When the last answer came, or the first message that waits for one was sent.
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

    /// The one message that there is.
    pub(super) fn push_only(&mut self, content: &str) {
        self.has_lines = false;
        let key = self.key.clone();
        self.push_with(1, &key, content);
    }

    /// A line.
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
        self.entries.push_back(Entry { number, text, is_under_way: false });
    }

    /// The next one to be sent, which counts as sent. Those that the server would not take are refused.
    pub(super) fn next_to_send(&mut self, bytes_max: usize) -> Option<&str> {
        if self.under_way >= self.window {
            return None;
        }
        let index = loop {
            let index = self.entries.iter().position(|entry| !entry.is_under_way)?;
            let Entry { number, text, .. } = &self.entries[index];
            if text.len() <= bytes_max {
                break index;
            }
            let number = *number;
            self.refused_for_good(
                number,
                &format!("longer than the {bytes_max} bytes that the server takes"),
            );
        };
        if self.under_way == 0 {
            self.answered = Instant::now();
        }
        self.under_way += 1;
        let entry = self.entries.get_mut(index)?;
        entry.is_under_way = true;
        Some(&entry.text)
    }

    /// The server has it; returns whether that is news.
    pub(super) fn stored(&mut self, number: u64) -> bool {
        self.answered = Instant::now();
        self.remove(number)
    }

    /// It is to be sent again.
    pub(super) fn refused_for_now(&mut self, number: u64) {
        self.answered = Instant::now();
        if let Ok(index) = self.entries.binary_search_by_key(&number, |entry| entry.number)
            && std::mem::take(&mut self.entries[index].is_under_way)
        {
            self.under_way -= 1;
        }
    }

    /// It will not be stored.
    pub(super) fn refused_for_good(&mut self, number: u64, why: &str) {
        self.answered = Instant::now();
        if self.remove(number) {
            let what = if self.has_lines { format!("line {number}") } else { "the message".to_owned() };
            self.refuse(&format!("{what} is not stored: {why}"));
        }
    }

    /// Something is not sent at all.
    pub(super) fn refuse(&mut self, why: &str) {
        self.refused += 1;
        tell(why);
    }

    /// What was under way when the connection broke.
    pub(super) fn send_all_again(&mut self) {
        for entry in &mut self.entries {
            entry.is_under_way = false;
        }
        self.under_way = 0;
    }

    /// Fewer at once from now on.
    pub(super) fn halve_window(&mut self) {
        self.window = (self.window / 2).max(1);
    }

    fn remove(&mut self, number: u64) -> bool {
        let Ok(index) = self.entries.binary_search_by_key(&number, |entry| entry.number) else {
            return false;
        };
        let Some(entry) = self.entries.remove(index) else { return false };
        self.bytes -= entry.text.len();
        self.under_way -= usize::from(entry.is_under_way);
        true
    }

    pub(super) fn has_room(&self) -> bool {
        self.entries.len() < self.window && self.bytes < BYTES_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of the first that is not known to be stored.
    pub(super) fn first(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.number)
    }

    /// How many will not be stored.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }

    /// Since when an answer is owed; `None` where none is.
    pub(super) fn answered(&self) -> Option<Instant> {
        (self.under_way > 0).then_some(self.answered)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
        let first = queue.next_to_send(1000).unwrap().to_owned();
        assert_eq!(
            first,
            r#"{"type":"message","id":1,"idempotency_key":"k-1","author":"a","content":"x","lane":null,"provider":null,"token_count":null}"#
        );
        assert!(queue.next_to_send(1000).unwrap().contains("k-2"));
        assert!(queue.answered().is_some());
        assert!(queue.stored(2) && !queue.stored(2) && !queue.stored(77));
        queue.send_all_again();
        assert_eq!((queue.first(), queue.answered()), (Some(1), None));
        assert_eq!(queue.next_to_send(1000), Some(&*first));
        assert!(queue.next_to_send(1000).unwrap().contains("k-3"));
        assert_eq!(queue.next_to_send(1000), None);
        queue.refused_for_now(1);
        assert_eq!(queue.next_to_send(1000), Some(&*first));
        queue.refused_for_good(1, "why");
        assert!(queue.stored(3) && queue.is_empty() && queue.answered().is_none());
        assert_eq!((queue.refused(), queue.bytes, queue.under_way), (1, 0, 0));
    }

    #[test]
    fn what_is_too_long_is_refused_and_the_next_goes_out() {
        let mut queue = queue();
        queue.push(1, &"x".repeat(2000));
        queue.push(2, "y");
        assert!(queue.next_to_send(1000).unwrap().contains("k-2"));
        assert_eq!((queue.refused(), queue.first()), (1, Some(2)));
    }
}
