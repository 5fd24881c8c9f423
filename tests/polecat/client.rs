//! The client side of the command line, as a user runs it: docs/command-line.md, "The command line", which
//! speaks PROTOCOL.md, "14. polecat.v1", and "3. The HTTP API".

mod backup;
mod bad;
mod command;
mod doctor;
mod documents;
mod proxy;
mod send;
mod status;
mod tail;
