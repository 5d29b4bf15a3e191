//! One line per check, and the closing line that scripts read.

use std::time::Duration;

/// Number of tests in a check, or one for a check that is not made of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

/// What a check found.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    /// Shown below the check's line: what failed and where to look, what was skipped and why.
    pub(crate) notes: Vec<String>,
}

impl Outcome {
    pub(crate) fn passed() -> Self {
        Self {
            counts: Counts {
                passed: 1,
                ..Counts::default()
            },
            notes: Vec::new(),
        }
    }

    pub(crate) fn failed(notes: Vec<String>) -> Self {
        Self {
            counts: Counts {
                failed: 1,
                ..Counts::default()
            },
            notes,
        }
    }

    pub(crate) fn skipped(reason: impl Into<String>) -> Self {
        Self {
            counts: Counts {
                skipped: 1,
                ..Counts::default()
            },
            notes: vec![format!("skipped: {}", reason.into())],
        }
    }

    /// Passed when there are no findings.
    pub(crate) fn from_findings(findings: Vec<String>) -> Self {
        if findings.is_empty() {
            Self::passed()
        } else {
            Self::failed(findings)
        }
    }

    fn word(&self) -> &'static str {
        match self.counts {
            Counts { failed: 1.., .. } => "FAILED",
            Counts {
                passed: 0,
                skipped: 1..,
                ..
            } => "skipped",
            Counts { .. } => "ok",
        }
    }
}

/// `name ...... ok 12.3 s (45 passed)`, then the notes.
pub(crate) fn lines(name: &str, outcome: &Outcome, took: Duration) -> String {
    let counts = outcome.counts;
    let mut text = format!("{name:.<16} {:<7} {:>7.1} s", outcome.word(), took.as_secs_f64());
    if counts.passed + counts.failed + counts.skipped > 1 {
        text.push_str(&format!("  ({})", summary(counts)));
    }
    for note in &outcome.notes {
        for line in note.lines() {
            text.push_str(&format!("\n    {line}"));
        }
    }
    text
}

/// The closing line.
pub(crate) fn summary(counts: Counts) -> String {
    format!(
        "{} passed, {} failed, {} skipped",
        counts.passed, counts.failed, counts.skipped
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_test_fails_the_check() {
        let outcome = Outcome {
            counts: Counts {
                passed: 40,
                failed: 1,
                skipped: 2,
            },
            notes: vec!["two\nlines".to_owned()],
        };
        let text = lines("nextest", &outcome, Duration::from_millis(1_500));
        assert_eq!(
            text,
            "nextest......... FAILED      1.5 s  (40 passed, 1 failed, 2 skipped)\n    two\n    lines"
        );
    }

    #[test]
    fn skipped_is_not_ok() {
        let outcome = Outcome::skipped("no network");
        assert!(lines("advisories", &outcome, Duration::ZERO).contains("skipped"));
        assert_eq!(summary(outcome.counts), "0 passed, 0 failed, 1 skipped");
    }
}
