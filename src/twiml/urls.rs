//! The URLs that Twilio calls back on.
//!
//! The names of a query stand in alphabetical order, because Twilio may send them so and signs them as they were written. What the next step of a call needs to know travels in their query, which the signature covers, so that it survives a restart. Its values
//! are of `[A-Za-z0-9_-]`: nothing that anybody on the way could escape differently.

/// Builds absolute callback URLs on the public URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackUrls {
    base: String,
}

impl CallbackUrls {
    /// The URLs under this public URL. One trailing slash and a fragment are dropped.
    pub fn new(public_url: &str) -> Self {
        let url = public_url.split('#').next().unwrap_or_default();
        let url = url.strip_suffix('/').unwrap_or(url);
        Self {
            base: format!("{url}/webhooks/twilio"),
        }
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

    /// Where the end of a dial of a dialer's line is reported, or that of a rule's number; `None` for the last resort.
    pub fn dial(&self, step: u32, line: Option<&str>) -> String {
        self.step("dial", step, line)
    }

    /// Where the legs of a dial report their progress; `None` for the last resort.
    pub fn status(&self, step: u32, line: Option<&str>) -> String {
        self.step("status", step, line)
    }

    /// Where a caller on hold asks again, in round `n`.
    pub fn hold(&self, n: u32) -> String {
        format!("{}/hold?n={n}", self.base)
    }

    fn step(&self, path: &str, step: u32, line: Option<&str>) -> String {
        let plain = |name: &&str| {
            name.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        // The configuration admits no other names. One that came past it is left out rather than escaped.
        let dialer = line.filter(plain);
        let dialer = dialer.map_or_else(String::new, |name| format!("dialer={name}&"));
        format!("{}/{path}?{dialer}step={step}", self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_absolute_and_carry_the_step() {
        let urls = CallbackUrls::new("https://Calls.example.com/sb/");
        let dialer = "dialfire";
        let base = "https://Calls.example.com/sb/webhooks/twilio";
        assert_eq!(urls.inbound(), base);
        assert_eq!(urls.fallback(), format!("{base}/fallback"));
        assert_eq!(urls.number_status(), format!("{base}/status"));
        assert_eq!(
            urls.dial(1, Some(dialer)),
            format!("{base}/dial?dialer=dialfire&step=1")
        );
        assert_eq!(
            urls.status(2, Some(dialer)),
            format!("{base}/status?dialer=dialfire&step=2")
        );
        assert_eq!(urls.dial(3, None), format!("{base}/dial?step=3"));
        assert_eq!(urls.status(3, None), format!("{base}/status?step=3"));
        assert_eq!(urls.hold(4), format!("{base}/hold?n=4"));
        assert_eq!(urls.dial(1, Some("a&b")), format!("{base}/dial?step=1"));
        assert_eq!(
            urls.dial(1, Some("a-b_C9")),
            format!("{base}/dial?dialer=a-b_C9&step=1")
        );
        assert_eq!(
            CallbackUrls::new("https://a.example#rc=2").hold(0),
            "https://a.example/webhooks/twilio/hold?n=0"
        );
    }
}
