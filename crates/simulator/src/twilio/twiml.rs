//! Reads an answer as strictly as Twilio does: what Twilio only warns about is reported, what it refuses is refused.

use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};

use crate::number;

/// The longest answer that is read.
const LONGEST: usize = 64 * 1024;

/// A document that can be executed.
#[derive(Clone, Debug, Default)]
pub(super) struct Document {
    pub(super) verbs: Vec<Element>,
    /// What Twilio would log as a warning, with its error code.
    pub(super) warnings: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) attributes: Vec<(String, String)>,
    pub(super) text: String,
    pub(super) children: Vec<Element>,
}

impl Element {
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        self.attribute(name) == Some("true")
    }
}

/// Why an answer cannot be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) code: u32,
    pub(super) message: String,
}

impl Refused {
    pub(super) fn new(code: u32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// Reads the body of an answer.
pub(super) fn read(content_type: Option<&str>, body: &[u8]) -> Result<Document, Refused> {
    check_content_type(content_type)?;
    if body.is_empty() {
        return Err(Refused::new(11770, "the body is empty"));
    }
    if body.len() >= LONGEST {
        return Err(Refused::new(11750, "the body is longer than 64 kB"));
    }
    let text =
        std::str::from_utf8(body).map_err(|_| Refused::new(12100, "the body is not UTF-8"))?;
    if !text.starts_with('<') {
        return Err(Refused::new(
            12100,
            "something stands before the first element",
        ));
    }
    let root = parse(text)?;
    if root.name != "Response" {
        return Err(Refused::new(
            12102,
            format!("the root is <{}> instead of <Response>", root.name),
        ));
    }
    let mut warnings = Vec::new();
    if !root.attributes.is_empty() {
        warnings.push("12200: <Response> takes no attributes".to_owned());
    }
    if !root.text.trim().is_empty() {
        warnings.push("12200: text outside a verb".to_owned());
    }
    let mut reachable = true;
    for verb in &root.children {
        check_verb(verb, &mut warnings);
        if !reachable {
            warnings.push(format!("<{}> can never be reached", verb.name));
        }
        let dial_goes_on = verb.name == "Dial" && verb.attribute("action").is_some();
        reachable &=
            !dial_goes_on && !["Redirect", "Hangup", "Reject"].contains(&verb.name.as_str());
    }
    Ok(Document {
        verbs: root.children,
        warnings,
    })
}

fn check_content_type(content_type: Option<&str>) -> Result<(), Refused> {
    let Some(content_type) = content_type else {
        return Err(Refused::new(12300, "there is no Content-Type"));
    };
    let media_type = content_type.split(';').next().unwrap_or("").trim();
    match media_type.to_ascii_lowercase().as_str() {
        "text/xml" | "application/xml" | "text/html" => Ok(()),
        other => Err(Refused::new(
            12300,
            format!("Content-Type {other} is not TwiML"),
        )),
    }
}

fn parse(text: &str) -> Result<Element, Refused> {
    let broken = |what: String| Refused::new(12100, what);
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = true;
    let mut open: Vec<Element> = Vec::new();
    let mut root: Option<Element> = None;
    let mut first = true;
    loop {
        let event = reader
            .read_event()
            .map_err(|error| broken(format!("not well-formed: {error}")))?;
        match event {
            Event::Start(tag) => {
                refuse_second_root(root.as_ref())?;
                open.push(element(&tag)?);
            }
            Event::Empty(tag) => {
                refuse_second_root(root.as_ref())?;
                close(element(&tag)?, &mut open, &mut root);
            }
            Event::End(_) => {
                let ended = open
                    .pop()
                    .ok_or_else(|| broken("an end tag too many".to_owned()))?;
                close(ended, &mut open, &mut root);
            }
            Event::Text(text) => add_text(&mut open, &text.xml10_content())?,
            Event::CData(text) => add_text(&mut open, &text.xml10_content())?,
            Event::GeneralRef(reference) => {
                let name = reference.xml10_content().into_owned();
                let character = match reference.resolve_char_ref() {
                    Ok(Some(character)) => character,
                    Ok(None) => predefined(&name)
                        .ok_or_else(|| broken(format!("the entity &{name}; is not known")))?,
                    Err(error) => return Err(broken(format!("not well-formed: {error}"))),
                };
                add_text(&mut open, character.encode_utf8(&mut [0; 4]))?;
            }
            Event::Decl(_) if first => {}
            Event::Decl(_) => return Err(broken("an XML declaration inside".to_owned())),
            Event::DocType(_) => return Err(broken("a document type is not allowed".to_owned())),
            Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
        first = false;
    }
    if let Some(unclosed) = open.last() {
        return Err(broken(format!("<{}> is never closed", unclosed.name)));
    }
    root.ok_or_else(|| broken("there is no element".to_owned()))
}

fn refuse_second_root(root: Option<&Element>) -> Result<(), Refused> {
    match root {
        None => Ok(()),
        Some(_) => Err(Refused::new(12100, "there is a second root element")),
    }
}

fn close(element: Element, open: &mut [Element], root: &mut Option<Element>) {
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None => *root = Some(element),
    }
}

fn add_text(open: &mut [Element], text: &str) -> Result<(), Refused> {
    refuse_control_characters(text)?;
    match open.last_mut() {
        Some(parent) => parent.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err(Refused::new(12100, "text outside the root element")),
    }
    Ok(())
}

fn element(tag: &BytesStart<'_>) -> Result<Element, Refused> {
    let broken = |what: String| Refused::new(12100, what);
    let name = tag.name().into_inner().to_owned();
    let mut attributes = Vec::new();
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|error| broken(format!("in <{name}>: {error}")))?;
        let value = attribute
            .normalized_value(XmlVersion::Explicit1_0)
            .map_err(|error| broken(format!("in <{name}>: {error}")))?;
        if attribute_has_raw_less_than(&attribute.value) {
            return Err(broken(format!("< in an attribute of <{name}>")));
        }
        refuse_control_characters(&value)?;
        attributes.push((attribute.key.into_inner().to_owned(), value.into_owned()));
    }
    Ok(Element {
        name,
        attributes,
        ..Element::default()
    })
}

