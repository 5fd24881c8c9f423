//! The foundation: time, ids, limits, deadlines, shared bytes, maps. It uses `std` only, no clock, and no
//! randomness except that of hash maps.

pub mod time;
pub mod id;
pub mod authority;
pub mod origin;
pub mod config;
pub mod limit;
pub mod histogram;
pub mod deadline;
pub mod frame;
pub(crate) mod map;
