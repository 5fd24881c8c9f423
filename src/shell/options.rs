//! What a server is started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::base::config::Config;

use crate::store::sqlite::StoreOptions;

/// Everything that a running server depends on.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 is any free port.
    pub listen: SocketAddr,
    /// The SQLite file, which is made where there is none; `None` stores nothing: what
    /// is newest is kept in memory only.
    pub database: Option<PathBuf>,
    /// What the store promises and how much it keeps.
    pub store: StoreOptions,
    /// Limits, time-outs, budgets.
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