fn attribute_has_raw_less_than(raw: &str) -> bool {
    raw.contains('<')
}

fn refuse_control_characters(text: &str) -> Result<(), Refused> {
    let bad = |c: char| {
        (c < ' ' && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{FFFE}' | '\u{FFFF}')
    };
    match text.chars().find(|c| bad(*c)) {
        None => Ok(()),
        Some(c) => Err(Refused::new(
            12100,
            format!("the character U+{:04X} is not allowed in XML", u32::from(c)),
        )),
    }
}

fn predefined(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    }
}

/// What an attribute may say.
#[derive(Clone, Copy)]
enum Kind {
    Any,
    Method,
    Truth,
    Url,
    Number(u32, u32),
    OneOf(&'static [&'static str]),
    /// A list of these words, separated by spaces.
    Events(&'static [&'static str]),
    CallerId,
    AtMost(usize),
}

type Attributes = &'static [(&'static str, Kind)];

const RECORD: &[&str] = &[
    "true",
    "false",
    "do-not-record",
    "record-from-answer",
    "record-from-ringing",
    "record-from-answer-dual",
    "record-from-ringing-dual",
];
const RING_TONES: &[&str] = &[
    "at", "au", "bg", "br", "be", "ch", "cl", "cn", "cz", "de", "dk", "ee", "es", "fi", "fr", "gr",
    "hu", "il", "in", "it", "lt", "jp", "mx", "my", "nl", "no", "nz", "ph", "pl", "pt", "ru", "se",
    "sg", "th", "uk", "us", "us-old", "tw", "ve", "za",
];
const CALL_EVENTS: &[&str] = &["initiated", "ringing", "answered", "completed"];

