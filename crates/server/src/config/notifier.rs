//! How people outside are told what waits for them.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Messages to people: links to human tasks, reminders, escalations, notification steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notifier {
    pub kind: NotifierKind,
    /// Where people reach the client port, as in `https://baton.example.com`: the start of every link.
    pub public_url: String,
    /// Pauses after the first, second, … failed attempt; the last one repeats.
    pub retry_schedule_ms: Vec<u64>,
    /// Time one attempt may take.
    pub timeout_ms: u64,
    /// Messages of this node under way at the same time.
    pub concurrency: usize,
    pub smtp: NotifierSmtp,
    pub http: NotifierHttp,
}

/// Who carries messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum NotifierKind {
    /// Nobody: messages wait.
    Off,
    /// The log of the node, links included.
    Log,
    /// An HTTP endpoint of the operator.
    Http,
    /// A mail server.
    Smtp,
}

impl NotifierKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Log => "log",
            Self::Http => "http",
            Self::Smtp => "smtp",
        }
    }
}

/// The mail server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NotifierSmtp {
    pub host: String,
    /// 0 = the usual one: 587, or 465 with `implicit`, 25 with `none`.
    pub port: u16,
    pub tls: SmtpTls,
    /// Empty = no login.
    pub username: String,
    /// File that holds the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Sender of every mail, as in `Baton <baton@example.com>`.
    pub from: String,
    /// Certificate authority (PEM) that the server may be signed by, beside those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// How the connection to the mail server is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    /// Plain text that must become TLS before a mail is sent.
    Starttls,
    /// TLS from the first byte.
    Implicit,
    /// Plain text: whoever is on the way can read the links.
    None,
}

impl SmtpTls {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Starttls => "starttls",
            Self::Implicit => "implicit",
            Self::None => "none",
        }
    }
}

/// The operator's endpoint. It may be dialled as push endpoints may, see `push`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NotifierHttp {
    pub url: String,
    /// File that holds the secret that posts are signed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
}

impl Default for Notifier {
    fn default() -> Self {
        Self {
            kind: NotifierKind::Off,
            public_url: String::new(),
            retry_schedule_ms: vec![10_000, 30_000, 120_000, 600_000, 1_800_000, 3_600_000],
            timeout_ms: 20_000,
            concurrency: 16,
            smtp: NotifierSmtp::default(),
            http: NotifierHttp::default(),
        }
    }
}

impl Default for NotifierSmtp {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 0,
            tls: SmtpTls::Starttls,
            username: String::new(),
            password_file: None,
            from: String::new(),
            ca: None,
        }
    }
}

impl NotifierSmtp {
    /// The port, or the usual one.
    #[must_use]
    pub fn port(&self) -> u16 {
        match (self.port, self.tls) {
            (0, SmtpTls::Starttls) => 587,
            (0, SmtpTls::Implicit) => 465,
            (0, SmtpTls::None) => 25,
            (port, _) => port,
        }
    }
}
