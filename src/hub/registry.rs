//! All channels: looked up by name, swept in turn, and bounded together.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::rc::Rc;

use slab::Slab;

use crate::base::config::{Limits, Timeouts};
use crate::base::deadline::{Fifo, Link, Links};
use crate::base::frame::Frame;
use crate::base::limit::{Limit, LimitHits};
use crate::base::map::Map;
use crate::base::time::Stamp;

use super::channel::{Channel, Log, Moved, Run, Sweep};
use super::entry::Encoding;
use super::member::Member;
use crate::store::engine::Stream;
use crate::wire::protocol::Sequence;

/// The channels that have members, and the newest ids that the engine has reported.
#[derive(Debug, Default)]
pub struct Registry {
    channels: Slab<Channel>,
    /// For lookups only; nothing depends on its order.
    names: Map<Rc<str>, u32>,
    /// The same names in the order of their bytes, for lists of channels.
    sorted: BTreeSet<Rc<str>>,
    events: Option<u32>,
    /// Channels whose logs hold frames, the longest unused in front. From there, memory is reclaimed for all
    /// channels, and quiet logs are released.
    idle: Fifo,
    logs_bytes: usize,
    /// Channels whose members have to be offered something, in turn.
    sweeps: VecDeque<u32>,
    newest_message: u64,
    newest_event: u64,
    serials: u64,
    log_bytes_max: usize,
    log_frames_max: usize,
    logs_bytes_max: usize,
    log_idle_ms: u32,
}

impl Links for Slab<Channel> {
    fn link(&mut self, index: u32) -> &mut Link {
        &mut self[index as usize].idle
    }
}

impl Registry {
    /// No channels yet; the newest ids are those of the store.
    pub fn new(limits: &Limits, timeouts: &Timeouts, newest_message: u64, newest_event: u64) -> Self {
        Self {
            newest_message,
            newest_event,
            log_bytes_max: limits.log_bytes_max,
            log_frames_max: limits.log_frames_max,
            logs_bytes_max: limits.logs_bytes_max,
            log_idle_ms: timeouts.log_idle_ms,
            ..Self::default()
        }
    }

    /// The newest id of a sequence, as the engine has last reported it. A subscriber that asks
    /// for no replay begins there.
    pub const fn newest(&self, sequence: Sequence) -> u64 {
        match sequence {
            Sequence::Events => self.newest_event,
            Sequence::Messages => self.newest_message,
        }
    }

    /// Makes `member` a member of the channel of `stream`, which is created if it does not exist. Returns
    /// the channel's index and the member's slot in it.
    pub fn join(&mut self, stream: &Stream, member: Member) -> (u32, u32) {
        let index = self.find(stream).unwrap_or_else(|| self.create(stream));
        (index, self.channels[index as usize].join(member))
    }

    /// Whether joining `stream` would make more than `channels_max` channels, events
    /// not counted.
    pub fn is_full(&self, stream: &Stream, channels_max: usize) -> bool {
        let is_new = matches!(stream, Stream::Channel(_)) && self.find(stream).is_none();
        is_new && self.names.len() >= channels_max
    }

    /// The index of the channel of `stream`, if it has members.
    pub fn find(&self, stream: &Stream) -> Option<u32> {
        match stream {
            Stream::Events => self.events,
            Stream::Channel(name) => self.names.get(name).copied(),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "channels have members, which are counted in u32")]
    fn create(&mut self, stream: &Stream) -> u32 {
        self.serials += 1;
        let channel = Channel::new(stream.clone(), self.serials, self.newest(stream.sequence()));
        let index = self.channels.insert(channel) as u32;
        match stream {
            Stream::Events => self.events = Some(index),
            Stream::Channel(name) => {
                self.names.insert(Rc::clone(name), index);
                self.sorted.insert(Rc::clone(name));
            }
        }
        index
    }