const DIAL: Attributes = &[
    ("action", Kind::Url),
    ("method", Kind::Method),
    ("timeout", Kind::Number(5, 600)),
    ("timeLimit", Kind::Number(1, 86_400)),
    ("callerId", Kind::CallerId),
    ("answerOnBridge", Kind::Truth),
    ("hangupOnStar", Kind::Truth),
    ("record", Kind::OneOf(RECORD)),
    ("recordingStatusCallback", Kind::Url),
    ("recordingStatusCallbackMethod", Kind::Method),
    (
        "recordingStatusCallbackEvent",
        Kind::Events(&["in-progress", "completed", "absent"]),
    ),
    (
        "recordingTrack",
        Kind::OneOf(&["inbound", "outbound", "both"]),
    ),
    ("trim", Kind::OneOf(&["trim-silence", "do-not-trim"])),
    ("ringTone", Kind::OneOf(RING_TONES)),
    ("sequential", Kind::Truth),
    ("referUrl", Kind::Url),
    ("referMethod", Kind::Method),
    ("callReason", Kind::AtMost(50)),
];
const NOUN: Attributes = &[
    ("url", Kind::Url),
    ("method", Kind::Method),
    ("statusCallbackEvent", Kind::Events(CALL_EVENTS)),
    ("statusCallback", Kind::Url),
    ("statusCallbackMethod", Kind::Method),
    (
        "machineDetection",
        Kind::OneOf(&["Enable", "DetectMessageEnd"]),
    ),
    ("machineDetectionTimeout", Kind::Number(3, 60)),
    (
        "machineDetectionSpeechThreshold",
        Kind::Number(1_000, 6_000),
    ),
    (
        "machineDetectionSpeechEndThreshold",
        Kind::Number(500, 5_000),
    ),
    (
        "machineDetectionSilenceTimeout",
        Kind::Number(2_000, 10_000),
    ),
    ("amdStatusCallback", Kind::Url),
    ("amdStatusCallbackMethod", Kind::Method),
];
const NUMBER_ONLY: Attributes = &[("sendDigits", Kind::Any), ("byoc", Kind::Any)];
const SIP_ONLY: Attributes = &[("username", Kind::Any), ("password", Kind::Any)];
const SAY: Attributes = &[
    ("voice", Kind::Any),
    ("language", Kind::Any),
    ("loop", Kind::Number(0, 1_000)),
];

/// Verbs of Twilio that this stand-in does not play; met, they are reported.
const NOT_PLAYED: &[&str] = &[
    "Gather", "Record", "Enqueue", "Leave", "Connect", "Start", "Stop", "Pay", "Prompt", "Refer",
    "Sms", "Siprec",
];

fn check_verb(verb: &Element, warnings: &mut Vec<String>) {
    let name = verb.name.as_str();
    let known: &[Attributes] = match name {
        "Dial" => &[DIAL],
        "Say" => &[SAY],
        "Play" => &[&[("loop", Kind::Number(0, 1_000)), ("digits", Kind::Any)]],
        "Pause" => &[&[("length", Kind::Number(0, 86_400))]],
        "Redirect" => &[&[("method", Kind::Method)]],
        "Reject" => &[&[("reason", Kind::OneOf(&["rejected", "busy"]))]],
        "Hangup" => &[&[]],
        _ if NOT_PLAYED.contains(&name) => {
            warnings.push(format!("<{name}> is not played by this stand-in"));
            return;
        }
        _ => {
            warnings.push(format!("12200: the verb <{name}> is not known"));
            return;
        }
    };
    check_attributes(verb, known, warnings);
    match name {
        "Dial" => check_dial(verb, warnings),
        "Say" | "Play" | "Redirect" => {
            let silent_digits = name == "Play" && verb.attribute("digits").is_some();
            if verb.text.trim().is_empty() && !silent_digits {
                warnings.push(format!("12200: <{name}> without content"));
            }
            if name == "Redirect" {
                check_url("Redirect", verb.text.trim(), warnings);
            }
        }
        _ => {}
    }
    if name != "Dial" && !verb.children.is_empty() {
        warnings.push(format!("12200: elements inside <{name}>"));
    }
}

fn check_dial(dial: &Element, warnings: &mut Vec<String>) {
    let text = dial.text.trim();
    if dial.children.is_empty() {
        if text.is_empty() {
            warnings.push("13224: <Dial> dials nobody".to_owned());
        } else {
            check_number(text, warnings);
        }
    } else if !text.is_empty() {
        warnings.push("12200: text beside the nouns of <Dial>".to_owned());
    }
    if dial.children.len() > 10 {
        warnings.push("12200: <Dial> with more than ten nouns".to_owned());
    }
    for noun in &dial.children {
        match noun.name.as_str() {
            "Number" => {
                check_attributes(noun, &[NOUN, NUMBER_ONLY], warnings);
                check_number(noun.text.trim(), warnings);
            }
            "Sip" => {
                check_attributes(noun, &[NOUN, SIP_ONLY], warnings);
                check_sip(noun.text.trim(), warnings);
            }
            other => warnings.push(format!(
                "12200: <{other}> is no noun of <Dial>, or none that this stand-in plays"
            )),
        }
        if !noun.children.is_empty() {
            warnings.push(format!("12200: elements inside <{}>", noun.name));
        }
    }
}

