//! One table of the file and its values: every key is taken by name and read as what it has to be, and what is left is refused.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use jiff::tz::TimeZone;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::context::Context;
use super::problem::Fault;
use super::reader::{KnownKey, Reader, join, span_of_entry};
use super::{duration, url};
use crate::phone::E164;
use crate::routing;
use crate::twiml::Connect;

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
    pub(super) fn root(reader: &'a Reader<'a>) -> Self {
        Self {
            reader,
            path: String::new(),
            table: reader.root(),
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

    /// Whether the file holds the key, and not for an empty list.
    pub(super) fn has_some(&self, name: &str) -> bool {
        let item = self.table.get(name).map(Spanned::get_ref);
        item.is_some_and(|item| item.as_array().is_none_or(|list| !list.is_empty()))
    }

    /// A key that must be there. `None` where it is missing or wrong, which is then recorded.
    /// Unwrap it after every other key is read: what a `?` leaves out is neither checked nor known.
    pub(crate) fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&TomlValue<'a>) -> Result<T, Fault>,
    ) -> Option<T> {
        let value = self.value(name, false);
        if value.is_none() {
            let fault = Fault::new("is missing");
            self.reader.error(self.key(name), self.own_span(), fault);
        }
        value?.read(read)
    }

    /// A key that may be left out. `None` also where it is wrong, which is then recorded.
    pub(crate) fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&TomlValue<'a>) -> Result<T, Fault>,
    ) -> Option<T> {
        self.value(name, true)?.read(read)
    }

    /// A key that may be left out for `default`.
    pub(crate) fn or<T>(
        &mut self,
        name: &'static str,
        default: T,
        read: impl FnOnce(&TomlValue<'a>) -> Result<T, Fault>,
    ) -> T {
        self.optional(name, read).unwrap_or(default)
    }

    /// A list that may be left out. Elements with something wrong are recorded and left out.
    pub(super) fn list<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&TomlValue<'a>) -> Result<T, Fault>,
    ) -> Vec<T> {
        self.or(name, Vec::new(), |value| value.list(read))
    }

    /// A duration that may be left out for `default`.
    pub(super) fn duration(
        &mut self,
        name: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        self.or(name, default, |value| value.duration(range))
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
            self.reader.error(self.key(name), self.own_span(), fault);
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
    pub(super) fn entries(&mut self) -> Vec<(&'a str, TomlValue<'a>)> {
        self.is_judged = false;
        let entries = in_order(self.table).into_iter();
        entries
            .map(|(name, item)| (name, self.value_of(name, item)))
            .collect()
    }

    /// The names of the entries of a section below, in the order of the file.
    pub(super) fn names_in(&self, name: &str) -> Vec<&'a str> {
        let below = self.table.get(name).map(Spanned::get_ref);
        let entries = below.and_then(DeValue::as_table).map(in_order);
        let entries = entries.unwrap_or_default().into_iter();
        entries.map(|(name, _)| name).collect()
    }

    /// The names of the keys that the file holds in this section.
    pub(super) fn names(&self) -> Vec<&'a str> {
        let names = in_order(self.table).into_iter();
        names.map(|(name, _)| name).collect()
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
        self.reader.error(self.key(name), self.span_at(name), fault);
    }

    /// Records a warning at the value of a key of this section, or at the section.
    pub(super) fn warn(&self, name: &str, fault: Fault) {
        self.reader
            .warning(self.key(name), self.span_at(name), fault);
    }

    /// Takes note that `key`, by which people are shown a value, stands where `name` of this section does.
    pub(super) fn note_origin_as(&self, name: &str, key: &str) {
        if let Some(item) = self.table.get(name) {
            self.reader.note_origin(key.to_owned(), item.span().start);
        }
    }

    fn value(&mut self, name: &'static str, optional: bool) -> Option<TomlValue<'a>> {
        self.known.push(KnownKey { name, optional });
        let item = self.table.get(name)?;
        self.reader.note_origin(self.key(name), item.span().start);
        Some(self.value_of(name, item))
    }

    fn value_of(&self, name: &str, item: &'a Spanned<DeValue<'a>>) -> TomlValue<'a> {
        let entry = self.table.get_key_value(name);
        let name_span = entry.map(|(name, _)| name.span()).unwrap_or_default();
        TomlValue::new(self.reader, self.key(name), item, name_span)
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

/// One value, and where it stands in the file.
pub(crate) struct TomlValue<'a> {
    reader: &'a Reader<'a>,
    key: String,
    item: &'a Spanned<DeValue<'a>>,
    name_span: Range<usize>,
}

