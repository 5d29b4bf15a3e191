//! `baton intents trace`.

use crate::cli::connect::ConnectArgs;
use crate::cli::values::{moment, span};
use crate::exit::Failure;
use crate::output::{Output, list, properties, status_cell};
use baton_client::{Client, Event, Intent};
use clap::Args;
use comfy_table::{Cell, Table};
use serde::Serialize;

/// Columns of the timeline.
const BAR_CHARS: u64 = 32;

#[derive(Debug, Args)]
#[command(after_help = "Example: baton intents trace 0193a1c2-…")]
pub(super) struct TraceArgs {
    /// Id of the intent
    intent_id: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Serialize)]
struct Trace {
    intent: Intent,
    steps: Vec<Step>,
    /// First to last event.
    duration_ms: u64,
}

#[derive(Debug, Serialize)]
struct Step {
    #[serde(flatten)]
    event: Event,
    /// Since the first event.
    offset_ms: u64,
    /// Until the next event; of the last one, 0.
    lasted_ms: u64,
}

pub(super) async fn run(args: TraceArgs, out: Output) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let intent = client.get(&args.intent_id).await?;
    let events = events(&client, &intent).await?;
    let trace = trace(intent, events);
    let tables = [head(&trace), timeline(&trace)];
    out.result(&trace, &tables);
    Ok(())
}

/// What has happened so far.
async fn events(client: &Client, intent: &Intent) -> Result<Vec<Event>, Failure> {
    let mut watch = client.watch(&intent.intent_id);
    let mut events: Vec<Event> = Vec::new();
    while events.last().is_none_or(|event| event.seq < intent.last_seq) {
        match watch.next().await {
            Some(event) => events.push(event?),
            None => break,
        }
    }
    Ok(events)
}

fn trace(intent: Intent, events: Vec<Event>) -> Trace {
    let first = events.first().map_or(0, |event| event.at_ms);
    let last = events.last().map_or(0, |event| event.at_ms);
    let ends: Vec<u64> = events
        .iter()
        .skip(1)
        .map(|event| event.at_ms)
        .chain([last])
        .collect();
    let steps = events.into_iter().zip(ends).map(|(event, end)| Step {
        offset_ms: event.at_ms.saturating_sub(first),
        lasted_ms: end.saturating_sub(event.at_ms),
        event,
    });
    Trace {
        intent,
        steps: steps.collect(),
        duration_ms: last.saturating_sub(first),
    }
}

fn head(trace: &Trace) -> Table {
    let intent = &trace.intent;
    properties(vec![
        ("intent", Some(Cell::new(&intent.intent_id))),
        ("status", Some(status_cell(intent.status))),
        ("to", Some(Cell::new(&intent.to_agent))),
        ("began", Some(Cell::new(moment(intent.created_at_ms)))),
        ("took", Some(Cell::new(span(trace.duration_ms)))),
        ("traceparent", intent.traceparent.as_ref().map(Cell::new)),
    ])
}

fn timeline(trace: &Trace) -> Table {
    let mut table = list(&["seq", "at", "lasted", "", "event", "by", "attempt"]);
    for step in &trace.steps {
        let event = &step.event;
        let by = event.actor.as_ref().or(event.handler.as_ref());
        let attempt = match event.delivery_attempt {
            0 => String::new(),
            n => n.to_string(),
        };
        table.add_row([
            event.seq.to_string(),
            format!("+{}", span(step.offset_ms)),
            span(step.lasted_ms),
            bar(step.offset_ms, step.lasted_ms, trace.duration_ms),
            event.event_type.clone(),
            by.cloned().unwrap_or_default(),
            attempt,
        ]);
    }
    table
}

/// Where in the whole a step was, at least one mark wide.
fn bar(offset_ms: u64, lasted_ms: u64, whole_ms: u64) -> String {
    let scale = |ms: u64| (ms * BAR_CHARS).checked_div(whole_ms).unwrap_or(0).min(BAR_CHARS);
    let from = scale(offset_ms).min(BAR_CHARS - 1);
    let to = scale(offset_ms + lasted_ms).max(from + 1);
    let mark = |n: u64| if (from..to).contains(&n) { '█' } else { '·' };
    (0..BAR_CHARS).map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_lie_where_the_step_was() {
        assert!(bar(0, 0, 0).starts_with("█·"));
        assert_eq!(bar(0, 1_000, 1_000), "█".repeat(32));
        let late = bar(750, 250, 1_000);
        assert_eq!(
            (late.chars().filter(|&c| c == '█').count(), late.ends_with('█')),
            (8, true)
        );
        assert!(bar(1_000, 0, 1_000).ends_with("·█"));
    }
}
