//! Messages to people.

use super::{Values, path};
use crate::config::{NotifierKind, SmtpTls};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Clone, Default, Args)]
pub struct NotifierFlags {
    /// Who carries messages to people: off = nobody, they wait; log = the log of this node, with links that let whoever
    /// reads it answer; http = one endpoint; smtp = a mail server [key: notifier.kind; default: off]
    #[arg(
        long,
        env = "BATON_NOTIFIER_KIND",
        value_name = "KIND",
        help_heading = "Notifier"
    )]
    pub notifier_kind: Option<NotifierKind>,
    /// Where people reach the client port, as in `https://baton.example.com`; links begin with it
    /// [key: notifier.public_url]
    #[arg(
        long,
        env = "BATON_NOTIFIER_PUBLIC_URL",
        value_name = "URL",
        help_heading = "Notifier"
    )]
    pub notifier_public_url: Option<String>,
    /// Milliseconds to wait after the first, second, … failed attempt, comma separated; the last one repeats
    /// [key: notifier.retry_schedule_ms; default: 10000,30000,120000,600000,1800000,3600000]
    #[arg(
        long,
        env = "BATON_NOTIFIER_RETRY_SCHEDULE_MS",
        value_name = "MS,…",
        value_delimiter = ',',
        help_heading = "Notifier"
    )]
    pub notifier_retry_schedule_ms: Option<Vec<u64>>,
    /// Milliseconds that one attempt may take [key: notifier.timeout_ms; default: 20000]
    #[arg(
        long,
        env = "BATON_NOTIFIER_TIMEOUT_MS",
        value_name = "MS",
        help_heading = "Notifier"
    )]
    pub notifier_timeout_ms: Option<u64>,
    /// Messages of this node under way at the same time [key: notifier.concurrency; default: 16]
    #[arg(
        long,
        env = "BATON_NOTIFIER_CONCURRENCY",
        value_name = "N",
        help_heading = "Notifier"
    )]
    pub notifier_concurrency: Option<usize>,
    /// Mail server [key: notifier.smtp.host]
    #[arg(
        long,
        env = "BATON_NOTIFIER_SMTP_HOST",
        value_name = "HOST",
        help_heading = "Notifier"
    )]
    pub notifier_smtp_host: Option<String>,
    /// Port of the mail server; 0 = 587, 465 with implicit, 25 with none [key: notifier.smtp.port; default: 0]
    #[arg(
        long,
        env = "BATON_NOTIFIER_SMTP_PORT",
        value_name = "PORT",
        help_heading = "Notifier"
    )]
    pub notifier_smtp_port: Option<u16>,
    /// starttls = must become TLS; implicit = TLS from the start; none = plain text, for a server on this machine
    /// [key: notifier.smtp.tls; default: starttls]
    #[arg(
        long,
        env = "BATON_NOTIFIER_SMTP_TLS",
        value_name = "MODE",
        help_heading = "Notifier"
    )]
    pub notifier_smtp_tls: Option<SmtpTls>,
    /// User at the mail server; empty = no login [key: notifier.smtp.username]
    #[arg(
        long,
        env = "BATON_NOTIFIER_SMTP_USERNAME",
        value_name = "USER",
        help_heading = "Notifier"
    )]
    pub notifier_smtp_username: Option<String>,
    /// File with the password of that user [key: notifier.smtp.password_file]
    #[arg(
        long,
        env = "BATON_NOTIFIER_SMTP_PASSWORD_FILE",
        value_name = "FILE",
        help_heading = "Notifier"
    )]
    pub notifier_smtp_password_file: Option<PathBuf>,
    /// Sender of every mail, as in Baton <baton@example.com> [key: notifier.smtp.from]
    #[arg(
        long,
        env = "BATON_NOTIFIER_SMTP_FROM",
        value_name = "SENDER",
        help_heading = "Notifier"
    )]
    pub notifier_smtp_from: Option<String>,
    /// Authority that the mail server may be signed by, beside those of the system (PEM) [key: notifier.smtp.ca]
    #[arg(
        long,
        env = "BATON_NOTIFIER_SMTP_CA",
        value_name = "FILE",
        help_heading = "Notifier"
    )]
    pub notifier_smtp_ca: Option<PathBuf>,
    /// Endpoint that messages are posted to; what may be dialled is what push may dial [key: notifier.http.url]
    #[arg(
        long,
        env = "BATON_NOTIFIER_HTTP_URL",
        value_name = "URL",
        help_heading = "Notifier"
    )]
    pub notifier_http_url: Option<String>,
    /// File with the secret that posts are signed with, 16 characters or more [key: notifier.http.secret_file]
    #[arg(
        long,
        env = "BATON_NOTIFIER_HTTP_SECRET_FILE",
        value_name = "FILE",
        help_heading = "Notifier"
    )]
    pub notifier_http_secret_file: Option<PathBuf>,
}

impl NotifierFlags {
    pub(super) fn put(&self, values: &mut Values) {
        values.set("notifier.kind", self.notifier_kind.map(NotifierKind::name));
        values.set("notifier.public_url", self.notifier_public_url.clone());
        values.set(
            "notifier.retry_schedule_ms",
            self.notifier_retry_schedule_ms.clone(),
        );
        values.set("notifier.timeout_ms", self.notifier_timeout_ms);
        values.set("notifier.concurrency", self.notifier_concurrency);
        values.set("notifier.smtp.host", self.notifier_smtp_host.clone());
        values.set("notifier.smtp.port", self.notifier_smtp_port);
        values.set("notifier.smtp.tls", self.notifier_smtp_tls.map(SmtpTls::name));
        values.set("notifier.smtp.username", self.notifier_smtp_username.clone());
        let password_file = path(self.notifier_smtp_password_file.as_deref());
        values.set("notifier.smtp.password_file", password_file);
        values.set("notifier.smtp.from", self.notifier_smtp_from.clone());
        values.set("notifier.smtp.ca", path(self.notifier_smtp_ca.as_deref()));
        values.set("notifier.http.url", self.notifier_http_url.clone());
        let secret_file = path(self.notifier_http_secret_file.as_deref());
        values.set("notifier.http.secret_file", secret_file);
    }
}
