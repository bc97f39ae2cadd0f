//! The stored form of an event: its payload as JSON, beside the name of its kind.

use super::{Event, Kind};

impl Event {
    /// The payload as a JSON object.
    pub fn detail_json(&self) -> Result<String, serde_json::Error> {
        let mut json = serde_json::to_string(self)?;
        // `{"kind":"…","detail":` and the brace at the end stand around it.
        json.drain(..head(self.kind()).len());
        json.pop();
        Ok(json)
    }

    /// # Errors
    /// Where `detail` is no payload of this kind.
    pub fn from_detail(kind: Kind, detail: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(&(head(kind) + detail + "}"))
    }
}

fn head(kind: Kind) -> String {
    format!(r#"{{"kind":"{}","detail":"#, kind.as_str())
}
