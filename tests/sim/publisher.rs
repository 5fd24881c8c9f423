//! Publishers and readers over HTTP. They pipeline, and every request must be answered once, in order, and
//! truthfully.

use std::collections::VecDeque;

use crate::client::{Behaviour, Context, Link, Mood, Wish};
use crate::model::Ledger;
use crate::wire::{Response, request, take_response};

/// The beginning of a list of messages.
const MESSAGES: &str = "{\"messages\":[";

/// The response that must come.
#[derive(Debug)]
struct Due {
    correlation_id: String,
    head_only: bool,
    closes: bool,
    what: What,
}

#[derive(Debug)]
enum What {
    /// A publish with that key.
    Stored { key: String, is_message: bool, is_kept_once: bool },
    /// A read of the store; the body begins like this.
    Read(&'static str),
    /// A request that needs no store.
    Plain(u16),
}

/// A publish that is not acknowledged yet. It is sent until it is, with one idempotency key.
#[derive(Debug, Clone)]
struct Unsettled {
    key: String,
    is_message: bool,
    body: String,
    is_in_flight: bool,
}

/// Whether more requests may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Talking,
    /// The next request is the last.
    Last,
    LastSaid,
}

/// A client that speaks HTTP only.
pub(crate) struct Publisher {
    name: String,
    channels: Vec<String>,
    stage: Stage,
    due: VecDeque<Due>,
    unsettled: Vec<Unsettled>,
    requests: u32,
    is_refused: bool,
}

impl Publisher {
    pub(crate) fn new(name: &str, channels: &[String]) -> Self {
        Self {
            name: name.to_owned(),
            channels: channels.to_vec(),
            stage: Stage::Talking,
            due: VecDeque::new(),
            unsettled: Vec::new(),
            requests: 0,
            is_refused: false,
        }
    }

    /// Publishes something new.
    fn publish(&mut self, link: &mut Link, context: &mut Context<'_>) {
        let key = format!("{}-{}", self.name, self.requests + 1);
        let channel = &self.channels[context.random.usize(..self.channels.len())];
        let is_message = context.random.u32(..5) < 3;
        let body = if is_message {
            let content = format!("{key} {}", context.padding());
            format!("{{\"channel_id\":\"{channel}\",\"author\":\"{}\",\"content\":\"{content}\"}}", self.name)
        } else {
            // Events may have any type, even those of the server's own messages.
            let kinds =
                ["scan.done", "hello", "reconnect", "heartbeat", "gap", "live", "health_status", "error"];
            let kind = kinds[context.random.usize(..kinds.len())];
            let padding = context.padding();
            format!(
                "{{\"type\":\"{kind}\",\"payload\":{{\"p\":\"{padding}\"}},\"correlation_id\":\"{key}\"}}"
            )
        };
        let publish = Unsettled { key, is_message, body, is_in_flight: true };
        let is_kept_once = context.random.bool();
        self.post(&publish, is_kept_once, link);
        if is_kept_once {
            self.unsettled.push(publish);
        }
    }

    /// Sends an unacknowledged publish again.
    fn publish_again(&mut self, link: &mut Link) {
        for place in 0..self.unsettled.len() {
            if !std::mem::replace(&mut self.unsettled[place].is_in_flight, true) {
                let publish = self.unsettled[place].clone();
                self.post(&publish, true, link);
            }
        }
    }

    fn post(&mut self, publish: &Unsettled, is_kept_once: bool, link: &mut Link) {
        let Unsettled { key, is_message, body, .. } = publish;
        let target = if *is_message { "/api/messages" } else { "/api/events" };
        let fields = if is_kept_once { format!("Idempotency-Key: {key}\r\n") } else { String::new() };
        let what = What::Stored { key: key.clone(), is_message: *is_message, is_kept_once };
        self.say("POST", target, &fields, body, what, link);
    }

    fn say(&mut self, method: &str, target: &str, fields: &str, body: &str, what: What, link: &mut Link) {
        self.requests += 1;
        let correlation_id = format!("{}-{}", self.name, self.requests);
        // The last request of a connection says so.
        let closes = self.stage == Stage::Last;
        let close = if closes { "Connection: close\r\n" } else { "" };
        link.say(&request(method, target, &correlation_id, &format!("{fields}{close}"), body));
        if closes {
            self.stage = Stage::LastSaid;
        }
        self.due.push_back(Due { correlation_id, head_only: method == "HEAD", closes, what });
    }

