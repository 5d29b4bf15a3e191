//! The file of named clusters: where they are and with which key. It holds secrets, so only its owner may read it.

use crate::credentials::write_secret;
use crate::exit::Failure;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// All contexts and which one is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contexts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) current: Option<String>,
    #[serde(default)]
    pub(super) contexts: BTreeMap<String, Context>,
}

/// One cluster.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Context {
    pub(super) endpoints: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) api_key: Option<String>,
    /// PEM file of the authority that signed the nodes' certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<PathBuf>,
}

/// Without the key.
impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

impl Contexts {
    /// `$XDG_CONFIG_HOME/baton/contexts.toml`, or the same below `~/.config`.
    pub(super) fn path() -> Result<PathBuf, Failure> {
        let absolute = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let config =
            absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
        let config = config.ok_or_else(|| {
            Failure::config("neither XDG_CONFIG_HOME nor HOME is set; there is no place for contexts")
        })?;
        Ok(config.join("baton/contexts.toml"))
    }

    /// Reads the file; nothing when there is none.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let refused =
            |error: &dyn std::fmt::Display| Failure::config(format!("cannot read {shown}: {error}"));
        let meta = match std::fs::metadata(path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(refused(&error)),
        };
        if meta.permissions().mode() & 0o077 != 0 {
            return Err(Failure::config(format!(
                "{shown} holds keys and others may read it; run chmod 600 {shown}"
            )));
        }
        if meta.len() > FILE_BYTES_MAX {
            return Err(refused(&"it is too large to be a list of contexts"));
        }
        let text = std::fs::read_to_string(path).map_err(|error| refused(&error))?;
        toml::from_str(&text)
            .map_err(|error| Failure::config(format!("{shown}: {}; correct the file", error.message())))
    }

    /// Writes the file, readable by its owner alone.
    pub(super) fn write(&self, path: &Path) -> Result<(), Failure> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)
                .map_err(|error| Failure::config(format!("cannot make {}: {error}", dir.display())))?;
        }
        write_secret(path, &toml::to_string(self).expect("plain strings"))
    }

    /// The context of this name.
    pub(super) fn get(&self, name: &str) -> Result<&Context, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            Failure::not_found(format!(
                "no context {name:?}; see baton context list, or make it with baton context add {name}"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_private_and_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("baton/contexts.toml");
        assert_eq!(Contexts::read(&path).unwrap(), Contexts::default());
        let mut contexts = Contexts::default();
        let context = Context {
            endpoints: vec!["http://a:1".into()],
            api_key: Some("axme_secret".into()),
            ca: None,
        };
        contexts.contexts.insert("dev".into(), context);
        contexts.current = Some("dev".into());
        contexts.write(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(Contexts::read(&path).unwrap(), contexts);
        assert!(!format!("{contexts:?}").contains("axme_secret"));
        assert!(
            contexts
                .get("prod")
                .unwrap_err()
                .line
                .contains("context add prod")
        );
    }

    #[test]
    fn a_file_that_others_may_read_or_that_is_broken_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("contexts.toml");
        std::fs::write(&path, "current = 3").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Contexts::read(&path).unwrap_err().line.contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(
            Contexts::read(&path)
                .unwrap_err()
                .line
                .contains("correct the file")
        );
    }
}
