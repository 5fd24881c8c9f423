//! The options that a server is started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::base::config::Config;

use crate::store::sqlite::StoreOptions;

#[derive(Debug, Clone)]
pub struct Options {
    /// The address to listen on; port 0 picks a free port.
    pub listen: SocketAddr,
    /// The SQLite file, which is created if it does not exist. With `None` nothing is stored: only the newest
    /// messages are kept, in memory.
    pub database: Option<PathBuf>,
    pub store: StoreOptions,
    pub config: Config,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8010)),
            database: Some(PathBuf::from("polecat.db")),
            store: StoreOptions::default(),
            config: Config::default(),
        }
    }
}
