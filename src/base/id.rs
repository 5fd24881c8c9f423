//! Ids of what lives in a slab.

/// A slab index that also says which of its successive tenants is meant.
///
/// Whatever outlives a turn (a question to the engine, a queue) holds one of
/// these, never a bare index: a tenant that has left is then recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// The place in the slab.
    pub index: u32,
    /// Which tenant of that place.
    pub generation: u32,
}

/// "No index": ends a list threaded through a slab.
pub const NONE: u32 = u32::MAX;
