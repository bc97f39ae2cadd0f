//! A stand-in for a mail server: a small but real SMTP dialogue (RFC 5321), plain or with TLS, that keeps what it is given.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::port::{End, Port};

/// A longer line ends the connection.
const LONGEST_LINE: u64 = 4_096;
/// A longer message is refused.
const LONGEST_MESSAGE: usize = 1024 * 1024;
/// The oldest messages are forgotten beyond this many.
const KEPT: usize = 10_000;

/// One message as it was handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub from: String,
    pub to: Vec<String>,
    /// Headers and body, with line ends as `\r\n`, dots unstuffed.
    pub data: String,
    /// The user who had logged in.
    pub user: Option<String>,
}

impl Message {
    /// The first header of this name, unfolded; encoded words stay encoded.
    pub fn header(&self, name: &str) -> Option<String> {
        let (head, _) = self.split();
        let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        unfolded.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    }

    pub fn subject(&self) -> String {
        self.header("Subject").unwrap_or_default()
    }

    /// The body with its transfer encoding undone.
    pub fn text(&self) -> String {
        let (_, body) = self.split();
        let encoding = self
            .header("Content-Transfer-Encoding")
            .unwrap_or_default()
            .to_ascii_lowercase();
        Self::decoded(&encoding, body)
    }

    /// The parts of a multipart message, each with its encoding undone, in order: text first, then HTML.
    pub fn parts(&self) -> Vec<String> {
        let kind = self.header("Content-Type").unwrap_or_default();
        let boundary = kind.split_once("boundary=\"");
        let Some((boundary, _)) = boundary.and_then(|(_, rest)| rest.split_once('"')) else {
            return vec![self.text()];
        };
        let (_, body) = self.split();
        let delimiter = format!("--{boundary}");
        let parts = body.split(delimiter.as_str()).skip(1);
        parts
            .filter(|part| !part.starts_with("--"))
            .map(|part| {
                let part = Self {
                    data: part.trim_start().to_owned(),
                    ..self.clone()
                };
                part.text()
            })
            .collect()
    }

    fn decoded(encoding: &str, body: &str) -> String {
        match encoding {
            "base64" => {
                let packed: String = body.split_whitespace().collect();
                let bytes = STANDARD.decode(packed).unwrap_or_default();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            "quoted-printable" => quoted_printable(body),
            _ => body.to_owned(),
        }
    }

    fn split(&self) -> (&str, &str) {
        self.data
            .split_once("\r\n\r\n")
            .unwrap_or((self.data.as_str(), ""))
    }
}

/// `=` escapes differ from `%` escapes by their mark only.
fn quoted_printable(body: &str) -> String {
    let joined = body.replace("=\r\n", "");
    super::form::percent_decode(&joined.replace('%', "=25").replace('=', "%"), false)
}

/// Where in the dialogue a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Connect,
    Hello,
    Auth,
    Mail,
    Recipient,
    Data,
    /// After the message, before it is kept.
    Message,
    /// After the message, when it is kept.
    Kept,
}

/// One way in which a mail server fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SmtpFault {
    Hang(Stage),
    /// Resets the connection; at [`Stage::Kept`] the message is delivered and the answer lost.
    Reset(Stage),
    /// Answers with this code, such as 451 or 550, and text.
    Reply(Stage, u16, String),
    Delay(Stage, Duration),
    /// Nothing listens. Only as a standing fault; as a one-shot it is [`SmtpFault::Reset`] on connecting.
    RefuseConnections,
}

impl SmtpFault {
    fn stage(&self) -> Stage {
        match self {
            Self::Hang(stage)
            | Self::Reset(stage)
            | Self::Reply(stage, ..)
            | Self::Delay(stage, _) => *stage,
            Self::RefuseConnections => Stage::Connect,
        }
    }
}

/// The stand-in. Cheap to clone.
#[derive(Clone)]
pub struct Smtp(Arc<Shared>);

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Smtp({})", self.address())
    }
}

