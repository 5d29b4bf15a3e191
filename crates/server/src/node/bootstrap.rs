//! The first command of a new cluster, and where its operator finds the key.

use crate::config::Config;
use crate::credentials::{Credentials, write_secret};
use crate::exit::Failure;
use baton_consensus::BootstrapCommand;
use baton_protocol::proto::internal::{BootstrapCluster, ClusterRecord, NodeRecord};
use std::path::PathBuf;
use std::sync::Arc;

/// File in the data directory for credentials that nobody brought.
const CREDENTIALS_FILE: &str = "operator-credentials.toml";
/// File in the data directory for clients, written together with the credentials.
const CLIENT_ENV_FILE: &str = "client.env";

/// Credentials and, when they are new, where to put them once they count.
struct Prepared {
    credentials: Credentials,
    unsaved: Option<(PathBuf, PathBuf)>,
    base_url: String,
}

/// Builds what consensus calls when it creates a cluster: on ordinal 0 and at most once per cluster, apart from
/// repetitions after a failure.
///
/// # Errors
/// A credentials file that cannot be used (exit 78).
pub(super) fn command(config: &Config) -> Result<BootstrapCommand, Failure> {
    let prepared = if config.cluster.ordinal == 0 {
        Some(prepare(config)?)
    } else {
        None
    };
    Ok(Arc::new(move |cluster, nodes| {
        let Some(prepared) = &prepared else {
            return Err("only the node with ordinal 0 creates a cluster".into());
        };
        prepared.save().map_err(|failure| failure.line)?;
        Ok(first_command(&prepared.credentials, cluster, nodes))
    }))
}

fn prepare(config: &Config) -> Result<Prepared, Failure> {
    let scheme = if config.client.tls.enabled() {
        "https"
    } else {
        "http"
    };
    let mut reach = config.client.listen;
    if reach.ip().is_unspecified() {
        // Listens everywhere; a client on this machine needs an address to dial.
        reach.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let base_url = format!("{scheme}://{reach}");
    let kept = config.data_dir.join(CREDENTIALS_FILE);
    let env = config.data_dir.join(CLIENT_ENV_FILE);
    let found = match &config.cluster.bootstrap_credentials {
        // Once a cluster exists its operator may take the file away.
        Some(path) if path.exists() || !config.data_dir.join("node.pb").exists() => Some(path.clone()),
        Some(_) | None => kept.exists().then(|| kept.clone()),
    };
    Ok(match found {
        Some(path) => Prepared {
            credentials: Credentials::read(&path)?,
            unsaved: None,
            base_url,
        },
        None => Prepared {
            credentials: Credentials::mint()?,
            unsaved: Some((kept, env)),
            base_url,
        },
    })
}

impl Prepared {
    /// Writes minted credentials before their hashes enter the log: a key that nobody has would lock everyone out.
    fn save(&self) -> Result<(), Failure> {
        let Some((credentials, env)) = &self.unsaved else {
            return Ok(());
        };
        let text = toml::to_string(&self.credentials).expect("plain strings");
        write_secret(credentials, &text)?;
        let base_url = std::slice::from_ref(&self.base_url);
        write_secret(env, &self.credentials.client_env(base_url))?;
        tracing::info!(file = %env.display(), "minted the operator key of the new cluster");
        Ok(())
    }
}

fn first_command(
    credentials: &Credentials,
    cluster: ClusterRecord,
    nodes: Vec<NodeRecord>,
) -> BootstrapCluster {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let rows = credentials.rows(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    BootstrapCluster {
        cluster: Some(cluster),
        nodes,
        organization: Some(rows.organization),
        workspace: Some(rows.workspace),
        operator_account: Some(rows.operator_account),
        operator_key: Some(rows.operator_key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &std::path::Path, ordinal: usize) -> Config {
        let mut config = Config {
            data_dir: dir.to_path_buf(),
            ..Config::default()
        };
        config.cluster.ordinal = ordinal;
        config
    }

    #[test]
    fn minted_credentials_are_saved_before_they_count_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), 0);
        let build = command(&config).unwrap();
        assert!(!dir.path().join(CREDENTIALS_FILE).exists());
        let first = build(ClusterRecord::default(), Vec::new()).unwrap();
        let saved = Credentials::read(&dir.path().join(CREDENTIALS_FILE)).unwrap();
        assert_eq!(first.organization.unwrap().org_id, saved.org_id);
        assert!(dir.path().join(CLIENT_ENV_FILE).exists());
        // After a crash in between, the same key is proposed again.
        let again = command(&config).unwrap()(ClusterRecord::default(), Vec::new()).unwrap();
        assert_eq!(
            again.operator_key.unwrap().token_sha256,
            first.operator_key.unwrap().token_sha256
        );
    }

    #[test]
    fn no_first_command_without_a_saved_key() {
        let dir = tempfile::tempdir().unwrap();
        let build = command(&config(dir.path(), 0)).unwrap();
        // A directory in the way of the file, as an unwritable one would be.
        let obstacle = dir.path().join("client.new");
        std::fs::create_dir(&obstacle).unwrap();
        let line = build(ClusterRecord::default(), Vec::new()).unwrap_err();
        assert!(line.contains(CLIENT_ENV_FILE), "{line}");
        std::fs::remove_dir(&obstacle).unwrap();
        let first = build(ClusterRecord::default(), Vec::new()).unwrap();
        let saved = Credentials::read(&dir.path().join(CREDENTIALS_FILE)).unwrap();
        assert_eq!(
            first.operator_key.unwrap().token_sha256,
            saved.rows(0).operator_key.token_sha256
        );
    }

    #[test]
    fn other_ordinals_read_no_credentials_and_a_missing_file_is_refused_only_before_creation() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path(), 1);
        config.cluster.bootstrap_credentials = Some(dir.path().join("missing.toml"));
        let build = command(&config).unwrap();
        assert!(build(ClusterRecord::default(), Vec::new()).is_err());
        config.cluster.ordinal = 0;
        let failure = command(&config).map(drop).unwrap_err();
        assert!(failure.line.contains("missing.toml"), "{failure}");
        std::fs::write(dir.path().join("node.pb"), "x").unwrap();
        command(&config).unwrap();
    }
}
