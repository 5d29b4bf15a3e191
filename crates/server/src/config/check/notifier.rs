//! Whether people can be told as configured.

use super::{RETRY_PAUSE_MS_MAX, is_schedule, refuse};
use crate::adapters::{hook_secret, smtp};
use crate::config::{Config, Notifier, NotifierKind};
use crate::exit::Failure;

pub(super) fn check(config: &Config) -> Result<(), Failure> {
    let notifier = &config.notifier;
    if notifier.timeout_ms == 0 || notifier.concurrency == 0 {
        return refuse("notifier.timeout_ms and notifier.concurrency must be at least 1");
    }
    if !is_schedule(&notifier.retry_schedule_ms) {
        return refuse(format!(
            "notifier.retry_schedule_ms must name at least one pause and none above {RETRY_PAUSE_MS_MAX}"
        ));
    }
    if notifier.kind == NotifierKind::Off {
        return Ok(());
    }
    public_url(&notifier.public_url)?;
    match notifier.kind {
        NotifierKind::Off | NotifierKind::Log => Ok(()),
        NotifierKind::Http => http(config),
        NotifierKind::Smtp => mail(notifier),
    }
}

fn public_url(url: &str) -> Result<(), Failure> {
    if is_url(url) && !url.contains(['?', '#']) && !url.ends_with('/') {
        return Ok(());
    }
    refuse(format!(
        "notifier.public_url is {url:?}; write where people reach the client port, as in https://baton.example.com"
    ))
}

fn is_url(url: &str) -> bool {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let plain = |c: char| c.is_ascii_graphic() && !"\"<>\\^`{|}".contains(c);
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', ':', '?']) && rest.chars().all(plain))
}

fn http(config: &Config) -> Result<(), Failure> {
    let url = &config.notifier.http.url;
    if !is_url(url) {
        return refuse(format!(
            "notifier.http.url is {url:?}; name the endpoint that takes messages, as in https://hooks.example.com/baton"
        ));
    }
    if url.starts_with("http://") && !config.push.allow_http {
        return refuse("notifier.http.url begins with http://; use https or set push.allow_http");
    }
    hook_secret(&config.notifier.http)
        .map(drop)
        .map_err(Failure::config)
}

fn mail(notifier: &Notifier) -> Result<(), Failure> {
    if notifier.smtp.host.is_empty() {
        return refuse("notifier.smtp.host is missing; name the mail server");
    }
    if notifier.smtp.from.is_empty() {
        return refuse(
            "notifier.smtp.from is missing; name the sender of mails, as in Baton <baton@example.com>",
        );
    }
    smtp(notifier).map(drop).map_err(Failure::config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::ExitCode;
    use std::path::PathBuf;

    fn refused(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        config.notifier.public_url = "https://baton.example.com".into();
        change(&mut config);
        let failure = check(&config).unwrap_err();
        assert_eq!(failure.code, ExitCode::Config);
        assert!(!failure.line.contains('\n'));
        failure.line
    }

    #[test]
    fn every_refusal_names_its_key() {
        use NotifierKind::{Http, Log, Smtp};
        let kind = |c: &mut Config, kind| c.notifier.kind = kind;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "short\n").unwrap();
        let short = Some(file.path().to_path_buf());
        let missing = Some(PathBuf::from("/no/such/file"));
        for (key, line) in [
            ("notifier.timeout_ms", refused(|c| c.notifier.timeout_ms = 0)),
            (
                "notifier.retry_schedule_ms",
                refused(|c| c.notifier.retry_schedule_ms.clear()),
            ),
            (
                "notifier.public_url",
                refused(|c| {
                    kind(c, Log);
                    c.notifier.public_url.clear();
                }),
            ),
            ("notifier.http.url", refused(|c| kind(c, Http))),
            (
                "push.allow_http",
                refused(|c| {
                    kind(c, Http);
                    c.notifier.http.url = "http://hooks.example.com".into();
                }),
            ),
            (
                "notifier.http.secret_file is missing",
                refused(|c| {
                    kind(c, Http);
                    c.notifier.http.url = "https://hooks.example.com".into();
                }),
            ),
            (
                "shorter than 16",
                refused(|c| {
                    kind(c, Http);
                    c.notifier.http.url = "https://hooks.example.com".into();
                    c.notifier.http.secret_file = short.clone();
                }),
            ),
            ("notifier.smtp.host", refused(|c| kind(c, Smtp))),
            (
                "notifier.smtp.from",
                refused(|c| {
                    kind(c, Smtp);
                    c.notifier.smtp.host = "mail".into();
                }),
            ),
            (
                "no sender",
                refused(|c| {
                    kind(c, Smtp);
                    c.notifier.smtp.host = "mail".into();
                    c.notifier.smtp.from = "nobody".into();
                }),
            ),
            (
                "notifier.smtp.password_file is missing",
                refused(|c| {
                    kind(c, Smtp);
                    c.notifier.smtp.host = "mail".into();
                    c.notifier.smtp.from = "a@b.example".into();
                    c.notifier.smtp.username = "u".into();
                }),
            ),
            (
                "/no/such/file",
                refused(|c| {
                    kind(c, Smtp);
                    c.notifier.smtp.host = "mail".into();
                    c.notifier.smtp.from = "a@b.example".into();
                    c.notifier.smtp.ca = missing;
                }),
            ),
            (
                "holds no certificate",
                refused(|c| {
                    kind(c, Smtp);
                    c.notifier.smtp.host = "mail".into();
                    c.notifier.smtp.from = "a@b.example".into();
                    c.notifier.smtp.ca = short.clone();
                }),
            ),
        ] {
            assert!(line.contains(key), "{key} is not in {line}");
        }
        for url in [
            "baton.example.com",
            "https://",
            "https://b/",
            "https://b?x",
            "ftp://b",
            "https://b c",
            "https:///x",
        ] {
            let line = refused(|c| {
                kind(c, Log);
                c.notifier.public_url = url.into();
            });
            assert!(line.contains("notifier.public_url"), "{url}");
        }
    }

    #[test]
    fn whole_configurations_pass() {
        let mut config = Config::default();
        check(&config).unwrap();
        config.notifier.public_url = "https://example.com/baton".into();
        config.notifier.kind = NotifierKind::Log;
        check(&config).unwrap();
        config.notifier.kind = NotifierKind::Smtp;
        config.notifier.smtp.host = "mail.example.com".into();
        config.notifier.smtp.from = "Baton <baton@example.com>".into();
        check(&config).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a secret of some length\n").unwrap();
        config.notifier.kind = NotifierKind::Http;
        config.notifier.http.url = "https://hooks.example.com/baton".into();
        config.notifier.http.secret_file = Some(file.path().to_path_buf());
        check(&config).unwrap();
    }
}
