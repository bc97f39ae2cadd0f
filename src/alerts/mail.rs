//! Mail: one connection per attempt, TLS wherever it leaves the machine, and a limit on every step.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Noop, Rcpt};
use lettre::transport::smtp::extension::{ClientId, MailBodyParameter, MailParameter};
use lettre::{Address, Message};
use tokio::time::timeout;

use super::message::{NotTaken, RenderedMessage, chain};
use crate::secret::Secret;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a whole attempt may take, from connecting to the last answer. A server that hangs anywhere costs this much, and nobody waits.
const ATTEMPT: Duration = Duration::from_secs(30);
/// Answers that say that this recipient will never get it, where they answer the naming of a recipient. Everything else may be repaired:
/// greylisting, a full disk, a wrong password, a sender's quota (550 to MAIL or to the end of the message).
const REFUSED_FOR_GOOD: [u16; 4] = [550, 551, 553, 556];

/// `[alerts.email]`: where mail goes, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    /// The recipients; at least one.
    pub to: Vec<String>,
    pub from: String,
    pub smtp: Smtp,
    /// The login name. Default: none; no login.
    pub username: Option<String>,
    /// The password; set exactly where `username` is.
    pub password: Option<Secret>,
    /// A file with certificate authorities that are trusted beside the system's, as PEM. Default: none.
    pub ca: Option<PathBuf>,
}

impl Email {
    /// Name and password, where a login is wanted.
    fn login(&self) -> Option<(String, String)> {
        let password = self.password.as_ref()?;
        Some((self.username.clone()?, password.expose().to_owned()))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smtp {
    /// How the connection is protected.
    pub security: SmtpSecurity,
    /// The host name or address, without brackets.
    pub host: String,
    /// The port. Default: 465 for `smtps://`, 587 for `smtp://`.
    pub port: u16,
}

/// How the connection to a mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpSecurity {
    /// `smtps://`: TLS from the first byte.
    Tls,
    StartTls,
    /// `smtp://` on a loopback host: STARTTLS where it is offered, otherwise plain.
    Loopback,
}

impl fmt::Display for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.security {
            SmtpSecurity::Tls => "smtps",
            SmtpSecurity::StartTls | SmtpSecurity::Loopback => "smtp",
        };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    #[error("{address:?} is not a mail address")]
    Address {
        address: String,
        source: lettre::address::AddressError,
    },
    /// TLS cannot be set up for this host.
    #[error("cannot set up TLS for the mail server")]
    Tls(#[source] Error),
}

#[derive(Clone)]
pub struct Mailer {
    from: Mailbox,
    settings: Email,
    tls: TlsParameters,
    /// The password as it is, and as it travels.
    secrets: Vec<String>,
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Smtp { host, port, .. } = &self.settings.smtp;
        write!(f, "Mailer({host}:{port})")
    }
}

impl Mailer {
    /// Takes what the file of `ca` holds, too.
    pub fn new(settings: &Email, authorities: Option<&[u8]>) -> Result<Self, MailError> {
        Ok(Self {
            from: mailbox(&settings.from)?,
            tls: tls(&settings.smtp.host, authorities).map_err(MailError::Tls)?,
            secrets: settings.login().as_ref().map(secrets).unwrap_or_default(),
            settings: settings.clone(),
        })
    }

    /// Sends one message to these recipients, all or none. `unique` makes its Message-ID unlike those of other installations.
    pub async fn send(
        &self,
        rendered: &RenderedMessage,
        to: &[String],
        unique: &str,
        at: Timestamp,
    ) -> Result<(), NotTaken> {
        let message = self
            .message(rendered, to, unique, at)
            .map_err(NotTaken::for_good)?;
        // Step by step: what an answer means depends on what it answers.
        let conversation = async {
            let mut connection = self.connect().await?;
            let sent = self.hand_in(&mut connection, &message).await;
            Ok((connection, sent))
        };
        match timeout(ATTEMPT, conversation).await {
            Ok(Ok((mut connection, sent))) => {
                // A server that does not take leave has taken the message all the same.
                drop(timeout(CONNECT, connection.abort()).await);
                sent
            }
            Ok(Err(error)) => Err(self.not_taken(&error)),
            Err(_) => Err(NotTaken::for_now(format!(
                "the mail server took longer than {} s",
                ATTEMPT.as_secs()
            ))),
        }
    }

    /// Connects, logs in and says nothing more.
    pub async fn probe(&self) -> Result<(), NotTaken> {
        match timeout(ATTEMPT, self.noop()).await {
            Ok(result) => result.map_err(|error| self.not_taken(&error)),
            Err(_) => Err(NotTaken::for_now("the mail server does not answer")),
        }
    }

    async fn noop(&self) -> Result<(), Error> {
        let mut connection = self.connect().await?;
        let answered = connection.command(Noop).await.map(drop);
        connection.abort().await;
        answered
    }

