//! Organization, workspace and operator key of a new cluster: minted once, kept in a 0600 file, hashed into the log.

use crate::exit::Failure;
use baton_protocol::address::canonical;
use baton_protocol::proto::internal::{
    AccountStatus, ApiKey, KeyKind, Organization, ServiceAccount, Workspace,
};
use rand::TryRngCore as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use uuid::Uuid;

/// Prefix of every machine key.
const TOKEN_PREFIX: &str = "axme_sa_";
/// Name of the operator's service account.
const OPERATOR_NAME: &str = "operator";
/// Random characters of a token (62 symbols each).
const SECRET_CHARS: usize = 43;

/// What ordinal 0 needs to create a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    pub org_id: String,
    pub org_slug: String,
    pub workspace_id: String,
    pub workspace_slug: String,
    pub service_account_id: String,
    pub key_id: String,
    /// The secret itself; only its SHA-256 enters the log.
    pub operator_token: String,
}

/// The rows that `BootstrapCluster` carries.
#[derive(Debug, Clone, PartialEq)]
pub struct BootstrapRows {
    pub organization: Organization,
    pub workspace: Workspace,
    pub operator_account: ServiceAccount,
    pub operator_key: ApiKey,
}

impl Credentials {
    /// New ids and a new token for organization `baton`, workspace `default`.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn mint() -> Result<Self, Failure> {
        let service_account_id = format!("sa_{OPERATOR_NAME}_{}", random_text(8)?.to_lowercase());
        let secret = random_text(SECRET_CHARS)?;
        Ok(Self {
            org_id: Uuid::new_v4().to_string(),
            org_slug: "baton".into(),
            workspace_id: Uuid::new_v4().to_string(),
            workspace_slug: "default".into(),
            key_id: format!("key_{}", random_text(12)?.to_lowercase()),
            operator_token: format!("{TOKEN_PREFIX}{service_account_id}_{secret}"),
            service_account_id,
        })
    }

    /// Reads a credentials file.
    ///
    /// # Errors
    /// One line naming the file and the fix (exit 78).
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::config(format!(
                "cannot read credentials {shown} ({error}); correct cluster.bootstrap_credentials"
            ))
        })?;
        let credentials: Self = toml::from_str(&text).map_err(|error| {
            Failure::config(format!(
                "credentials {shown}: {}; correct the file",
                error.message()
            ))
        })?;
        if Uuid::try_parse(&credentials.org_id).is_err()
            || Uuid::try_parse(&credentials.workspace_id).is_err()
        {
            return Err(Failure::config(format!(
                "credentials {shown}: org_id and workspace_id must be UUIDs"
            )));
        }
        if !credentials.operator_token.starts_with(TOKEN_PREFIX)
            || credentials.operator_token.len() < TOKEN_PREFIX.len() + 32
        {
            return Err(Failure::config(format!(
                "credentials {shown}: operator_token must start with {TOKEN_PREFIX} and have 32 characters more"
            )));
        }
        Ok(credentials)
    }

    /// Reads `path`, or mints and writes it when it does not exist.
    ///
    /// # Errors
    /// As [`Credentials::read`]; also when the file cannot be written.
    pub fn read_or_mint(path: &Path) -> Result<Self, Failure> {
        if path.exists() {
            return Self::read(path);
        }
        let credentials = Self::mint()?;
        let text = toml::to_string(&credentials).expect("plain strings");
        write_secret(path, &text)?;
        Ok(credentials)
    }

    /// The rows of a new cluster.
    #[must_use]
    pub fn rows(&self, now_ms: u64) -> BootstrapRows {
        let address = canonical(&self.org_slug, &self.workspace_slug, OPERATOR_NAME);
        let hint_from = self.operator_token.len().saturating_sub(4);
        BootstrapRows {
            organization: Organization {
                org_id: self.org_id.clone(),
                slug: self.org_slug.clone(),
                name: self.org_slug.clone(),
                created_at_ms: now_ms,
            },
            workspace: Workspace {
                workspace_id: self.workspace_id.clone(),
                org_id: self.org_id.clone(),
                slug: self.workspace_slug.clone(),
                name: self.workspace_slug.clone(),
                created_at_ms: now_ms,
                ..Workspace::default()
            },
            operator_account: ServiceAccount {
                service_account_id: self.service_account_id.clone(),
                org_id: self.org_id.clone(),
                workspace_id: self.workspace_id.clone(),
                name: OPERATOR_NAME.into(),
                address,
                display_name: "Operator".into(),
                status: AccountStatus::Active.into(),
                created_by_actor_id: OPERATOR_NAME.into(),
                created_at_ms: now_ms,
                updated_at_ms: now_ms,
                ..ServiceAccount::default()
            },
            operator_key: ApiKey {
                key_id: self.key_id.clone(),
                token_sha256: Sha256::digest(self.operator_token.as_bytes()).to_vec().into(),
                key_hint: self.operator_token[hint_from..].to_owned(),
                kind: KeyKind::Operator.into(),
                service_account_id: self.service_account_id.clone(),
                org_id: self.org_id.clone(),
                workspace_id: self.workspace_id.clone(),
                created_at_ms: now_ms,
                name: OPERATOR_NAME.into(),
                ..ApiKey::default()
            },
        }
    }

    /// The five variables that AXME clients read, as a file to source.
    #[must_use]
    pub fn client_env(&self, base_urls: &[String]) -> String {
        format!(
            "AXME_BASE_URL={}\nAXME_BASE_URLS={}\nAXME_API_KEY={}\nAXME_ORG_ID={}\nAXME_WORKSPACE_ID={}\n",
            base_urls.first().map_or("", String::as_str),
            base_urls.join(","),
            self.operator_token,
            self.org_id,
            self.workspace_id,
        )
    }
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
/// When the directory cannot be written.
pub fn write_secret(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("cannot write {}: {error}", path.display()));
    let beside = path.with_extension("new");
    // A leftover of an interrupted run may have other permissions.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)?;
    // The name has to last as well: what follows may rest on this file.
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    let folder = std::fs::File::open(folder.unwrap_or(Path::new("."))).map_err(failed)?;
    folder.sync_all().map_err(failed)
}

