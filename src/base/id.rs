//! Ids of things that live in a slab.

/// A slab index with the generation of its occupant.
///
/// Anything that outlives a turn (a query to the engine, a queue) holds an `Id`, never a bare index, so it
/// can recognise that the occupant has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    pub index: u32,
    /// Which occupant of that index.
    pub generation: u32,
}

/// "No index": ends a list threaded through a slab.
pub const NONE: u32 = u32::MAX;
