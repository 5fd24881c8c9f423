//! Phrases that a reader has to read twice, and private words of this project, with what to write instead. They are
//! looked for in documents, and in the comments and texts of `src`.

use super::source::Source;

/// The documents for readers of the repository.
pub(crate) const DOCUMENTS: [&str; 11] = [
    "README.md",
    "ARCHITECTURE.md",
    "PROTOCOL.md",
    "CHANGELOG.md",
    "docs/operating.md",
    "docs/command-line.md",
    "docs/clients.md",
    "docs/load.md",
    "tests/README.md",
    "benches/README.md",
    "benches/compare/README.md",
];

/// In lower case; a line break counts as a space. A phrase matches whole words; a sentence begins with `. `.
const PHRASES: [(&str, &str); 61] = [
    (". who ", "a client that, anyone who"),
    (". whom ", "a client that"),
    (". whose ", "a client whose"),
    ("; who ", "a client that, anyone who"),
    (": who ", "a client that, anyone who"),
    ("for who ", "for anyone who, for clients that"),
    ("of who ", "of clients that"),
    ("to who ", "to clients that"),
    ("by who ", "by clients that"),
    ("with who ", "with clients that"),
    ("those who ", "those that, clients that"),
    ("all who ", "all clients that"),
    ("whoever", "anyone who"),
    ("whomever", "anyone whom"),
    ("where there is ", "if there is"),
    ("where there are ", "if there are"),
    ("where it is no", "if it is not"),
    ("where nothing ", "if nothing"),
    ("where nobody ", "if nobody"),
    ("what is published", "everything that is published, messages that are published"),
    ("what was published", "everything that was published, messages that were published"),
    ("what is committed", "everything that is committed, committed records"),
    ("what comes", "anything that comes, the next message"),
    ("what arrives", "anything that arrives, requests that arrive"),
    ("what remains", "the rest"),
    ("by what ", "by everything that, because of"),
    ("is had by", "is found with, comes from"),
    ("are had by", "are found with, come from"),
    ("to be had", "available"),
    ("come again", "reconnect, return"),
    ("comes again", "reconnects, returns"),
    ("came again", "reconnected, returned"),
    ("let go", "evict, release, close"),
    ("lets go", "evicts, releases, closes"),
    ("so many", "this many, a number of"),
    ("of late", "recently, in the last minute"),
    ("run into", "reach, hit"),
    ("runs into", "reaches, hits"),
    ("ran into", "reached, hit"),
    ("it is no", "it is not"),
    ("that is no", "that is not"),
    ("that are no", "that are not"),
    ("is none of", "is not one of"),
    ("were none of", "were not among"),
    ("handed on", "handed over, passed on"),
    ("rubbish", "invalid messages, invalid input"),
    ("is no stampede", "does not stampede, avoids a thundering herd"),
    ("in the midst of", "in the middle of"),
    ("as ever", "as usual"),
    ("turned away", "refused"),
    ("turns away", "refuses"),
    ("of chance", "at random, random"),
    ("by chance", "at random"),
    ("looked through", "checked"),
    ("looks through", "checks"),
    ("mended", "fixed"),
    ("be it that", "if"),
    ("is through", "is complete, is over"),
    ("and what not", "and what is not"),
    ("gets on", "makes progress"),
    ("no more than that", "that is all"),
];

/// Faults of a document, in its text outside of code.
pub(crate) fn of_document(path: &str, text: &str) -> Vec<String> {
    let mut is_code = false;
    let lines = text.lines().map(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        if is_code || is_fence { String::new() } else { without_code(line) }
    });
    faults(path, lines)
}

/// Faults of the comments and texts of a source file: of everything that is not code.
pub(crate) fn of_source(source: &Source) -> Vec<String> {
    let lines = source.text.lines().zip(source.code.lines());
    faults(&source.path, lines.map(|(text, code)| without_code(&prose(text, code))))
}

/// The parts of a line that are blank in its code, without the slashes of comments.
fn prose(text: &str, code: &str) -> String {
    let is_blank = |place: usize| code.as_bytes().get(place) == Some(&b' ');
    let prose = text.char_indices().map(|(place, character)| if is_blank(place) { character } else { ' ' });
    let prose = prose.collect::<String>();
    let words = prose.split_whitespace().filter(|word| !["//", "///", "//!"].contains(word));
    words.collect::<Vec<_>>().join(" ")
}

/// A line without the parts between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// The faults of a text. An empty line, a list item and a table cell end a sentence.
fn faults(path: &str, lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut text = ". ".to_owned();
    let mut ends = Vec::new();
    for line in lines {
        let line = line.trim();
        let begins_anew = line.is_empty() || line.starts_with(['-', '|', '#', '*']);
        text += if begins_anew { ". " } else { "" };
        let plain = line.trim_start_matches(['-', '#', '*', ' ']).replace("**", "").replace('|', ".");
        if !plain.is_empty() {
            text += &plain.to_lowercase();
            text.push(' ');
        }
        ends.push(text.len());
    }
    let mut faults = Vec::new();
    for (phrase, instead) in PHRASES {
        for (place, _) in text.match_indices(phrase) {
            if is_whole(&text, place, phrase) {
                let word = place + phrase.find(char::is_alphabetic).unwrap_or_default();
                let line = ends.partition_point(|end| *end <= word) + 1;
                let (phrase, line) = (phrase.trim(), line.min(ends.len()));
                faults.push(format!("{path}:{line}: {phrase:?} is not plain English here; write: {instead}"));
            }
        }
    }
    faults
}

fn is_whole(text: &str, place: usize, phrase: &str) -> bool {
    let is_letter = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
    let before = text[..place].chars().next_back().filter(|_| phrase.starts_with(char::is_alphabetic));
    let after = text[place + phrase.len()..].chars().next().filter(|_| phrase.ends_with(char::is_alphabetic));
    let is_no_longer = phrase.ends_with(" no") && text[place + phrase.len()..].starts_with(" longer");
    !is_letter(before) && !is_letter(after) && !is_no_longer
}
