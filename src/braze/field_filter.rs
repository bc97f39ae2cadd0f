//! Passes over what is not needed of an answer while it comes. Braze exports whole profiles, of which a few scalars are wanted; an answer
//! of megabytes shrinks to them before it is read as JSON.
//!
//! What is left is the same document with everything else replaced by `null`, and keys that nobody wants by empty ones. What is kept is
//! copied as it stands, so that [`super::wire`] judges it as it would the whole.

use serde_json::from_slice;

use super::wire::Attributes;

/// A wanted scalar or key that is longer is of no use.
const LONGEST: usize = 8 * 1024;

pub(super) struct FieldFilter<'a> {
    wanted: Attributes<'a>,
    /// What is left so far.
    kept: Vec<u8>,
    path: Vec<Level>,
    mode: Mode,
    key: Vec<u8>,
    interest: Interest,
    /// A value follows on the key of an object.
    after_colon: bool,
    is_done: bool,
    is_broken: bool,
}

/// The containers that are entered; all others are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Root,
    Users,
    User,
    Attributes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Between the tokens of a container that was entered.
    Structure,
    Key {
        escaped: bool,
    },
    /// Copies a scalar that began at this place.
    Keep {
        began: usize,
        text: Text,
    },
    /// Passes over a value; so many containers of it are open.
    Pass {
        depth: usize,
        text: Text,
    },
}

/// Whether a byte belongs to a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    None,
    Inside,
    Escaped,
}

/// What of the value behind a key is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interest {
    Nothing,
    Scalar,
    Container(Level),
}

impl<'a> FieldFilter<'a> {
    pub(super) fn new(wanted: Attributes<'a>) -> Self {
        Self {
            wanted,
            kept: Vec::new(),
            path: Vec::new(),
            mode: Mode::Structure,
            key: Vec::new(),
            interest: Interest::Nothing,
            after_colon: false,
            is_done: false,
            is_broken: false,
        }
    }

