//! The subscriptions of connections that may have many. Each has a cursor of its own, so that none waits for another.
//! A connection's subscriptions are a *set*, which also knows those that have something to be sent, and the request that
//! is being worked on.

use std::collections::VecDeque;

use slab::Slab;

use crate::base::id::Id;
use crate::wire::stream::{Cursor, Names};
use crate::wire::v1::ClientId;

use super::member::{Member, Replay, Subscriber};

/// What a subscription waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing: it has been sent all that was offered.
    Idle,
    /// It may have something to be sent, and is in the queue of its set.
    Queued,
    /// A page of history.
    AwaitingHistory,
}

/// A subscription.
#[derive(Debug, Clone, Copy)]
pub struct Subscription {
    /// The id up to which everything of the channel was sent.
    pub cursor: u64,
    /// The index of the channel.
    pub channel: u32,
    pub replay: Replay,
    pub state: State,
    pub(super) slot: u32,
    set: u32,
}

// The cost of a channel: this, its place among the members of the channel, and its place in the set.
const _: () = assert!(size_of::<Subscription>() <= 24);

/// Places of an empty queue that are kept.
const QUEUE_CAPACITY_KEPT: usize = 4;

/// A request to subscribe, as far as it is not worked off.
#[derive(Debug, Default)]
pub struct Request {
    /// What the client calls it.
    pub id: Option<ClientId>,
    /// Channels that are not looked at yet, the next one last.
    pub channels: Vec<String>,
    pub events: bool,
    /// From where on messages are wanted.
    pub cursor: Option<Cursor>,
}

impl Request {
    /// What a client asks for that calls it `id`. Fails, and gives back the id, if the cursor is none.
    pub fn of(names: Names, id: Option<ClientId>) -> Result<Self, Option<ClientId>> {
        let cursor = match names.cursor.as_deref().filter(|cursor| !cursor.is_empty()) {
            None => None,
            Some(text) => match Cursor::parse(text) {
                None => return Err(id),
                cursor => cursor,
            },
        };
        let mut channels = names.channels;
        channels.reverse();
        Ok(Self { id, channels, events: names.events, cursor })
    }

    /// Memory that it takes, in bytes.
    pub fn bytes(&self) -> usize {
        let names = self.channels.iter().map(|name| name.capacity()).sum::<usize>();
        names + self.channels.capacity() * size_of::<String>()
    }
}

/// The subscriptions of one connection.
#[derive(Debug)]
struct Set {
    /// `None` once it has ended.
    connection: Option<Id>,
    /// Its subscriptions, in the order of their channels.
    keys: Vec<u32>,
    /// Those that have something to be sent.
    queue: VecDeque<u32>,
    request: Option<Box<Request>>,
    /// Whether the request is in the queue of those that go on.
    is_due: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Subscriptions {
    subscriptions: Slab<Subscription>,
    sets: Slab<Set>,
    /// Sets whose request goes on in the next turn.
    due: VecDeque<u32>,
    /// Sets of connections that have ended.
    ended: VecDeque<u32>,
    /// Those that are not idle.
    lagging: usize,
    /// Memory of all requests, in bytes.
    requests_bytes: usize,
}

impl Subscriptions {
    /// Begins an empty set for a connection, and returns its key.
    #[expect(clippy::cast_possible_truncation, reason = "connections are counted in 31 bits")]
    pub fn open(&mut self, connection: Id) -> u32 {
        grow(&mut self.sets);
        self.sets.insert(Set {
            connection: Some(connection),
            keys: Vec::new(),
            queue: VecDeque::new(),
            request: None,
            is_due: false,
        }) as u32
    }

    /// The connection of a set has ended: its subscriptions leave their channels in this turn or the next, see
    /// [`Self::take_ended`].
    pub fn end(&mut self, set: u32) {
        let ended = &mut self.sets[set as usize];
        ended.connection = None;
        ended.queue = VecDeque::new();
        for key in &ended.keys {
            let subscription = &mut self.subscriptions[*key as usize];
            self.lagging -= usize::from(subscription.state != State::Idle);
            subscription.state = State::Idle;
        }
        self.ended.push_back(set);
        self.take_request(set);
    }

