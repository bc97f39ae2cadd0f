//! What is put into the configuration: given as options, asked for on a terminal, or a placeholder.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::super::frame::errln;
use super::place::InitPaths;
use super::template::Template;
use crate::config::{self, PLACEHOLDER_SECRET};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct InitArguments {
    /// Ask nothing: what is not given stays a placeholder, which is named at the end
    #[arg(long)]
    pub(super) yes: bool,
    /// Address of this server as it will be typed in the Twilio console, like <https://calls.example.com>
    #[arg(long, value_name = "URL")]
    pub(super) public_url: Option<String>,
    /// Write the file of a second machine from this one of the first, which stays as it is. Takes --public-url and --node
    #[arg(long, value_name = "FILE", conflicts_with_all = ["yes", "listen", "database"])]
    pub(super) second: Option<PathBuf>,
    /// What the second machine is called [default: b]
    #[arg(long, value_name = "NAME", requires = "second")]
    pub(super) node: Option<String>,
    /// Address and port to listen on [default: 0.0.0.0:443 with a certificate, 127.0.0.1:8080 behind a proxy]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Get a certificate from Let's Encrypt, which writes to this mail address
    #[arg(long, value_name = "MAIL", conflicts_with = "certificate")]
    acme_contact: Option<String>,
    /// Certificate with its intermediates, PEM
    #[arg(long, value_name = "FILE", requires = "private_key")]
    certificate: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "certificate")]
    private_key: Option<PathBuf>,
    /// Database file [default: /var/lib/switchboard/switchboard.db for a configuration in /etc/switchboard, else beside it]
    #[arg(long, value_name = "FILE")]
    pub(super) database: Option<PathBuf>,
    /// Account SID from the Twilio console
    #[arg(long, value_name = "SID")]
    twilio_account_sid: Option<String>,
    /// File with Twilio's auth token
    #[arg(long, value_name = "FILE")]
    twilio_auth_token: Option<PathBuf>,
    /// REST endpoint of your Braze instance
    #[arg(long, value_name = "URL")]
    braze_url: Option<String>,
    /// File with the Braze API key
    #[arg(long, value_name = "FILE")]
    braze_api_key: Option<PathBuf>,
    /// Inbound line of Dialfire: a number or a sip: address
    #[arg(long, value_name = "LINE")]
    dialfire_connect: Option<String>,
    /// Campaign of Dialfire
    #[arg(long, value_name = "ID", requires = "dialfire_connect")]
    dialfire_campaign: Option<String>,
    /// Task of that campaign
    #[arg(long, value_name = "NAME", requires = "dialfire_connect")]
    dialfire_task: Option<String>,
    /// File with the token of that campaign
    #[arg(long, value_name = "FILE", requires = "dialfire_connect")]
    dialfire_token: Option<PathBuf>,
    /// Line of Zendesk Talk: a number or a sip: address
    #[arg(long, value_name = "LINE")]
    zendesk_connect: Option<String>,
    /// What stands before .zendesk.com
    #[arg(long, value_name = "NAME", requires = "zendesk_connect")]
    zendesk_subdomain: Option<String>,
    /// Agent that the API token of Zendesk acts as
    #[arg(long, value_name = "MAIL", requires = "zendesk_connect")]
    zendesk_email: Option<String>,
    /// File with the API token of Zendesk
    #[arg(long, value_name = "FILE", requires = "zendesk_connect")]
    zendesk_api_token: Option<PathBuf>,
    /// Number that is dialed when all else fails
    #[arg(long, value_name = "NUMBER")]
    last_resort: Option<String>,
    /// Who is told of incidents; may be repeated
    #[arg(long, value_name = "MAIL", requires = "smtp")]
    alert_to: Vec<String>,
    /// The one who was typed on the terminal.
    #[arg(skip)]
    asked_to: Option<String>,
    /// Sender of these mails
    #[arg(long, value_name = "MAIL", requires = "alert_to")]
    alert_from: Option<String>,
    /// Mail server, like <smtps://mail.example.com:465>
    #[arg(long, value_name = "URL", requires = "alert_to")]
    smtp: Option<String>,
    /// Login at the mail server
    #[arg(
        long,
        value_name = "NAME",
        requires = "smtp",
        requires = "smtp_password"
    )]
    smtp_username: Option<String>,
    /// File with the password of that login
    #[arg(long, value_name = "FILE", requires = "smtp_username")]
    smtp_password: Option<PathBuf>,
}

/// Everything that is put in. `None` is a placeholder, or a section that is off.
pub(super) struct Answers {
    given: InitArguments,
    secrets: Vec<AskedSecret>,
    has_dialfire: bool,
    has_zendesk: bool,
}

/// A secret of the configuration.
struct AskedSecret {
    file: &'static str,
    about: &'static str,
    text: Option<Zeroizing<String>>,
}

