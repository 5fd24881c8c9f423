//! What a handler comes to.

use std::borrow::Cow;
use std::rc::Rc;

use super::inspections::Inspection;
use super::list::What;
use crate::base::limit::Limit;
use crate::server::session::opening::Opening;
use crate::store::engine::Record;
use crate::wire::body::FieldErrors;
use crate::wire::http::decoder::Status;
use crate::wire::protocol::write_json;

/// The media type of nearly all bodies.
pub(in crate::server) const JSON: &str = "application/json";

/// What a request comes to.
#[derive(Debug)]
pub(in crate::server) enum Outcome<'b> {
    /// This is the response.
    Reply(Reply<'b>),
    /// A record is to be stored, and the response says whether it is.
    Publish { record: Record, key: Option<Rc<str>> },
    /// A list is to be sent, slice by slice; it `may_compress`.
    List { what: What, may_compress: bool },
    /// The server is to say how it is.
    Inspect(Inspection),
    /// The connection becomes a WebSocket.
    Open(Opening<'b>),
}

/// A response that is there whole.
#[derive(Debug)]
pub(in crate::server) struct Reply<'b> {
    pub(in crate::server) status: Status,
    pub(in crate::server) body: Cow<'static, [u8]>,
    /// Header fields beside those of every response.
    pub(in crate::server) fields: Vec<(&'static str, Cow<'b, str>)>,
    /// The limits that were reached.
    pub(in crate::server) limits: Vec<Limit>,
    /// Whether it is refused for a browser's page that may not talk to us.
    pub(in crate::server) is_foreign: bool,
    /// Whether the body is a file that is part of the binary.
    pub(in crate::server) is_page: bool,
}

impl<'b> Reply<'b> {
    /// A response without more fields.
    pub(in crate::server) fn new(status: Status, body: impl Into<Cow<'static, [u8]>>) -> Self {
        let body = body.into();
        Self { status, body, fields: Vec::new(), limits: Vec::new(), is_foreign: false, is_page: false }
    }

    /// A body `{"detail": ...}`.
    pub(in crate::server) fn detail(status: Status, detail: &str) -> Self {
        Self::new(status, detail_body(detail))
    }

    /// 422, with what is wrong with each field.
    pub(in crate::server) fn errors(errors: &FieldErrors) -> Self {
        let mut body = b"{\"detail\":".to_vec();
        write_json(errors, &mut body);
        body.push(b'}');
        Self::new(Status::UNPROCESSABLE_CONTENT, body)
    }

    /// The same with a field more.
    pub(in crate::server) fn with(mut self, name: &'static str, value: impl Into<Cow<'b, str>>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The same for a limit that was reached.
    pub(in crate::server) fn for_limit(mut self, limit: Limit) -> Self {
        self.limits.push(limit);
        self
    }
}

impl<'b> From<Reply<'b>> for Outcome<'b> {
    fn from(reply: Reply<'b>) -> Self {
        Self::Reply(reply)
    }
}

/// The body of an error.
pub(in crate::server) fn detail_body(detail: &str) -> Vec<u8> {
    let mut body = b"{\"detail\":".to_vec();
    write_json(detail, &mut body);
    body.push(b'}');
    body
}