    fn ask(&mut self, link: &mut Link, context: &mut Context<'_>) {
        if context.random.u32(..30) == 0 {
            self.stage = Stage::Last;
        }
        let channel = context.random.usize(..self.channels.len());
        let list = format!("/api/messages?channel_id={}", self.channels[channel]);
        let evil = "Origin: http://evil.example\r\n";
        match context.random.u32(..10) {
            0..=5 => self.publish(link, context),
            6 => {
                let fields = if self.requests.is_multiple_of(2) { "Accept-Encoding: gzip\r\n" } else { "" };
                self.say("GET", &list, fields, "", What::Read(MESSAGES), link);
            }
            7 => self.say("HEAD", "/api/channels", "", "", What::Read(""), link),
            8 => self.say("GET", "/api/summary", "", "", What::Read("{\"summary\":{"), link),
            _ => match context.random.u32(..8) {
                0 => self.say("GET", "/api/health", "", "", What::Plain(200), link),
                1 => self.say("GET", "/nowhere", "", "", What::Plain(404), link),
                2 => {
                    let limits = &context.options.config.limits;
                    let (name, lane) = match self.requests.is_multiple_of(2) {
                        true => ("n".repeat(limits.channel_name_bytes_max + 1), String::new()),
                        false => ("n".to_owned(), "l".repeat(limits.label_bytes_max + 1)),
                    };
                    let rest = format!("\"lane\":\"{lane}\",\"author\":\"a\",\"content\":\"x\"");
                    let body = format!("{{\"channel_id\":\"{name}\",{rest}}}");
                    self.say("POST", "/api/messages", "", &body, What::Plain(422), link);
                }
                3 => self.say("POST", "/api/events", evil, "{\"type\":\"x\"}", What::Plain(403), link),
                4 => {
                    let target = "/api/connections?limit=3";
                    self.say("GET", target, "", "", What::Read("{\"connections\":["), link);
                }
                5 => self.say("GET", "/api/channels?detail=1", "", "", What::Read("{\"channels\":["), link),
                6 => self.say("GET", "/metrics", "", "", What::Read("# HELP polecat_"), link),
                _ => self.say("POST", "/api/messages", "", "{}", What::Plain(422), link),
            },
        }
    }

    /// A publish was answered: it is stored as `id`, or was refused.
    fn settle(&mut self, key: &str, id: Option<u64>) {
        match id {
            Some(_) => self.unsettled.retain(|publish| publish.key != key),
            None => {
                for publish in self.unsettled.iter_mut().filter(|publish| publish.key == key) {
                    publish.is_in_flight = false;
                }
            }
        }
    }

    fn check(&mut self, due: &Due, response: &Response, era: usize, context: &Context<'_>) {
        let mut ledger = context.ledger.borrow_mut();
        assert_eq!(response.correlation_id, due.correlation_id, "{}: answers come in order", self.name);
        assert!(response.closes || !due.closes, "{}: the last answer says so", self.name);
        assert!(!response.closes || due.closes || context.is_draining, "{}: not asked to close", self.name);
        let limits = &context.options.config.limits;
        match (&due.what, response.status) {
            // The health of a store that has refused something, or of a server that is shutting down.
            (What::Plain(200), 503) if response.body.contains("draining") => assert!(context.is_draining),
            (What::Plain(200), 503) => assert!(ledger.refused > 0, "nothing was refused"),
            (What::Plain(422) | What::Stored { .. }, 429) => {
                assert!(limits.messages_per_second_max > 0, "there is no limit to the rate");
                if let What::Stored { key, .. } = &due.what {
                    self.settle(key, None);
                }
            }
            (What::Plain(status), _) => assert_eq!(response.status, *status),
            (What::Read(begin), 200) => assert!(response.body.starts_with(begin), "{}", response.body),
            (What::Read(_), 503) => assert!(ledger.failures > 0, "nothing has failed"),
            (What::Stored { key, is_message, .. }, 200) => {
                let id_before = if *is_message { "\"message\":{\"id\":" } else { "\"event_id\":\"event-" };
                let id = response.body.split(id_before).nth(1).expect("it has an id");
                let id: String = id.chars().take_while(char::is_ascii_digit).collect();
                let id = id.parse().expect("an id is a number");
                ledger.acknowledge(era, key, id);
                self.settle(key, Some(id));
            }
            (What::Stored { key, is_kept_once, .. }, 503) => {
                assert!(ledger.refused > 0, "nothing was refused");
                // If it was sent before, that attempt may have been stored.
                assert!(*is_kept_once || !ledger.is_stored(era, key), "what is refused is not stored");
                self.settle(key, None);
            }
            (_, status) => panic!("{}: {status} for {due:?}: {}", self.name, response.body),
        }
    }

