//! The example configuration, with values put in their places and whole sections switched on and off. Comments stay.

const EXAMPLE: &str = include_str!("../../../config.example.toml");

/// The lines of a configuration in the making.
#[derive(Debug)]
pub(super) struct Template(Vec<String>);

impl Template {
    pub(super) fn new() -> Self {
        // What is said of copying the file is done.
        let lines = EXAMPLE
            .lines()
            .filter(|line| !line.starts_with("# Copy it to "));
        Self(lines.map(str::to_owned).collect())
    }

    /// Puts a text value in place.
    pub(super) fn text(&mut self, section: &str, key: &str, value: &str) {
        self.set(
            section,
            key,
            &toml::Value::String(value.to_owned()).to_string(),
        );
    }

    /// Puts a value, as TOML, in place, and switches its section on.
    pub(super) fn set(&mut self, section: &str, key: &str, value: &str) {
        let Some(start) = self.header(section) else {
            return;
        };
        if let Some(header) = self.0.get_mut(start)
            && let Some(on) = header.strip_prefix('#')
        {
            *header = on.to_owned();
        }
        let found = self
            .0
            .iter_mut()
            .skip(start + 1)
            .take_while(|line| !is_header(line))
            .find(|line| key_of(line) == Some(key));
        if let Some(line) = found {
            *line = format!("{key} = {value}");
        }
    }

    pub(super) fn off(&mut self, section: &str) {
        let Some(start) = self.header(section) else {
            return;
        };
        let mut is_first = true;
        for line in self.0.iter_mut().skip(start) {
            if !is_first && is_header(line) {
                return;
            }
            if (is_first || key_of(line).is_some()) && !line.starts_with('#') {
                line.insert(0, '#');
            }
            is_first = false;
        }
    }

    pub(super) fn off_key(&mut self, section: &str, key: &str) {
        let Some(start) = self.header(section) else {
            return;
        };
        let lines = self.0.iter_mut().skip(start + 1);
        let found = lines
            .take_while(|line| !is_header(line))
            .find(|line| key_of(line) == Some(key));
        if let Some(line) = found.filter(|line| !line.starts_with('#')) {
            line.insert(0, '#');
        }
    }

    /// Lets every secret lie in this directory.
    pub(super) fn secrets_in(&mut self, directory: &str) {
        let quoted = toml::Value::String(directory.to_owned()).to_string();
        let inner = quoted.trim_matches(['"', '\'']);
        for line in &mut self.0 {
            *line = line.replace("/etc/switchboard/secrets", inner);
        }
    }

    pub(super) fn finish(self) -> String {
        let mut text = self.0.join("\n");
        text.push('\n');
        text
    }

    fn header(&self, section: &str) -> Option<usize> {
        let forms = [format!("[{section}]"), format!("[[{section}]]")];
        self.0.iter().position(|line| {
            let line = line.strip_prefix('#').unwrap_or(line);
            forms.iter().any(|form| form == line)
        })
    }
}

fn is_header(line: &str) -> bool {
    line.strip_prefix('#').unwrap_or(line).starts_with('[')
}

/// The key of a setting that is on, or off behind a `#`; explanations begin with `# `.
fn key_of(line: &str) -> Option<&str> {
    let (key, _) = line.strip_prefix('#').unwrap_or(line).split_once(" = ")?;
    let is_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (!key.is_empty() && key.bytes().all(is_key)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_sections_are_switched_without_losing_a_comment() {
        let mut template = Template::new();
        template.text("server", "listen", "0.0.0.0:443");
        template.text("server.acme", "contact", "a\"b@example.com");
        template.off_key("twilio", "number");
        template.off("dialers.dialfire");
        template.text("auth.keys", "name", "ops");
        let text = template.finish();
        assert!(text.contains("\nlisten = \"0.0.0.0:443\"\n"), "{text}");
        assert!(text.contains("\n[server.acme]\n"), "{text}");
        assert!(text.contains("\n#[dialers.dialfire]\n"), "{text}");
        assert!(text.contains("\n#campaign = "), "{text}");
        assert!(text.contains("\n#number = "), "{text}");
        assert!(text.contains("\n[dialers.zendesk]\nkind = "), "{text}");
        assert!(text.contains("\n[[auth.keys]]\n"), "{text}");
        let explained = |text: &str| text.lines().filter(|line| line.starts_with("# ")).count();
        assert_eq!(explained(&text) + 1, explained(EXAMPLE));
    }
}
