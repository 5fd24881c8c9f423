//! Publishers and readers over HTTP: they pipeline, and every request must be
//! answered once, in order, and truly.

use std::collections::VecDeque;

use crate::client::{Behaviour, Context, Link, Mood, Wish};
use crate::model::Ledger;
use crate::wire::{Response, request, take_response};

/// What must come back.
#[derive(Debug)]
struct Due {
    correlation_id: String,
    head_only: bool,
    closes: bool,
    what: What,
}

#[derive(Debug)]
enum What {
    /// A publish under that key, whose id is shown with that prefix.
    Stored { key: String, id_before: &'static str },
    /// Something of the store, whose body begins so.
    Read(&'static str),
    /// Something that needs no store.
    Plain(u16),
}

/// Whether more requests may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Talking,
    LastSaid,
}

/// A client that speaks HTTP only.
pub(crate) struct Publisher {
    name: String,
    channels: Vec<String>,
    stage: Stage,
    due: VecDeque<Due>,
    requests: u32,
    /// How many answers it got.
    pub(crate) answered: u32,
}

impl Publisher {
    pub(crate) fn new(name: &str, channels: &[String]) -> Self {
        Self {
            name: name.to_owned(),
            channels: channels.to_vec(),
            stage: Stage::Talking,
            due: VecDeque::new(),
            requests: 0,
            answered: 0,
        }
    }

    fn ask(&mut self, link: &mut Link, context: &mut Context<'_>) {
        self.requests += 1;
        let key = format!("{}-{}", self.name, self.requests);
        let closes = context.random.u32(..30) == 0;
        let fields = if closes { "Connection: close\r\n" } else { "" };
        let channel = &self.channels[context.random.usize(..self.channels.len())];
        let (method, target, body, what) = match context.random.u32(..10) {
            0..=3 => {
                let content = format!("{key} {}", context.padding());
                let body = format!(
                    "{{\"channel_id\":\"{channel}\",\"author\":\"{}\",\"content\":\"{content}\"}}",
                    self.name
                );
                let what = What::Stored { key: key.clone(), id_before: "\"message\":{\"id\":" };
                ("POST", "/api/messages".to_owned(), body, what)
            }
            4 | 5 => {
                let body = format!("{{\"type\":\"{key}\",\"payload\":{{\"p\":\"{}\"}}}}", context.padding());
                let what = What::Stored { key: key.clone(), id_before: "\"event_id\":\"event-" };
                ("POST", "/api/events".to_owned(), body, what)
            }
            6 => (
                "GET",
                format!("/api/messages?channel_id={channel}"),
                String::new(),
                What::Read("{\"messages\":["),
            ),
            7 => ("HEAD", "/api/channels".to_owned(), String::new(), What::Read("")),
            8 => ("GET", "/api/summary".to_owned(), String::new(), What::Read("{\"summary\":{")),
            _ => match context.random.u32(..3) {
                0 => ("GET", "/api/health".to_owned(), String::new(), What::Plain(200)),
                1 => ("GET", "/nowhere".to_owned(), String::new(), What::Plain(404)),
                _ => ("POST", "/api/messages".to_owned(), "{}".to_owned(), What::Plain(422)),
            },
        };
        link.say(&request(method, &target, &key, fields, &body));
        if closes {
            self.stage = Stage::LastSaid;
        }
        self.due.push_back(Due { correlation_id: key, head_only: method == "HEAD", closes, what });
    }

    fn check(&self, due: &Due, response: &Response, context: &Context<'_>) {
        let ledger = context.ledger.borrow();
        assert_eq!(response.correlation_id, due.correlation_id, "{}: answers come in order", self.name);
        assert!(response.closes || !due.closes, "{}: the last answer says so", self.name);
        assert!(!response.closes || due.closes || context.is_draining, "{}: not asked to close", self.name);
        match (&due.what, response.status) {
            // The health of a store that has refused something.
            (What::Plain(200), 503) => assert!(ledger.refused > 0, "nothing was refused"),
            (What::Plain(status), _) => assert_eq!(response.status, *status),
            (What::Read(begin), 200) => assert!(response.body.starts_with(begin), "{}", response.body),
            (What::Read(_), 503) => assert!(ledger.failures > 0, "nothing has failed"),
            (What::Stored { key, id_before }, 200) => {
                let id = response.body.split(id_before).nth(1).expect("it has an id");
                let id: String = id.chars().take_while(char::is_ascii_digit).collect();
                assert_eq!(ledger.id_of(key), id.parse().ok(), "{}: {}", self.name, response.body);
            }
            (What::Stored { key, .. }, 503) => {
                assert!(ledger.refused > 0, "nothing was refused");
                assert_eq!(ledger.id_of(key), None, "what is refused is not stored");
            }
            (_, status) => panic!("{}: {status} for {due:?}: {}", self.name, response.body),
        }
    }
}

impl Behaviour for Publisher {
    fn begin(&mut self, context: &mut Context<'_>) -> Option<Link> {
        self.due.clear();
        if context.mood != Mood::Chaos || context.is_draining {
            return None;
        }
        self.stage = Stage::Talking;
        Some(context.connect())
    }

    fn hear(&mut self, link: &mut Link, context: &mut Context<'_>) {
        while let Some(due) = self.due.front() {
            let Some(response) = take_response(&mut link.inbox, due.head_only) else { return };
            self.check(due, &response, context);
            self.answered += 1;
            self.due.pop_front();
        }
        assert!(link.inbox.is_empty(), "{}: an answer for no request", self.name);
    }

    fn act(&mut self, link: &mut Link, context: &mut Context<'_>) -> Wish {
        let habits = &context.options.habits;
        if context.happens(habits.reset_chance) {
            return Wish::Reset;
        }
        if context.happens(habits.vanish_chance) {
            return Wish::Vanish;
        }
        if context.mood == Mood::Leaving && self.due.is_empty() {
            return Wish::Close;
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
        assert!(link.inbox.is_empty(), "{}: the rest of an answer is missing", self.name);
        assert!(
            context.is_draining || (self.stage == Stage::LastSaid && self.due.is_empty()),
            "{} was dropped with these unanswered: {:?}",
            self.name,
            self.due
        );
    }

    fn is_content(&self, _: &Ledger) -> bool {
        self.due.is_empty()
    }

    fn name(&self) -> String {
        format!("{} in {:?}: {:?}", self.name, self.stage, self.due)
    }
}
