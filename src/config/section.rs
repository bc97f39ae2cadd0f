//! One table of the file: every key is taken by name, and what is left is refused.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;

use super::problem::{Fault, Severity};
use super::reader::{KnownKey, Reader, join, span_of_entry};
use super::value::Value;

/// One table that is being read. Every method that takes a key makes it known.
pub(crate) struct Section<'a> {
    reader: &'a Reader<'a>,
    path: String,
    table: &'a DeTable<'a>,
    span: Range<usize>,
    known: Vec<KnownKey>,
    is_judged: bool,
}

impl<'a> Section<'a> {
    /// The file as a whole.
    pub(super) fn root(reader: &'a Reader<'a>, table: &'a DeTable<'a>) -> Self {
        Self {
            reader,
            path: String::new(),
            table,
            span: 0..0,
            known: Vec::new(),
            is_judged: true,
        }
    }

    pub(super) fn reader(&self) -> &'a Reader<'a> {
        self.reader
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The dotted path of a key of this section.
    pub(super) fn key(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// Whether the file holds the key.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// Whether the key holds a list without elements.
    pub(super) fn is_empty_list(&self, name: &str) -> bool {
        let list = self
            .table
            .get(name)
            .and_then(|item| item.get_ref().as_array());
        list.is_some_and(|list| list.is_empty())
    }

    /// A key that must be there. `None` where it is missing or wrong, which is then recorded.
    /// Unwrap it after every other key is read: what a `?` leaves out is neither checked nor known.
    pub(crate) fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Value<'a>) -> Result<T, Fault>,
    ) -> Option<T> {
        let value = self.value(name, false);
        if value.is_none() {
            let fault = Fault::new("is missing");
            self.reader
                .record(Severity::Error, self.key(name), self.own_span(), fault);
        }
        value?.read(read)
    }

    /// A key that may be left out. `None` also where it is wrong, which is then recorded.
    pub(crate) fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Value<'a>) -> Result<T, Fault>,
    ) -> Option<T> {
        self.value(name, true)?.read(read)
    }

    /// A key that may be left out for `default`.
    pub(crate) fn or<T>(
        &mut self,
        name: &'static str,
        default: T,
        read: impl FnOnce(&Value<'a>) -> Result<T, Fault>,
    ) -> T {
        self.optional(name, read).unwrap_or(default)
    }

    /// A section that must be there.
    pub(super) fn required_section<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Section<'a>) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(name, false);
        if value.is_none() {
            let fault =
                Fault::new("is missing").hint(format!("add the section [{}]", self.key(name)));
            self.reader
                .record(Severity::Error, self.key(name), self.own_span(), fault);
        }
        value?.section(read)
    }

    /// A section that may be left out. `None` also where it is wrong, which is then recorded.
    pub(super) fn optional_section<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Section<'a>) -> Option<T>,
    ) -> Option<T> {
        self.value(name, true)?.section(read)
    }

    /// A list of tables, `[[name]]`, that may be left out. Tables with something wrong are recorded and left out.
    pub(super) fn tables<T>(
        &mut self,
        name: &'static str,
        mut read: impl FnMut(&mut Section<'a>) -> Option<T>,
    ) -> Vec<T> {
        let header = self.key(name);
        let Some(value) = self.value(name, true) else {
            return Vec::new();
        };
        let Some(items) = value.as_array() else {
            value.fail(
                Fault::new(format!("must be a list of tables, not {}", value.kind()))
                    .hint(format!("write [[{header}]] above each")),
            );
            return Vec::new();
        };
        let elements = items.iter().enumerate();
        elements
            .filter_map(|(idx, item)| value.element(idx, item).section(&mut read))
            .collect()
    }

    /// Every entry of this section under a name that the file chooses, in the order of the file.
    pub(super) fn entries(&mut self) -> Vec<(&'a str, Value<'a>)> {
        self.is_judged = false;
        let mut entries: Vec<_> = self.table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let of_entry = |(name, item): (&'a Spanned<_>, &'a Spanned<_>)| {
            let name: &'a str = Cow::as_ref(name.get_ref());
            let value = Value::new(
                self.reader,
                self.key(name),
                item,
                span_of_name(self.table, name),
            );
            (name, value)
        };
        entries.into_iter().map(of_entry).collect()
    }

    /// Leaves the other keys of this section unjudged, where it is not known which keys it may have.
    pub(super) fn leave_unjudged(&mut self) {
        self.is_judged = false;
    }

    /// Records what is missing where only one of two keys is there.
    pub(crate) fn refuse_half_a_pair(&self, one: &str, other: &str) {
        for (present, missing) in [(one, other), (other, one)] {
            if self.has(present) && !self.has(missing) {
                self.error(
                    present,
                    Fault::new(format!("needs {missing} beside it")).hint("set both or neither"),
                );
            }
        }
    }

    /// Records an error at the value of a key of this section, or at the section.
    pub(crate) fn error(&self, name: &str, fault: Fault) {
        self.reader
            .record(Severity::Error, self.key(name), self.span_at(name), fault);
    }

    /// Records a warning at the value of a key of this section, or at the section.
    pub(super) fn warn(&self, name: &str, fault: Fault) {
        self.reader
            .record(Severity::Warning, self.key(name), self.span_at(name), fault);
    }

    /// Takes note that `key`, by which people are shown a value, stands where `name` of this section does.
    pub(super) fn note_origin_as(&self, name: &str, key: &str) {
        if let Some(item) = self.table.get(name) {
            self.reader.note_origin(key.to_owned(), item.span().start);
        }
    }

    fn value(&mut self, name: &'static str, optional: bool) -> Option<Value<'a>> {
        self.known.push(KnownKey { name, optional });
        let item = self.table.get(name)?;
        self.reader.note_origin(self.key(name), item.span().start);
        Some(Value::new(
            self.reader,
            self.key(name),
            item,
            span_of_name(self.table, name),
        ))
    }

    fn span_at(&self, name: &str) -> Option<Range<usize>> {
        self.table
            .get_key_value(name)
            .map(|(name, item)| span_of_entry(name, item))
            .or_else(|| self.own_span())
    }

    fn own_span(&self) -> Option<Range<usize>> {
        (!self.path.is_empty()).then(|| self.span.clone())
    }

    /// Reads the keys of the section, and refuses those that are left.
    pub(super) fn read<T>(mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let value = read(&mut self);
        let Self {
            reader,
            path,
            table,
            known,
            is_judged,
            ..
        } = self;
        let names: Vec<&str> = known.iter().map(|key| key.name).collect();
        let leftover = table
            .keys()
            .filter(|name| is_judged && !names.contains(&name.get_ref().as_ref()))
            .map(|name| (name.get_ref().to_string(), name.span()));
        reader.close_section(path, known, leftover);
        value
    }
}

fn span_of_name(table: &DeTable<'_>, name: &str) -> Range<usize> {
    table
        .get_key_value(name)
        .map(|(name, _)| name.span())
        .unwrap_or_default()
}

impl<'a> Value<'a> {
    /// Reads a table as a section, and refuses the keys that are left.
    pub(super) fn section<T>(&self, read: impl FnOnce(&mut Section<'a>) -> Option<T>) -> Option<T> {
        let Some(table) = self.as_table() else {
            self.fail(Fault::new(format!(
                "must be a section, not {}",
                self.kind()
            )));
            return None;
        };
        let section = Section {
            reader: self.reader(),
            path: self.key().to_owned(),
            table,
            span: self.span(),
            known: Vec::new(),
            is_judged: true,
        };
        section.read(read)
    }
}
