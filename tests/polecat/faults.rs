//! Faults as they really happen: processes that are killed, links that are cut, crowds. Faults of the store
//! are in `store_failures/`, those of a stopped process and of descriptors in `stalls/`.

#[cfg(target_os = "linux")]
pub(crate) mod burst;
#[cfg(target_os = "linux")]
mod cable;
mod kills;
mod publishers;
mod site;
mod subscribers;
#[cfg(target_os = "linux")]
mod vanished;
