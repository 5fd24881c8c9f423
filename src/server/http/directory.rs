//! `GET /api/channels?detail=1`: what the engine keeps of channels, put together with
//! their subscribers. The engine reads its part in steps; ours is in the order of the names already.

use crate::base::id::Id;
use crate::server::owners::Owners;
use crate::server::socket::Socket;
use crate::server::store::Pending;
use crate::store::engine::{ChannelDetail, Query};
use crate::wire::body::ChannelRange;
use crate::wire::http::decoder::Status;
use crate::wire::protocol::{Sequence, write_json};

use super::inspections::Inspections;
use super::responses::{answer, page_bytes_max};
use crate::server::response_context::ResponseContext;

#[derive(serde::Serialize)]
struct ListedChannel<'a> {
    channel_id: &'a str,
    subscribers: usize,
    newest: String,
    kept: u64,
}

/// Asks the engine what is kept of channels.
pub(in crate::server) fn ask_for_channels<S: Socket>(
    owners: &mut Owners<S>,
    inspections: &mut Inspections,
    connection: Id,
    response: ResponseContext,
    range: ChannelRange,
) {
    let (after, channels_max) = (range.after.clone(), range.limit);
    let bytes_max = page_bytes_max(owners);
    inspections.note_channels_asked(true);
    let query = Query::ChannelDetails { after, channels_max, bytes_max };
    owners.store.ask(query, Pending::Channels { connection, response, range });
}

/// Puts what the engine keeps of channels together with their subscribers.
pub(in crate::server) fn send_channels<S: Socket>(
    owners: &mut Owners<S>,
    connection: Id,
    response: &ResponseContext,
    range: &ChannelRange,
    (stored, is_cut): (&[ChannelDetail], bool),
) {
    let body = channels_page(owners, range, stored, is_cut);
    answer(owners, connection, response, Status::OK, &body, &[]);
}

fn channels_page<S: Socket>(
    owners: &Owners<S>,
    range: &ChannelRange,
    stored: &[ChannelDetail],
    is_cut: bool,
) -> Vec<u8> {
    let mut body = b"{\"channels\":[".to_vec();
    let mut last = None;
    let mut stored = stored.iter().peekable();
    let mut joined = owners.hub.names_after(range.after.as_deref()).peekable();
    let mut left = range.limit;
    let bytes_max = page_bytes_max(owners);
    while left > 0 && body.len() < bytes_max {
        let takes_stored = match (stored.peek(), joined.peek()) {
            // Names after the end of a list that was cut are in the next list.
            (None, _) if is_cut => break,
            (None, None) => break,
            (None, Some(_)) => false,
            (Some(_), None) => true,
            (Some(stored), Some(joined)) => stored.name <= **joined,
        };
        let detail = if takes_stored { stored.next() } else { None };
        let name = match detail {
            Some(detail) => {
                joined.next_if(|joined| **joined == detail.name);
                Some(&detail.name)
            }
            None => joined.next(),
        };
        let Some(name) = name else { break };
        if last.is_some() {
            body.push(b',');
        }
        write_json(&listed_channel(owners, name, detail), &mut body);
        last = Some(name);
        left -= 1;
    }
    let has_more = is_cut || stored.peek().is_some() || joined.peek().is_some();
    body.extend_from_slice(b"],\"next\":");
    write_json(&last.filter(|_| has_more), &mut body);
    body.push(b'}');
    body
}

fn listed_channel<'a, S: Socket>(
    owners: &Owners<S>,
    name: &'a str,
    detail: Option<&ChannelDetail>,
) -> ListedChannel<'a> {
    ListedChannel {
        channel_id: name,
        subscribers: owners.hub.members_of(name),
        newest: Sequence::Messages.text(detail.map_or(0, |detail| detail.newest)),
        kept: detail.map_or(0, |detail| detail.kept),
    }
}
