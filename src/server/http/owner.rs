//! What HTTP clients wait for.

use super::inspections::Inspections;
use super::lists::Lists;

/// What is asked and not answered, beside what the store knows.
#[derive(Debug, Default)]
pub(in crate::server) struct Http {
    pub(in crate::server) lists: Lists,
    pub(in crate::server) inspections: Inspections,
}
