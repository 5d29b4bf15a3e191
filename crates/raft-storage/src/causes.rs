//! Whose traces an entry continues.

use baton_protocol::proto::internal::command::Body;
use baton_protocol::proto::internal::{Batch, Command, outbox_message};

/// The `traceparent` of every command of an entry that creates an intent. Others carry none.
pub(crate) fn trace_parents(batch: &Batch) -> impl Iterator<Item = &str> {
    batch.commands.iter().filter_map(trace_parent)
}

fn trace_parent(command: &Command) -> Option<&str> {
    let body = command.body.as_ref()?;
    if let Body::Submit(submit) = body {
        Some(&submit.trace_parent)
    } else if let Body::StartScenario(start) = body {
        Some(&start.parent.as_ref()?.trace_parent)
    } else if let Body::Deliver(deliver) = body
        && let outbox_message::Body::StartStep(start) = deliver.message.as_ref()?.body.as_ref()?
    {
        Some(&start.intent.as_ref()?.trace_parent)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_protocol::proto::internal::{
        DeliverMessage, Intent, OutboxMessage, Pulse, StartScenario, StartStep, SubmitIntent,
    };

    #[test]
    fn what_creates_an_intent_names_its_trace() {
        let submit = |trace_parent: &str| SubmitIntent {
            trace_parent: trace_parent.into(),
            ..SubmitIntent::default()
        };
        let step = StartStep {
            intent: Some(Intent {
                trace_parent: "step".into(),
                ..Intent::default()
            }),
            payload: None,
        };
        let message = OutboxMessage {
            body: Some(outbox_message::Body::StartStep(step)),
            ..OutboxMessage::default()
        };
        let bodies = [
            Body::Submit(submit("intent")),
            Body::Pulse(Pulse {}),
            Body::StartScenario(StartScenario {
                parent: Some(submit("scenario")),
                scenario: None,
            }),
            Body::StartScenario(StartScenario::default()),
            Body::Deliver(DeliverMessage {
                message: Some(message),
            }),
            Body::Deliver(DeliverMessage::default()),
        ];
        let command = |body| Command {
            body: Some(body),
            ..Command::default()
        };
        let batch = Batch {
            commands: bodies.into_iter().map(command).collect(),
            ..Batch::default()
        };
        let found: Vec<&str> = trace_parents(&batch).collect();
        assert_eq!(found, ["intent", "scenario", "step"]);
    }
}
