//! The command line's other side: what talks to a running server, and what looks at the machine it is to run
//! on. One thread, no runtime: sockets that never block, and `poll`.

mod terminal;
mod show;
mod server;
mod wait;
mod again;
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
