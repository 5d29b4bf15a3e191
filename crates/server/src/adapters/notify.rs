//! What the notifier asks of its node: messages as the client surface writes them, and the carrier that is configured.

use baton_consensus::ConsensusHandle;
use baton_delivery::notify::{
    Carrier, HookCarrier, Letter, Letters, LogCarrier, NotifierSettings, SmtpCarrier, SmtpSettings, SmtpTls,
};
use baton_delivery::{Notifier, PushClient};
use baton_protocol::proto::internal::{GetTokenSecret, NoticeView, Query, query, query_reply};
use baton_protocol::{ErrorCode, Route, ServiceError};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;

use crate::config::{self, NotifierKind};

/// Characters of the secret that posts are signed with, at least.
const SECRET_CHARS_MIN: usize = 16;

/// Messages with links that this cluster signs.
struct SurfaceLetters {
    handle: ConsensusHandle,
    public_url: String,
}

impl SurfaceLetters {
    fn secret(&self) -> Result<Bytes, ServiceError> {
        let query = Query {
            actor: None,
            body: Some(query::Body::GetTokenSecret(GetTokenSecret {})),
        };
        match self.handle.read_local(Route::Meta, &query)?.outcome {
            Some(query_reply::Outcome::TokenSecret(secret)) if !secret.is_empty() => Ok(secret),
            _ => Err(ServiceError::new(
                ErrorCode::NotImplemented,
                "this cluster was created without a token secret, so it signs no links",
            )),
        }
    }
}

impl Letters for SurfaceLetters {
    fn write(&self, view: &NoticeView) -> Result<Letter, ServiceError> {
        let text = baton_gateway::notice_text(view, &self.secret()?, &self.public_url)
            .ok_or_else(|| ServiceError::new(ErrorCode::Internal, "the message is about nothing"))?;
        Ok(Letter {
            id: text.id,
            to: text.to,
            subject: text.subject,
            text: text.text,
            html: text.html,
            link: text.link,
            json: text.json.into(),
            written_at_ms: view.notice.as_ref().map_or(0, |notice| notice.created_at_ms),
        })
    }
}

/// The notifier of a running node; `None` when it is off.
///
/// # Errors
/// What in the configuration cannot be used, and the fix.
pub fn notifier(
    config: &config::Notifier,
    client: PushClient,
    handle: &ConsensusHandle,
) -> Result<Option<Arc<Notifier>>, String> {
    let carrier: Arc<dyn Carrier> = match config.kind {
        NotifierKind::Off => return Ok(None),
        NotifierKind::Log => {
            tracing::warn!(
                "notifier.kind is log: links to human tasks are written to this log, and whoever reads it can answer"
            );
            Arc::new(LogCarrier)
        }
        NotifierKind::Http => Arc::new(hook(&config.http, client)?),
        NotifierKind::Smtp => Arc::new(smtp(config)?),
    };
    let letters = SurfaceLetters {
        handle: handle.clone(),
        public_url: config.public_url.clone(),
    };
    let settings = NotifierSettings {
        concurrency: config.concurrency,
        retry_schedule_ms: config.retry_schedule_ms.clone(),
    };
    Ok(Some(Notifier::new(carrier, Arc::new(letters), settings)))
}

/// The mail server of a configuration. Nothing is dialled.
///
/// # Errors
/// As [`notifier`].
pub fn smtp(config: &config::Notifier) -> Result<SmtpCarrier, String> {
    let smtp = &config.smtp;
    let login = match (&smtp.password_file, smtp.username.as_str()) {
        (_, "") => None,
        (Some(file), user) => Some((user.to_owned(), secret_of("notifier.smtp.password_file", file)?)),
        (None, _) => {
            return Err(
                "notifier.smtp.password_file is missing; name a file with the password of notifier.smtp.username".into(),
            );
        }
    };
    let authorities_pem = match &smtp.ca {
        None => None,
        Some(path) => {
            super::push::certificates("notifier.smtp.ca", path)?;
            Some(read("notifier.smtp.ca", path)?)
        }
    };
    SmtpCarrier::new(SmtpSettings {
        host: smtp.host.clone(),
        port: smtp.port(),
        tls: match smtp.tls {
            config::SmtpTls::Starttls => SmtpTls::StartTls,
            config::SmtpTls::Implicit => SmtpTls::Implicit,
            config::SmtpTls::None => SmtpTls::None,
        },
        login,
        from: smtp.from.clone(),
        authorities_pem,
        timeout_ms: config.timeout_ms,
    })
    .map_err(|error| format!("notifier.smtp: {error}"))
}

fn hook(http: &config::NotifierHttp, client: PushClient) -> Result<HookCarrier, String> {
    let secret = hook_secret(http)?;
    HookCarrier::new(client, &http.url, &secret).map_err(|error| format!("notifier.http.url: {error}"))
}

/// The secret that posts are signed with.
///
/// # Errors
/// As [`notifier`].
pub fn hook_secret(http: &config::NotifierHttp) -> Result<String, String> {
    let Some(file) = &http.secret_file else {
        return Err(
            "notifier.http.secret_file is missing; name a file with the secret that posts are signed with"
                .into(),
        );
    };
    let secret = secret_of("notifier.http.secret_file", file)?;
    if secret.chars().count() < SECRET_CHARS_MIN {
        return Err(format!(
            "notifier.http.secret_file: the secret in {} is shorter than {SECRET_CHARS_MIN} characters; draw a longer one",
            file.display()
        ));
    }
    Ok(secret)
}

/// What a file holds but for the line end behind it.
fn secret_of(key: &str, file: &Path) -> Result<String, String> {
    let text = String::from_utf8(read(key, file)?)
        .map_err(|_| format!("{key}: {} is no text; correct the file", file.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| {
        format!(
            "{key}: cannot read {} ({error}); correct the path",
            path.display()
        )
    })
}
