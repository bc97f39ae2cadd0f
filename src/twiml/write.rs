//! From verbs to XML: the only place that knows how `TwiML` is spelled.
//!
//! Twilio refuses a document with anything before its declaration, warns of an attribute on the wrong element and ignores it, and reads
//! element names with their case. Defaults (`method="POST"`) are not written.

use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::verb::{Dial, Noun, Pause, Redirect, Say, Verb, VoiceResponse};

/// Every event of a leg there is. Without the list, Twilio reports the end only.
const EVENTS: &str = "initiated ringing answered completed";

/// An answer that does nothing: what is sent if a document could not be written, which does not happen.
const NOTHING: &str = r#"<?xml version="1.0" encoding="UTF-8"?><Response/>"#;

impl VoiceResponse {
    /// The answer as a `TwiML` document. Served as `application/xml; charset=utf-8`.
    pub fn to_xml(&self) -> String {
        let mut writer = Writer::new(Vec::new());
        let written = document(&mut writer, self.verbs());
        written
            .ok()
            .and_then(|()| String::from_utf8(writer.into_inner()).ok())
            .unwrap_or_else(|| NOTHING.to_owned())
    }
}

type Xml = Writer<Vec<u8>>;

fn document(xml: &mut Xml, verbs: &[Verb]) -> io::Result<()> {
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let response = xml.create_element("Response");
    if verbs.is_empty() {
        response.write_empty()?;
    } else {
        response.write_inner_content(|xml| verbs.iter().try_for_each(|v| verb(xml, v)))?;
    }
    Ok(())
}

fn verb(xml: &mut Xml, verb: &Verb) -> io::Result<()> {
    match verb {
        Verb::Say(Say { text, language }) => {
            let language = (!language.is_empty()).then_some(("language", language.as_str()));
            element(xml, "Say", language, text)
        }
        Verb::Pause(Pause { seconds }) => {
            let length = seconds.to_string();
            xml.create_element("Pause")
                .with_attribute(("length", &*length))
                .write_empty()?;
            Ok(())
        }
        Verb::Dial(verb) => dial(xml, verb),
        Verb::Redirect(Redirect { url }) => element(xml, "Redirect", None, url),
        Verb::Hangup => {
            xml.create_element("Hangup").write_empty()?;
            Ok(())
        }
        Verb::Reject(reason) => {
            xml.create_element("Reject")
                .with_attribute(("reason", reason.as_str()))
                .write_empty()?;
            Ok(())
        }
    }
}

fn dial(xml: &mut Xml, dial: &Dial) -> io::Result<()> {
    let timeout = dial.timeout_s.to_string();
    let caller_id = dial
        .caller_id
        .as_ref()
        .map(|number| ("callerId", number.as_str()));
    let action = dial.action.as_ref().map(|url| ("action", url.as_str()));
    xml.create_element("Dial")
        .with_attribute(("answerOnBridge", "true"))
        .with_attribute(("timeout", &*timeout))
        .with_attributes(caller_id)
        .with_attributes(action)
        .write_inner_content(|xml| {
            let callback = dial.status_callback.iter().flat_map(|url| {
                [
                    ("statusCallback", url.as_str()),
                    ("statusCallbackEvent", EVENTS),
                ]
            });
            match &dial.noun {
                Noun::Number(number) => element(xml, "Number", callback, number.as_str()),
                Noun::Sip(uri) => element(xml, "Sip", callback, uri.as_str()),
            }
        })?;
    Ok(())
}

