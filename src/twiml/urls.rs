//! The URLs that Twilio calls back on.
//!
//! The names of a query stand in alphabetical order, because Twilio may send them so and signs them as they were written. What the next step of a call needs to know travels in their query, which the signature covers, so that it survives a restart. Its values
//! are of `[A-Za-z0-9_-]`: nothing that anybody on the way could escape differently.

/// How Twilio is to ask: connected within 2 s and answered within 6, once more where that fails or the answer is a 5xx
/// (docs: `usage/webhooks/webhooks-connection-overrides`). A balancer gives up after 2.5 s, an answer takes 2 s at most.
pub const OVERRIDES: &str = "#ct=2000&rt=6000&rc=1&rp=ct,rt,5xx";
/// The longest callback URL, in characters: so long may the longest URL be of which Twilio says so (error 21609). It documents nothing of `action`.
const MAX_URL: usize = 512;

/// Builds absolute callback URLs on the public URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackUrls {
    base: String,
    /// The same under the other public URLs.
    also: Vec<String>,
    /// The name of this machine, for a balancer.
    node: Option<String>,
}

/// A callback URL, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallbackParts<'a> {
    /// Its path behind `/webhooks/twilio`, without its slash; empty where a call arrives.
    pub webhook: &'a str,
    pub query: &'a str,
}

impl CallbackUrls {
    /// The URLs under this public URL. One trailing slash and a fragment are dropped.
    pub fn new(public_url: &str) -> Self {
        Self {
            base: base(public_url),
            also: Vec::new(),
            node: None,
        }
    }

    /// The same on a machine of this name, which is asked under these public URLs as well.
    #[must_use]
    pub fn on<'a>(self, node: Option<&str>, also: impl Iterator<Item = &'a str>) -> Self {
        Self {
            also: also.map(base).collect(),
            node: node.map(ToOwned::to_owned),
            ..self
        }
    }

    /// The name of this machine; empty where it has none.
    pub fn node(&self) -> &str {
        self.node.as_deref().unwrap_or_default()
    }

    /// Where a call arrives: the voice URL of a number.
    pub fn inbound(&self) -> String {
        self.base.clone()
    }

    /// Where Twilio asks when it cannot use an answer: the fallback URL of a number.
    pub fn fallback(&self) -> String {
        format!("{}/fallback", self.base)
    }

    /// Where the end of a call is reported: the status callback of a number.
    pub fn number_status(&self) -> String {
        format!("{}/status", self.base)
    }

    /// Where the end of a dial of a dialer's line is reported, or that of a rule's number; `None` for the last resort. `passport` makes the
    /// call's passport of at most so many characters.
    pub fn dial(
        &self,
        step: u32,
        line: Option<&str>,
        passport: impl FnOnce(usize) -> Option<String>,
    ) -> String {
        self.callback("dial", line, passport, &format!("step={step}"))
    }

    /// Where the legs of a dial report their progress; `None` for the last resort.
    pub fn status(&self, step: u32, line: Option<&str>) -> String {
        self.callback("status", line, |_| None, &format!("step={step}"))
    }

    /// Where a caller on hold asks again, in round `n`. `passport` makes the call's passport of at most so many characters.
    pub fn hold(&self, n: u32, passport: impl FnOnce(usize) -> Option<String>) -> String {
        // Behind `p` in the alphabet stands nothing that a caller on hold needs: the round leads.
        let before = format!("{}/hold?n={n}", self.base);
        self.with_passport(before, passport, "")
    }

    /// Takes apart a URL of ours, as it was handed out here or under another public name.
    pub fn parts<'a>(&self, url: &'a str) -> Option<CallbackParts<'a>> {
        let url = url.split('#').next().unwrap_or_default();
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let mut bases = std::iter::once(&self.base).chain(&self.also);
        let webhook = bases.find_map(|base| place.strip_prefix(base.as_str()))?;
        let webhook = match webhook {
            "" => "",
            path => path.strip_prefix('/')?,
        };
        Some(CallbackParts { webhook, query })
    }

    fn callback(
        &self,
        path: &str,
        line: Option<&str>,
        passport: impl FnOnce(usize) -> Option<String>,
        step: &str,
    ) -> String {
        let plain = |name: &&str| {
            name.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        // The configuration admits no other names. One that came past it is left out rather than escaped.
        let dialer = line.filter(plain);
        let dialer = dialer.map_or_else(String::new, |name| format!("dialer={name}"));
        let before = format!("{}/{path}?{dialer}", self.base);
        self.with_passport(before, passport, step)
    }

    /// Adds the name of the machine, the passport and what stands behind it.
    fn with_passport(
        &self,
        mut url: String,
        passport: impl FnOnce(usize) -> Option<String>,
        behind: &str,
    ) -> String {
        let add = |url: &mut String, part: &str| {
            if !url.ends_with('?') {
                url.push('&');
            }
            url.push_str(part);
        };
        if let Some(node) = &self.node {
            add(&mut url, &format!("o={node}"));
        }
        let taken = url.len() + "&p=".len() + "&".len() + behind.len() + OVERRIDES.len();
        if let Some(passport) = passport(MAX_URL.saturating_sub(taken)) {
            add(&mut url, &format!("p={passport}"));
        }
        if !behind.is_empty() {
            add(&mut url, behind);
        }
        url + OVERRIDES
    }
}