fn check_attributes(element: &Element, known: &[Attributes], warnings: &mut Vec<String>) {
    for (name, value) in &element.attributes {
        let kind = known
            .iter()
            .copied()
            .flatten()
            .find_map(|(known, kind)| (known == name).then_some(*kind));
        match kind {
            None => warnings.push(format!(
                "12200: <{}> takes no attribute {name}",
                element.name
            )),
            Some(Kind::Url) => check_url(&format!("{} {name}", element.name), value, warnings),
            Some(kind) => {
                if !kind.allows(value) {
                    let code = code_of(&element.name, name);
                    warnings.push(format!("{code}: {name}={value:?} on <{}>", element.name));
                }
            }
        }
    }
}

impl Kind {
    fn allows(self, value: &str) -> bool {
        match self {
            Self::Any | Self::Url => true,
            Self::Method => matches!(value, "GET" | "POST"),
            Self::Truth => matches!(value, "true" | "false"),
            Self::Number(least, most) => value
                .parse::<u32>()
                .is_ok_and(|number| (least..=most).contains(&number)),
            Self::OneOf(words) => words.contains(&value),
            Self::Events(words) => {
                !value.trim().is_empty() && value.split(' ').all(|word| words.contains(&word))
            }
            Self::CallerId => {
                !value.is_empty()
                    && value.chars().all(|c| {
                        c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '_' | '.' | ':')
                    })
            }
            Self::AtMost(length) => value.chars().count() <= length,
        }
    }
}

fn code_of(element: &str, attribute: &str) -> u32 {
    match (element, attribute) {
        ("Dial", "method") => 13210,
        ("Dial", "timeout") => 13212,
        ("Dial", "hangupOnStar") => 13213,
        ("Dial", "callerId") => 13214,
        ("Dial", "timeLimit") => 13216,
        ("Dial", "record") => 13217,
        ("Dial", "sequential") => 13218,
        ("Dial", "answerOnBridge") => 13219,
        ("Dial", "ringTone") => 13220,
        ("Sip", "method") => 13241,
        _ => 12200,
    }
}

fn check_number(number: &str, warnings: &mut Vec<String>) {
    if !number::is_e164(number) {
        warnings.push("13223: <Number> is not in E.164 form".to_owned());
    }
}

fn check_sip(address: &str, warnings: &mut Vec<String>) {
    let (uri, headers) = address.split_once('?').unwrap_or((address, ""));
    let plain = uri
        .strip_prefix("sips:")
        .or_else(|| uri.strip_prefix("sip:"));
    let well_formed = plain
        .unwrap_or(uri)
        .split_once('@')
        .is_some_and(|(user, host)| {
            !user.is_empty() && !host.is_empty() && !uri.contains(char::is_whitespace)
        });
    if !well_formed {
        warnings.push("13243: <Sip> is not a SIP address".to_owned());
    }
    if headers.len() > 1_024 {
        warnings.push("13253: the headers of <Sip> are too long".to_owned());
    }
    for header in headers.split('&').filter(|header| !header.is_empty()) {
        let name = header.split('=').next().unwrap_or("").to_ascii_lowercase();
        if !name.starts_with("x-") && name != "user-to-user" {
            warnings.push(format!(
                "13252: the SIP header {name} does not start with x-"
            ));
        }
    }
}

