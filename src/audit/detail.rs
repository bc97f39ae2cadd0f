//! The stored form of an event: its payload as JSON, beside the name of its kind.

use serde_json::value::RawValue;

use super::{Event, Kind};

/// What serde writes around kind and payload.
const BEFORE_KIND: &str = r#"{"kind":""#;
const BEFORE_DETAIL: &str = r#"","detail":"#;
const AFTER: &str = "}";

impl Event {
    /// The payload as a JSON object.
    pub fn detail_json(&self) -> Result<String, serde_json::Error> {
        let mut json = serde_json::to_string(self)?;
        json.drain(..BEFORE_KIND.len() + self.kind().as_str().len() + BEFORE_DETAIL.len());
        json.truncate(json.len() - AFTER.len());
        Ok(json)
    }

    /// # Errors
    /// Where `detail` is no payload of this kind.
    pub fn from_detail(kind: Kind, detail: &str) -> Result<Self, serde_json::Error> {
        // One value and nothing behind it, which would be read as fields beside the payload.
        let detail: &RawValue = serde_json::from_str(detail)?;
        let (kind, detail) = (kind.as_str(), detail.get());
        serde_json::from_str(&[BEFORE_KIND, kind, BEFORE_DETAIL, detail, AFTER].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_one_value_and_comes_back() {
        let stepped = Event::ClockStepped { by_ms: -5 };
        let detail = stepped.detail_json().unwrap();
        assert_eq!(detail, r#"{"by_ms":-5}"#);
        let read = |detail: &str| Event::from_detail(Kind::ClockStepped, detail);
        assert_eq!(read(&detail).unwrap(), stepped);
        let stopped = Event::ServiceStopped {};
        assert_eq!(stopped.detail_json().unwrap(), "{}");
        for wrong in ["", "{}", r#"{"by_ms":-5},"x":0"#, r#"{"by_ms":-5}}"#] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
