//! Rust source as `tidy` sees it. Comments and literals are replaced by spaces, so that only code is left,
//! and lines keep their numbers.

/// One file.
pub(crate) struct Source {
    /// From the top of the repository, with slashes.
    pub(crate) path: String,
    /// The original text.
    pub(crate) text: String,
    /// The same with comments and the insides of literals replaced by spaces.
    pub(crate) code: String,
    /// For each line, whether it is test code.
    tests: Vec<bool>,
}

/// One function with a body.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// Its first line, counted from 1.
    pub(crate) line: usize,
    /// From its signature to its last brace.
    pub(crate) lines: usize,
    pub(crate) is_test: bool,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let tests = test_lines(path, &code);
        Self { path: path.to_owned(), text: text.to_owned(), code, tests }
    }

    /// The line of the byte at `place`, counted from 1.
    pub(crate) fn line_of(&self, place: usize) -> usize {
        self.code[..place].bytes().filter(|byte| *byte == b'\n').count() + 1
    }

    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.tests.get(line - 1).copied().unwrap_or_default()
    }

    /// The lines on which `word` is in the code, not as a part of a longer word.
    pub(crate) fn lines_with(&self, word: &str) -> Vec<usize> {
        places_of(&self.code, word).map(|place| self.line_of(place)).collect()
    }

    /// Every path in the code that begins with `root::`, and its line. A tree of a `use` is split into its
    /// leaves; `root` itself is left out.
    pub(crate) fn paths(&self, root: &str) -> Vec<(usize, Vec<String>)> {
        let mut found = Vec::new();
        let start = format!("{root}::");
        for place in places_of(&self.code, &start) {
            // `a::root::b` is a path of `a`.
            if !self.code[..place].ends_with("::") {
                let mut leaves = Vec::new();
                tree(&self.code[place + start.len()..], &[], &mut leaves);
                found.extend(leaves.into_iter().map(|leaf| (self.line_of(place), leaf)));
            }
        }
        found
    }

    pub(crate) fn functions(&self) -> Vec<Function> {
        places_of(&self.code, "fn")
            .filter_map(|place| {
                let name = identifier(self.code[place + 2..].trim_start()).to_owned();
                // Without a name it is a type, as in `fn(u8) -> u8`.
                let end = if name.is_empty() { None } else { end_of_body(&self.code[place..]) }?;
                let line = self.line_of(place);
                let lines = self.line_of(place + end) - line + 1;
                Some(Function { name, line, lines, is_test: self.is_test(line) })
            })
            .collect()
    }

    /// The types that have methods here, with the lines of each `impl`.
    fn impls(&self) -> Vec<(String, std::ops::RangeInclusive<usize>)> {
        let starts = places_of(&self.code, "impl").filter(|place| {
            // Otherwise it is a type, as in `-> impl Iterator`.
            self.code[..*place].rsplit('\n').next().is_some_and(|before| before.trim().is_empty())
        });
        starts
            .filter_map(|place| {
                let end = end_of_body(&self.code[place..])?;
                let owner = owner(self.code[place + 4..].split('{').next()?);
                Some((owner, self.line_of(place)..=self.line_of(place + end)))
            })
            .collect()
    }

    /// The methods that are defined here, each with its type.
    pub(crate) fn methods(&self) -> Vec<(String, String)> {
        let (impls, functions) = (self.impls(), self.functions());
        let of = |function: &Function| impls.iter().find(|(_, lines)| lines.contains(&function.line));
        functions
            .iter()
            .filter_map(|function| Some((of(function)?.0.clone(), function.name.clone())))
            .collect()
    }

    /// The methods that a type calls on itself: the line, the type, the method.
    pub(crate) fn own_calls(&self) -> Vec<(usize, String, String)> {
        let impls = self.impls();
        let mut calls = Vec::new();
        for start in ["self.", "Self::"] {
            for place in places_of(&self.code, start) {
                let name = identifier(&self.code[place + start.len()..]);
                let line = self.line_of(place);
                let owner = impls.iter().find(|(_, lines)| lines.contains(&line));
                if let Some((owner, _)) = owner
                    && self.code[place + start.len() + name.len()..].starts_with('(')
                {
                    calls.push((line, owner.clone(), name.to_owned()));
                }
            }
        }
        calls
    }
}

/// The type of an `impl`, given the text between that word and its brace.
fn owner(head: &str) -> String {
    let mut depth = 0;
    let mut plain = String::new();
    for character in head.chars() {
        match character {
            '<' => depth += 1,
            // The one of `->` ends nothing.
            '>' if !plain.ends_with('-') => depth -= 1,
            _ if depth == 0 => plain.push(character),
            _ => {}
        }
    }
    let last = plain.split_whitespace().take_while(|word| *word != "where").last();
    last.and_then(|path| path.rsplit("::").next()).unwrap_or_default().to_owned()
}

/// The positions of `word` on its own.
fn places_of<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(place, _)| place).filter(move |place| {
        let before = code[..*place].chars().next_back();
        let after = code[place + word.len()..].chars().next();
        let cut = |side: Option<char>, inner: Option<char>| {
            !(inner.is_some_and(is_of_word) && side.is_some_and(is_of_word))
        };
        cut(before, word.chars().next()) && cut(after, word.chars().next_back())
    })
}

fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn identifier(code: &str) -> &str {
    &code[..code.find(|character| !is_of_word(character)).unwrap_or(code.len())]
}