/// The overrides that may follow `#`, with their limits.
fn check_url(whose: &str, url: &str, warnings: &mut Vec<String>) {
    let (url, fragment) = url.split_once('#').unwrap_or((url, ""));
    let host = url
        .split_once("://")
        .and_then(|(_, rest)| rest.split(['/', '?']).next())
        .unwrap_or("");
    if host.contains('_') {
        warnings.push(format!(
            "{whose}: a host name may not contain an underscore"
        ));
    }
    if url.contains(char::is_whitespace) {
        warnings.push(format!("11210: {whose}: a space in the URL"));
    }
    for pair in fragment.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let fits = match key {
            "ct" => Kind::Number(100, 10_000).allows(value),
            "rt" | "tt" => Kind::Number(100, 15_000).allows(value),
            "rc" => Kind::Number(0, 5).allows(value),
            "rp" => value
                .split(',')
                .all(|on| matches!(on, "4xx" | "5xx" | "ct" | "rt" | "all")),
            "sni" => matches!(value, "y" | "n"),
            "e" => !value.is_empty(),
            _ => false,
        };
        if !fits {
            warnings.push(format!(
                "11243: {whose}: the override {pair:?} is not valid"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xml(verbs: &str) -> Vec<u8> {
        format!(r#"<?xml version="1.0" encoding="UTF-8"?><Response>{verbs}</Response>"#)
            .into_bytes()
    }

    #[test]
    fn a_good_document_is_read_without_a_warning() {
        let body = xml(
            r#"<Dial answerOnBridge="true" timeout="15" callerId="+4930123456" action="https://a.example/dial?attempt=1&amp;dialer=a#rc=2&amp;rp=ct,rt,5xx&amp;rt=4000" method="POST">
  <Sip statusCallback="https://a.example/status" statusCallbackEvent="initiated ringing answered completed">sip:q@b.example;transport=tls?X-Id=abc&amp;X-Call-Sid=CA1</Sip>
</Dial>"#,
        );
        let document = read(Some("application/xml; charset=utf-8"), &body).unwrap();
        assert_eq!(document.warnings, Vec::<String>::new());
        let dial = &document.verbs[0];
        assert!(dial.is_true("answerOnBridge"));
        assert!(
            dial.attribute("action")
                .unwrap()
                .contains("attempt=1&dialer=a#")
        );
        assert!(dial.children[0].text.ends_with("?X-Id=abc&X-Call-Sid=CA1"));
    }

    #[test]
    fn what_twilio_refuses_is_refused_with_its_code() {
        let xml_type = Some("text/xml");
        let long = xml(&format!("<Say>{}</Say>", "a".repeat(70_000)));
        let cases: [(Option<&str>, &[u8], u32); 14] = [
            (None, b"<Response/>", 12300),
            (Some("application/json"), b"<Response/>", 12300),
            (Some("text/plain"), b"<Response/>", 12300),
            (xml_type, b"", 11770),
            (xml_type, &long, 11750),
            (xml_type, b"\n<?xml version=\"1.0\"?><Response/>", 12100),
            (xml_type, b"\xef\xbb\xbf<Response/>", 12100),
            (xml_type, b"<Response><Say>a & b</Say></Response>", 12100),
            (xml_type, b"<Response><Say>&nbsp;</Say></Response>", 12100),
            (xml_type, b"<Response><Say>\x01</Say></Response>", 12100),
            (xml_type, b"<Response><Say>hi</Response>", 12100),
            (xml_type, b"<Response/><Response/>", 12100),
            (xml_type, b"<Response><Say>\xff</Say></Response>", 12100),
            (xml_type, b"<response/>", 12102),
        ];
        for (content_type, body, code) in cases {
            let refused = read(content_type, body).unwrap_err();
            let text = String::from_utf8_lossy(body);
            assert_eq!(refused.code, code, "{text:.60} {}", refused.message);
        }
    }

    #[test]
    fn what_twilio_warns_about_is_reported() {
        for (verbs, expected) in [
            ("<say>x</say>", "12200: the verb <say>"),
            ("<Dial timeout=\"3\">+4930123456</Dial>", "13212"),
            (
                "<Dial Timeout=\"30\">+4930123456</Dial>",
                "12200: <Dial> takes no attribute Timeout",
            ),
            (
                "<Dial statusCallbackEvent=\"answered\">+4930123456</Dial>",
                "12200: <Dial> takes no attribute statusCallbackEvent",
            ),
            (
                "<Dial><Number action=\"/x\">+4930123456</Number></Dial>",
                "takes no attribute action",
            ),
            ("<Dial><Number>030 123</Number></Dial>", "13223"),
            ("<Dial><Sip>q.example</Sip></Dial>", "13243"),
            ("<Dial><Sip>sip:q@b.example?Id=1</Sip></Dial>", "13252"),
            ("<Dial callerId=\"Jane Doe\">+4930123456</Dial>", "13214"),
            ("<Dial action=\"/x#rc=9\">+4930123456</Dial>", "11243"),
            (
                "<Dial action=\"https://a_b.example/x\">+4930123456</Dial>",
                "underscore",
            ),
            ("<Dial/>", "13224"),
            (
                "<Redirect>/x</Redirect><Say>y</Say>",
                "can never be reached",
            ),
            ("<Gather/>", "not played"),
            ("<Say><b>x</b></Say>", "elements inside <Say>"),
        ] {
            let document = read(Some("text/xml"), &xml(verbs)).unwrap();
            let found = document.warnings.join(" | ");
            assert!(found.contains(expected), "{verbs}: {found}");
        }
    }
}
