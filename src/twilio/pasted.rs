//! A webhook as somebody pastes it: from Twilio's request inspector, a proxy's log, or a packet capture.

use std::fmt::Write;

/// The parts that a signature is made over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pasted {
    pub target: String,
    /// The host of the URL, or of the `Host` header.
    pub host: Option<String>,
    pub signature: String,
    pub settings: Option<String>,
    pub body: String,
    content_type: Option<String>,
    is_get: bool,
}

impl Pasted {
    /// Reads a request line or URL, header lines, an empty line, and a body or one parameter a line. What is not understood is left out.
    pub fn read(text: &str) -> Self {
        let text = text.replace("\r\n", "\n");
        let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
        let mut pasted = Self::default();
        let mut lines = head.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut fields = Vec::new();
        if let Some(first) = lines.next() {
            let words: Vec<&str> = first.split_whitespace().collect();
            match words.as_slice() {
                [method, url, ..] if method.bytes().all(|b| b.is_ascii_uppercase()) => {
                    pasted.is_get = *method == "GET";
                    pasted.set_url(url);
                }
                [url] if url.contains("://") || url.starts_with('/') => pasted.set_url(url),
                _ => fields.push(first),
            }
        }
        for line in lines {
            match line.split_once(':') {
                Some((name, value)) if !pasted.take_header(name, value.trim()) => fields.push(line),
                Some(_) => {}
                None => fields.push(line),
            }
        }
        fields.extend(body.lines().map(str::trim).filter(|line| !line.is_empty()));
        pasted.body = join(&fields);
        pasted
    }

    /// Takes the URL apart: nothing in it is changed.
    pub fn set_url(&mut self, url: &str) {
        let url = url.split('#').next().unwrap_or(url);
        let Some((_, rest)) = url.split_once("://") else {
            url.clone_into(&mut self.target);
            return;
        };
        let cut = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, target) = rest.split_at_checked(cut).unwrap_or((rest, ""));
        self.host = Some(host.to_owned());
        self.target = if target.starts_with('/') {
            target.to_owned()
        } else {
            format!("/{target}")
        };
    }

    /// The type of the body; a form where nothing else is said. A GET has none.
    pub fn content_type(&self) -> Option<&str> {
        let given = self.content_type.as_deref();
        (!self.is_get).then(|| given.unwrap_or("application/x-www-form-urlencoded"))
    }

    /// Whether it is a header, known or not; parameters of a call have no hyphen in their names.
    fn take_header(&mut self, name: &str, value: &str) -> bool {
        match name.to_ascii_lowercase().as_str() {
            "x-twilio-signature" => value.clone_into(&mut self.signature),
            "x-twilio-webhooks-signature-settings" => self.settings = Some(value.to_owned()),
            "content-type" => self.content_type = Some(value.to_owned()),
            "host" => self.host = Some(value.to_owned()),
            "accept" | "connection" | "date" | "via" => {}
            other => return other.contains('-'),
        }
        true
    }
}

/// One line is a body as it was sent; several are parameters as people read them, which are written as a form.
fn join(lines: &[&str]) -> String {
    if let [line] = lines
        && line.contains('=')
    {
        return (*line).to_owned();
    }
    let mut form = String::new();
    for line in lines {
        let cut = line.find(['=', ':', '\t']);
        let (name, value) = cut
            .and_then(|cut| Some((line.get(..cut)?, line.get(cut + 1..)?)))
            .unwrap_or((line, ""));
        let gap = if form.is_empty() { "" } else { "&" };
        // Writing to a String cannot fail.
        write!(
            form,
            "{gap}{}={}",
            escape(name.trim()),
            escape(value.trim())
        )
        .unwrap_or_default();
    }
    form
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").unwrap_or_default();
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_captured_request_is_read_as_it_was_sent() {
        let pasted = Pasted::read(
            "POST /webhooks/twilio?a=1 HTTP/1.1\r\nHost: inner:8080\r\nX-Twilio-Signature: c2ln\r\nUser-Agent: TwilioProxy/1.1\r\n\r\nCallSid=CA1&From=%2B49\r\n",
        );
        assert_eq!(pasted.target, "/webhooks/twilio?a=1");
        assert_eq!(pasted.host.as_deref(), Some("inner:8080"));
        assert_eq!(pasted.signature, "c2ln");
        assert_eq!(pasted.body, "CallSid=CA1&From=%2B49");
        assert_eq!(
            pasted.content_type(),
            Some("application/x-www-form-urlencoded")
        );
    }

    #[test]
    fn what_an_inspector_shows_becomes_a_form() {
        let pasted = Pasted::read(
            "https://calls.example.com/webhooks/twilio#rc=2\nX-Twilio-Signature: c2ln\n\nCallSid: CA1\nFrom=+49 30\nToZip\n",
        );
        assert_eq!(pasted.target, "/webhooks/twilio");
        assert_eq!(pasted.host.as_deref(), Some("calls.example.com"));
        assert_eq!(pasted.body, "CallSid=CA1&From=%2B49%2030&ToZip=");
    }

    #[test]
    fn a_get_has_no_body_and_a_bare_host_the_root() {
        let pasted = Pasted::read("GET https://calls.example.com?x=1 HTTP/1.1\n");
        assert_eq!(pasted.target, "/?x=1");
        assert_eq!(pasted.content_type(), None);
    }
}
