//! Hash maps whose keys peers may choose.

use std::collections::HashMap;
#[cfg(not(fuzzing))]
use std::hash::RandomState;
#[cfg(fuzzing)]
use std::hash::{BuildHasherDefault, DefaultHasher};

/// Looked up only, never walked: its order differs from process to process, so that
/// nobody can choose keys that collide. A fuzzer sees the branches of each lookup, and
/// must see the same for the same input.
#[cfg(not(fuzzing))]
pub(crate) type Map<K, V> = HashMap<K, V, RandomState>;
#[cfg(fuzzing)]
pub(crate) type Map<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;
