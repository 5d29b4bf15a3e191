//! Waiting for the end of an intent, with something to look at.

use super::get::show;
use crate::cli::values::span;
use crate::exit::{ExitCode, Failure};
use crate::output::Output;
use baton_client::{Client, ErrorKind, Status};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// How often the spinner moves.
const TICK: Duration = Duration::from_millis(120);

/// Waits, shows the intent, and fails unless it is COMPLETED.
pub(in crate::cli) async fn wait_for_end(
    client: &Client,
    intent_id: &str,
    wait: Duration,
    out: Output,
) -> Result<(), Failure> {
    let spinner = spinner(out, format!("waiting for {intent_id}"));
    let following = follow(client, intent_id, &spinner);
    let ended = tokio::select! {
        ended = client.wait_for(intent_id, wait) => ended,
        never = following => match never {},
    };
    spinner.finish_and_clear();
    let intent = ended.map_err(|error| {
        if error.kind() == ErrorKind::Timeout {
            unfinished(intent_id, wait)
        } else {
            error.into()
        }
    })?;
    show(&intent, out);
    if intent.status == Status::Completed {
        return Ok(());
    }
    let reason = intent.outcome.and_then(|outcome| outcome.reason);
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    Err(Failure::new(
        ExitCode::Failed,
        format!(
            "the intent is {}{reason}; see baton intents trace {intent_id}",
            intent.status
        ),
    ))
}

fn unfinished(intent_id: &str, wait: Duration) -> Failure {
    let wait = span(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    Failure::new(
        ExitCode::Unavailable,
        format!("the intent has not ended within {wait}; baton intents watch {intent_id} goes on with it"),
    )
}

/// Shows each event while the wait goes on. Never ends: the wait decides.
async fn follow(client: &Client, intent_id: &str, spinner: &ProgressBar) -> std::convert::Infallible {
    if !spinner.is_hidden() {
        let mut watch = client.watch(intent_id);
        while let Some(Ok(event)) = watch.next().await {
            spinner.set_message(format!("{intent_id} {}", event.status));
        }
    }
    std::future::pending().await
}

/// A spinner on standard error; nothing where that is no terminal.
fn spinner(out: Output, message: String) -> ProgressBar {
    if !out.may_draw() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("a fixed template");
    let spinner = ProgressBar::new_spinner().with_style(style).with_message(message);
    spinner.enable_steady_tick(TICK);
    spinner
}