    /// Takes the next piece of the answer.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        for byte in piece {
            if self.is_broken {
                return;
            }
            self.step(*byte);
        }
    }

    /// What is left: JSON where the answer was.
    pub(super) fn finish(self) -> Vec<u8> {
        self.kept
    }

    fn step(&mut self, byte: u8) {
        match self.mode {
            Mode::Structure => self.structure(byte),
            Mode::Key { escaped } => self.key_byte(byte, escaped),
            Mode::Keep { began, text } => self.push(byte, began, text),
            Mode::Pass { depth, text } => self.pass(byte, depth, text),
        }
    }

    fn structure(&mut self, byte: u8) {
        let level = self.path.last().copied();
        match (level, byte) {
            (_, b' ' | b'\t' | b'\r' | b'\n') => {}
            (None, b'{') if !self.is_done => self.enter(Level::Root, byte),
            (Some(Level::Users), b'{') => self.enter(Level::User, byte),
            (Some(Level::Users), b',') => self.kept.push(byte),
            (Some(Level::Users), b']') => self.leave(byte),
            (Some(Level::Users), _) => self.begin_to_pass(byte),
            (Some(_), _) if self.after_colon => {
                self.after_colon = false;
                match (self.interest, byte) {
                    (Interest::Container(Level::Users), b'[') => self.enter(Level::Users, byte),
                    (Interest::Container(Level::Attributes), b'{') => {
                        self.enter(Level::Attributes, byte);
                    }
                    (Interest::Scalar, other) if !matches!(other, b'{' | b'[') => {
                        self.begin_to_keep(byte);
                    }
                    (_, _) => self.begin_to_pass(byte),
                }
            }
            (Some(_), b'"') => {
                self.key.clear();
                self.mode = Mode::Key { escaped: false };
            }
            (Some(_), b':') => {
                self.after_colon = true;
                self.kept.push(byte);
            }
            (Some(_), b',') => self.kept.push(byte),
            (Some(_), b'}') => self.leave(byte),
            (_, _) => self.give_up(),
        }
    }

    fn enter(&mut self, level: Level, byte: u8) {
        self.path.push(level);
        self.kept.push(byte);
    }

    fn leave(&mut self, byte: u8) {
        self.path.pop();
        self.kept.push(byte);
        self.is_done = self.path.is_empty();
    }

    /// It is no JSON with users in it; what is left is none either.
    fn give_up(&mut self) {
        self.is_broken = true;
        self.kept.clear();
    }

    fn key_byte(&mut self, byte: u8, escaped: bool) {
        if byte != b'"' || escaped {
            self.mode = Mode::Key {
                escaped: byte == b'\\' && !escaped,
            };
            if self.key.len() < LONGEST {
                self.key.push(byte);
            }
            return;
        }
        self.mode = Mode::Structure;
        self.interest = self.interest_in_key();
        self.kept.push(b'"');
        if self.interest != Interest::Nothing {
            self.kept.extend_from_slice(&self.key);
        }
        self.kept.push(b'"');
    }

    fn interest_in_key(&self) -> Interest {
        let quoted = [b"\"", self.key.as_slice(), b"\""].concat();
        let Ok(key) = from_slice::<String>(&quoted) else {
            return Interest::Nothing;
        };
        let wanted = self.wanted;
        match (self.path.last(), key.as_str()) {
            (Some(Level::Root), "users") => Interest::Container(Level::Users),
            (Some(Level::User), "custom_attributes") => Interest::Container(Level::Attributes),
            (Some(Level::Root), "message") | (Some(Level::User), "external_id" | "created_at") => {
                Interest::Scalar
            }
            (Some(Level::Attributes), key) if wanted.has(key) => Interest::Scalar,
            _ => Interest::Nothing,
        }
    }

    fn begin_to_keep(&mut self, byte: u8) {
        let began = self.kept.len();
        self.kept.push(byte);
        self.mode = Mode::Keep {
            began,
            text: Text::opened_by(byte),
        };
    }

    fn push(&mut self, byte: u8, began: usize, text: Text) {
        if text == Text::None && ends_a_literal(byte) {
            self.mode = Mode::Structure;
            return self.structure(byte);
        }
        let after = text.after(byte);
        if self.kept.len() - began >= LONGEST {
            self.kept.truncate(began);
            self.kept.extend_from_slice(b"null");
            return self.go_on_passing(0, text, after);
        }
        self.kept.push(byte);
        self.mode = match (text, after) {
            (Text::Inside, Text::None) => Mode::Structure,
            _ => Mode::Keep { began, text: after },
        };
    }

    fn begin_to_pass(&mut self, byte: u8) {
        self.kept.extend_from_slice(b"null");
        self.mode = Mode::Pass {
            depth: usize::from(matches!(byte, b'{' | b'[')),
            text: Text::opened_by(byte),
        };
    }

    fn pass(&mut self, byte: u8, depth: usize, text: Text) {
        let after = text.after(byte);
        match (text, byte) {
            (Text::None, b'{' | b'[') if depth > 0 => self.go_on_passing(depth + 1, text, after),
            (Text::None, b'}' | b']') if depth > 1 => self.go_on_passing(depth - 1, text, after),
            (Text::None, b'}' | b']') if depth == 1 => self.mode = Mode::Structure,
            (Text::None, _) if depth == 0 && ends_a_literal(byte) => {
                self.mode = Mode::Structure;
                self.structure(byte);
            }
            _ => self.go_on_passing(depth, text, after),
        }
    }

    /// A string that is a value of its own ends with it.
    fn go_on_passing(&mut self, depth: usize, before: Text, text: Text) {
        self.mode = match (depth, before, text) {
            (0, Text::Inside, Text::None) => Mode::Structure,
            _ => Mode::Pass { depth, text },
        };
    }
}

impl Text {
    fn opened_by(byte: u8) -> Self {
        if byte == b'"' {
            Self::Inside
        } else {
            Self::None
        }
    }

    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::None, _) => Self::opened_by(byte),
            (Self::Inside, b'"') => Self::None,
            (Self::Inside, b'\\') => Self::Escaped,
            (Self::Inside | Self::Escaped, _) => Self::Inside,
        }
    }
}

