//! Which cluster a command talks to, and with which key.

use super::contexts::{Context, Contexts};
use super::values::parse_duration;
use crate::exit::Failure;
use baton_client::{Client, Tls};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Where a node listens when nothing else is said.
pub(super) const ENDPOINT_DEFAULT: &str = "http://127.0.0.1:8100";
/// Variables with endpoints, separated by commas, and with the key; the first that is set counts.
const ENDPOINT_VARIABLES: [&str; 3] = ["BATON_ENDPOINTS", "AXME_BASE_URLS", "AXME_BASE_URL"];
const KEY_VARIABLES: [&str; 2] = ["BATON_API_KEY", "AXME_API_KEY"];

#[derive(Debug, Clone, Args)]
pub(super) struct ConnectArgs {
    /// Endpoints of the nodes, comma separated [env: BATON_ENDPOINTS, AXME_BASE_URLS, AXME_BASE_URL]
    #[arg(
        long = "endpoint",
        value_name = "URL,…",
        value_delimiter = ',',
        help_heading = "Connection"
    )]
    endpoints: Vec<String>,
    /// File that holds the API key, - = standard input [env: BATON_API_KEY, AXME_API_KEY hold the key itself]
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    api_key_file: Option<PathBuf>,
    /// Authority that signed the nodes' certificates (PEM); without it https trusts the system's authorities
    #[arg(long, env = "BATON_CA", value_name = "FILE", help_heading = "Connection")]
    ca: Option<PathBuf>,
    /// Context to use instead of the current one
    #[arg(long, env = "BATON_CONTEXT", value_name = "NAME", help_heading = "Connection")]
    context: Option<String>,
    /// How long a call may take, repetitions included
    #[arg(
        long,
        value_name = "TIME",
        default_value = "15s",
        value_parser = parse_duration,
        help_heading = "Connection"
    )]
    pub(super) timeout: Duration,
}

/// A cluster with the place where each setting came from.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) endpoints: Vec<String>,
    pub(super) endpoints_from: String,
    pub(super) api_key: Option<String>,
    pub(super) key_from: String,
    pub(super) ca: Option<PathBuf>,
}

impl ConnectArgs {
    /// Flags win over a context that was named, that over the environment, that over the current context.
    pub(super) fn target(&self) -> Result<Target, Failure> {
        let contexts = Contexts::read(&Contexts::path()?)?;
        let named = self
            .context
            .as_deref()
            .map(|name| contexts.get(name))
            .transpose()?;
        let current = match &contexts.current {
            Some(name) => contexts.contexts.get(name),
            None => None,
        };
        let (endpoints, endpoints_from) = self.endpoints(named, current);
        let (api_key, key_from) = self.key(named, current)?;
        let ca = self.ca.clone();
        let ca = ca.or_else(|| named.or(current).and_then(|context| context.ca.clone()));
        Ok(Target {
            endpoints,
            endpoints_from,
            api_key,
            key_from,
            ca,
        })
    }

    fn endpoints(&self, named: Option<&Context>, current: Option<&Context>) -> (Vec<String>, String) {
        if !self.endpoints.is_empty() {
            return (self.endpoints.clone(), "--endpoint".into());
        }
        if let Some(context) = named {
            return (context.endpoints.clone(), "the named context".into());
        }
        if let Some((name, text)) = variable(&ENDPOINT_VARIABLES) {
            let endpoints = text.split(',').map(|part| part.trim().to_owned());
            return (endpoints.filter(|part| !part.is_empty()).collect(), name.into());
        }
        match current {
            Some(context) => (context.endpoints.clone(), "the current context".into()),
            None => (vec![ENDPOINT_DEFAULT.into()], "the default".into()),
        }
    }

    fn key(
        &self,
        named: Option<&Context>,
        current: Option<&Context>,
    ) -> Result<(Option<String>, String), Failure> {
        if let Some(file) = &self.api_key_file {
            return Ok((Some(super::values::read_key(file)?), file.display().to_string()));
        }
        if let Some(context) = named {
            return Ok((context.api_key.clone(), "the named context".into()));
        }
        if let Some((name, key)) = variable(&KEY_VARIABLES) {
            return Ok((Some(key), name.into()));
        }
        Ok(match current {
            Some(context) => (context.api_key.clone(), "the current context".into()),
            None => (None, "nowhere".into()),
        })
    }

    /// A client of the cluster; it connects with its first call.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        self.target()?.client(self.timeout)
    }
}

impl Target {
    pub(super) fn client(&self, timeout: Duration) -> Result<Client, Failure> {
        let mut builder = Client::builder()
            .endpoints(self.endpoints.clone())
            .timeout(timeout);
        if let Some(key) = &self.api_key {
            builder = builder.api_key(key);
        }
        if let Some(ca) = &self.ca {
            let pem = std::fs::read(ca).map_err(|error| {
                Failure::config(format!(
                    "cannot read {} ({error}); --ca names the authority's PEM file",
                    ca.display()
                ))
            })?;
            builder = builder.tls(Tls::authority(pem));
        }
        builder
            .connect_lazy()
            .map_err(|error| Failure::config(error.to_string()))
    }
}

fn variable(names: &[&'static str]) -> Option<(&'static str, String)> {
    let set = names
        .iter()
        .map(|name| (*name, std::env::var(name).unwrap_or_default()));
    set.into_iter().find(|(_, value)| !value.trim().is_empty())
}