    /// Whether the connection was refused before any request.
    fn is_turned_away(&mut self, link: &mut Link, context: &Context<'_>) -> bool {
        if !self.due.is_empty() || link.inbox.is_empty() {
            return false;
        }
        let Some(response) = take_response(&mut link.inbox, false) else { return true };
        assert!(context.may_refuse(&response, link), "{}: an answer for no request", self.name);
        self.is_refused = true;
        true
    }

    /// Requests in flight when a connection ended may or may not have arrived.
    fn cut(&mut self) {
        self.due.clear();
        for publish in &mut self.unsettled {
            publish.is_in_flight = false;
        }
    }
}

impl Behaviour for Publisher {
    fn begin(&mut self, context: &mut Context<'_>) -> Option<Link> {
        self.cut();
        let is_refused = std::mem::take(&mut self.is_refused);
        let is_wanted = match context.mood {
            Mood::Chaos => true,
            Mood::Calm => !is_refused && !self.unsettled.is_empty(),
            Mood::Leaving => false,
        };
        if !is_wanted || context.is_over {
            self.is_refused = is_refused;
            return None;
        }
        self.stage = Stage::Talking;
        Some(context.connect())
    }

    fn hear(&mut self, link: &mut Link, context: &mut Context<'_>) {
        if self.is_turned_away(link, context) {
            return;
        }
        while let Some(due) = self.due.front() {
            let Some(response) = take_response(&mut link.inbox, due.head_only) else { return };
            if !response.correlation_id.starts_with(&self.name) {
                // It is not a response to a request: the connection itself is refused.
                assert!(context.may_refuse(&response, link), "{}: {response:?}", self.name);
                self.is_refused = true;
                return self.cut();
            }
            self.is_refused = false;
            if let Some(due) = self.due.pop_front() {
                let era = link.wire.borrow().host().era.get();
                self.check(&due, &response, era, context);
            }
        }
        assert!(link.inbox.is_empty(), "{}: an answer for no request", self.name);
    }

    fn act(&mut self, link: &mut Link, context: &mut Context<'_>) -> Wish {
        let habits = &context.options.habits;
        if let Some(wish) = context.mishap() {
            return wish;
        }
        if self.is_refused || (context.mood == Mood::Leaving && self.due.is_empty()) {
            return Wish::Close;
        }
        let has_to_say = context.mood == Mood::Calm || context.happens(habits.publish_chance);
        if self.stage == Stage::Talking && link.out.len() < 5_000 && has_to_say {
            self.publish_again(link);
        }
        if self.stage == Stage::Talking && link.out.len() < 5_000 && context.happens(habits.publish_chance) {
            for _ in 0..context.random.u32(1..=4) {
                if self.stage == Stage::Talking {
                    self.ask(link, context);
                }
            }
        } else if self.stage == Stage::Talking && link.out.is_empty() && context.happens(habits.leave_chance)
        {
            link.wire.borrow_mut().end();
            self.stage = Stage::LastSaid;
        }
        Wish::Stay
    }

    fn ended(&mut self, link: &Link, context: &mut Context<'_>) {
        let is_last = context.is_draining || self.stage == Stage::LastSaid;
        // If a list has begun and the rest cannot be read, it is cut short, so that its client knows.
        let is_list = self.due.front().is_some_and(|due| matches!(due.what, What::Read(_)));
        let is_cut = is_list && context.ledger.borrow().failures > 0;
        let may_end =
            self.is_refused || is_cut || context.may_end(link) || (is_last && context.may_be_dropped(link));
        assert!(may_end || link.inbox.is_empty(), "{}: the rest of an answer is missing", self.name);
        assert!(
            may_end || context.is_draining || (self.stage == Stage::LastSaid && self.due.is_empty()),
            "{} was dropped with these unanswered: {:?}",
            self.name,
            self.due
        );
    }

    fn crashed(&mut self) {
        self.cut();
    }

    fn is_content(&self, _: &Ledger) -> bool {
        self.is_refused || (self.due.is_empty() && self.unsettled.is_empty())
    }

    fn name(&self) -> String {
        format!("{} in {:?}: {:?}", self.name, self.stage, self.due)
    }
}
