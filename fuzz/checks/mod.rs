//! The checks of the fuzz targets: plain functions over bytes. `cargo test` calls them with the kept inputs,
//! and `cargo fuzz` with as many others as it has time for.

pub mod answers;
pub mod connection;
pub mod frames;
pub mod json;
pub mod messages;
pub mod request;
pub mod socket;
pub mod splits;