fn element<'a>(
    xml: &mut Xml,
    name: &str,
    attributes: impl IntoIterator<Item = (&'a str, &'a str)>,
    text: &str,
) -> io::Result<()> {
    xml.create_element(name)
        .with_attributes(attributes)
        .write_text_content(BytesText::new(text))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use quick_xml::Reader;

    use super::*;
    use crate::phone::{Caller, E164};
    use crate::twiml::answer::{CallerIdPolicy, ConnectTo, connect, goodbye, hold};
    use crate::twiml::{Connect, SipUri};

    /// An element as a reader sees it.
    #[derive(Debug, PartialEq)]
    struct Tree {
        name: String,
        attributes: Vec<(String, String)>,
        children: Vec<Tree>,
        text: String,
    }

    fn tree(name: &str, attributes: &[(&str, &str)], text: &str, children: Vec<Tree>) -> Tree {
        Tree {
            name: name.to_owned(),
            attributes: attributes
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect(),
            children,
            text: text.to_owned(),
        }
    }

    fn open(start: &quick_xml::events::BytesStart<'_>) -> Tree {
        let name = start.name();
        let attributes = start.attributes().map(|attribute| {
            let attribute = attribute.unwrap();
            let key = attribute.key.as_ref().to_owned();
            (
                key,
                quick_xml::escape::unescape(&attribute.value)
                    .unwrap()
                    .into_owned(),
            )
        });
        Tree {
            name: name.as_ref().to_owned(),
            attributes: attributes.collect(),
            children: Vec::new(),
            text: String::new(),
        }
    }

    /// Reads a document the hard way, and checks what holds for every one of them.
    fn parse(xml: &str) -> Tree {
        assert!(xml.len() < 64_000, "{} bytes", xml.len());
        assert!(xml.starts_with(r#"<?xml version="1.0" encoding="UTF-8"?><Response"#));
        assert_eq!(xml.matches("<?xml").count(), 1);
        let mut reader = Reader::from_str(xml);
        let mut path = vec![tree("", &[], "", vec![])];
        loop {
            match reader.read_event().unwrap() {
                Event::Start(start) => path.push(open(&start)),
                Event::Empty(start) => {
                    let element = open(&start);
                    path.last_mut().unwrap().children.push(element);
                }
                Event::End(_) => {
                    let element = path.pop().unwrap();
                    path.last_mut().unwrap().children.push(element);
                }
                Event::Text(text) => path.last_mut().unwrap().text.push_str(&text),
                Event::GeneralRef(entity) => {
                    let text = quick_xml::escape::unescape(&format!("&{};", &*entity))
                        .unwrap()
                        .into_owned();
                    path.last_mut().unwrap().text.push_str(&text);
                }
                Event::Eof => break,
                Event::Decl(_)
                | Event::Comment(_)
                | Event::CData(_)
                | Event::PI(_)
                | Event::DocType(_) => {}
            }
        }
        let mut root = path.pop().unwrap();
        assert!(path.is_empty());
        root.children.pop().unwrap()
    }

    #[test]
    fn a_url_is_escaped_where_it_stands() {
        let url = "https://a.example/x?a=1&b=\"2\"";
        let answer = VoiceResponse::of([Verb::Redirect(Redirect::new(url))]);
        let redirect = tree("Redirect", &[], url, vec![]);
        assert_eq!(
            parse(&answer.to_xml()),
            tree("Response", &[], "", vec![redirect])
        );
        let dial = Dial::new(Noun::Sip(SipUri::new("sip:a@b", &[])), Duration::ZERO).action(url);
        let xml = VoiceResponse::of([Verb::Dial(dial)]).to_xml();
        assert!(
            xml.contains(r#"action="https://a.example/x?a=1&amp;b=&quot;2&quot;""#),
            "{xml}"
        );
    }

    #[test]
    fn the_largest_answers_are_far_below_what_twilio_reads() {
        let long = "\"".repeat(1_000_000);
        parse(&goodbye(&long, &long).to_xml());
        parse(&hold(&long, &long, Duration::ZERO, &long).to_xml());
        let sip = Connect::Sip(long.clone());
        let headers = [("X-A", "<".repeat(300)), ("X-B", long.clone())];
        let answer = connect(&ConnectTo {
            connect: &sip,
            caller: &Caller::classify(&long),
            called: Some(&long),
            caller_id: &CallerIdPolicy::Caller { ours: None },
            ring_timeout: Duration::MAX,
            action_url: &long,
            status_url: &long,
            sip_headers: &headers,
        });
        parse(&answer.to_xml());
    }

    proptest! {
        #![proptest_config(crate::property::seeded())]

        #[test]
        fn whatever_the_caller_calls_himself_the_elements_are_the_same(from in any::<String>(), called in any::<String>(), name in any::<String>()) {
            let line = Connect::parse("sip:q@pbx.example.com").unwrap();
            let answer = connect(&ConnectTo {
                connect: &line,
                caller: &Caller::classify(&from),
                called: Some(&called),
                caller_id: &CallerIdPolicy::Caller { ours: None },
                ring_timeout: Duration::from_secs(20),
                action_url: "https://a.example/dial?dialer=x&step=1",
                status_url: "https://a.example/status",
                sip_headers: &[("X-Caller", from.clone()), ("X-Name", name.clone())],
            });
            let mut read = parse(&answer.to_xml());
            let dial = &mut read.children[0];
            dial.attributes.retain(|(n, v)| n != "callerId" || E164::parse(v).is_err());
            let uri = std::mem::take(&mut dial.children[0].text);
            prop_assert!(uri.starts_with("sip:q@pbx.example.com"));
            prop_assert!(uri.bytes().all(|b| b.is_ascii_graphic()));
            prop_assert!(uri.len() < 21 + 1_024);
            prop_assert_eq!(read, tree("Response", &[], "", vec![
                tree("Dial", &[("answerOnBridge", "true"), ("timeout", "20"), ("action", "https://a.example/dial?dialer=x&step=1")], "", vec![
                    tree("Sip", &[("statusCallback", "https://a.example/status"), ("statusCallbackEvent", "initiated ringing answered completed")], "", vec![]),
                ]),
            ]));
        }

        #[test]
        fn whatever_is_said_comes_back(text in any::<String>(), language in any::<String>()) {
            let read = parse(&goodbye(&text, &language).to_xml());
            let mut children = Vec::new();
            if let Some(say) = Say::new(&text, &language) {
                let attributes = [("language", &*say.language)];
                let attributes = if say.language.is_empty() { &[][..] } else { &attributes[..] };
                children.push(tree("Say", attributes, &say.text, vec![]));
            }
            children.push(tree("Hangup", &[], "", vec![]));
            prop_assert_eq!(read, tree("Response", &[], "", children));
        }
    }
}