fn random_text(chars: usize) -> Result<String, Failure> {
    const SYMBOLS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(chars);
    let mut buffer = [0u8; 64];
    while text.len() < chars {
        rand::rngs::OsRng
            .try_fill_bytes(&mut buffer)
            .map_err(|error| Failure::failed(format!("the system gives no random bytes: {error}")))?;
        // 248 = 4 × 62: larger bytes would favour the first symbols.
        let symbols = buffer
            .iter()
            .filter(|&&b| b < 248)
            .map(|&b| SYMBOLS[usize::from(b) % 62]);
        text.extend(symbols.map(char::from).take(chars - text.len()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn minted_credentials_are_private_reused_and_never_in_the_rows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials.toml");
        let first = Credentials::read_or_mint(&path).unwrap();
        assert_eq!(Credentials::read_or_mint(&path).unwrap(), first);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let rows = first.rows(1);
        assert!(!format!("{rows:?}").contains(&first.operator_token));
        assert_eq!(rows.operator_key.token_sha256.len(), 32);
        assert_eq!(rows.operator_account.address, "agent://baton/default/operator");
        assert!(
            first
                .operator_token
                .starts_with(&format!("axme_sa_{}_", first.service_account_id))
        );
    }

    #[test]
    fn bad_credentials_files_are_refused_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials.toml");
        let mut bad = Credentials::mint().unwrap();
        bad.org_id = "acme".into();
        std::fs::write(&path, toml::to_string(&bad).unwrap()).unwrap();
        assert!(Credentials::read(&path).unwrap_err().line.contains("UUID"));
        std::fs::write(&path, "org_id = 3").unwrap();
        assert_eq!(
            Credentials::read(&path).unwrap_err().code,
            crate::exit::ExitCode::Config
        );
    }

    #[test]
    fn the_client_file_names_every_node() {
        let env = Credentials::mint()
            .unwrap()
            .client_env(&["http://a".into(), "http://b".into()]);
        assert!(
            env.starts_with(
                "AXME_BASE_URL=http://a\nAXME_BASE_URLS=http://a,http://b\nAXME_API_KEY=axme_sa_"
            )
        );
        assert_eq!(env.lines().count(), 5);
    }
}
