//! What everything stands on: time, ids, limits, deadlines, shared bytes.
//! `std` only; no clock and no randomness.

pub mod time;
pub mod id;
pub mod origin;
pub mod config;
pub mod limit;
pub mod deadline;
pub mod frame;
