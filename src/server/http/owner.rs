//! Requests of HTTP clients that are not answered yet.

use super::inspections::Inspections;
use super::lists::Lists;

/// Requests that are not answered yet, apart from those that wait for the store.
#[derive(Debug, Default)]
pub(in crate::server) struct Http {
    pub(in crate::server) lists: Lists,
    pub(in crate::server) inspections: Inspections,
}
