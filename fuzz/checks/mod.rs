//! What the fuzz targets check: plain functions over bytes, which `cargo test`
//! calls with the kept inputs, and `cargo fuzz` with as many others as it is given time for.

pub mod answers;
pub mod connection;
pub mod frames;
pub mod json;
pub mod messages;
pub mod request;
pub mod socket;
pub mod splits;
