//! Where all state meets.