    /// Removes a subscription of a connection that has ended. Returns its channel, and its slot there.
    pub fn take_ended(&mut self) -> Option<(u32, u32)> {
        loop {
            let set = *self.ended.front()?;
            if let Some(key) = self.sets[set as usize].keys.pop() {
                let subscription = self.subscriptions.remove(key as usize);
                return Some((subscription.channel, subscription.slot));
            }
            self.sets.remove(set as usize);
            self.ended.pop_front();
            self.give_back();
        }
    }

    /// Gives room back that was for many more.
    fn give_back(&mut self) {
        if self.sets.is_empty() {
            self.sets.shrink_to_fit();
            self.subscriptions.shrink_to_fit();
            self.due.shrink_to_fit();
            self.ended.shrink_to_fit();
        }
    }

    /// Whether subscriptions of connections that have ended are still there.
    pub fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// The member that the next [`Self::insert`] makes.
    #[expect(clippy::cast_possible_truncation, reason = "subscriptions are counted in 31 bits")]
    pub fn next_member(&mut self) -> Member {
        grow(&mut self.subscriptions);
        Member::Subscription(self.subscriptions.vacant_key() as u32)
    }

    /// Adds a subscription to a set; its replay begins. Returns its key.
    #[expect(clippy::cast_possible_truncation, reason = "subscriptions are counted in 31 bits")]
    pub fn insert(&mut self, set: u32, (channel, slot): (u32, u32), cursor: u64) -> u32 {
        let state = State::Idle;
        let one = Subscription { cursor, channel, replay: Replay::Running, state, slot, set };
        let key = self.subscriptions.insert(one) as u32;
        let keys = &mut self.sets[set as usize].keys;
        let at = keys.partition_point(|other| self.subscriptions[*other as usize].channel < channel);
        if keys.len() == keys.capacity() {
            keys.reserve_exact(keys.len() / 16 + 4);
        }
        keys.insert(at, key);
        key
    }

    /// The subscription of a set to a channel.
    pub fn find(&self, set: u32, channel: u32) -> Option<u32> {
        let keys = &self.sets[set as usize].keys;
        let place = keys.binary_search_by_key(&channel, |key| self.subscriptions[*key as usize].channel);
        place.ok().map(|place| keys[place])
    }

    /// Removes a subscription from its set. Returns its channel, and its slot there.
    pub fn remove(&mut self, key: u32) -> (u32, u32) {
        self.set_state(key, State::Idle);
        let subscription = self.subscriptions.remove(key as usize);
        self.sets[subscription.set as usize].keys.retain(|other| *other != key);
        (subscription.channel, subscription.slot)
    }

    /// A subscription that is there.
    pub fn at(&self, key: u32) -> &Subscription {
        &self.subscriptions[key as usize]
    }

    /// The subscription of that key, and its connection; `None` if that has ended.
    pub fn subscriber(&self, key: u32) -> Option<Subscriber> {
        let connection = self.sets[self.at(key).set as usize].connection?;
        Some(Subscriber { connection, member: Member::Subscription(key) })
    }

    /// The subscription of that key if it is there and belongs to that connection.
    pub fn get(&self, key: u32, connection: Id) -> Option<&Subscription> {
        let one = self.subscriptions.get(key as usize)?;
        (self.sets[one.set as usize].connection == Some(connection)).then_some(one)
    }

    /// The subscriptions of a set.
    pub fn of(&self, set: u32) -> impl ExactSizeIterator<Item = &Subscription> {
        self.sets[set as usize].keys.iter().map(|key| self.at(*key))
    }

    /// The id up to which everything was sent.
    pub fn set_cursor(&mut self, key: u32, id: u64) {
        self.subscriptions[key as usize].cursor = id;
    }

