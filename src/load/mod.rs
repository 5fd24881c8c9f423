//! A load generator: very many clients of a WebSocket server, as a state machine like the server's. The shell
//! opens sockets and reports the time. What clients send, what they must receive, and what was wrong is
//! decided here.

pub mod payload;
pub mod plan;
pub mod order;
pub mod tally;
pub mod peer;
pub mod driver;
mod publishing;
mod traffic;
mod run;
