//! Black-box tests: they use only the wire, or a process and its files. A test is a sentence about behaviour.
//! README.md, beside this directory, has the rules for writing them.
#![expect(clippy::expect_used, reason = "tests fail aloud")]

mod support;

mod client;
mod compression;
mod configuration;
mod deploy;
mod documents;
mod echo;
mod endpoints;
mod faults;
mod guarantees;
mod http;
mod ids;
mod introspection;
mod limits;
mod lists;
mod load;
mod memory;
mod origins;
mod pages;
mod rest;
mod resident;
mod resume;
mod service_a;
mod service_b;
mod slow_reader;
mod stalls;
mod stream;
mod supervised;
mod store;
mod store_failures;
mod strict;
mod terms;
mod v1;
mod unread;
mod violations;
mod websocket;
