//! The client side of the command line: the commands that talk to a running server, and those that inspect
//! the machine for one. One thread, no runtime: non-blocking sockets and `poll`.

mod terminal;
mod format;
mod server;
mod wait;
mod backoff;
mod sent;
mod link;
mod incoming;
mod tail;
mod lines;
mod send;
mod event;
mod status;
mod doctor;
mod backup;
mod documents;
mod commands;

pub(super) use commands::Client;
