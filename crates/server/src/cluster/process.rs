//! One node process of a local cluster.

use super::layout::Layout;
use crate::exit::Failure;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};

/// Time a node gets to hand over and flush before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// A started `baton server`. Its standard input is a pipe from this process: when the parent ends, however it
/// ends, the pipe closes and the node shuts down.
#[derive(Debug)]
pub struct NodeProcess {
    k: usize,
    child: Child,
    pid: u32,
    pid_file: PathBuf,
    log: PathBuf,
}

impl NodeProcess {
    /// Starts node `k` with the configuration that is in its directory.
    ///
    /// # Errors
    /// When the program cannot be started or the log not opened.
    pub fn start(program: &Path, layout: &Layout, k: usize) -> Result<Self, Failure> {
        let log = layout.log(k);
        let failed = |what: &Path, error: std::io::Error| {
            Failure::failed(format!("node-{k}: cannot use {}: {error}", what.display()))
        };
        let out = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(|error| failed(&log, error))?;
        let err = out.try_clone().map_err(|error| failed(&log, error))?;
        let mut command = Command::new(program);
        command
            .args(["server", "--exit-on-stdin-eof", "--config"])
            .arg(layout.config(k))
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            // Ctrl-C is for the parent, which then stops its nodes in order.
            .process_group(0)
            .kill_on_drop(true);
        // Settings of the parent's environment must not leak into the nodes' generated configuration.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("BATON_") {
                command.env_remove(name);
            }
        }
        let child = command.spawn().map_err(|error| failed(program, error))?;
        let pid = child
            .id()
            .ok_or_else(|| Failure::failed(format!("node-{k} ended at once")))?;
        let pid_file = layout.pid(k);
        std::fs::write(&pid_file, format!("{pid}\n")).map_err(|error| failed(&pid_file, error))?;
        Ok(Self {
            k,
            child,
            pid,
            pid_file,
            log,
        })
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How the process ended, `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGKILL, and waits until the process is gone.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub async fn kill(&mut self) -> Result<(), Failure> {
        let killed = self.child.kill().await;
        self.forget_pid();
        killed.map_err(|error| Failure::failed(format!("cannot kill node-{}: {error}", self.k)))
    }

    /// Asks for an orderly shutdown and waits; kills a node that does not end. Returns whether it ended by itself.
    pub async fn stop(&mut self) -> bool {
        drop(self.child.stdin.take());
        let orderly = match tokio::time::timeout(STOP_PATIENCE, self.child.wait()).await {
            Ok(Ok(status)) => status.success(),
            Ok(Err(_)) => false,
            Err(_) => {
                // Nothing more can be done for a process that does not even take this.
                _ = self.child.kill().await;
                false
            }
        };
        self.forget_pid();
        orderly
    }

    /// "node-2 ended (exit status: 1): the last line of its log".
    pub fn obituary(&mut self) -> String {
        let how = self
            .ended()
            .map_or_else(|| "runs".to_owned(), |status| format!("ended ({status})"));
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = text
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("no log line");
        format!("node-{} {how}: {last}", self.k)
    }

    /// Removes the file with the process id of a node that has ended.
    pub fn forget_pid(&self) {
        // Only our own entry: after a restart the file may name another process.
        if std::fs::read_to_string(&self.pid_file).is_ok_and(|text| text.trim() == self.pid.to_string()) {
            _ = std::fs::remove_file(&self.pid_file);
        }
    }
}
