//! Messages as mails, handed to one mail server.

use super::{Carrier, Letter, NotCarried};
use async_trait::async_trait;
use baton_protocol::human_task::is_mail_address;
use lettre::address::Address;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use std::time::{Duration, UNIX_EPOCH};
use tokio::time::timeout;

/// Codes that speak about our right to send, which the operator can mend.
const LOGIN_CODES: std::ops::RangeInclusive<u16> = 530..=539;

/// How a connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// Begins in plain text and must become TLS before anything is said.
    StartTls,
    /// TLS from the first byte.
    Implicit,
    /// Plain text, links included.
    None,
}

/// A mail server, and how to speak to it.
#[derive(Clone, PartialEq, Eq)]
pub struct SmtpSettings {
    pub host: String,
    pub port: u16,
    pub tls: SmtpTls,
    /// User and password.
    pub login: Option<(String, String)>,
    /// Sender: an address, or `Name <address>`.
    pub from: String,
    /// Authorities (PEM) that the server may be signed by, beside those of the system.
    pub authorities_pem: Option<Vec<u8>>,
    /// Time one attempt may take as a whole.
    pub timeout_ms: u64,
}

impl std::fmt::Debug for SmtpSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmtpSettings")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Sends mails, one connection each.
pub struct SmtpCarrier {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    timeout: Duration,
}

impl std::fmt::Debug for SmtpCarrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmtpCarrier").finish_non_exhaustive()
    }
}

impl SmtpCarrier {
    /// Nothing is dialled yet.
    ///
    /// # Errors
    /// What in the settings cannot be used.
    pub fn new(settings: SmtpSettings) -> Result<Self, String> {
        let from = sender(&settings.from)?;
        let limit = Duration::from_millis(settings.timeout_ms);
        let tls = match settings.tls {
            SmtpTls::None => Tls::None,
            SmtpTls::StartTls => Tls::Required(parameters(&settings)?),
            SmtpTls::Implicit => Tls::Wrapper(parameters(&settings)?),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.host)
            .port(settings.port)
            .tls(tls)
            .hello_name(ClientId::Domain(from.email.domain().to_owned()))
            .timeout(Some(limit));
        if let Some((user, password)) = settings.login {
            builder = builder.credentials(Credentials::new(user, password));
        }
        Ok(Self {
            transport: builder.build(),
            from,
            timeout: limit,
        })
    }

    fn message(&self, letter: &Letter) -> Result<Message, NotCarried> {
        let to = letter.to.strip_prefix("mailto:").unwrap_or(&letter.to);
        let address = Some(to).filter(|to| is_mail_address(to));
        let address: Option<Address> = address.and_then(|to| to.parse().ok());
        let Some(address) = address else {
            return Err(NotCarried::for_good(format!(
                "{to:?} is no mail address, and the notifier sends mails only"
            )));
        };
        let at = UNIX_EPOCH + Duration::from_millis(letter.written_at_ms);
        let id = format!("<{}@{}>", letter.id, self.from.email.domain());
        // So that no out-of-office note answers.
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        let plain = MultiPart::alternative_plain_html(letter.text.clone(), letter.html.clone());
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, address))
            .subject(letter.subject.clone())
            .date(at)
            .message_id(Some(id))
            .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
            .multipart(plain)
            .map_err(|_| NotCarried::for_good("the mail could not be written"))
    }
}

/// Whether a sender can be used.
///
/// # Errors
/// What is wrong with it.
fn sender(from: &str) -> Result<Mailbox, String> {
    from.parse()
        .map_err(|_| format!("{from:?} is no sender; write it as in Baton <baton@example.com>"))
}

fn parameters(settings: &SmtpSettings) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(settings.host.clone());
    if let Some(pem) = &settings.authorities_pem {
        let authority = Certificate::from_pem(pem).map_err(|error| error.to_string())?;
        builder = builder.add_root_certificate(authority);
    }
    builder.build().map_err(|error| error.to_string())
}

#[async_trait]
impl Carrier for SmtpCarrier {
    async fn carry(&self, letter: &Letter, _now_ms: u64) -> Result<(), NotCarried> {
        let message = self.message(letter)?;
        match timeout(self.timeout, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the mail server did not take a mail");
                Err(not_carried(&error))
            }
            Err(_) => Err(NotCarried::for_now("the mail server did not answer in time")),
        }
    }
}

fn not_carried(error: &lettre::transport::smtp::Error) -> NotCarried {
    if let Some(code) = error.status().map(u16::from) {
        let reason = format!("the mail server answered {code}");
        return if (500..600).contains(&code) && !LOGIN_CODES.contains(&code) {
            NotCarried::for_good(reason)
        } else {
            NotCarried::for_now(reason)
        };
    }
    NotCarried::for_now(if error.is_timeout() {
        "the mail server did not answer in time"
    } else if error.is_tls() {
        "no TLS with the mail server; check its certificate and notifier.smtp.ca"
    } else if error.is_client() {
        "the mail server offers no TLS or no way to log in that is known here"
    } else {
        "no connection to the mail server"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carrier() -> SmtpCarrier {
        SmtpCarrier::new(SmtpSettings {
            host: "mail.example.com".into(),
            port: 587,
            tls: SmtpTls::StartTls,
            login: Some(("u".into(), "p".into())),
            from: "Baton <baton@example.com>".into(),
            authorities_pem: None,
            timeout_ms: 1_000,
        })
        .unwrap()
    }

    fn letter(to: &str) -> Letter {
        Letter {
            id: "0198-1".into(),
            to: to.into(),
            subject: "Your answer is needed: Größe".into(),
            text: "Approve: https://baton.example.com/t/abc?answer=approved".into(),
            html: "<p>Approve</p>".into(),
            link: None,
            json: bytes::Bytes::new(),
            written_at_ms: 1_777_629_600_123,
        }
    }

    #[test]
    fn a_mail_has_what_the_notice_says() {
        let text = |letter| String::from_utf8(carrier().message(&letter).unwrap().formatted()).unwrap();
        let mail = text(letter("boss@example.com"));
        for header in [
            "From: Baton <baton@example.com>\r\n",
            "To: boss@example.com\r\n",
            "Message-ID: <0198-1@example.com>\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "Date: Fri, 01 May 2026 10:00:00 +0000\r\n",
            "Content-Type: multipart/alternative;",
        ] {
            assert!(mail.contains(header), "{header:?} is not in {mail}");
        }
        assert!(text(letter("mailto:boss@example.com")).contains("To: boss@example.com\r\n"));
    }

    #[test]
    fn what_is_no_mail_address_is_given_up_at_once() {
        for to in ["slack", "a@b, c@d", "a@b\r\nBcc: c@d", ""] {
            let not = carrier().message(&letter(to)).unwrap_err();
            assert!(not.for_good && not.reason.contains("no mail address"), "{to}");
        }
        let settings = SmtpSettings {
            host: "h".into(),
            port: 25,
            tls: SmtpTls::None,
            login: None,
            from: "nobody".into(),
            authorities_pem: None,
            timeout_ms: 1,
        };
        assert!(!format!("{settings:?}").contains("nobody"));
        assert!(SmtpCarrier::new(settings).unwrap_err().contains("no sender"));
    }
}
