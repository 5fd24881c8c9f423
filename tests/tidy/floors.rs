//! The order of the modules, at every depth: each may use those that its folder lists before it, and no files use
//! one another in a circle.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;

/// A module's path from the top of the crate; empty for the crate itself.
type Module = Vec<String>;

/// The modules in the order in which they may use one another.
pub(crate) struct Floors {
    /// The modules that each module lists, in its order.
    lists: BTreeMap<Module, Vec<String>>,
    /// The file of each module that has one.
    files: BTreeMap<Module, String>,
}

/// Which file uses which other, and the first line on which it does.
type Uses = BTreeMap<String, BTreeMap<String, usize>>;

impl Floors {
    pub(crate) fn of(sources: &[Source]) -> Self {
        let each = || sources.iter().map(|source| (module_of(&source.path), source));
        Self {
            lists: each().map(|(module, source)| (module, modules(source))).collect(),
            files: each().map(|(module, source)| (module, source.path.clone())).collect(),
        }
    }

    /// The modules that the crate lists.
    pub(crate) fn top(&self) -> &[String] {
        self.lists.get(&Vec::new()).map_or(&[], Vec::as_slice)
    }

    /// The modules that a file uses although they are listed after it.
    pub(crate) fn faults(&self, source: &Source) -> Vec<String> {
        let here = module_of(&source.path);
        let mut faults = Vec::new();
        for (line, named) in self.named(source) {
            let common = here.iter().zip(&named).take_while(|(here, named)| here == named).count();
            let Some(list) = self.lists.get(&here[..common]) else { continue };
            let place = |path: &[String]| list.iter().position(|name| Some(name) == path.get(common));
            // Otherwise it belongs to a folder that both are in, or to the file itself.
            if let (Some(own), Some(place)) = (place(&here), place(&named))
                && place > own
            {
                let (here, named) = (here.join("::"), named.join("::"));
                faults.push(format!(
                    "{}:{line}: {here} uses {named}, which is listed after it; move what it needs down, or hand it in",
                    source.path
                ));
            }
        }
        faults
    }

    /// Files that use one another in a circle, by the modules that they name and by the methods that they
    /// call on themselves. Tests are left out.
    pub(crate) fn circles(&self, sources: &[Source]) -> Vec<String> {
        let uses = self.uses(sources);
        let reached = uses.keys().map(|file| (file, reached(&uses, file))).collect::<BTreeMap<_, _>>();
        let mut faults = Vec::new();
        for (file, used) in &uses {
            for (other, line) in used {
                if reached.get(other).is_some_and(|reached| reached.contains(file)) {
                    faults.push(format!(
                        "{file}:{line}: it uses {other}, and is used by it, perhaps through others; move what both need to a \
                         file of its own"
                    ));
                }
            }
        }
        faults
    }

    fn uses(&self, sources: &[Source]) -> Uses {
        let mut uses = Uses::new();
        let mut note = |file: &str, line: usize, other: &str| {
            if file != other {
                uses.entry(file.to_owned()).or_default().entry(other.to_owned()).or_insert(line);
            }
        };
        let methods = methods(sources);
        for source in sources {
            let named = self.named(source).into_iter();
            for (line, named) in named.filter(|(line, _)| !source.is_test(*line)) {
                if let Some(other) = self.file(&named) {
                    note(&source.path, line, other);
                }
            }
            for (line, owner, method) in source.own_calls().into_iter().filter(|call| !source.is_test(call.0))
            {
                let files = methods.get(&(top_of(&source.path), owner, method));
                // The same name in several files means several types.
                if let Some(other) = files.filter(|files| files.len() == 1).and_then(BTreeSet::first) {
                    note(&source.path, line, other);
                }
            }
        }
        uses
    }

    /// The file that a path leads to: that of the innermost module on it.
    fn file(&self, path: &[String]) -> Option<&String> {
        (1..=path.len()).rev().find_map(|len| self.files.get(&path[..len]))
    }

    /// The modules of the crate that a file names, from the top.
    fn named(&self, source: &Source) -> Vec<(usize, Module)> {
        let here = module_of(&source.path);
        let mut named = source.paths("crate");
        for (line, path) in source.paths("super") {
            let mut base = here.clone();
            // Tests within a file are a module in it.
            if source.is_test(line) && !source.path.ends_with("tests.rs") {
                base.push("tests".to_owned());
            }
            let more = path.iter().take_while(|name| *name == "super").count();
            base.truncate(base.len().saturating_sub(1 + more));
            base.extend(path.into_iter().skip(more));
            named.push((line, base));
        }
        for child in self.lists.get(&here).into_iter().flatten() {
            for (line, path) in source.paths(child) {
                named.push((line, [&here[..], std::slice::from_ref(child), &path[..]].concat()));
            }
        }
        named
    }
}

/// All files that a file uses, directly or through others.
fn reached<'a>(uses: &'a Uses, from: &'a String) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        open.extend(
            uses.get(file)
                .into_iter()
                .flatten()
                .map(|(other, _)| other)
                .filter(|other| reached.insert(*other)),
        );
    }
    reached
}

/// The files in which each method of a type is.
fn methods(sources: &[Source]) -> BTreeMap<(String, String, String), BTreeSet<String>> {
    let mut methods = BTreeMap::<_, BTreeSet<String>>::new();
    for source in sources {
        for (owner, method) in source.methods() {
            let key = (top_of(&source.path), owner, method);
            methods.entry(key).or_default().insert(source.path.clone());
        }
    }
    methods
}

/// `src/hub/channel.rs` is `hub::channel`.
fn module_of(path: &str) -> Module {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').filter(|name| *name != "lib").map(str::to_owned).collect()
}

/// The floor of a file: types of the same name on two floors are two types.
fn top_of(path: &str) -> String {
    module_of(path).into_iter().next().unwrap_or_default()
}

/// The modules that a file lists, in its order.
fn modules(source: &Source) -> Vec<String> {
    let lines =
        source.code.lines().map(|line| line.trim_start_matches("pub(crate) ").trim_start_matches("pub "));
    lines.filter_map(|line| Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_owned())).collect()
}