    /// A connection that has logged in.
    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let Self { settings, tls, .. } = self;
        let Smtp {
            security,
            host,
            port,
        } = &settings.smtp;
        let name = ClientId::default();
        let implicit = (*security == SmtpSecurity::Tls).then(|| tls.clone());
        let address = (host.as_str(), *port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(address, Some(CONNECT), &name, implicit, None)
                .await?;
        let offered = connection.can_starttls();
        match security {
            SmtpSecurity::StartTls => connection.starttls(tls.clone(), &name).await?,
            SmtpSecurity::Loopback if offered => connection.starttls(tls.clone(), &name).await?,
            SmtpSecurity::Tls | SmtpSecurity::Loopback => {}
        }
        if let Some((name, password)) = settings.login() {
            let credentials = Credentials::new(name, password);
            connection.auth(DEFAULT_MECHANISMS, &credentials).await?;
        }
        Ok(connection)
    }

    async fn hand_in(
        &self,
        connection: &mut AsyncSmtpConnection,
        message: &Message,
    ) -> Result<(), NotTaken> {
        let later = |error: Error| self.not_taken(&error);
        let envelope = message.envelope();
        let text = message.formatted();
        let is_ascii = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
        let mut options = Vec::new();
        if !envelope
            .from()
            .into_iter()
            .chain(envelope.to())
            .all(is_ascii)
        {
            options.push(MailParameter::SmtpUtfEight);
        }
        if !text.is_ascii() {
            options.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let mail = Mail::new(envelope.from().cloned(), options);
        connection.command(mail).await.map_err(later)?;
        for recipient in envelope.to() {
            let named = connection.command(Rcpt::new(recipient.clone(), Vec::new()));
            named.await.map_err(|error| {
                let code = error.status().map(u16::from);
                NotTaken {
                    for_good: code.is_some_and(|code| REFUSED_FOR_GOOD.contains(&code)),
                    ..self.not_taken(&error)
                }
            })?;
        }
        connection.command(Data).await.map_err(later)?;
        let end = connection.message(&text).await;
        end.map(drop).map_err(later)
    }

    /// What the server said, without the password: there are some that repeat what they were given.
    fn not_taken(&self, error: &Error) -> NotTaken {
        NotTaken {
            answered: error.is_response() || error.status().is_some(),
            ..NotTaken::for_now(without(&self.secrets, chain(error)))
        }
    }

    fn message(
        &self,
        rendered: &RenderedMessage,
        to: &[String],
        unique: &str,
        at: Timestamp,
    ) -> Result<Message, String> {
        let domain = self.from.email.domain();
        let id = |notification: &str| format!("<{notification}.{unique}@{domain}>");
        let mut builder = Message::builder()
            .from(self.from.clone())
            .message_id(Some(id(&rendered.id)))
            .date(system_time(at))
            .subject(rendered.subject.clone())
            .header(AutoSubmitted);
        for address in to {
            builder = builder.to(mailbox(address).map_err(|error| chain(&error))?);
        }
        if let Some(follows) = &rendered.follows {
            builder = builder.in_reply_to(id(follows)).references(id(follows));
        }
        let body = MultiPart::alternative_plain_html(rendered.text.clone(), rendered.html.clone());
        builder.multipart(body).map_err(|error| chain(&error))
    }
}

fn tls(host: &str, authorities: Option<&[u8]>) -> Result<TlsParameters, Error> {
    let mut parameters = TlsParameters::builder(host.to_owned());
    if let Some(pem) = authorities {
        parameters = parameters.add_root_certificate(Certificate::from_pem(pem)?);
    }
    parameters.build_rustls()
}

fn mailbox(address: &str) -> Result<Mailbox, MailError> {
    let parsed: Result<Address, _> = address.parse();
    let email = parsed.map_err(|source| MailError::Address {
        address: address.to_owned(),
        source,
    })?;
    Ok(Mailbox::new(None, email))
}

fn system_time(at: Timestamp) -> SystemTime {
    let since = Duration::from_millis(u64::try_from(at.as_millisecond()).unwrap_or_default());
    SystemTime::UNIX_EPOCH + since
}

fn secrets((name, password): &(String, String)) -> Vec<String> {
    let packed = [format!("\0{name}\0{password}"), password.clone()];
    let packed = packed.map(|text| STANDARD.encode(text).trim_end_matches('=').to_owned());
    [password.clone()].into_iter().chain(packed).collect()
}

fn without(secrets: &[String], text: String) -> String {
    let hide = |text: String, secret: &String| text.replace(secret.as_str(), "[password]");
    let secrets = secrets.iter().filter(|secret| !secret.is_empty());
    secrets.fold(text, hide)
}

/// No out-of-office note answers this (RFC 3834).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_a_server_repeats_is_hidden() {
        let login = ("mailer".to_owned(), "made-up-password".to_owned());
        // printf '\0mailer\0made-up-password' | base64, and of the password alone
        let said = "535 AG1haWxlcgBtYWRlLXVwLXBhc3N3b3Jk: made-up-password (bWFkZS11cC1wYXNzd29yZA==) is wrong";
        assert_eq!(
            without(&secrets(&login), said.to_owned()),
            "535 [password]: [password] ([password]==) is wrong"
        );
    }
}