impl<'a> TomlValue<'a> {
    fn new(
        reader: &'a Reader<'a>,
        key: String,
        item: &'a Spanned<DeValue<'a>>,
        name_span: Range<usize>,
    ) -> Self {
        let value = Self {
            reader,
            key,
            item,
            name_span,
        };
        reader.note_place(&value.key, value.span());
        value
    }

    /// The value of a key of this table.
    pub(super) fn child(&self, name: &str, item: &'a Spanned<DeValue<'a>>) -> TomlValue<'a> {
        self.inner(format!("{}.{name}", self.key), item)
    }

    /// One element of this list.
    fn element(&self, idx: usize, item: &'a Spanned<DeValue<'a>>) -> TomlValue<'a> {
        self.inner(format!("{}[{idx}]", self.key), item)
    }

    fn inner(&self, key: String, item: &'a Spanned<DeValue<'a>>) -> TomlValue<'a> {
        TomlValue::new(self.reader, key, item, item.span())
    }

    pub(super) fn context(&self) -> &'a Context {
        self.reader.context()
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Where the value stands; the place of its key where only headers below imply it.
    fn span(&self) -> Range<usize> {
        let span = self.item.span();
        if span.is_empty() {
            self.name_span.clone()
        } else {
            span
        }
    }

    /// Records what is wrong with this value.
    fn fail(&self, fault: Fault) {
        self.reader
            .error(self.key.clone(), Some(self.span()), fault);
    }

    /// Records what somebody should look at.
    pub(crate) fn warn(&self, fault: Fault) {
        self.reader
            .warning(self.key.clone(), Some(self.span()), fault);
    }

    /// Records what is wrong with the name of this value.
    pub(super) fn fail_at_name(&self, fault: Fault) {
        self.reader
            .error(self.key.clone(), Some(self.name_span.clone()), fault);
    }

    /// Reads the value, and records what is wrong with it.
    fn read<T>(&self, read: impl FnOnce(&Self) -> Result<T, Fault>) -> Option<T> {
        read(self).map_err(|fault| self.fail(fault)).ok()
    }

    /// The kind of value, with its article.
    pub(crate) fn kind(&self) -> &'static str {
        match self.item.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a decimal number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    }

    pub(crate) fn as_text(&self) -> Option<&'a str> {
        self.item.get_ref().as_str()
    }

    fn as_array(&self) -> Option<&'a DeArray<'a>> {
        self.item.get_ref().as_array()
    }

    pub(super) fn as_table(&self) -> Option<&'a DeTable<'a>> {
        self.item.get_ref().as_table()
    }

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
            reader: self.reader,
            path: self.key.clone(),
            table,
            span: self.span(),
            known: Vec::new(),
            is_judged: true,
        };
        section.read(read)
    }

    fn must_be(&self, what: &str) -> Fault {
        Fault::new(format!("must be {what}, not {}", self.kind()))
    }

    /// Any text but blank text.
    pub(crate) fn text(&self) -> Result<String, Fault> {
        let text = self.as_text().ok_or_else(|| self.must_be("a string"))?;
        if text.trim().is_empty() {
            return Err(Fault::new("is empty"));
        }
        Ok(text.to_owned())
    }

    /// Text that a caller hears.
    pub(super) fn spoken(&self) -> Result<String, Fault> {
        const LONGEST: usize = 3_000;
        let text = self.text()?;
        if text.chars().count() > LONGEST {
            return Err(Fault::new(format!("is longer than {LONGEST} characters"))
                .hint("Twilio speaks at most 4,096"));
        }
        let unspeakable = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
        if text.contains(unspeakable) {
            return Err(Fault::new(
                "holds a control character, which XML cannot carry",
            ));
        }
        Ok(text)
    }

    /// Text that `accepts`; `what` completes "must be …".
    pub(crate) fn text_like(
        &self,
        what: &str,
        accepts: impl Fn(&str) -> bool,
    ) -> Result<String, Fault> {
        let text = self.text()?;
        if accepts(&text) {
            Ok(text)
        } else {
            Err(Fault::new(format!("must be {what}")))
        }
    }

    pub(super) fn boolean(&self) -> Result<bool, Fault> {
        self.item.get_ref().as_bool().ok_or_else(|| {
            let fault = self.must_be("true or false");
            match self.as_text() {
                Some("true" | "false") => fault.hint("leave the quotes out"),
                Some(_) | None => fault,
            }
        })
    }

    pub(crate) fn integer<T: TryFrom<i64> + PartialOrd + std::fmt::Display>(
        &self,
        range: RangeInclusive<T>,
    ) -> Result<T, Fault> {
        let integer = self.item.get_ref().as_integer();
        let integer = integer.ok_or_else(|| self.must_be("a whole number"))?;
        i64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                Fault::new(format!(
                    "must lie between {} and {}",
                    range.start(),
                    range.end()
                ))
            })
    }

    /// Text, a number, or true or false, as text.
    pub(super) fn as_plain_text(&self) -> Result<String, Fault> {
        match self.item.get_ref() {
            DeValue::String(_) => self.text(),
            DeValue::Integer(_) | DeValue::Float(_) => Ok(self.number()?.to_string()),
            DeValue::Boolean(truth) => Ok(truth.to_string()),
            DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                Err(self.must_be("text, a number, or true or false"))
            }
        }
    }

    /// A number, whole or not.
    pub(super) fn number(&self) -> Result<f64, Fault> {
        let number = match self.item.get_ref() {
            DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
                .ok()
                .and_then(|number| number.to_string().parse::<f64>().ok()),
            DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => return Err(self.must_be("a number")),
        };
        number
            .filter(|number| number.is_finite())
            .ok_or_else(|| Fault::new("must be a finite number"))
    }

    /// A duration with its unit.
    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Result<Duration, Fault> {
        const HOW: &str = "write a whole number and ms, s, m, h or d, like \"1500ms\" or \"5m\"";
        let text = self
            .as_text()
            .ok_or_else(|| self.must_be("a duration in quotes").hint(HOW))?;
        let value =
            duration::parse(text).ok_or_else(|| Fault::new("is not a duration").hint(HOW))?;
        if range.contains(&value) {
            return Ok(value);
        }
        let (least, most) = (
            duration::render(*range.start()),
            duration::render(*range.end()),
        );
        Err(Fault::new(format!(
            "must lie between {least} and {most}, not {}",
            duration::render(value)
        )))
    }

    /// The name of a time zone.
    pub(super) fn time_zone(&self) -> Result<TimeZone, Fault> {
        routing::time_zone(&self.text()?).ok_or_else(|| {
            Fault::new("is no time zone of the IANA database")
                .hint("write \"UTC\", \"Europe/Berlin\" or another name of it")
        })
    }

    /// A phone number in E.164 form.
    pub(super) fn phone_number(&self) -> Result<E164, Fault> {
        E164::parse(&self.text()?).map_err(|error| Fault::new(format!("is {error}")))
    }

    /// A phone number or SIP address.
    pub(super) fn connect(&self) -> Result<Connect, Fault> {
        Connect::parse(&self.text()?).map_err(|error| Fault::new(format!("is {error}")))
    }

    /// An address and a port.
    pub(super) fn socket_address(&self) -> Result<SocketAddr, Fault> {
        let text = self.text()?;
        text.parse().map_err(|_| {
            let fault = Fault::new("must be an address and a port");
            match text.strip_prefix("localhost:") {
                Some(port) => fault.hint(format!("write 127.0.0.1:{port}")),
                None => fault.hint("write \"0.0.0.0:8443\", \"127.0.0.1:8080\" or \"[::]:8443\""),
            }
        })
    }

    /// A network; a bare address is a network of one.
    pub(super) fn network(&self) -> Result<IpNet, Fault> {
        let text = self.text()?;
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| {
                Fault::new("must be a network").hint("write \"10.0.0.0/8\" or \"2001:db8::/32\"")
            })
    }

    /// A path; a relative one starts at the directory of the file.
    pub(super) fn path(&self) -> Result<PathBuf, Fault> {
        Ok(self.context().resolve(&self.text()?))
    }

    /// The address of an API: https, or http on a loopback host; without query, and without a slash at its end.
    pub(crate) fn base_url(&self) -> Result<String, Fault> {
        let text = self.text()?;
        let parts = url::Parts::split(&text)?;
        parts.refuse_query()?;
        parts.refuse_plain_http()?;
        Ok(text.trim_end_matches('/').to_owned())
    }

    /// The whole address of one request: https, or http on a loopback host.
    pub(crate) fn request_url(&self) -> Result<String, Fault> {
        let text = self.text()?;
        url::Parts::split(&text)?.refuse_plain_http()?;
        Ok(text)
    }

    pub(crate) fn mail_address(&self) -> Result<String, Fault> {
        self.text_like("a mail address like ops@example.com", |text| {
            text.split_once('@').is_some_and(|(user, host)| {
                !user.is_empty()
                    && !host.is_empty()
                    && !host.contains('@')
                    && text
                        .chars()
                        .all(|c| c.is_ascii_graphic() && !"<>\",;()".contains(c))
            })
        })
    }

    /// One of a few words.
    pub(super) fn one_of<T: Copy>(&self, words: &[(&'static str, T)]) -> Result<T, Fault> {
        let text = self.text()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let known = names.join(", ");
        Err(Fault::new(format!("must be one of {known}"))
            .nearest(&text, names, || format!("{text} is none of them")))
    }

    /// A list; elements with something wrong are recorded and left out.
    pub(super) fn list<T>(
        &self,
        mut read: impl FnMut(&TomlValue<'a>) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let items = self
            .as_array()
            .ok_or_else(|| self.must_be("a list").hint("write [\"…\", \"…\"]"))?;
        let elements = items.iter().enumerate();
        Ok(elements
            .filter_map(|(idx, item)| self.element(idx, item).read(&mut read))
            .collect())
    }

    /// Anything but an empty list, of which `fault` and `hint` say what is wrong.
    pub(super) fn non_empty<T>(
        &self,
        fault: &str,
        hint: &str,
        read: impl FnOnce(&Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        if self.as_array().is_some_and(|list| list.is_empty()) {
            return Err(Fault::new(fault).hint(hint));
        }
        read(self)
    }

    /// One element, or a list of them.
    pub(super) fn one_or_list<T>(
        &self,
        mut read: impl FnMut(&TomlValue<'a>) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        if self.as_array().is_some() {
            self.list(read)
        } else {
            read(self).map(|element| vec![element])
        }
    }

    /// A table whose names the file chooses, in the order of the file; values with something wrong are left out.
    pub(crate) fn map<T>(
        &self,
        mut read: impl FnMut(&str, &TomlValue<'a>) -> Result<T, Fault>,
    ) -> Result<Vec<(String, T)>, Fault> {
        let table = self.as_table().ok_or_else(|| self.must_be("a table"))?;
        let pair = |(name, item): (&'a str, &'a Spanned<DeValue<'a>>)| {
            let value = self.child(name, item).read(|value| read(name, value))?;
            Some((name.to_owned(), value))
        };
        Ok(in_order(table).into_iter().filter_map(pair).collect())
    }
}

/// The entries of a table, in the order of the file.
fn in_order<'a>(table: &'a DeTable<'a>) -> Vec<(&'a str, &'a Spanned<DeValue<'a>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    let entries = entries.into_iter();
    entries
        .map(|(name, item)| (Cow::as_ref(name.get_ref()), item))
        .collect()
}