impl Answers {
    pub(super) fn gather(
        arguments: &InitArguments,
        place: &InitPaths,
        may_ask: bool,
    ) -> anyhow::Result<Self> {
        let mut given = arguments.clone();
        if may_ask {
            ask(&mut given, place, &mut prompt)?;
        }
        let mut answers = Self::without_secrets(given);
        answers.read_secrets(may_ask)?;
        Ok(answers)
    }

    fn without_secrets(mut given: InitArguments) -> Self {
        given.alert_to.extend(given.asked_to.take());
        // With neither, both stand as examples.
        let neither = given.dialfire_connect.is_none() && given.zendesk_connect.is_none();
        let has_dialfire = neither || given.dialfire_connect.is_some();
        let has_zendesk = neither || given.zendesk_connect.is_some();
        Self {
            given,
            secrets: Vec::new(),
            has_dialfire,
            has_zendesk,
        }
    }

    fn read_secrets(&mut self, may_ask: bool) -> anyhow::Result<()> {
        let g = &self.given;
        let mut wanted = vec![
            (
                "twilio_auth_token",
                "Twilio's auth token",
                &g.twilio_auth_token,
            ),
            ("braze_api_key", "the Braze API key", &g.braze_api_key),
        ];
        if self.has_dialfire {
            let about = "the token of the Dialfire campaign";
            wanted.push(("dialfire_token", about, &g.dialfire_token));
        }
        if self.has_zendesk {
            let about = "the API token of Zendesk";
            wanted.push(("zendesk_token", about, &g.zendesk_api_token));
        }
        if g.smtp_username.is_some() {
            let about = "the password of the mail server";
            wanted.push(("smtp_password", about, &g.smtp_password));
        }
        for (file, about, path) in wanted {
            let text = secret(path.as_deref(), about, may_ask)?;
            self.secrets.push(AskedSecret { file, about, text });
        }
        Ok(())
    }

    /// What is wrong with the configuration that these answers make, as key and message.
    pub(super) fn problems(&self, place: &InitPaths) -> Vec<(String, String)> {
        let text = self.write(place, "ops", &"0".repeat(64));
        let context = config::Context::in_directory(place.directory()).without_secrets();
        let rejected = config::parse(&text, &context).err();
        let problems = rejected.into_iter().flat_map(|rejected| rejected.problems);
        let errors = problems.filter(config::Problem::is_error);
        errors.map(|error| (error.key, error.message)).collect()
    }

    /// The files of secrets by name: what is known, placeholders, and what is made up here.
    pub(super) fn secrets(&self) -> Vec<(&'static str, Zeroizing<String>)> {
        let placeholder = || Zeroizing::new(PLACEHOLDER_SECRET.to_owned());
        let mut random = [0; 32];
        // Without random bytes the placeholder is refused by nobody, and says so in the list of what is to be done.
        let drawn = getrandom::fill(&mut random).map(|()| Zeroizing::new(hex::encode(random)));
        let drawn = drawn.unwrap_or_else(|_| placeholder());
        self.secrets
            .iter()
            .map(|secret| (secret.file, secret.text.clone().unwrap_or_else(placeholder)))
            .chain([("braze_webhook", drawn)])
            .collect()
    }

