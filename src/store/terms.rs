//! Terms: the meaning of an id depends on when it was given.
//!
//! A database can go back to an earlier moment if a copy of it is restored, or if a power cut takes its last
//! commits. Then its ids are given again, to other records. So each start of a writer is a *term* with a name
//! of its own. Clients are told the name as `epoch`, and send it back with the id that they resume from. If
//! the database knows a term, it was there when the term began. So the ids below the first one of the next
//! term mean the same to the client and to the database. Ids above that were given again, or never.

use std::rc::Rc;

use crate::base::map::Map;
use crate::wire::protocol::Sequence;

/// Separates the parts of the epoch of a term that is not stored.
const SEPARATOR: char = '~';

/// One start of a writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Made at random.
    pub name: Rc<str>,
    /// The first message id that can be given in it.
    pub first_message: u64,
    /// The first event id that can be given in it.
    pub first_event: u64,
}

/// The terms that a database knows; the newest is the current one.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// The index of each in the order of the starts.
    places: Map<Rc<str>, usize>,
    /// The first message id and the first event id of each, in that order; none is above that of a later
    /// term.
    firsts: Vec<(u64, u64)>,
    epoch: String,
}

impl Terms {
    /// A term begins, and is stored.
    pub fn begin(&mut self, term: &Term) {
        let first = (term.first_message, term.first_event);
        // If ids went back between two starts, those above were given again.
        for earlier in self.firsts.iter_mut().rev() {
            let lowered = (earlier.0.min(first.0), earlier.1.min(first.1));
            if std::mem::replace(earlier, lowered) == lowered {
                break;
            }
        }
        self.places.insert(Rc::clone(&term.name), self.firsts.len());
        self.firsts.push(first);
        self.epoch = term.name.to_string();
    }

    /// A term begins that cannot be stored yet; it will be stored with its first id. If the process ends
    /// before that, no id was given in it, and its clients have what those of the term before have. So its
    /// epoch also names that term, and how far the two agree.
    pub fn begin_unstored(&mut self, term: &Term) {
        let before = std::mem::take(&mut self.epoch);
        self.begin(term);
        let (message, event) = (term.first_message - 1, term.first_event - 1);
        self.epoch = format!("{}{SEPARATOR}{message}{SEPARATOR}{event}{SEPARATOR}{before}", term.name);
    }

    /// The text that clients are told and send back with their ids. Its parts mean nothing to them.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The last id of `sequence` that means the same here as to clients that were told `epoch`; above all ids
    /// if that is the current term. `None` if its term is not known.
    pub fn agreed(&self, epoch: &str, sequence: Sequence) -> Option<u64> {
        let Some((name, rest)) = epoch.split_once(SEPARATOR) else { return self.end(epoch, sequence) };
        self.end(name, sequence).or_else(|| {
            let mut parts = rest.splitn(3, SEPARATOR);
            let (message, event) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let end = self.end(parts.next()?, sequence)?;
            Some(end.min(of(sequence, (message, event))))
        })
    }

    /// The last id of the term of that name.
    fn end(&self, name: &str, sequence: Sequence) -> Option<u64> {
        let place = *self.places.get(name)?;
        Some(self.firsts.get(place + 1).map_or(u64::MAX, |next| of(sequence, *next).saturating_sub(1)))
    }
}

const fn of(sequence: Sequence, (message, event): (u64, u64)) -> u64 {
    match sequence {
        Sequence::Messages => message,
        Sequence::Events => event,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(name: &str, first_message: u64, first_event: u64) -> Term {
        Term { name: Rc::from(name), first_message, first_event }
    }

    fn terms_of(begun: &[Term]) -> Terms {
        let mut terms = Terms::default();
        begun.iter().for_each(|term| terms.begin(term));
        terms
    }

    fn agreed(terms: &Terms, epoch: &str) -> [Option<u64>; 2] {
        [Sequence::Messages, Sequence::Events].map(|sequence| terms.agreed(epoch, sequence))
    }

    #[test]
    fn ids_agree_below_the_first_one_of_the_next_term() {
        let mut terms = terms_of(&[term("a", 1, 1)]);
        assert_eq!(agreed(&terms, "a"), [Some(u64::MAX); 2]);
        terms.begin(&term("b", 11, 4));
        terms.begin(&term("c", 11, 6));
        assert_eq!(terms.epoch(), "c");
        assert_eq!(agreed(&terms, "a"), [Some(10), Some(3)]);
        assert_eq!(agreed(&terms, "b"), [Some(10), Some(5)]);
        assert_eq!(agreed(&terms, "c"), [Some(u64::MAX); 2]);
        for unknown in ["", "d", "aa", "~", "a~", "d~1~1", "d~x~1~a", "d~1~-1~a", "d~1~1~e"] {
            let known = unknown.split('~').next() == Some("a");
            assert_eq!(agreed(&terms, unknown)[0].is_some(), known, "{unknown}");
        }
    }

    #[test]
    fn ids_that_went_back_between_two_starts_end_all_terms_before() {
        let mut terms = terms_of(&[term("a", 1, 1)]);
        terms.begin(&term("b", 11, 11));
        terms.begin(&term("c", 21, 21));
        terms.begin(&term("d", 6, 21));
        assert_eq!(["a", "b", "c"].map(|name| agreed(&terms, name)[0]), [Some(5); 3]);
        assert_eq!(["a", "b", "c"].map(|name| agreed(&terms, name)[1]), [Some(10), Some(20), Some(20)]);
    }

    #[test]
    fn a_term_that_is_not_stored_agrees_with_the_one_before_up_to_its_begin() {
        let mut terms = terms_of(&[term("a", 1, 1)]);
        let stored = terms.clone();
        terms.begin_unstored(&term("b", 11, 4));
        let epoch = terms.epoch().to_owned();
        for current in [epoch.as_str(), "b"] {
            assert_eq!(agreed(&terms, current), [Some(u64::MAX); 2]);
        }
        assert_eq!(agreed(&terms, "a"), [Some(10), Some(3)]);
        // It was never stored.
        let mut later = stored.clone();
        assert_eq!(agreed(&later, &epoch), [Some(10), Some(3)]);
        later.begin(&term("c", 6, 20));
        assert_eq!(agreed(&later, &epoch), [Some(5), Some(3)]);
        // It was.
        let mut later = stored;
        later.begin(&term("b", 11, 4));
        later.begin(&term("c", 16, 20));
        assert_eq!(agreed(&later, &epoch), [Some(15), Some(19)]);
    }
}
