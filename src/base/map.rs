//! Hash maps with keys that peers may choose.

use std::collections::HashMap;
#[cfg(not(fuzzing))]
use std::hash::RandomState;
#[cfg(fuzzing)]
use std::hash::{BuildHasherDefault, DefaultHasher};

/// For lookups only; nothing iterates over it. The hash differs from process to process, so peers cannot
/// choose keys that collide. A fuzzer watches the branches of each lookup, and must see the same ones for the
/// same input.
#[cfg(not(fuzzing))]
pub(crate) type Map<K, V> = HashMap<K, V, RandomState>;
#[cfg(fuzzing)]
pub(crate) type Map<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;
