//! Runs `baton` with an environment of its own.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A place with settings of its own, so that nothing of the machine's leaks in.
pub(crate) struct Shell {
    home: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Shell {
    pub(crate) fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            variables: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Words are separated by spaces; `%` stands for a space inside a word.
    pub(crate) fn run(&self, line: &str) -> Output {
        let words = line.split(' ').map(|word| word.replace('%', " "));
        let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
        for (name, _) in std::env::vars() {
            if name.starts_with("BATON_") || name.starts_with("AXME_") {
                command.env_remove(name);
            }
        }
        command
            .args(words)
            .env("XDG_CONFIG_HOME", self.home.path())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs and expects this exit code; gives standard output.
    pub(crate) fn ends(&self, line: &str, code: i32) -> String {
        let output = self.run(line);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{line}\n{out}\n{err}");
        if code != 0 {
            let last = err.lines().last().unwrap_or_default();
            assert!(code == 2 || last.starts_with("baton: "), "{line}\n{err}");
        }
        assert!(!out.contains('\x1b'), "no colour where nobody looks: {out:?}");
        out
    }

    pub(crate) fn ok(&self, line: &str) -> String {
        self.ends(line, 0)
    }

    /// The result of `line`, as JSON.
    pub(crate) fn json(&self, line: &str) -> Value {
        self.json_ends(line, 0)
    }

    pub(crate) fn json_ends(&self, line: &str, code: i32) -> Value {
        let out = self.ends(&format!("{line} -o json"), code);
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{line}: {error}\n{out}"))
    }

    /// What `line` says when it fails.
    pub(crate) fn complaint(&self, line: &str, code: i32) -> String {
        self.ends(line, code);
        text(&self.run(line).stderr)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
