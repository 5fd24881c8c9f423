//! `GET /api/channels?detail=1`: what the engine keeps of channels, put together with
//! their subscribers. The engine reads its part in steps; ours is in the order of the names already.

use crate::base::id::Id;
use crate::store::engine::{ChannelDetail, Query, QueryId};
use crate::wire::body::ChannelRange;
use crate::wire::http::decoder::Status;
use crate::wire::protocol::{Sequence, write_json};

use super::http::response_context::ResponseContext;
use super::introspection::numbered;
use super::server::Server;
use super::socket::Socket;
use super::store::Pending;

#[derive(serde::Serialize)]
struct ListedChannel<'a> {
    channel_id: &'a str,
    subscribers: usize,
    newest: String,
    kept: u64,
}

impl<S: Socket> Server<S> {
    /// Asks the engine what is kept of channels.
    pub(super) fn ask_for_channels(
        &mut self,
        connection: Id,
        response: ResponseContext,
        range: ChannelRange,
    ) {
        let (after, channels_max) = (range.after.clone(), range.limit);
        let bytes_max = self.page_bytes_max();
        self.inspections.note_channels_asked(true);
        let query = Query::ChannelDetails { after, channels_max, bytes_max };
        self.store.ask(query, Pending::Channels { connection, response, range });
    }

    /// Puts what the engine keeps of channels together with their subscribers.
    pub(super) fn apply_channel_details(
        &mut self,
        query_id: QueryId,
        stored: &[ChannelDetail],
        is_cut: bool,
    ) {
        let Some(Pending::Channels { connection, response, range }) = self.take(query_id) else { return };
        let body = self.channels_page(&range, stored, is_cut);
        self.answer(connection, &response, Status::OK, &body, &[]);
    }

    fn channels_page(&self, range: &ChannelRange, stored: &[ChannelDetail], is_cut: bool) -> Vec<u8> {
        let mut body = b"{\"channels\":[".to_vec();
        let mut last = None;
        let mut stored = stored.iter().peekable();
        let mut joined = self.hub.names_after(range.after.as_deref()).peekable();
        let mut left = range.limit;
        let bytes_max = self.page_bytes_max();
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
            write_json(&self.listed_channel(name, detail), &mut body);
            last = Some(name);
            left -= 1;
        }
        let has_more = is_cut || stored.peek().is_some() || joined.peek().is_some();
        body.extend_from_slice(b"],\"next\":");
        write_json(&last.filter(|_| has_more), &mut body);
        body.push(b'}');
        body
    }

    fn listed_channel<'a>(&self, name: &'a str, detail: Option<&ChannelDetail>) -> ListedChannel<'a> {
        ListedChannel {
            channel_id: name,
            subscribers: self.hub.members_of(name),
            newest: numbered(Sequence::Messages, detail.map_or(0, |detail| detail.newest)),
            kept: detail.map_or(0, |detail| detail.kept),
        }
    }
}