    /// Keys whose value is put in as it was given, and whether a placeholder that has to be replaced stands there without one.
    fn texts(&self) -> [(bool, &'static str, &Option<String>); 10] {
        let (g, dialfire, zendesk) = (&self.given, self.has_dialfire, self.has_zendesk);
        [
            (true, "server.public_url", &g.public_url),
            (true, "twilio.account_sid", &g.twilio_account_sid),
            (true, "braze.base_url", &g.braze_url),
            (dialfire, "dialers.dialfire.connect", &g.dialfire_connect),
            (dialfire, "dialers.dialfire.campaign", &g.dialfire_campaign),
            (dialfire, "dialers.dialfire.task", &g.dialfire_task),
            (zendesk, "dialers.zendesk.connect", &g.zendesk_connect),
            (zendesk, "dialers.zendesk.subdomain", &g.zendesk_subdomain),
            (zendesk, "dialers.zendesk.email", &g.zendesk_email),
            (false, "routing.last_resort_number", &g.last_resort),
        ]
    }

    /// What is still to be replaced by hand.
    pub(super) fn to_do(&self) -> Vec<String> {
        let texts = self.texts().into_iter();
        let open = texts.filter(|(has_placeholder, _, given)| *has_placeholder && given.is_none());
        let mut open: Vec<String> = open.map(|(_, key, _)| key.to_owned()).collect();
        let secrets = self.secrets.iter().filter(|secret| secret.text.is_none());
        open.extend(secrets.map(|secret| format!("secrets/{}: {}", secret.file, secret.about)));
        if self.given.alert_to.is_empty() {
            open.push("alerts.email: nobody is told of incidents yet".to_owned());
        }
        open
    }

    pub(super) fn write(&self, place: &InitPaths, key_name: &str, key_hash: &str) -> String {
        let mut template = Template::new();
        self.write_server(&mut template);
        template.text("storage.path", &text_of(&place.database));
        for (_, key, given) in self.texts() {
            if let Some(value) = given {
                template.text(key, value);
            }
        }
        let webhook = "{ file = \"/etc/switchboard/secrets/braze_webhook\" }";
        // Nobody knows yet which numbers there are.
        template.off_key("twilio.number");
        template.set("braze.webhook_secret", webhook);
        self.choose_dialers(&mut template);
        self.write_alerts(&mut template);
        template.text("auth.keys.name", key_name);
        template.text("auth.keys.role", "admin");
        template.text("auth.keys.hash", key_hash);
        template.secrets_in(&text_of(&place.secrets()));
        template.finish()
    }

    fn write_server(&self, template: &mut Template) {
        let given = &self.given;
        let has_certificate = given.acme_contact.is_some() || given.certificate.is_some();
        let usual = if has_certificate {
            "0.0.0.0:443"
        } else {
            "127.0.0.1:8080"
        };
        let listen = given.listen.as_deref().unwrap_or(usual);
        template.text("server.listen", listen);
        if let Some((certificate, key)) = given.certificate.as_ref().zip(given.private_key.as_ref())
        {
            let whole = |path: &Path| {
                text_of(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
            };
            template.text("server.tls.certificate", &whole(certificate));
            template.text("server.tls.private_key", &whole(key));
        }
        if let Some(contact) = &given.acme_contact {
            let url = given.public_url.as_deref().unwrap_or_default();
            let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
            let host = match rest.split(['/', ':']).next() {
                None | Some("") => "calls.example.com".to_owned(),
                Some(host) => host.to_owned(),
            };
            let domains = toml::Value::Array(vec![toml::Value::String(host)]);
            template.set("server.acme.domains", &domains.to_string());
            template.text("server.acme.contact", contact);
        }
    }

    fn choose_dialers(&self, template: &mut Template) {
        let dialers = match (self.has_dialfire, self.has_zendesk) {
            (true, false) => {
                template.off("dialers.zendesk");
                template.text("routing.default_dialer", "dialfire");
                "[\"dialfire\"]"
            }
            (false, true) => {
                template.off("dialers.dialfire");
                "[\"zendesk\"]"
            }
            (_, _) => "[\"dialfire\", \"zendesk\"]",
        };
        template.set("routing.rules.dialers", dialers);
    }

    fn write_alerts(&self, template: &mut Template) {
        let given = &self.given;
        let Some(smtp) = given.smtp.as_ref().filter(|_| !given.alert_to.is_empty()) else {
            // A mail server that is not there would fail with every alert.
            template.off("alerts.email");
            return;
        };
        let to = given.alert_to.iter().cloned().map(toml::Value::String);
        let to = toml::Value::Array(to.collect());
        template.set("alerts.email.to", &to.to_string());
        if let Some(from) = given.alert_from.as_ref().or(given.alert_to.first()) {
            template.text("alerts.email.from", from);
        }
        template.text("alerts.email.smtp", smtp);
        if let Some(user) = &given.smtp_username {
            template.text("alerts.email.username", user);
            let password = "{ file = \"/etc/switchboard/secrets/smtp_password\" }";
            template.set("alerts.email.password", password);
        }
    }
}

fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Asks for what cannot be known and was not given. An empty answer leaves a placeholder, a wrong one is asked for again.
fn ask(
    given: &mut InitArguments,
    place: &InitPaths,
    prompt: &mut dyn FnMut(&str) -> anyhow::Result<Zeroizing<String>>,
) -> anyhow::Result<()> {
    let problems = |given: &InitArguments| {
        let mut given = given.clone();
        // An address is read beside a mail server only.
        let server = || "smtps://mail.example.com:465".to_owned();
        given.smtp.get_or_insert_with(server);
        Answers::without_secrets(given).problems(place)
    };
    let before = problems(given);
    macro_rules! question {
        ($field:ident, $text:literal) => {
            while given.$field.is_none() {
                let answer = prompt($text)?;
                if answer.trim().is_empty() {
                    break;
                }
                given.$field = Some(answer.trim().to_owned());
                if let Some((key, message)) =
                    problems(given).iter().find(|one| !before.contains(one))
                {
                    errln!("{key}: {message}");
                    given.$field = None;
                }
            }
        };
    }
    question!(
        public_url,
        "Public URL of this server, as in the Twilio console (https://…)"
    );
    if given.certificate.is_none() {
        question!(
            acme_contact,
            "Mail address for a certificate of Let's Encrypt (empty: a proxy in front speaks TLS)"
        );
    }
    question!(twilio_account_sid, "Twilio Account SID (AC…)");
    question!(braze_url, "Braze REST endpoint (https://rest.….braze.eu)");
    question!(
        dialfire_connect,
        "Inbound line of Dialfire (empty: no Dialfire)"
    );
    if given.dialfire_connect.is_some() {
        question!(dialfire_campaign, "Dialfire campaign");
        question!(dialfire_task, "Task of that campaign");
    }
    question!(
        zendesk_connect,
        "Line of Zendesk Talk (empty: no Zendesk Talk)"
    );
    if given.zendesk_connect.is_some() {
        question!(zendesk_subdomain, "Zendesk subdomain");
        question!(zendesk_email, "Agent that the API token acts as");
    }
    question!(
        last_resort,
        "Number to dial when all else fails (empty: none)"
    );
    if given.alert_to.is_empty() {
        question!(asked_to, "Who is told of incidents by mail (empty: nobody)");
    }
    if given.asked_to.is_some() || !given.alert_to.is_empty() {
        question!(smtp, "Mail server (smtps://mail.example.com:465)");
    }
    Ok(())
}

fn prompt(text: &str) -> anyhow::Result<Zeroizing<String>> {
    let mut out = io::stderr().lock();
    write!(out, "{text}: ")
        .and_then(|()| out.flush())
        .context("cannot ask")?;
    let mut line = Zeroizing::new(String::new());
    io::stdin()
        .lock()
        .read_line(&mut line)
        .context("cannot read the answer")?;
    Ok(line)
}

/// A secret from its file, or typed unseen.
fn secret(
    path: Option<&Path>,
    about: &str,
    may_ask: bool,
) -> anyhow::Result<Option<Zeroizing<String>>> {
    let text = match path {
        Some(path) => std::fs::read_to_string(path)
            .map(Zeroizing::new)
            .with_context(|| format!("cannot read {about} from {}", path.display()))?,
        None if may_ask => unseen(about)?,
        None => return Ok(None),
    };
    let text = text.trim();
    Ok((!text.is_empty()).then(|| Zeroizing::new(text.to_owned())))
}

/// Asks without showing what is typed.
fn unseen(about: &str) -> anyhow::Result<Zeroizing<String>> {
    let before = tcgetattr(io::stdin()).context("cannot ask")?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(io::stdin(), OptionalActions::Now, &hidden).context("cannot ask")?;
    let answer = prompt(&format!("{about} (not shown; empty: later)"));
    tcsetattr(io::stdin(), OptionalActions::Now, &before).context("cannot ask")?;
    // The line break was not shown either.
    drop(writeln!(io::stderr()));
    answer
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        init: InitArguments,
    }

    #[test]
    fn a_wrong_answer_is_asked_for_again_and_the_others_stay() {
        let place = InitPaths::new(Some(Path::new("/nowhere/config.toml")), None);
        let mut given = Line::parse_from(["init", "--last-resort", "+4930123456"]).init;
        let typed = [
            ("Public URL", "calls.acme.example"),
            ("Public URL", "https://calls.acme.example"),
            ("Mail address for a certificate", ""),
            ("Twilio Account SID", "AC1"),
            ("Twilio Account SID", "AC00000000000000000000000000000001"),
            ("Braze", "https://rest.fra-01.braze.eu"),
            ("Inbound line of Dialfire", "030 123"),
            ("Inbound line of Dialfire", ""),
            ("Line of Zendesk", "sip:sales@acme.sip.twilio.com"),
            ("Zendesk subdomain", "acme"),
            ("Agent", "nobody"),
            ("Agent", "router@acme.example"),
            ("Who is told", "ops"),
            ("Who is told", "ops@acme.example"),
            ("Mail server", "mail.acme.example"),
            ("Mail server", "smtps://mail.acme.example:465"),
        ];
        let mut typed = typed.into_iter();
        let mut prompt = |text: &str| {
            let (question, answer) = typed.next().unwrap();
            assert!(text.starts_with(question), "{text}, not {question}");
            Ok(Zeroizing::new(format!("{answer}\n")))
        };
        ask(&mut given, &place, &mut prompt).unwrap();
        assert_eq!(typed.next(), None);
        let answers = Answers::without_secrets(given);
        assert_eq!(answers.problems(&place), []);
        let text = answers.write(&place, "ops", &"0".repeat(64));
        for written in [
            "https://calls.acme.example",
            "ops@acme.example",
            "smtps://mail.acme.example:465",
            "router@acme.example",
            "+4930123456",
        ] {
            assert!(text.contains(written), "{written}");
        }
    }
}