    /// Removes the member at `slot` from `channel`. Returns the members that were moved, each with its new
    /// slot.
    pub fn leave(&mut self, channel: u32, slot: u32) -> [Option<Moved>; 2] {
        let moved = self.channels[channel as usize].leave(slot);
        self.drop_if_empty(channel);
        moved
    }

    /// A channel that is queued for a sweep is dropped when its turn comes, so the queue never refers to the
    /// wrong channel.
    fn drop_if_empty(&mut self, index: u32) {
        let channel = &self.channels[index as usize];
        if !channel.members.is_empty() || channel.sweep != Sweep::Done {
            return;
        }
        self.release(index);
        match self.channels.remove(index as usize).stream {
            Stream::Events => self.events = None,
            Stream::Channel(name) => {
                self.names.remove(&name);
                self.sorted.remove(&name);
            }
        }
    }

    /// What members of the channel at `index` get. The index is one that [`Self::join`] returned, and the channel
    /// still has the member; so it is in the methods below.
    pub fn stream(&self, index: u32) -> &Stream {
        &self.channels[index as usize].stream
    }

    /// Tells the channel at `index` from others that had or will have its place.
    #[inline]
    pub fn serial(&self, index: u32) -> u64 {
        self.channels[index as usize].serial
    }

    /// The id up to which a member whose cursor is `cursor` has been sent everything of the channel at `index`.
    pub fn reach(&self, index: u32, cursor: u64) -> u64 {
        self.channels[index as usize].reach(cursor)
    }

    /// The newest id of the sequence that the channel at `index` is part of.
    pub fn newest_for(&self, index: u32) -> u64 {
        self.newest(self.stream(index).sequence())
    }

    /// The name of the channel at `index`; `None` for the event stream, or if there is no channel.
    pub fn name(&self, index: u32) -> Option<&Rc<str>> {
        match &self.channels.get(index as usize)?.stream {
            Stream::Events => None,
            Stream::Channel(name) => Some(name),
        }
    }

    /// The names of channels above `after`, in the order of their bytes.
    pub fn names_after(&self, after: Option<&str>) -> impl Iterator<Item = &Rc<str>> {
        let above = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.sorted.range::<str, _>((above, Bound::Unbounded))
    }

    pub fn members_of(&self, name: &str) -> usize {
        self.names.get(name).map_or(0, |index| self.channels[*index as usize].members.len())
    }

    /// How many connections have events alone.
    pub fn event_connections(&self) -> usize {
        self.events.map_or(0, |index| self.channels[index as usize].connections)
    }

