//! Tools of the tests: servers to test, and clients of our own.

pub(crate) mod check;
pub(crate) mod http;
pub(crate) mod old_database;
pub(crate) mod patience;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod schema;
pub(crate) mod server;
pub(crate) mod skip;
pub(crate) mod socket;

pub(crate) use check::{assert_keys_in_order, assert_timestamp, is_uuid_v4};
pub(crate) use http::{Http, Response, get, post};
pub(crate) use patience::{PATIENCE, Patience, eventually, wait_until};
pub(crate) use process::Process;
pub(crate) use raw::{Frame, RawSocket};
pub(crate) use server::{Home, Server};
pub(crate) use skip::skip;
pub(crate) use socket::Socket;
