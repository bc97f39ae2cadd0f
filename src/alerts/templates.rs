//! What a message says, and how it is laid out as text and as HTML.

use askama::Template;
use serde_json::Value;

/// What a message says, before it is laid out.
pub(super) struct MessageContent {
    pub(super) id: String,
    pub(super) follows: Option<String>,
    pub(super) subject: String,
    pub(super) parts: Vec<Paragraph>,
    /// What its JSON says beside what every message has.
    pub(super) json: Value,
}

pub(super) enum Paragraph {
    Line(String),
    Facts(Vec<(&'static str, String)>),
    List(&'static str, Vec<String>),
    Links(&'static str, Vec<(String, String)>),
}

impl Paragraph {
    /// `None` of an empty list.
    pub(super) fn list(title: &'static str, items: Vec<String>) -> Option<Self> {
        (!items.is_empty()).then_some(Self::List(title, items))
    }
}

#[derive(Template)]
#[template(
    ext = "txt",
    source = "
{%- match paragraph %}
{%- when Paragraph::Line(line) %}{{ line }}
{%- when Paragraph::Facts(facts) %}{% for (name, value) in facts %}{{ name }}: {{ value }}
{% endfor %}
{%- when Paragraph::List(title, items) %}{{ title }}:
{% for item in items %}  {{ item }}
{% endfor %}
{%- when Paragraph::Links(title, links) %}{{ title }}:
{% for (label, url) in links %}  {{ label }}
  {{ url }}
{% endfor %}
{%- endmatch %}"
)]
struct TextParagraph<'a> {
    paragraph: &'a Paragraph,
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{{ subject }}</title></head>
{#- -#}
<body style="font-family:sans-serif;line-height:1.4;max-width:42em"><h1 style="font-size:1.2em">{{ subject }}</h1>
{%- for paragraph in paragraphs %}
{%- match paragraph %}
{%- when Paragraph::Line(line) %}<p>{{ line }}</p>
{%- when Paragraph::Facts(facts) %}<table cellpadding="3">
{%- for (name, value) in facts %}<tr><th align="left" valign="top">{{ name }}</th><td>{{ value }}</td></tr>
{%- endfor %}</table>
{%- when Paragraph::List(title, items) %}<p>{{ title }}</p><ul>
{%- for item in items %}<li>{{ item }}</li>
{%- endfor %}</ul>
{%- when Paragraph::Links(title, links) %}<p>{{ title }}</p><ul>
{%- for (label, url) in links %}<li><a href="{{ url }}">{{ label }}</a></li>
{%- endfor %}</ul>
{%- endmatch %}
{%- endfor %}</body></html>
"#
)]
struct HtmlPage<'a> {
    subject: &'a str,
    paragraphs: &'a [Paragraph],
}

pub(super) fn n_calls(n: u64) -> String {
    match n {
        0 => "no call".to_owned(),
        1 => "1 call".to_owned(),
        n => format!("{n} calls"),
    }
}

pub(super) fn text(paragraphs: &[Paragraph]) -> String {
    let paragraphs = paragraphs.iter().map(|paragraph| {
        let text = TextParagraph { paragraph }.to_string();
        text.trim_end().to_owned()
    });
    paragraphs.collect::<Vec<_>>().join("\n\n") + "\n"
}

pub(super) fn html(subject: &str, paragraphs: &[Paragraph]) -> String {
    let page = HtmlPage {
        subject,
        paragraphs,
    };
    // Characters that are escaped by number are escaped by name, the ampersand last: it begins all others.
    [
        ("&#60;", "&lt;"),
        ("&#62;", "&gt;"),
        ("&#34;", "&quot;"),
        ("&#38;", "&amp;"),
    ]
    .into_iter()
    .fold(page.to_string(), |html, (number, name)| {
        html.replace(number, name)
    })
}
