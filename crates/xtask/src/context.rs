//! Where things are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Paths that every check needs.
#[derive(Debug)]
pub(crate) struct Context {
    /// Root of the workspace.
    pub(crate) root: PathBuf,
    /// Build output, also home of everything a check installs.
    pub(crate) target: PathBuf,
    /// The cargo that started us.
    pub(crate) cargo: String,
}

impl Context {
    /// Finds the workspace from this crate's own place in it.
    pub(crate) fn discover() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .context("this crate is expected at crates/xtask in the workspace")?
            .to_path_buf();
        let target =
            env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        fs::create_dir_all(target.join("xtask"))
            .with_context(|| format!("creating {}", target.join("xtask").display()))?;
        let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        Ok(Self { root, target, cargo })
    }

    /// The file that holds the full output of a check.
    pub(crate) fn log_file(&self, check: &str) -> PathBuf {
        self.target
            .join("xtask")
            .join(format!("{}.log", check.replace(' ', "-")))
    }

    /// The server binary as tests run it.
    pub(crate) fn server_binary(&self) -> PathBuf {
        self.target.join("debug").join("baton")
    }
}
