//! Running a command: bounded in time, its output in a file, its whole process group ended when time is up.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// How long a process group may take to end after being asked to.
const GRACE: Duration = Duration::from_secs(20);

/// What became of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) ended: Ended,
    /// Standard output and error, in the order they were written. Empty when the output went to the terminal.
    pub(crate) output: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Success,
    /// With a readable reason.
    Failure(String),
    TimedOut(Duration),
}

/// Where a command's output goes.
#[derive(Debug, Clone)]
pub(crate) enum Output {
    File(PathBuf),
    Terminal,
}

impl Ran {
    pub(crate) fn ok(&self) -> bool {
        self.ended == Ended::Success
    }

    pub(crate) fn why(&self) -> String {
        match &self.ended {
            Ended::Success => "ok".to_owned(),
            Ended::Failure(reason) => reason.clone(),
            Ended::TimedOut(limit) => format!("did not end within {} s", limit.as_secs()),
        }
    }
}

/// Runs `program` in `directory` and waits at most `limit` for it.
pub(crate) fn run(
    program: &str,
    args: &[&str],
    environment: &[(&str, &str)],
    directory: &Path,
    limit: Duration,
    output: &Output,
) -> Result<Ran> {
    let mut command = Command::new(program);
    command
        .args(args)
        .current_dir(directory)
        .env("CARGO_TERM_COLOR", "never")
        .env("NO_COLOR", "1")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        // A group of its own, so that a timeout ends the command's children too and nothing else.
        .process_group(0);
    if let Output::File(path) = output {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        command.stdout(file.try_clone()?).stderr(file);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(wait(command, program, limit))?;
    let output = match output {
        Output::File(path) => String::from_utf8_lossy(&fs::read(path)?).into_owned(),
        Output::Terminal => String::new(),
    };
    Ok(Ran { ended, output })
}

async fn wait(mut command: Command, program: &str, limit: Duration) -> Result<Ended> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut child = command.spawn().with_context(|| format!("starting {program}"))?;
    tokio::select! {
        status = child.wait() => Ok(describe(status?)),
        () = tokio::time::sleep(limit) => {
            end(&mut child).await;
            Ok(Ended::TimedOut(limit))
        }
        _ = interrupted.recv() => {
            end(&mut child).await;
            std::process::exit(130)
        }
        _ = terminated.recv() => {
            end(&mut child).await;
            std::process::exit(143)
        }
    }
}

fn describe(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ended::Success,
        (Some(code), _) => Ended::Failure(format!("exit status {code}")),
        (None, Some(number)) => Ended::Failure(format!("ended by signal {number}")),
        (None, None) => Ended::Failure("ended without a status".to_owned()),
    }
}

/// Asks the child's process group to end, then insists.
async fn end(child: &mut Child) {
    let Some(pid) = child.id() else { return };
    signal_group(pid, "TERM").await;
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        signal_group(pid, "KILL").await;
        // Reaping can only fail if the child is already reaped.
        let _ = child.wait().await;
    }
}

async fn signal_group(pid: u32, name: &str) {
    // A group that is already gone is what we want; any other failure shows as the child not ending.
    let _ = Command::new("kill")
        .args([&format!("-{name}"), "--", &format!("-{pid}")])
        .stderr(Stdio::null())
        .status()
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Ran {
        let dir = std::env::temp_dir();
        let file = dir.join(format!("xtask-process-{}-{}", std::process::id(), script.len()));
        let ran = run(
            "/bin/sh",
            &["-c", script],
            &[],
            &dir,
            limit,
            &Output::File(file.clone()),
        )
        .unwrap();
        fs::remove_file(file).unwrap();
        ran
    }

    #[test]
    fn output_and_status_are_kept() {
        let ran = sh("echo out; echo err >&2; exit 3", Duration::from_secs(30));
        assert_eq!(ran.ended, Ended::Failure("exit status 3".to_owned()));
        assert!(ran.output.contains("out\n") && ran.output.contains("err\n"));
    }

    #[test]
    fn a_command_that_hangs_is_ended_with_its_children() {
        let ran = sh("sleep 600 & sleep 600; wait", Duration::from_millis(200));
        assert_eq!(ran.ended, Ended::TimedOut(Duration::from_millis(200)));
    }
}
