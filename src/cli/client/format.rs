//! Output for people: one line per message, with colours only on a terminal, and nothing in it that could
//! control the terminal.

use std::fmt::Write as _;
use std::io::IsTerminal;

#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    is_coloured: bool,
    is_terminal: bool,
}

/// The role of a part of a line, which decides its colour.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    Faint,
    Name,
    Plain,
    Good,
    Doubtful,
    Bad,
}

impl Style {
    /// For the current standard output: colours on a terminal, unless `NO_COLOR` is set or the terminal has
    /// none.
    pub(super) fn of_stdout() -> Self {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let is_terminal = std::io::stdout().is_terminal() && !is_dumb;
        Self { is_coloured: is_terminal && !is_set("NO_COLOR"), is_terminal }
    }

    pub(super) const fn is_terminal(self) -> bool {
        self.is_terminal
    }

    pub(super) fn push(self, part: Part, text: &str, out: &mut String) {
        let code = match part {
            _ if !self.is_coloured => "",
            Part::Plain => "",
            Part::Faint => "2",
            Part::Name => "36",
            Part::Good => "32",
            Part::Doubtful => "33",
            Part::Bad => "31",
        };
        if code.is_empty() {
            clean_into(text, out);
        } else {
            out.push_str("\x1b[");
            out.push_str(code);
            out.push('m');
            clean_into(text, out);
            out.push_str("\x1b[0m");
        }
    }

    /// Appends JSON as it came, on one line. Characters that a terminal might obey are written as equivalent
    /// escapes.
    pub(super) fn push_json(self, json: &str, out: &mut String) {
        for character in json.chars() {
            match character {
                // They cannot be within a string: this is white space between tokens.
                '\n' | '\r' | '\t' => out.push(' '),
                _ if self.is_terminal && is_command(character) => {
                    // Writing to a string cannot fail.
                    let _ = write!(out, "\\u{:04x}", u32::from(character));
                }
                _ => out.push(character),
            }
        }
    }
}

/// `text` on one line, without characters that a terminal obeys or that change the direction of text.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    clean_into(text, &mut out);
    out
}

/// Whether a terminal may obey it: a control character, a line separator, or a character that changes the
/// direction of the text after it (Unicode's `Bidi_Control`).
fn is_command(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn clean_into(text: &str, out: &mut String) {
    for character in text.chars() {
        if is_command(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
}

/// `2026-11-22T03:33:09.088399+00:00` for people: to the second.
pub(super) fn time(timestamp: &str) -> String {
    match (timestamp.get(..10), timestamp.get(11..19)) {
        (Some(date), Some(time)) => format!("{date} {time}"),
        _ => timestamp.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { is_coloured: false, is_terminal: false };
    const COLOURED: Style = Style { is_coloured: true, is_terminal: true };

    #[test]
    fn nothing_commands_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\r\nc\u{9b}1m\u{202e}é"), r"a\u{1b}[2Jb\r\nc\u{9b}1m\u{202e}é");
        let mut out = String::new();
        COLOURED.push(Part::Name, "a\x1b[0m", &mut out);
        assert_eq!(out, "\x1b[36ma\\u{1b}[0m\x1b[0m");
        out.clear();
        PLAIN.push(Part::Name, "a", &mut out);
        assert_eq!(out, "a");
    }

    #[test]
    fn json_stays_one_line_and_means_the_same() {
        let json = "{\"a\":\n\t\"x\u{9b}y\"}\r\n";
        let (mut plain, mut shown) = (String::new(), String::new());
        PLAIN.push_json(json, &mut plain);
        COLOURED.push_json(json, &mut shown);
        assert_eq!(plain, "{\"a\":  \"x\u{9b}y\"}  ");
        assert_eq!(shown, "{\"a\":  \"x\\u009by\"}  ");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
        assert_eq!(value(&shown), value(json));
    }

    #[test]
    fn nothing_turns_a_line_about() {
        // Unicode's Bidi_Control, and line separators.
        for turns in "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{2028}\u{2029}"
            .chars()
        {
            let text = format!("a{turns}b");
            assert_eq!(clean(&text), format!("a{}b", turns.escape_unicode()));
            let (json, mut plain, mut shown) = (format!("\"{text}\""), String::new(), String::new());
            PLAIN.push_json(&json, &mut plain);
            assert_eq!(plain, json, "a program gets what there is");
            COLOURED.push_json(&json, &mut shown);
            assert_eq!(shown, format!("\"a\\u{:04x}b\"", u32::from(turns)));
            assert_eq!(serde_json::from_str::<String>(&shown).ok(), Some(text));
        }
        // Text that is written from right to left is just text, and so are joiners.
        for kept in ["שלום", "مرحبا", "a\u{200d}b", "\u{200c}", "👩\u{200d}🔬"] {
            assert_eq!(clean(kept), kept);
        }
    }

    #[test]
    fn times_are_shown_to_the_second() {
        assert_eq!(time("2026-11-22T03:33:09.088399+00:00"), "2026-11-22 03:33:09");
        assert_eq!(time("soon"), "soon");
    }
}
