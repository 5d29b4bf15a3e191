//! How a command ends: one line on stderr and a documented exit code.

use std::fmt;

/// Exit codes of every `baton` command (sysexits where one fits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// The command did what was asked.
    Success = 0,
    /// It could not: a node did not start, a port was taken, a demo lost an intent.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A node stopped because consensus or storage failed; its log says what to do.
    Fatal = 70,
    /// Configuration or data directory does not fit; nothing was changed.
    Config = 78,
}

/// Help text shared by all commands.
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
  0   done
  1   failed (taken port, node not ready in time, intents lost in a demo)
  2   wrong command line
  70  the node stopped on a consensus or storage failure
  78  configuration or data directory refused; nothing was changed";

/// Why a command failed, in one line that names the fix.
#[derive(Debug)]
pub struct Failure {
    pub code: ExitCode,
    pub line: String,
}

impl Failure {
    /// A plain failure (exit 1).
    pub fn failed(line: impl Into<String>) -> Self {
        Self::new(ExitCode::Failed, line)
    }

    /// Refused configuration or data directory (exit 78).
    pub fn config(line: impl Into<String>) -> Self {
        Self::new(ExitCode::Config, line)
    }

    /// A node that cannot go on (exit 70).
    pub fn fatal(line: impl Into<String>) -> Self {
        Self::new(ExitCode::Fatal, line)
    }

    fn new(code: ExitCode, line: impl Into<String>) -> Self {
        // One line whatever a library put into its message.
        let line = line.into().split_whitespace().collect::<Vec<_>>().join(" ");
        Self { code, line }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(failure) => failure,
            Err(error) => Self::failed(format!("{error:#}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_one_line_and_keep_their_code_through_anyhow() {
        let failure = Failure::config("bad\n  key");
        assert_eq!(failure.to_string(), "bad key");
        let back = Failure::from(anyhow::Error::new(failure));
        assert_eq!(back.code, ExitCode::Config);
        assert_eq!(Failure::from(anyhow::anyhow!("x")).code, ExitCode::Failed);
    }
}