fn base(public_url: &str) -> String {
    let url = public_url.split('#').next().unwrap_or_default();
    let url = url.strip_suffix('/').unwrap_or(url);
    format!("{url}/webhooks/twilio")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: usize) -> Option<String> {
        None
    }

    #[test]
    fn urls_are_absolute_and_carry_the_step_and_how_to_ask() {
        let urls = CallbackUrls::new("https://Calls.example.com/sb/");
        let dialer = "dialfire";
        let base = "https://Calls.example.com/sb/webhooks/twilio";
        let end = "#ct=2000&rt=6000&rc=1&rp=ct,rt,5xx";
        assert_eq!(urls.inbound(), base);
        assert_eq!(urls.fallback(), format!("{base}/fallback"));
        assert_eq!(urls.number_status(), format!("{base}/status"));
        assert_eq!(
            urls.dial(1, Some(dialer), none),
            format!("{base}/dial?dialer=dialfire&step=1{end}")
        );
        assert_eq!(
            urls.status(2, Some(dialer)),
            format!("{base}/status?dialer=dialfire&step=2{end}")
        );
        assert_eq!(urls.dial(3, None, none), format!("{base}/dial?step=3{end}"));
        assert_eq!(urls.status(3, None), format!("{base}/status?step=3{end}"));
        assert_eq!(urls.hold(4, none), format!("{base}/hold?n=4{end}"));
        assert_eq!(
            urls.dial(1, Some("a&b"), none),
            format!("{base}/dial?step=1{end}")
        );
        assert_eq!(
            urls.dial(1, Some("a-b_C9"), none),
            format!("{base}/dial?dialer=a-b_C9&step=1{end}")
        );
        assert_eq!(
            CallbackUrls::new("https://a.example#rc=2").hold(0, none),
            format!("https://a.example/webhooks/twilio/hold?n=0{end}")
        );
    }

    #[test]
    fn a_url_with_machine_and_passport_is_in_order_and_never_longer_than_512() {
        let urls = CallbackUrls::new("https://a.example").on(Some("a"), std::iter::empty());
        let passport = |_| Some("xyz".to_owned());
        let dial = urls.dial(2, Some("desk"), passport);
        let query = "dialer=desk&o=a&p=xyz&step=2#";
        assert!(dial.contains(query), "{dial}");
        assert!(urls.hold(3, passport).contains("hold?n=3&o=a&p=xyz#"));
        assert!(urls.status(2, None).contains("status?o=a&step=2#"));
        let long = "d".repeat(300);
        for line in [None, Some("desk"), Some(&*long)] {
            let url = urls.dial(4_000_000_000, line, |room| Some("p".repeat(room)));
            assert_eq!(url.len(), MAX_URL);
        }
    }

    #[test]
    fn a_url_of_ours_is_known_under_each_public_name() {
        let also = ["https://b.example/"].into_iter();
        let urls = CallbackUrls::new("https://a.example").on(None, also);
        for base in ["https://a.example", "https://b.example"] {
            let url = format!("{base}/webhooks/twilio/dial?p=x&step=1#rc=1");
            let parts = urls.parts(&url).unwrap();
            assert_eq!((parts.webhook, parts.query), ("dial", "p=x&step=1"));
            let arrival = format!("{base}/webhooks/twilio");
            assert_eq!(urls.parts(&arrival).unwrap().webhook, "");
        }
        for other in [
            "https://c.example/webhooks/twilio/dial",
            "https://a.example/webhooks/twiliodial",
            "https://a.example.evil/webhooks/twilio/dial",
            "",
        ] {
            assert_eq!(urls.parts(other), None, "{other}");
        }
    }
}