    #[inline]
    pub fn after(&self, index: u32, cursor: u64) -> Run<'_> {
        self.channels[index as usize].log.after(cursor)
    }

    /// Encodes the next messages for a member of the channel at `index`, unless they are encoded already,
    /// within `bounds` as in [`super::entry::encode_front`]. As with any new frame, older messages of this
    /// log or of others may be evicted to make room. Then the cursor may be behind its log.
    pub fn encode(
        &mut self,
        index: u32,
        cursor: u64,
        encoding: Encoding,
        bounds: (usize, usize),
        hits: &mut LimitHits,
        make: &mut impl FnMut(&Stream, u64, &Frame) -> Option<Frame>,
    ) {
        let channel = &mut self.channels[index as usize];
        let (log, stream) = (&mut channel.log, &channel.stream);
        let price = log.encode(cursor, encoding, bounds, &mut |id, plain| make(stream, id, plain));
        if price > 0 {
            self.logs_bytes += price;
            self.shorten(index, hits);
            self.make_room(hits);
        }
    }

    /// Records a committed record. If its channel has members, `encode` makes the frame that all of them will
    /// get. Counts in `hits` the limits for which older frames of this log or of others are evicted.
    pub fn publish(
        &mut self,
        stream: &Stream,
        id: u64,
        now: Stamp,
        hits: &mut LimitHits,
        encode: impl FnOnce() -> Frame,
    ) {
        match stream {
            Stream::Events => self.newest_event = self.newest_event.max(id),
            Stream::Channel(_) => self.newest_message = self.newest_message.max(id),
        }
        let Some(index) = self.find(stream) else { return };
        if self.channels[index as usize].members.is_empty() {
            // The channel only waits to be dropped. A subscriber that joins before that begins after this
            // record.
            self.release(index);
            self.channels[index as usize].log = Log::new(self.newest(stream.sequence()));
            return;
        }
        self.append(index, id, encode(), now, hits);
        self.make_room(hits);
    }

    fn append(&mut self, index: u32, id: u64, frame: Frame, now: Stamp, hits: &mut LimitHits) {
        let channel = &mut self.channels[index as usize];
        let was_empty = channel.log.is_empty();
        self.logs_bytes += frame.len();
        if channel.sweep == Sweep::Done {
            channel.lull = (channel.log.newest(), id);
        }
        channel.log.push(id, frame);
        channel.sweep = match channel.sweep {
            Sweep::Done => {
                self.sweeps.push_back(index);
                Sweep::Due
            }
            Sweep::Due => Sweep::Due,
            Sweep::Running { next, .. } => Sweep::Running { next, again: true },
        };
        if was_empty {
            self.idle.push(&mut self.channels, index, now);
        } else {
            self.idle.touch(&mut self.channels, index, now);
        }
        self.shorten(index, hits);
    }

    /// Evicts the oldest messages of a log until it is within its bounds. The newest stays, so that a message
    /// larger than the bound is not read from the store for every member.
    fn shorten(&mut self, index: u32, hits: &mut LimitHits) {
        let log = &mut self.channels[index as usize].log;
        let len = log.len();
        while log.len() > 1 && (log.bytes() > self.log_bytes_max || log.len() > self.log_frames_max) {
            self.logs_bytes -= log.pop();
        }
        if log.len() < len {
            hits.count(Limit::LogBytes);
        }
    }

    /// Evicts the frames that have been unused the longest, until all logs together are within their bound.
    fn make_room(&mut self, hits: &mut LimitHits) {
        if self.logs_bytes > self.logs_bytes_max {
            hits.count(Limit::LogsBytes);
        }
        while self.logs_bytes > self.logs_bytes_max {
            let Some((index, _)) = self.idle.front(&mut self.channels) else { return };
            let log = &mut self.channels[index as usize].log;
            if log.len() > 1 {
                self.logs_bytes -= log.pop();
            } else {
                self.release(index);
            }
        }
    }

    /// Evicts all frames of a channel.
    fn release(&mut self, index: u32) {
        let log = &mut self.channels[index as usize].log;
        if !log.is_empty() {
            self.logs_bytes -= log.clear();
            self.idle.remove(&mut self.channels, index);
        }
    }

    /// Evicts the frames of channels on which nobody has published for a while; at most `channels_max`
    /// channels.
    pub fn release_idle(&mut self, now: Stamp, channels_max: usize) {
        for _ in 0..channels_max {
            match self.idle.front(&mut self.channels) {
                Some((index, since)) if now.since(since) >= self.log_idle_ms => self.release(index),
                _ => return,
            }
        }
    }

    /// Milliseconds until [`Self::release_idle`] has something to do.
    pub fn idle_due_in(&mut self, now: Stamp) -> Option<u32> {
        let (_, since) = self.idle.front(&mut self.channels)?;
        Some(self.log_idle_ms.saturating_sub(now.since(since)))
    }

    pub fn has_sweeps(&self) -> bool {
        !self.sweeps.is_empty()
    }

    /// One step of the sweep in front; `None` if no sweep is left. A channel whose log has grown in the
    /// meantime is queued again when its sweep finishes.
    #[inline]
    pub fn sweep_next(&mut self) -> Option<SweepStep> {
        let index = *self.sweeps.front()?;
        let channel = &mut self.channels[index as usize];
        let (next, again) = match channel.sweep {
            Sweep::Running { next, again } => (next, again),
            Sweep::Done | Sweep::Due => (channel.members.len(), false),
        };
        if next > 0 {
            channel.sweep = Sweep::Running { next: next - 1, again };
            return Some(SweepStep::Member(Member::unpack(channel.members[next - 1])));
        }
        self.sweeps.pop_front();
        if again && !channel.members.is_empty() {
            channel.sweep = Sweep::Due;
            self.sweeps.push_back(index);
        } else {
            channel.sweep = Sweep::Done;
            self.drop_if_empty(index);
        }
        Some(SweepStep::Finished)
    }

    /// Moves the sweep in front behind all others, which have waited longer.
    pub fn sweep_later(&mut self) {
        if let Some(index) = self.sweeps.pop_front() {
            self.sweeps.push_back(index);
        }
    }

    /// Begins to send all subscribers of events a notice that is not in the log.
    pub fn notify_events(&mut self) {
        if let Some(index) = self.events {
            let channel = &mut self.channels[index as usize];
            channel.notice = channel.members.len();
        }
    }

    /// The next subscriber of events that has yet to get the notice.
    pub fn next_notice(&mut self) -> Option<Member> {
        let channel = &mut self.channels[self.events? as usize];
        channel.notice = channel.notice.checked_sub(1)?;
        Some(Member::unpack(channel.members[channel.notice]))
    }

    pub fn has_notices(&self) -> bool {
        self.events.is_some_and(|index| self.channels[index as usize].notice > 0)
    }

    pub fn len(&self) -> usize {
        self.channels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    pub const fn logs_bytes(&self) -> usize {
        self.logs_bytes
    }

    fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.channels.iter().map(|(_, channel)| channel)
    }

    /// The member at `slot` of the channel at `index`, if there are both.
    pub fn member(&self, index: u32, slot: u32) -> Option<Member> {
        self.channels.get(index as usize)?.members.get(slot as usize).copied().map(Member::unpack)
    }

    /// How many members all channels have together, by looking at each: for tests.
    pub fn count_members(&self) -> usize {
        self.iter().map(|channel| channel.members.len()).sum()
    }

    /// How many channels with a name have members, by looking at each: for tests.
    pub fn count_named(&self) -> usize {
        let is_named = |channel: &&Channel| matches!(channel.stream, Stream::Channel(_));
        self.iter().filter(is_named).filter(|channel| !channel.members.is_empty()).count()
    }

    /// The frames of the log that has the most, and the bytes of the largest that has more than one, by looking at
    /// each: for tests.
    pub fn largest_logs(&self) -> (usize, usize) {
        let frames = self.iter().map(|channel| channel.log.len()).max().unwrap_or_default();
        let several = self.iter().filter(|channel| channel.log.len() > 1);
        (frames, several.map(|channel| channel.log.bytes()).max().unwrap_or_default())
    }

    /// Checks the whole structure.
    ///
    /// # Panics
    /// If an invariant does not hold.
    pub fn check_invariants(&self) {
        let mut bytes = 0;
        let mut holding = 0;
        for channel in self.iter() {
            bytes += channel.log.bytes();
            holding += u32::from(!channel.log.is_empty());
            assert!(!channel.members.is_empty() || channel.sweep != Sweep::Done, "an empty channel is kept");
            channel.log.check_invariants();
            if let Sweep::Running { next, .. } = channel.sweep {
                assert!(next <= channel.members.len(), "a sweep is within its members");
            }
        }
        assert_eq!(self.names.len(), self.sorted.len(), "names are sorted");
        assert_eq!(bytes, self.logs_bytes, "bytes of logs");
        assert_eq!(holding, self.idle.len(), "logs that hold frames are listed");
        assert!(self.logs_bytes <= self.logs_bytes_max, "logs are bounded together");
        let waiting = self.iter().filter(|channel| channel.sweep != Sweep::Done).count();
        assert_eq!(waiting, self.sweeps.len(), "sweeps are queued once");
    }
}

/// One step of the sweep in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepStep {
    /// This member is to be offered what the log holds for it.
    Member(Member),
    /// The sweep has reached all members of the channel.
    Finished,
}
