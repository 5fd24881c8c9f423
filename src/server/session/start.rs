//! Where a subscriber begins.

use std::borrow::Cow;

use crate::store::terms::Terms;
use crate::wire::http::decoder::Request;
use crate::wire::protocol::Sequence;

use super::replay::Kept;

/// Where a subscriber begins.
#[derive(Debug)]
pub(super) enum Start<'b> {
    /// It asked for nothing.
    Live,
    /// After an id that it has.
    After(u64),
    /// It named an id that does not say what it has, or something after it is no longer kept.
    Gap {
        /// What it named.
        requested: Cow<'b, str>,
        /// The last id that means the same to it and here.
        agreed: u64,
    },
}

impl<'b> Start<'b> {
    /// That of a subscriber by its request.
    pub(super) fn of(request: &Request<'b>, sequence: Sequence, kept: Kept, terms: &Terms) -> Self {
        // One that is not UTF-8 counts as an id that we never gave out, not as none.
        let last_seen = request
            .header_values("last-event-id")
            .next()
            .filter(|id| !id.is_empty())
            .map(String::from_utf8_lossy)
            .or_else(|| request.query_value("last_event_id").filter(|id| !id.is_empty()));
        let Some(last_seen) = last_seen else { return Self::Live };
        let id = sequence.parse(&last_seen);
        let epoch = request.query_value("epoch").filter(|epoch| !epoch.is_empty());
        Self::after(last_seen, (sequence, id), epoch.as_deref(), kept, terms)
    }

    /// That of a subscriber that has got everything up to `id`, which it calls `requested`.
    ///
    /// An id is believed if its term is known and has given it, and if all that came after it is kept; one that
    /// comes without a term, if it could be ours. A term need not have begun below the id: after
    /// a restart that has lost nothing, older ids are named with the new term, too.
    pub(super) fn after(
        requested: Cow<'b, str>,
        (sequence, id): (Sequence, Option<u64>),
        epoch: Option<&str>,
        kept: Kept,
        terms: &Terms,
    ) -> Self {
        let agreed = id.and_then(|id| match epoch {
            None => (id <= kept.newest).then_some(id),
            // Whatever its term is, number 0 is before the first.
            Some(epoch) => Some(id.min(kept.newest).min(terms.agreed(epoch, sequence).unwrap_or(0))),
        });
        match agreed {
            Some(agreed) if id == Some(agreed) && agreed + 1 >= kept.oldest => Self::After(agreed),
            _ => Self::Gap { requested, agreed: agreed.unwrap_or(0) },
        }
    }

    /// The id after which it begins. One that is not told of the gap gets the same.
    pub(super) fn cursor(&self, kept: Kept) -> u64 {
        match self {
            Self::Live => kept.newest,
            Self::After(id) => *id,
            Self::Gap { agreed, .. } => (*agreed).max(kept.oldest.saturating_sub(1)),
        }
    }
}