    /// It has another place in its channel.
    pub fn set_slot(&mut self, key: u32, slot: u32) {
        self.subscriptions[key as usize].slot = slot;
    }

    /// Its replay is over.
    pub fn end_replay(&mut self, key: u32) {
        self.subscriptions[key as usize].replay = Replay::Done;
    }

    /// Changes what a subscription waits for. One that is queued is behind all others of its set.
    pub fn set_state(&mut self, key: u32, state: State) {
        let one = &mut self.subscriptions[key as usize];
        let old = std::mem::replace(&mut one.state, state);
        let queue = &mut self.sets[one.set as usize].queue;
        self.lagging += usize::from(state != State::Idle);
        self.lagging -= usize::from(old != State::Idle);
        match (old == State::Queued, state == State::Queued) {
            (false, true) => queue.push_back(key),
            (true, false) if queue.front() == Some(&key) => {
                queue.pop_front();
            }
            (true, false) => queue.retain(|other| *other != key),
            _ => {}
        }
        if queue.is_empty() && queue.capacity() > QUEUE_CAPACITY_KEPT {
            *queue = VecDeque::new();
        }
    }

    /// The next subscription of a set that may have something to be sent.
    pub fn next_queued(&self, set: u32) -> Option<u32> {
        self.sets[set as usize].queue.front().copied()
    }

    /// The subscription in front has had its share: the others of its set come first.
    pub fn rotate(&mut self, set: u32) {
        let queue = &mut self.sets[set as usize].queue;
        if queue.len() > 1 {
            queue.rotate_left(1);
        }
    }

    /// A set has a request, which goes on in [`Self::next_request`].
    pub fn begin_request(&mut self, set: u32, request: Box<Request>) {
        self.keep_request(set, request);
        self.resume_request(set);
    }

    fn take_request(&mut self, set: u32) -> Option<Box<Request>> {
        let request = self.sets[set as usize].request.take()?;
        self.requests_bytes -= request.bytes();
        Some(request)
    }

    /// The request of a set goes on, if it has one.
    pub fn resume_request(&mut self, set: u32) {
        let one = &mut self.sets[set as usize];
        if one.request.is_some() && !one.is_due {
            one.is_due = true;
            self.due.push_back(set);
        }
    }

    /// The request of a set.
    pub fn request(&self, set: u32) -> Option<&Request> {
        self.sets[set as usize].request.as_deref()
    }

    /// Takes out the next request that is due, with its set and its connection.
    pub fn next_request(&mut self) -> Option<(u32, Id, Box<Request>)> {
        while let Some(set) = self.due.pop_front() {
            let Some(one) = self.sets.get_mut(set as usize) else { continue };
            one.is_due = false;
            if let Some(connection) = one.connection
                && let Some(request) = self.take_request(set)
            {
                return Some((set, connection, request));
            }
        }
        None
    }

    /// Whether a request is due.
    pub fn has_requests(&self) -> bool {
        !self.due.is_empty()
    }

    /// Keeps a request that is not finished, until [`Self::resume_request`].
    pub fn keep_request(&mut self, set: u32, request: Box<Request>) {
        self.requests_bytes += request.bytes();
        self.sets[set as usize].request = Some(request);
    }

    /// Memory of all requests, in bytes.
    pub const fn requests_bytes(&self) -> usize {
        self.requests_bytes
    }