fn ends_a_literal(byte: u8) -> bool {
    matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::wire::{is_success, read_export};
    use super::*;

    const WANTED: Attributes<'static> = Attributes {
        score: "lead_score",
        tier: Some("lead_tier"),
        others: &[],
    };

    fn sieved(body: &[u8], piece: usize) -> Vec<u8> {
        let mut filter = FieldFilter::new(WANTED);
        body.chunks(piece.max(1))
            .for_each(|piece| filter.feed(piece));
        filter.finish()
    }

    #[test]
    fn what_is_wanted_is_left_and_the_rest_is_passed_over() {
        let body = r#" {"message" : "success", "users":[ {"external_id":"a1","created_at":null,
            "devices":[{"model":"}]\"x"}], "custom_attributes":{"note":"a \\\" b","lead_score" : 87 , "deep":{"lead_score":1},
            "lead\u005ftier":"hot"}}, 7, {} ],"invalid_user_ids":["x"]}
        "#;
        let left = r#"{"message":"success","users":[{"external_id":"a1","created_at":null,"":null,"custom_attributes":{"":null,"lead_score":87,"":null,"lead\u005ftier":"hot"}},null,{}],"":null}"#;
        for piece in [1, 2, 7, 4_096] {
            let got = sieved(body.as_bytes(), piece);
            assert_eq!(String::from_utf8(got).unwrap(), left);
        }
    }

    #[test]
    fn megabytes_of_other_attributes_leave_nothing_behind() {
        let object = json!({ "history": vec!["bought \"something\" {[,"; 2_000] });
        let mut user = json!({ "external_id": "a1", "custom_attributes": { "lead_score": 87 } });
        for n in 0..20 {
            user["custom_attributes"][format!("object_{n}")] = object.clone();
        }
        user["custom_attributes"]["lead_tier"] = "x".repeat(100_000).into();
        let body = json!({ "users": vec![user; 3], "message": "success" }).to_string();
        assert!(body.len() > 3_000_000);
        let left = sieved(body.as_bytes(), 16_384);
        assert!(left.len() < 2_000, "{}", left.len());
        let exported = read_export(&left, WANTED).unwrap();
        assert_eq!(exported.n_users, 3);
        let profile = exported.best.unwrap().profile;
        assert_eq!(profile.score, crate::lead::LeadScore::new(87.0));
        assert_eq!(profile.tier, None);
    }

    #[test]
    fn what_cannot_be_read_whole_cannot_be_read_sieved() {
        for body in [
            "",
            "<html>",
            "[]",
            "{}",
            "null",
            r#"{"users":null}"#,
            r#"{"users":{}}"#,
            r#"{"users":[{"#,
            r#"{"users":[{"a":1]}"#,
            r#"{"users":[]} x"#,
            r#"{"users":[]}{"users":[]}"#,
            r#"{"users":[,]}"#,
            r#"{"users" []}"#,
            r#"{"users":[{"external_id":}]}"#,
            r#"{"message":"queued"}"#,
        ] {
            assert!(read_export(body.as_bytes(), WANTED).is_err(), "{body}");
            let left = sieved(body.as_bytes(), 3);
            assert!(read_export(&left, WANTED).is_err(), "{body}");
        }
        assert!(is_success(&sieved(
            br#"{"users":[],"message":"success"}"#,
            5
        )));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            r#"[a-z0-9"\\{}\[\],: ü]{0,12}"#.prop_map(Value::from),
        ];
        let keys = "users|custom_attributes|lead_score|lead_tier|external_id|created_at|message|[a-z\"]{0,3}";
        leaf.prop_recursive(6, 60, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(keys, inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(crate::property::seeded())]

        #[test]
        fn an_answer_means_the_same_sieved_and_whole(
            users in prop::collection::vec(any_json(), 0..4),
            attributes in any_json(),
            rest in prop::collection::btree_map("users|message|[a-z]{0,3}", any_json(), 0..4),
            piece in 1_usize..40,
        ) {
            let known = json!({ "external_id": "a", "custom_attributes": attributes });
            let mut users = users;
            users.push(known);
            let answer = json!({ "first": rest, "users": users, "message": "success" });
            for body in [answer, json!(rest)] {
                for text in [body.to_string(), format!("{body:#}")] {
                    let left = sieved(text.as_bytes(), piece);
                    prop_assert_eq!(read_export(&left, WANTED), read_export(text.as_bytes(), WANTED));
                    prop_assert_eq!(is_success(&left), is_success(text.as_bytes()));
                }
            }
        }

        #[test]
        fn no_bytes_make_it_panic_or_grow(body: Vec<u8>, text in r#"[\[\]{}",:a-z\\ ]{0,200}"#) {
            for body in [&body[..], text.as_bytes(), format!(r#"{{"users":[{text}"#).as_bytes()] {
                prop_assert!(sieved(body, 3).len() <= 4 * body.len() + 8);
            }
        }
    }
}
