//! A finding of `polecat doctor`.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Unknown,
    Ok,
    Warn,
    Bad,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) name: &'static str,
    pub(super) level: Level,
    /// The current state, and what it limits.
    pub(super) text: String,
    pub(super) command: Option<String>,
}

impl Finding {
    pub(super) fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, text: text.into(), command: None }
    }

    pub(super) fn unknown(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, level: Level::Unknown, text: text.into(), command: None }
    }

    pub(super) fn warn(name: &'static str, text: impl Into<String>, command: impl Into<String>) -> Self {
        Self { name, level: Level::Warn, text: text.into(), command: Some(command.into()) }
    }

    /// A warning, unless it is enough.
    pub(super) fn enough(is_enough: bool, name: &'static str, text: String, command: String) -> Self {
        if is_enough { Self::ok(name, text) } else { Self::warn(name, text, command) }
    }

    pub(super) fn bad(name: &'static str, text: impl Into<String>, command: impl Into<String>) -> Self {
        Self { name, level: Level::Bad, text: text.into(), command: Some(command.into()) }
    }
}
