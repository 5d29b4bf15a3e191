//! Reads test numbers out of what test runners print.

use crate::report::Counts;

/// A test that cannot run here prints a line that begins with this, and passes; we count it as skipped.
pub(crate) const SKIP_LINE: &str = "skipped:";

/// `cargo nextest`: its one summary line.
pub(crate) fn nextest(output: &str) -> Option<Counts> {
    let line = output
        .lines()
        .rev()
        .find(|l| l.trim_start().starts_with("Summary"))?;
    Some(numbers(line.rsplit(':').next()?))
}

/// `cargo test`: one result line per binary.
pub(crate) fn libtest(output: &str) -> Option<Counts> {
    let mut lines = output
        .lines()
        .filter(|l| l.starts_with("test result:"))
        .peekable();
    lines.peek()?;
    Some(lines.fold(Counts::default(), |sum, line| sum + numbers(line)))
}

/// `pytest`: the last line.
pub(crate) fn pytest(output: &str) -> Option<Counts> {
    let line = output.lines().rev().find(|l| {
        l.contains(" in ")
            && (l.contains("passed") || l.contains("failed") || l.contains("skipped") || l.contains("error"))
    })?;
    Some(numbers(line))
}

/// Moves tests that said they could not run from passed to skipped, and returns what they said.
pub(crate) fn apply_skip_lines(counts: &mut Counts, output: &str) -> Vec<String> {
    let said: Vec<String> = output
        .lines()
        .map(str::trim)
        .filter(|l| l.starts_with(SKIP_LINE))
        .map(str::to_owned)
        .collect();
    let moved = u32::try_from(said.len()).unwrap_or(u32::MAX).min(counts.passed);
    counts.passed -= moved;
    counts.skipped += moved;
    said
}

/// The lines that name failed tests and say why, once each; empty when the runner did not get that far.
pub(crate) fn failed_tests(output: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut lines = output.lines().map(str::trim).peekable();
    while let Some(line) = lines.next() {
        let verdict = [
            "FAIL [",
            "TIMEOUT [",
            "SIGABRT [",
            "SIGSEGV [",
            "FAILED ",
            "ERROR tests/",
        ]
        .iter()
        .any(|v| line.starts_with(v));
        // The place of a panic, with the first line of what it says.
        let panic = line.starts_with("thread '") && line.contains("panicked at");
        let line = match (panic, lines.peek()) {
            (true, Some(next)) => format!("{line} {next}"),
            (true, None) | (false, _) => line.to_owned(),
        };
        // nextest repeats a verdict in its summary with another duration.
        let name = line.split(']').next_back().unwrap_or(&line);
        if (verdict || panic) && !found.iter().any(|f| f.ends_with(name)) {
            found.push(line);
        }
    }
    // A test that expects a panic passes; only threads of failed tests are of interest.
    let names: String = found
        .iter()
        .filter(|l| !l.starts_with("thread"))
        .cloned()
        .collect();
    found.retain(|l| {
        !l.starts_with("thread") || l.split('\'').nth(1).is_some_and(|test| names.contains(test))
    });
    found
}

/// Adds up `N word` pairs in a line.
fn numbers(line: &str) -> Counts {
    let mut counts = Counts::default();
    let words: Vec<&str> = line
        .split(|c: char| c.is_whitespace() || c == ',' || c == ';')
        .filter(|w| !w.is_empty())
        .collect();
    for pair in words.windows(2) {
        let Ok(number) = pair[0].trim_start_matches('(').parse::<u32>() else {
            continue;
        };
        match pair[1].trim_matches(|c: char| !c.is_alphanumeric()) {
            "passed" => counts.passed += number,
            "failed" | "error" | "errors" | "timed" | "exec" => counts.failed += number,
            "skipped" | "ignored" => counts.skipped += number,
            _ => {}
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u32, failed: u32, skipped: u32) -> Option<Counts> {
        Some(Counts {
            passed,
            failed,
            skipped,
        })
    }

    #[test]
    fn summaries_of_the_three_runners_are_read() {
        assert_eq!(
            nextest(
                "x\n     Summary [   0.514s] 40 tests run: 38 passed (1 slow), 1 failed, 1 timed out, 3 skipped\n"
            ),
            counts(38, 2, 3)
        );
        assert_eq!(
            libtest(
                "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured\nx\ntest result: FAILED. 1 passed; 2 failed; 0 ignored\n"
            ),
            counts(4, 2, 1)
        );
        assert_eq!(
            pytest("SKIPPED [1] x\n== 1 failed, 30 passed, 2 skipped, 1 error in 12.30s ==\n"),
            counts(30, 2, 2)
        );
        assert_eq!(pytest("30 passed in 3.20s\n"), counts(30, 0, 0));
    }

    #[test]
    fn no_summary_is_not_zero_tests() {
        assert_eq!(nextest("error: could not compile"), None);
        assert_eq!(libtest("error: could not compile"), None);
        assert_eq!(pytest("ImportError"), None);
    }

    #[test]
    fn failed_tests_are_named_once_with_their_panic() {
        let output = "\
            FAIL [   0.2s] (1/3) a::b c::broken\n\
            thread 'c::broken' (7) panicked at src/x.rs:1:2:\nassertion failed\n\
            thread 'c::expects_it' (8) panicked at src/x.rs:9:2:\nfine\n\
            FAIL [   0.3s] (1/3) a::b c::broken\n";
        assert_eq!(
            failed_tests(output),
            [
                "FAIL [   0.2s] (1/3) a::b c::broken",
                "thread 'c::broken' (7) panicked at src/x.rs:1:2: assertion failed",
            ]
        );
        assert_eq!(
            failed_tests("FAILED tests/python/test_x.py::test_y - why\n").len(),
            1
        );
        assert!(failed_tests("error: could not compile").is_empty());
    }

    #[test]
    fn a_test_that_says_it_could_not_run_is_skipped() {
        let mut c = Counts {
            passed: 5,
            failed: 0,
            skipped: 0,
        };
        let said = apply_skip_lines(
            &mut c,
            "ok\n  skipped: power cuts: loop devices are not permitted\n",
        );
        assert_eq!(said.len(), 1);
        assert_eq!((c.passed, c.skipped), (4, 1));
    }
}
