//! Reads sections of a parsed TOML file key by key, and gathers everything that is wrong with them.
//!
//! A key is known because somebody takes it. Whatever is left of a section when its reading ends is unknown and refused
//! by name, so that the list of keys cannot drift from the code.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::context::Context;
use super::problem::{Fault, Problem, ProblemSeverity, nearest, position};

/// One file that is being read.
pub(super) struct Reader<'a> {
    /// `None` for the main file.
    file: Option<&'a Path>,
    text: &'a str,
    root: &'a DeTable<'a>,
    context: &'a Context,
    problems: RefCell<Vec<Problem>>,
    unknown: RefCell<Vec<Unknown>>,
    known: RefCell<Known>,
    origins: RefCell<BTreeMap<String, usize>>,
    /// Where every value stands that was looked at, by its dotted path.
    places: RefCell<BTreeMap<String, Range<usize>>>,
}

/// The keys of every section that was read, by the path of the section.
pub(super) type Known = BTreeMap<String, Vec<KnownKey>>;

/// One key that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KnownKey {
    pub(super) name: &'static str,
    /// Whether the section can do without it.
    pub(super) optional: bool,
}

struct Unknown {
    section: String,
    name: String,
    span: Range<usize>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, root: &'a DeTable<'a>, context: &'a Context) -> Self {
        Self {
            file: None,
            text,
            root,
            context,
            problems: RefCell::default(),
            unknown: RefCell::default(),
            known: RefCell::default(),
            origins: RefCell::default(),
            places: RefCell::default(),
        }
    }

    /// The same for a file beside the main one.
    pub(super) fn of_file(self, file: &'a Path) -> Self {
        Self {
            file: Some(file),
            ..self
        }
    }

    pub(super) fn root(&self) -> &'a DeTable<'a> {
        self.root
    }

    pub(super) fn context(&self) -> &'a Context {
        self.context
    }

    /// Takes note of a section that was read: its known keys, and the names and places of those nobody asked for.
    pub(super) fn close_section(
        &self,
        path: String,
        known: Vec<KnownKey>,
        leftover: impl Iterator<Item = (String, Range<usize>)>,
    ) {
        let unknown = leftover.map(|(name, span)| Unknown {
            section: path.clone(),
            name,
            span,
        });
        self.unknown.borrow_mut().extend(unknown);
        self.known.borrow_mut().insert(path, known);
    }

    /// Takes note of where a value stands.
    pub(super) fn note_place(&self, key: &str, span: Range<usize>) {
        self.places.borrow_mut().insert(key.to_owned(), span);
    }

    /// Takes note of where the file sets a key.
    pub(super) fn note_origin(&self, key: String, offset: usize) {
        let (line, _) = position(self.text, offset);
        self.origins.borrow_mut().insert(key, line);
    }

    /// The line of every key that the file sets and that somebody read.
    pub(super) fn origins(&self) -> BTreeMap<String, usize> {
        self.origins.borrow().clone()
    }

    /// Everything that was found, in the order of the file, and the keys that are known.
    pub(super) fn finish(self) -> (Vec<Problem>, Known) {
        let known = self.known.take();
        for unknown in self.unknown.take() {
            self.refuse_unknown(&unknown, &known);
        }
        let mut problems = self.problems.take();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        (problems, known)
    }

    fn refuse_unknown(&self, unknown: &Unknown, known: &Known) {
        let here = known.get(&unknown.section).into_iter().flatten();
        let hint = nearest(&unknown.name, here.map(|key| key.name))
            .map(|name| format!("did you mean {name}?"))
            .or_else(|| {
                let (section, _) = known.iter().find(|(section, keys)| {
                    !section.is_empty() && keys.iter().any(|key| key.name == unknown.name)
                })?;
                Some(format!("{} is a key of [{section}]", unknown.name))
            });
        let fault = Fault {
            message: "is not a known key".to_owned(),
            hint,
        };
        let key = join(&unknown.section, &unknown.name);
        self.error(key, Some(unknown.span.clone()), fault);
    }

    pub(super) fn error(&self, key: String, span: Option<Range<usize>>, fault: Fault) {
        self.record(ProblemSeverity::Error, key, span, fault);
    }

    pub(super) fn warning(&self, key: String, span: Option<Range<usize>>, fault: Fault) {
        self.record(ProblemSeverity::Warning, key, span, fault);
    }

    fn record(
        &self,
        severity: ProblemSeverity,
        key: String,
        span: Option<Range<usize>>,
        fault: Fault,
    ) {
        let position = span.map(|span| position(self.text, span.start));
        self.problems.borrow_mut().push(Problem {
            severity,
            message: format!("{key} {}", fault.message),
            key,
            hint: fault.hint,
            line: position.map(|(line, _)| line),
            column: position.map(|(_, column)| column),
            file: self.file.map(Path::to_owned),
        });
    }

    /// Whether something was found for which the file is refused.
    pub(super) fn has_errors(&self) -> bool {
        self.problems.borrow().iter().any(Problem::is_error)
    }

    /// Records an error at the value of `key`, or at what stands nearest above it.
    pub(super) fn error_at(&self, key: &str, fault: Fault) {
        self.error(key.to_owned(), self.span_of(key), fault);
    }

    /// Records a piece of information at the value of `key`, or at what stands nearest above it.
    pub(super) fn inform_at(&self, key: &str, fault: Fault) {
        let severity = ProblemSeverity::Information;
        self.record(severity, key.to_owned(), self.span_of(key), fault);
    }

    /// Records a warning at the value of `key`, or at what stands nearest above it.
    pub(super) fn warn_at(&self, key: &str, fault: Fault) {
        self.warning(key.to_owned(), self.span_of(key), fault);
    }

    /// Whether the file sets a key that was read.
    pub(super) fn holds(&self, key: &str) -> bool {
        self.places.borrow().contains_key(key)
    }

    /// The text that the file sets `key` to; of a key without an index.
    pub(super) fn text_at(&self, key: &str) -> Option<&str> {
        let (sections, name) = key.rsplit_once('.')?;
        let mut table = self.root;
        for section in sections.split('.') {
            table = table.get(section)?.get_ref().as_table()?;
        }
        table.get(name)?.get_ref().as_str()
    }

    fn span_of(&self, key: &str) -> Option<Range<usize>> {
        let places = self.places.borrow();
        let mut part = key;
        loop {
            if let Some(span) = places.get(part) {
                return Some(span.clone());
            }
            part = part.get(..part.rfind(['.', '['])?)?;
        }
    }
}

/// A table that only headers below it imply has no place of its own; its key has.
pub(super) fn span_of_entry(
    name: &Spanned<Cow<'_, str>>,
    item: &Spanned<DeValue<'_>>,
) -> Range<usize> {
    if item.span().is_empty() {
        name.span()
    } else {
        item.span()
    }
}

/// The dotted path of a key; of the section itself for no name.
pub(super) fn join(section: &str, name: &str) -> String {
    if section.is_empty() {
        name.to_owned()
    } else if name.is_empty() {
        section.to_owned()
    } else {
        format!("{section}.{name}")
    }
}
