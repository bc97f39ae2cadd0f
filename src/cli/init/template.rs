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
    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.set(key, &toml::Value::String(value.to_owned()).to_string());
    }

    /// Puts a value, as TOML, in place, and switches its section on.
    pub(super) fn set(&mut self, key: &str, value: &str) {
        let (section, name) = key.rsplit_once('.').unwrap_or_default();
        if let Some(header) = self.section(section).next()
            && let Some(on) = header.strip_prefix('#')
        {
            *header = on.to_owned();
        }
        if let Some(line) = self.line(key) {
            *line = format!("{name} = {value}");
        }
    }

    pub(super) fn off(&mut self, section: &str) {
        for (idx, line) in self.section(section).enumerate() {
            if (idx == 0 || key_of(line).is_some()) && !line.starts_with('#') {
                line.insert(0, '#');
            }
        }
    }

    pub(super) fn off_key(&mut self, key: &str) {
        if let Some(line) = self.line(key).filter(|line| !line.starts_with('#')) {
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

    /// The first section of this name, whether it is on or off: its header, and the lines up to the next one.
    fn section(&mut self, name: &str) -> impl Iterator<Item = &mut String> {
        let forms = [format!("[{name}]"), format!("[[{name}]]")];
        let is_meant = move |line: &String| {
            let line = line.strip_prefix('#').unwrap_or(line);
            forms.iter().any(|form| form == line)
        };
        let start = self.0.iter().position(is_meant).unwrap_or(self.0.len());
        let lines = self.0.iter_mut().skip(start).enumerate();
        lines
            .take_while(|(idx, line)| *idx == 0 || !is_header(line))
            .map(|(_, line)| line)
    }

    fn line(&mut self, key: &str) -> Option<&mut String> {
        let (section, name) = key.rsplit_once('.')?;
        let mut lines = self.section(section).skip(1);
        lines.find(|line| key_of(line) == Some(name))
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
        template.text("server.listen", "0.0.0.0:443");
        template.text("server.acme.contact", "a\"b@example.com");
        template.off_key("twilio.number");
        template.off("dialers.dialfire");
        template.text("auth.keys.name", "ops");
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
