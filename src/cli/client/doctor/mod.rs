//! `polecat doctor`: what limits a server on this machine, and whether its database is sound. It only reads.

mod finding;
mod system;
mod locks;
mod database;
mod command;

pub(in crate::cli) use command::Doctor;