    /// How many subscriptions there are.
    pub fn len(&self) -> usize {
        self.subscriptions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// How many subscriptions wait to be sent something.
    pub const fn lagging(&self) -> usize {
        self.lagging
    }

    /// Checks the whole structure; `slot` tells which member is at a place in a channel.
    ///
    /// # Panics
    ///
    /// If something does not hold.
    pub fn check_invariants(&self, member: impl Fn(u32, u32) -> Option<Member>) {
        let keys = self.sets.iter().map(|(_, set)| set.keys.len()).sum::<usize>();
        assert_eq!(keys, self.subscriptions.len(), "each subscription is in one set");
        for (index, set) in &self.sets {
            let channels = set.keys.iter().map(|key| self.at(*key).channel).collect::<Vec<_>>();
            assert!(channels.is_sorted_by(|one, other| one < other), "one subscription to a channel");
            assert!(set.keys.iter().all(|key| self.at(*key).set as usize == index), "a set knows its own");
            let queued = set.keys.iter().filter(|key| self.at(**key).state == State::Queued).count();
            assert_eq!(queued, set.queue.len(), "those in the queue are queued, once");
            assert!(set.queue.iter().all(|key| self.at(*key).state == State::Queued), "and no others");
        }
        for (key, one) in &self.subscriptions {
            let key = u32::try_from(key).unwrap_or(u32::MAX);
            assert_eq!(
                member(one.channel, one.slot),
                Some(Member::Subscription(key)),
                "a member knows its place"
            );
        }
        let bytes = self.sets.iter().filter_map(|(_, set)| set.request.as_ref()).map(|one| one.bytes());
        assert_eq!(bytes.sum::<usize>(), self.requests_bytes, "memory of requests");
        let lagging = self.subscriptions.iter().filter(|(_, one)| one.state != State::Idle).count();
        assert_eq!(lagging, self.lagging, "those that wait are counted");
    }
}

/// Makes room for one more: a little at a time, since that of a doubling is too much for very many.
fn grow<T>(slab: &mut Slab<T>) {
    if slab.len() == slab.capacity() {
        slab.reserve_exact(slab.len() / 32 + 16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u32) -> Id {
        Id { index, generation: 1 }
    }

    #[test]
    fn a_set_takes_turns_among_those_that_have_something_to_be_sent() {
        let mut all = Subscriptions::default();
        let set = all.open(id(7));
        let keys = [3, 1, 2].map(|channel| all.insert(set, (channel, 0), 10));
        keys.iter().for_each(|key| all.set_state(*key, State::Queued));
        assert_eq!((all.next_queued(set), all.lagging()), (Some(keys[0]), 3));
        all.rotate(set);
        assert_eq!(all.next_queued(set), Some(keys[1]));
        all.set_state(keys[2], State::AwaitingHistory);
        all.set_state(keys[1], State::Idle);
        assert_eq!((all.next_queued(set), all.lagging()), (Some(keys[0]), 2));
        assert_eq!(
            [1, 2, 3, 4].map(|channel| all.find(set, channel)),
            [Some(keys[1]), Some(keys[2]), Some(keys[0]), None]
        );
        assert_eq!(all.remove(keys[0]), (3, 0));
        assert_eq!((all.next_queued(set), all.find(set, 3), all.len()), (None, None, 2));
    }

    #[test]
    fn a_set_that_has_ended_is_given_up_one_by_one() {
        let mut all = Subscriptions::default();
        let (set, other) = (all.open(id(1)), all.open(id(2)));
        let key = all.insert(set, (5, 9), 0);
        all.insert(set, (6, 8), 0);
        all.set_state(key, State::Queued);
        let request =
            |name: &str| Box::new(Request { channels: vec![name.to_owned()], ..Request::default() });
        all.begin_request(set, request("abc"));
        all.begin_request(other, request("defg"));
        all.end(set);
        assert_eq!((all.subscriber(key), all.get(key, id(1)).is_none(), all.lagging()), (None, true, 0));
        assert_eq!(all.requests_bytes(), 4 + size_of::<String>());
        let (set, connection, request) = all.next_request().unwrap_or_else(|| panic!("it is due"));
        assert_eq!(
            (set, connection, request.channels, all.requests_bytes()),
            (other, id(2), vec!["defg".to_owned()], 0)
        );
        assert_eq!(
            [all.take_ended(), all.take_ended(), all.take_ended()],
            [Some((6, 8)), Some((5, 9)), None]
        );
        all.end(other);
        assert_eq!((all.take_ended(), all.is_empty(), all.len()), (None, true, 0));
    }
}
