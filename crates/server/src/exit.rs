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
    /// The command line is wrong, or the cluster refused the request as malformed.
    Usage = 2,
    /// There is no such intent, agent, thread or context.
    NotFound = 3,
    /// The object's state does not allow it: already terminal, a key used for something else.
    Conflict = 4,
    /// No key, an unknown key, or one that may not do this.
    Unauthorized = 5,
    /// No node could serve the call, or the time was over: the same command may succeed later.
    Unavailable = 6,
    /// A node stopped because consensus or storage failed; its log says what to do.
    Fatal = 70,
    /// Configuration or data directory does not fit; nothing was changed.
    Config = 78,
}

/// Help text shared by all commands.
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
  0   done
  1   failed (an intent that was waited for ended badly, a check of doctor failed, a port was taken)
  2   wrong command line, or a request that the cluster calls malformed
  3   not found
  4   conflict: the object's state does not allow it
  5   no key, an unknown key, or a key that may not do this
  6   unavailable or out of time; the same command may succeed later
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

    /// A command line that parses but makes no sense (exit 2).
    pub fn usage(line: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, line)
    }

    /// Something named does not exist (exit 3).
    pub fn not_found(line: impl Into<String>) -> Self {
        Self::new(ExitCode::NotFound, line)
    }

    /// A failure with a code of its own.
    pub fn new(code: ExitCode, line: impl Into<String>) -> Self {
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

/// A call's error, with what to do about it.
impl From<baton_client::Error> for Failure {
    fn from(error: baton_client::Error) -> Self {
        use baton_client::ErrorKind as Kind;
        let code = match error.kind() {
            Kind::InvalidRequest => ExitCode::Usage,
            Kind::Unauthenticated | Kind::PermissionDenied => ExitCode::Unauthorized,
            Kind::NotFound => ExitCode::NotFound,
            Kind::Conflict => ExitCode::Conflict,
            Kind::Unavailable | Kind::Timeout | Kind::Limited => ExitCode::Unavailable,
            // The kinds may grow.
            Kind::Unsupported | Kind::Internal | Kind::Closed | _ => ExitCode::Failed,
        };
        Self::new(code, format!("{error}; {}", error.advice()))
    }
}

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
    fn errors_of_calls_end_with_their_code_and_say_what_to_do() {
        let unreachable = baton_client::Error::Unreachable {
            endpoint: "http://a:1".into(),
            message: "Connection refused".into(),
            sent: false,
        };
        let failure = Failure::from(unreachable);
        assert_eq!(failure.code, ExitCode::Unavailable);
        assert!(
            failure.line.ends_with("a majority of the nodes runs"),
            "{failure}"
        );
        let invalid = Failure::from(baton_client::Error::Invalid("bad".into()));
        assert_eq!(invalid.code, ExitCode::Usage);
    }

    #[test]
    fn failures_are_one_line_and_keep_their_code_through_anyhow() {
        let failure = Failure::config("bad\n  key");
        assert_eq!(failure.to_string(), "bad key");
        let back = Failure::from(anyhow::Error::new(failure));
        assert_eq!(back.code, ExitCode::Config);
        assert_eq!(Failure::from(anyhow::anyhow!("x")).code, ExitCode::Failed);
    }
}