struct Shared {
    port: Arc<Port>,
    state: Mutex<State>,
    delivered: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    credentials: Option<(String, String)>,
    messages: VecDeque<Message>,
    once: VecDeque<SmtpFault>,
    standing: Vec<SmtpFault>,
    refused: HashMap<String, u16>,
    tls: Option<(TlsAcceptor, TlsFrom)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFrom {
    FirstByte,
    /// With `STARTTLS`, which is offered; nobody logs in or sends before.
    StartTls,
}

impl Smtp {
    /// Listens on `address`; the future serves until it is dropped. With credentials, `AUTH` is offered and required.
    pub fn bind(
        address: &str,
        credentials: Option<(&str, &str)>,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static + use<>)> {
        let credentials =
            credentials.map(|(user, password)| (user.to_owned(), password.to_owned()));
        let smtp = Self(Arc::new(Shared {
            port: Arc::new(Port::bind(address)?),
            state: Mutex::new(State {
                credentials,
                ..State::default()
            }),
            delivered: watch::Sender::new(0),
        }));
        let server = smtp.clone();
        let serve = (smtp.0.port).serve(move |stream| connection(server.clone(), stream));
        Ok((smtp, serve))
    }

    pub fn address(&self) -> SocketAddr {
        self.0.port.address()
    }

    pub fn url(&self) -> String {
        format!("smtp://{}", self.address())
    }

    /// Offers and requires `AUTH` from now on, or takes mail from anybody.
    pub fn set_credentials(&self, credentials: Option<(&str, &str)>) {
        self.state().credentials =
            credentials.map(|(user, password)| (user.to_owned(), password.to_owned()));
    }

    /// Speaks TLS from now on.
    pub fn set_tls(&self, acceptor: TlsAcceptor, from: TlsFrom) {
        self.state().tls = Some((acceptor, from));
    }

    /// Refuses this recipient with this code, such as 550, or takes mail for it again.
    pub fn refuse(&self, address: &str, code: Option<u16>) {
        let mut state = self.state();
        match code {
            Some(code) => state.refused.insert(address.to_owned(), code),
            None => state.refused.remove(address),
        };
    }

    /// The messages that were accepted, oldest first.
    pub fn messages(&self) -> Vec<Message> {
        self.state().messages.iter().cloned().collect()
    }

    /// How many messages were accepted so far.
    pub fn count(&self) -> u64 {
        *self.0.delivered.borrow()
    }

    /// Waits until so many messages have been accepted.
    pub async fn reached(&self, count: u64) {
        let mut watch = self.0.delivered.subscribe();
        if watch.wait_for(|now| *now >= count).await.is_err() {
            pending::<()>().await;
        }
    }

    /// The next dialogue that comes to the fault's stage fails like this.
    pub fn once(&self, fault: SmtpFault) {
        self.state().once.push_back(fault);
    }

    /// Every dialogue fails like this until [`Smtp::clear`].
    pub fn standing(&self, fault: SmtpFault) {
        let refuse = fault == SmtpFault::RefuseConnections;
        self.state().standing.push(fault);
        if refuse {
            self.0.port.refuse(true);
        }
    }

    /// Forgets every fault; the server is well again when this returns.
    pub fn clear(&self) {
        {
            let mut state = self.state();
            state.once.clear();
            state.standing.clear();
        }
        self.0.port.refuse(false);
    }

    fn fault_at(&self, at: Stage) -> Option<SmtpFault> {
        let mut state = self.state();
        let index = state.once.iter().position(|fault| fault.stage() == at);
        index
            .and_then(|index| state.once.remove(index))
            .or_else(|| {
                state
                    .standing
                    .iter()
                    .find(|fault| fault.stage() == at)
                    .cloned()
            })
    }

    fn deliver(&self, message: Message) {
        let mut state = self.state();
        state.messages.push_back(message);
        if state.messages.len() > KEPT {
            state.messages.pop_front();
        }
        self.0.delivered.send_modify(|count| *count += 1);
    }

    fn accepts(&self, user: &str, password: &str) -> bool {
        self.state()
            .credentials
            .as_ref()
            .is_some_and(|(known, secret)| known == user && secret == password)
    }

