//! One value of the file, and what it can be read as.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::context::Context;
use super::problem::{Fault, Severity};
use super::reader::Reader;
use super::{duration, url};
use crate::phone::E164;
use crate::twiml::Connect;

/// One value with its place in the file.
pub(crate) struct Value<'a> {
    reader: &'a Reader<'a>,
    key: String,
    item: &'a Spanned<DeValue<'a>>,
    name_span: Range<usize>,
}

impl<'a> Value<'a> {
    pub(super) fn new(
        reader: &'a Reader<'a>,
        key: String,
        item: &'a Spanned<DeValue<'a>>,
        name_span: Range<usize>,
    ) -> Self {
        Self {
            reader,
            key,
            item,
            name_span,
        }
    }

    /// The value of a key of this table.
    pub(super) fn child(&self, name: &str, item: &'a Spanned<DeValue<'a>>) -> Value<'a> {
        Value::new(
            self.reader,
            format!("{}.{name}", self.key),
            item,
            item.span(),
        )
    }

    /// One element of this list.
    pub(super) fn element(&self, idx: usize, item: &'a Spanned<DeValue<'a>>) -> Value<'a> {
        Value::new(
            self.reader,
            format!("{}[{idx}]", self.key),
            item,
            item.span(),
        )
    }

    pub(super) fn reader(&self) -> &'a Reader<'a> {
        self.reader
    }

    pub(super) fn context(&self) -> &'a Context {
        self.reader.context()
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Where the value stands; the place of its key where only headers below imply it.
    pub(super) fn span(&self) -> Range<usize> {
        let span = self.item.span();
        if span.is_empty() {
            self.name_span.clone()
        } else {
            span
        }
    }

    /// Records what is wrong with this value.
    pub(super) fn fail(&self, fault: Fault) {
        self.reader
            .record(Severity::Error, self.key.clone(), Some(self.span()), fault);
    }

    /// Records what somebody should look at.
    pub(crate) fn warn(&self, fault: Fault) {
        self.reader.record(
            Severity::Warning,
            self.key.clone(),
            Some(self.span()),
            fault,
        );
    }

    /// Records what is wrong with the name of this value.
    pub(super) fn fail_at_name(&self, fault: Fault) {
        self.reader.record(
            Severity::Error,
            self.key.clone(),
            Some(self.name_span.clone()),
            fault,
        );
    }

    /// Reads the value, and records what is wrong with it.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Self) -> Result<T, Fault>) -> Option<T> {
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

    pub(super) fn as_array(&self) -> Option<&'a DeArray<'a>> {
        self.item.get_ref().as_array()
    }

    pub(super) fn as_table(&self) -> Option<&'a DeTable<'a>> {
        self.item.get_ref().as_table()
    }

    pub(super) fn as_boolean(&self) -> Option<bool> {
        self.item.get_ref().as_bool()
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
        self.as_boolean().ok_or_else(|| {
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
        read: impl Fn(&Value<'a>) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let items = self
            .as_array()
            .ok_or_else(|| self.must_be("a list").hint("write [\"…\", \"…\"]"))?;
        let elements = items.iter().enumerate();
        Ok(elements
            .filter_map(|(idx, item)| self.element(idx, item).read(&read))
            .collect())
    }

    /// One element, or a list of them.
    pub(super) fn one_or_list<T>(
        &self,
        read: impl Fn(&Value<'a>) -> Result<T, Fault>,
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
        read: impl Fn(&str, &Value<'a>) -> Result<T, Fault>,
    ) -> Result<Vec<(String, T)>, Fault> {
        let table = self.as_table().ok_or_else(|| self.must_be("a table"))?;
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let pair = |(name, item): (&'a Spanned<Cow<'a, str>>, &'a Spanned<DeValue<'a>>)| {
            let name = name.get_ref().as_ref();
            let value = self.child(name, item).read(|value| read(name, value))?;
            Some((name.to_owned(), value))
        };
        Ok(entries.into_iter().filter_map(pair).collect())
    }
}
