//! `baton intents get`.

use crate::cli::connect::ConnectArgs;
use crate::cli::values::moment;
use crate::exit::Failure;
use crate::output::{Output, properties, status_cell};
use baton_client::{Intent, Payload};
use clap::Args;
use comfy_table::Cell;

#[derive(Debug, Args)]
#[command(after_help = "Example: baton intents get 0193a1c2-… -o json | jq .outcome.result")]
pub(super) struct GetArgs {
    /// Id of the intent
    intent_id: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(args: GetArgs, out: Output) -> Result<(), Failure> {
    let intent = args.connect.client()?.get(&args.intent_id).await?;
    show(&intent, out);
    Ok(())
}

/// One intent in full.
pub(super) fn show(intent: &Intent, out: Output) {
    let text = |text: &Option<String>| text.as_ref().map(Cell::new);
    let payload = |payload: Option<&Payload>| payload.map(|payload| Cell::new(printed(payload)));
    let outcome = intent.outcome.as_ref();
    let attempts = format!(
        "{} failed of {}",
        intent.failed_attempts, intent.max_delivery_attempts
    );
    let rows = vec![
        ("intent", Some(Cell::new(&intent.intent_id))),
        ("type", Some(Cell::new(&intent.intent_type))),
        ("status", Some(status_cell(intent.status))),
        (
            "waits for",
            intent
                .waiting_reason
                .map(|reason| Cell::new(format!("{reason:?}").to_lowercase())),
        ),
        ("to", Some(Cell::new(&intent.to_agent))),
        (
            "handler",
            text(
                &intent
                    .handler
                    .clone()
                    .filter(|handler| *handler != intent.to_agent),
            ),
        ),
        ("from", text(&intent.from_agent)),
        ("reply to", text(&intent.reply_to)),
        ("correlation", text(&intent.correlation_id)),
        ("created", Some(Cell::new(moment(intent.created_at_ms)))),
        ("updated", Some(Cell::new(moment(intent.updated_at_ms)))),
        ("deadline", intent.deadline_at_ms.map(|at| Cell::new(moment(at)))),
        (
            "attempts",
            (intent.failed_attempts > 0).then(|| Cell::new(attempts)),
        ),
        ("traceparent", text(&intent.traceparent)),
        ("payload", payload(intent.payload.as_ref())),
        (
            "result",
            payload(outcome.and_then(|outcome| outcome.result.as_ref())),
        ),
        (
            "error",
            payload(outcome.and_then(|outcome| outcome.error.as_ref())),
        ),
        (
            "reason",
            outcome.and_then(|outcome| outcome.reason.as_ref()).map(Cell::new),
        ),
    ];
    out.result(intent, &[properties(rows)]);
}

/// JSON indented, text as it is, anything else by its size.
pub(in crate::cli) fn printed(payload: &Payload) -> String {
    if payload.is_json()
        && let Ok(value) = payload.decode::<serde_json::Value>()
    {
        return serde_json::to_string_pretty(&value).unwrap_or_default();
    }
    match std::str::from_utf8(payload.data()) {
        // Control characters of a payload must not steer the terminal.
        Ok(text) if !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') => text.to_owned(),
        Ok(_) | Err(_) => format!("{} bytes of {}", payload.data().len(), payload.content_type()),
    }
}