    fn wants_login(&self) -> bool {
        self.state().credentials.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connection(smtp: Smtp, stream: TcpStream) -> End {
    let dialogue = Dialogue {
        stream: BufReader::new(Box::new(stream)),
        smtp,
        is_secure: false,
        user: None,
        from: None,
        to: Vec::new(),
    };
    match dialogue.hold().await {
        Err(Stop::Reset) => End::Reset,
        Ok(()) | Err(Stop::Gone) => End::Orderly,
    }
}

/// Why a dialogue ends early.
enum Stop {
    /// The client has gone, or breaks the protocol beyond repair.
    Gone,
    Reset,
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// What a dialogue is held over, with TLS or without.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

struct Dialogue {
    stream: BufReader<Box<dyn Wire>>,
    smtp: Smtp,
    is_secure: bool,
    user: Option<String>,
    from: Option<String>,
    to: Vec<String>,
}

impl Dialogue {
    async fn hold(mut self) -> Result<(), Stop> {
        if self.tls_from() == Some(TlsFrom::FirstByte) {
            self.secure().await?;
        }
        if self.is_well(Stage::Connect).await? {
            self.say("220 stand-in ESMTP").await?;
        } else {
            return Ok(());
        }
        loop {
            let line = self.line().await?;
            let (verb, rest) = line.split_once(' ').unwrap_or((line.as_str(), ""));
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" => self.hello(true).await?,
                "HELO" => self.hello(false).await?,
                "STARTTLS" if self.may_start_tls() => {
                    self.say("220 2.0.0 Ready to start TLS").await?;
                    self.secure().await?;
                }
                "AUTH" | "MAIL" if self.may_start_tls() => {
                    self.say("530 5.7.0 Must issue a STARTTLS command first")
                        .await?;
                }
                "AUTH" => self.log_in(rest).await?,
                "MAIL" => self.mail(rest).await?,
                "RCPT" => self.recipient(rest).await?,
                "DATA" => self.data().await?,
                "RSET" => {
                    self.forget();
                    self.say("250 2.0.0 Ok").await?;
                }
                "NOOP" => self.say("250 2.0.0 Ok").await?,
                "QUIT" => {
                    self.say("221 2.0.0 Bye").await?;
                    return Ok(());
                }
                _ => self.say("500 5.5.2 Command not recognized").await?,
            }
        }
    }

    fn tls_from(&self) -> Option<TlsFrom> {
        self.smtp.state().tls.as_ref().map(|(_, from)| *from)
    }

    fn may_start_tls(&self) -> bool {
        !self.is_secure && self.tls_from() == Some(TlsFrom::StartTls)
    }

    async fn secure(&mut self) -> Result<(), Stop> {
        let acceptor = self.smtp.state().tls.clone().map(|(acceptor, _)| acceptor);
        let acceptor = acceptor.ok_or(Stop::Gone)?;
        let nothing: Box<dyn Wire> = Box::new(tokio::io::empty());
        let stream = std::mem::replace(&mut self.stream, BufReader::new(nothing));
        let stream = acceptor.accept(stream.into_inner()).await?;
        self.stream = BufReader::new(Box::new(stream));
        self.is_secure = true;
        Ok(())
    }

    async fn hello(&mut self, extended: bool) -> Result<(), Stop> {
        if !self.is_well(Stage::Hello).await? {
            return Ok(());
        }
        self.forget();
        if !extended {
            return self.say("250 stand-in").await;
        }
        let start_tls = if self.may_start_tls() {
            "250-STARTTLS\r\n"
        } else {
            ""
        };
        let login = if self.smtp.wants_login() {
            "250-AUTH PLAIN LOGIN\r\n"
        } else {
            ""
        };
        let text = format!(
            "250-stand-in\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE {LONGEST_MESSAGE}\r\n{start_tls}{login}250 SMTPUTF8"
        );
        self.say(&text).await
    }

    async fn log_in(&mut self, rest: &str) -> Result<(), Stop> {
        if !self.is_well(Stage::Auth).await? {
            return Ok(());
        }
        let (mechanism, initial) = rest.split_once(' ').unwrap_or((rest, ""));
        let login = match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => {
                let answer = self.prompted(initial, "").await?;
                let mut parts = answer.split('\0').skip(1).map(str::to_owned);
                parts.next().zip(parts.next())
            }
            "LOGIN" => {
                let user = self.prompted(initial, "Username:").await?;
                let password = self.prompted("", "Password:").await?;
                Some((user, password))
            }
            _ => return self.say("504 5.5.4 Mechanism not known").await,
        };
        match login.filter(|(user, password)| self.smtp.accepts(user, password)) {
            Some((user, _)) => {
                self.user = Some(user);
                self.say("235 2.7.0 Authentication successful").await
            }
            None => self.say("535 5.7.8 Authentication failed").await,
        }
    }

    /// What the client gave along with the command, or gives when asked; decoded.
    async fn prompted(&mut self, given: &str, prompt: &str) -> Result<String, Stop> {
        let answer = if given.is_empty() {
            self.say(&format!("334 {}", STANDARD.encode(prompt)))
                .await?;
            self.line().await?
        } else {
            given.to_owned()
        };
        let bytes = STANDARD.decode(answer.trim()).unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn mail(&mut self, rest: &str) -> Result<(), Stop> {
        if !self.is_well(Stage::Mail).await? {
            return Ok(());
        }
        if self.smtp.wants_login() && self.user.is_none() {
            return self.say("530 5.7.0 Authentication required").await;
        }
        match path_of(rest, "FROM:") {
            Some(from) => {
                self.forget();
                self.from = Some(from);
                self.say("250 2.1.0 Ok").await
            }
            None => self.say("501 5.5.4 Syntax: MAIL FROM:<address>").await,
        }
    }

    async fn recipient(&mut self, rest: &str) -> Result<(), Stop> {
        if !self.is_well(Stage::Recipient).await? {
            return Ok(());
        }
        if self.from.is_none() {
            return self.say("503 5.5.1 MAIL first").await;
        }
        match path_of(rest, "TO:").filter(|to| !to.is_empty()) {
            Some(to) if self.smtp.state().refused.contains_key(&to) => {
                let code = self.smtp.state().refused.get(&to).copied();
                let code = code.unwrap_or(550);
                self.say(&format!("{code} 5.1.1 Not taken")).await
            }
            Some(to) => {
                self.to.push(to);
                self.say("250 2.1.5 Ok").await
            }
            None => self.say("501 5.5.4 Syntax: RCPT TO:<address>").await,
        }
    }

    async fn data(&mut self) -> Result<(), Stop> {
        if !self.is_well(Stage::Data).await? {
            return Ok(());
        }
        if self.to.is_empty() {
            return self.say("503 5.5.1 RCPT first").await;
        }
        self.say("354 End data with <CR><LF>.<CR><LF>").await?;
        let mut data = String::new();
        loop {
            let line = self.line().await?;
            if line == "." {
                break;
            }
            if data.len() <= LONGEST_MESSAGE {
                data.push_str(line.strip_prefix('.').unwrap_or(&line));
                data.push_str("\r\n");
            }
        }
        let message = Message {
            from: self.from.take().unwrap_or_default(),
            to: std::mem::take(&mut self.to),
            data,
            user: self.user.clone(),
        };
        if message.data.len() > LONGEST_MESSAGE {
            return self.say("552 5.3.4 The message is too large").await;
        }
        if !self.is_well(Stage::Message).await? {
            return Ok(());
        }
        self.smtp.deliver(message);
        if self.is_well(Stage::Kept).await? {
            self.say("250 2.0.0 Ok: queued").await?;
        }
        Ok(())
    }

    /// False where a fault has answered in place of the server.
    async fn is_well(&mut self, stage: Stage) -> Result<bool, Stop> {
        match self.smtp.fault_at(stage) {
            None => Ok(true),
            Some(SmtpFault::Hang(_)) => pending().await,
            Some(SmtpFault::Reset(_) | SmtpFault::RefuseConnections) => Err(Stop::Reset),
            Some(SmtpFault::Reply(_, code, text)) => {
                self.say(&format!("{code} {text}")).await?;
                Ok(false)
            }
            Some(SmtpFault::Delay(_, pause)) => {
                tokio::time::sleep(pause).await;
                Ok(true)
            }
        }
    }

    async fn line(&mut self) -> Result<String, Stop> {
        let mut bytes = Vec::new();
        let mut limited = (&mut self.stream).take(LONGEST_LINE);
        limited.read_until(b'\n', &mut bytes).await?;
        if bytes.last() != Some(&b'\n') {
            return Err(Stop::Gone);
        }
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    async fn say(&mut self, text: &str) -> Result<(), Stop> {
        let line = format!("{text}\r\n");
        let wire = self.stream.get_mut();
        wire.write_all(line.as_bytes()).await?;
        wire.flush().await?;
        Ok(())
    }

    fn forget(&mut self) {
        self.from = None;
        self.to.clear();
    }
}

/// `FROM:<a@b.example> SIZE=100` gives the address.
fn path_of(rest: &str, keyword: &str) -> Option<String> {
    let head = rest.get(..keyword.len())?;
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let path = rest.get(keyword.len()..)?.trim_start();
    let (path, _parameters) = path.strip_prefix('<')?.split_once('>')?;
    Some(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::in_background;

    /// Sends the lines and gives back the first code of each answer.
    async fn talk(smtp: &Smtp, lines: &[&str]) -> io::Result<Vec<String>> {
        let mut stream = BufReader::new(TcpStream::connect(smtp.address()).await?);
        let mut codes = vec![answer(&mut stream).await?];
        for line in lines {
            let bytes = format!("{line}\r\n");
            stream.get_mut().write_all(bytes.as_bytes()).await?;
            let inside_message = codes.last().is_some_and(|code| code == "354");
            if !inside_message || *line == "." {
                codes.push(answer(&mut stream).await?);
            }
        }
        Ok(codes)
    }

    async fn answer(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line.as_bytes()[3] != b'-' {
                return Ok(line[..3].to_owned());
            }
        }
    }

    const MAIL: [&str; 11] = [
        "EHLO me",
        "MAIL FROM:<a@x.example> SIZE=100",
        "RCPT TO:<b@y.example>",
        "RCPT TO:<c@y.example>",
        "DATA",
        "Subject: Routing",
        " fails",
        "",
        "..hidden =3D",
        ".",
        "QUIT",
    ];

    #[tokio::test]
    async fn a_message_is_kept_as_it_was_sent() {
        let (smtp, serve) = Smtp::bind("127.0.0.1:0", None).unwrap();
        let _running = in_background(serve);
        let codes = talk(&smtp, &MAIL).await.unwrap();
        assert_eq!(
            codes,
            ["220", "250", "250", "250", "250", "354", "250", "221"]
        );
        smtp.reached(1).await;
        let message = &smtp.messages()[0];
        assert_eq!(message.from, "a@x.example");
        assert_eq!(message.to, ["b@y.example", "c@y.example"]);
        assert_eq!(message.subject(), "Routing fails");
        assert_eq!(message.text(), ".hidden =3D\r\n");
    }

    #[tokio::test]
    async fn both_ways_of_logging_in_work_and_a_wrong_password_does_not() {
        let (smtp, serve) = Smtp::bind("127.0.0.1:0", Some(("user", "secret"))).unwrap();
        let _running = in_background(serve);
        let plain = format!("AUTH PLAIN {}", STANDARD.encode("\0user\0secret"));
        let wrong = format!("AUTH PLAIN {}", STANDARD.encode("\0user\0guess"));
        let (user, password) = (STANDARD.encode("user"), STANDARD.encode("secret"));
        let mail = "MAIL FROM:<a@x.example>";
        let codes = talk(&smtp, &["EHLO me", mail, &plain, mail]).await.unwrap();
        assert_eq!(codes, ["220", "250", "530", "235", "250"]);
        let codes = talk(&smtp, &["AUTH LOGIN", &user, &password])
            .await
            .unwrap();
        assert_eq!(codes, ["220", "334", "334", "235"]);
        let codes = talk(&smtp, &[&wrong, mail]).await.unwrap();
        assert_eq!(codes, ["220", "535", "530"]);
    }

    #[tokio::test]
    async fn faults_strike_at_their_stage() {
        let (smtp, serve) = Smtp::bind("127.0.0.1:0", None).unwrap();
        let _running = in_background(serve);
        smtp.once(SmtpFault::Reply(
            Stage::Message,
            451,
            "try later".to_owned(),
        ));
        assert_eq!(talk(&smtp, &MAIL).await.unwrap()[6], "451");
        assert_eq!(smtp.count(), 0);
        smtp.once(SmtpFault::Reply(
            Stage::Recipient,
            550,
            "no such user".to_owned(),
        ));
        assert_eq!(talk(&smtp, &MAIL[..3]).await.unwrap()[3], "550");
        smtp.once(SmtpFault::Reset(Stage::Kept));
        assert!(talk(&smtp, &MAIL).await.is_err());
        assert_eq!(smtp.count(), 1);
        smtp.once(SmtpFault::Hang(Stage::Connect));
        let patience = Duration::from_millis(100);
        assert!(
            tokio::time::timeout(patience, talk(&smtp, &[]))
                .await
                .is_err()
        );
        smtp.standing(SmtpFault::RefuseConnections);
        assert!(talk(&smtp, &[]).await.is_err());
        smtp.clear();
        assert_eq!(talk(&smtp, &MAIL).await.unwrap()[6], "250");
    }

    #[test]
    fn transfer_encodings_are_undone() {
        let message = |encoding: &str, body: &str| Message {
            from: String::new(),
            to: Vec::new(),
            data: format!("Content-Transfer-Encoding: {encoding}\r\n\r\n{body}"),
            user: None,
        };
        assert_eq!(
            message("quoted-printable", "gr=C3=BC=C3=9Fe=\r\n 100%=3D").text(),
            "grüße 100%="
        );
        assert_eq!(message("base64", "Z3LDvMOfZQ==\r\n").text(), "grüße");
        assert_eq!(message("7bit", "plain").text(), "plain");
    }
}