/// Splits `a::{b, c::d}` at the start of `code`; returns the bytes that it took.
fn tree(code: &str, prefix: &[String], leaves: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    let mut at = 0;
    loop {
        at += code[at..].len() - code[at..].trim_start().len();
        if code[at..].starts_with('{') {
            at += 1;
            while at < code.len() && !code[at..].trim_start().starts_with('}') {
                at += tree(&code[at..], &path, leaves);
                at += code[at..].find([',', '}']).unwrap_or(code.len() - at);
                at += usize::from(code[at..].starts_with(','));
            }
            return (at + code[at..].find('}').map_or(0, |end| end + 1)).min(code.len());
        }
        let name = if code[at..].starts_with('*') { "*" } else { identifier(&code[at..]) };
        path.push(name.to_owned());
        at += name.len();
        if !code[at..].starts_with("::") {
            leaves.push(path);
            return at;
        }
        at += 2;
    }
}

/// The offset of the brace that ends the item at the start of `code`; `None` if it has no body.
fn end_of_body(code: &str) -> Option<usize> {
    let mut nesting = 0;
    let mut in_body = false;
    for (place, byte) in code.bytes().enumerate() {
        match byte {
            b'{' if nesting == 0 => {
                in_body = true;
                nesting += 1;
            }
            b'(' | b'[' | b'{' => nesting += 1,
            b')' | b']' | b'}' => {
                nesting -= 1;
                if nesting == 0 && in_body {
                    return Some(place);
                }
            }
            b';' if nesting == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Marks whole files of tests, and everything behind `#[cfg(test)]`.
fn test_lines(path: &str, code: &str) -> Vec<bool> {
    let whole = ["tests/", "fuzz/"].iter().any(|folder| path.starts_with(folder))
        || path.ends_with("/tests.rs")
        || path.contains("/tests/");
    let mut lines = vec![whole; code.lines().count()];
    let line_of = |place: usize| code[..place].bytes().filter(|byte| *byte == b'\n').count();
    for (place, attribute) in code.match_indices("#[cfg(test)]") {
        let item = place + attribute.len();
        let end = end_of_body(&code[item..]).map_or(item, |end| item + end);
        lines[line_of(place)..=line_of(end)].fill(true);
    }
    lines
}

/// The part of the source that a byte belongs to.
#[derive(Clone, Copy)]
enum Part {
    Code,
    LineComment,
    /// How deep it is nested.
    BlockComment(usize),
    /// How many `#` end it; `None` if backslashes escape.
    Text(Option<usize>),
    Character,
}

/// Replaces comments and the insides of literals by spaces.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut blanked = Vec::with_capacity(bytes.len());
    let mut part = Part::Code;
    while blanked.len() < bytes.len() {
        let at = blanked.len();
        let (taken, next) = step(bytes, at, part);
        let visible = matches!((part, next), (Part::Code, Part::Code));
        for byte in &bytes[at..(at + taken).min(bytes.len())] {
            blanked.push(if visible || *byte == b'\n' { *byte } else { b' ' });
        }
        part = next;
    }
    String::from_utf8(blanked).unwrap_or_default()
}

/// How many bytes at `at` go together, and what follows them.
fn step(bytes: &[u8], at: usize, part: Part) -> (usize, Part) {
    let rest = &bytes[at..];
    match part {
        Part::Code => step_in_code(bytes, at),
        Part::LineComment => (1, if rest[0] == b'\n' { Part::Code } else { part }),
        Part::BlockComment(depth) if rest.starts_with(b"/*") => (2, Part::BlockComment(depth + 1)),
        Part::BlockComment(1) if rest.starts_with(b"*/") => (2, Part::Code),
        Part::BlockComment(depth) if rest.starts_with(b"*/") => (2, Part::BlockComment(depth - 1)),
        Part::Text(None) | Part::Character if rest[0] == b'\\' => (2, part),
        Part::Text(None) if rest[0] == b'"' => (1, Part::Code),
        Part::Text(Some(marks)) if rest[0] == b'"' && hashes(&rest[1..]) >= marks => (1 + marks, Part::Code),
        Part::Character if rest[0] == b'\'' => (1, Part::Code),
        _ => (1, part),
    }
}

fn step_in_code(bytes: &[u8], at: usize) -> (usize, Part) {
    let rest = &bytes[at..];
    let within_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return (2, Part::LineComment);
    }
    if rest.starts_with(b"/*") {
        return (2, Part::BlockComment(1));
    }
    let prefix = usize::from(rest[0] == b'b' || rest[0] == b'c');
    if !within_word && rest.get(prefix) == Some(&b'r') {
        let marks = hashes(&rest[prefix + 1..]);
        if rest.get(prefix + 1 + marks) == Some(&b'"') {
            return (prefix + 2 + marks, Part::Text(Some(marks)));
        }
    }
    match rest {
        [b'"', ..] => (1, Part::Text(None)),
        // Not a lifetime: it is escaped, or ends after one character of any length.
        [b'\'', b'\\', ..] => (1, Part::Character),
        [b'\'', after @ ..] if ends_after_one_character(after) => (1, Part::Character),
        _ => (1, Part::Code),
    }
}

fn hashes(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| **byte == b'#').count()
}

fn ends_after_one_character(bytes: &[u8]) -> bool {
    let len = 1 + bytes.iter().skip(1).take_while(|byte| **byte & 0xc0 == 0x80).count();
    bytes.get(len) == Some(&b'\'')
}
