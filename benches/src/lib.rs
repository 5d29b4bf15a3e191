//! What the micro-benchmarks share: inputs shaped like the payment example.
//!
//! `cargo bench -p baton-benches` runs them; they report, they assert nothing about time.

pub mod storage;

use baton_protocol::proto::internal::{
    AttemptFence, Batch, Command, FinishAttempt, IdempotencyClaim, KeyKind, ResumeIntent, Status, command,
    resume_intent,
};
use baton_state_machine::testing;

/// A payload as the payment example has it.
pub const PAYLOAD: &str = r#"{"order_id":"ORD-8842","amount":199.99,"currency":"USD"}"#;
/// The result its agent gives.
pub const RESULT: &str =
    r#"{"action":"complete","order_id":"ORD-8842","status":"captured","transaction_id":"txn-1"}"#;

/// Agents that the intents are spread over.
const AGENTS: u64 = 100;

/// Whom the `n`th intent is for.
#[must_use]
pub fn agent_name(n: u64) -> String {
    format!("payment-service-{}", n % AGENTS)
}

/// How large the stores of a benchmark are: with `cargo bench` all of `sizes`, in a test run the first one.
#[must_use]
pub fn sizes(sizes: &[u64]) -> &[u64] {
    let measured =
        std::env::args().any(|arg| arg == "--bench") && !std::env::args().any(|arg| arg == "--test");
    if measured { sizes } else { &sizes[..1] }
}

/// The `n`th submit, spread over the agents.
#[must_use]
pub fn submit(n: u64) -> command::Body {
    let mut submit = testing::submit(&agent_name(n), n);
    submit.intent_type = "intent.payment.process.v1".to_owned();
    submit.payload = Some(testing::json(PAYLOAD));
    submit.max_delivery_attempts = 3;
    command::Body::Submit(submit)
}

/// The agent's answer to the `n`th submit.
#[must_use]
pub fn complete(n: u64) -> command::Body {
    let name = agent_name(n);
    let to = testing::agent(&name);
    command::Body::Resume(ResumeIntent {
        actor: Some(testing::actor(KeyKind::Agent, &name)),
        intent_id: testing::intent_id(&to, n).to_bytes(),
        kind: resume_intent::Kind::Result.into(),
        result: Some(testing::json(RESULT)),
        ..ResumeIntent::default()
    })
}

/// One log entry with commands as a proposer packs them.
#[must_use]
pub fn entry(bodies: impl IntoIterator<Item = command::Body>) -> Batch {
    Batch {
        log_time_ms: testing::START_MS,
        commands: bodies
            .into_iter()
            .map(|body| Command {
                body: Some(body),
                ..Command::default()
            })
            .collect(),
    }
}

/// The `n`th submit as the gRPC surface proposes it: with an idempotency key that lives beside the intent.
#[must_use]
pub fn work(n: u64) -> command::Body {
    let mut body = submit(n);
    if let command::Body::Submit(submit) = &mut body {
        let hash = |salt: u8| {
            [[salt; 8], n.to_be_bytes(), [salt; 8], n.to_le_bytes()]
                .concat()
                .into()
        };
        submit.idempotency = Some(IdempotencyClaim {
            key_hash: hash(1),
            request_hash: hash(2),
            in_intent_slot: true,
        });
    }
    body
}

/// The report of the worker that completed the `n`th submit, delivered under `cursor`.
#[must_use]
pub fn finish(n: u64, cursor: u64) -> command::Body {
    let name = agent_name(n);
    let to = testing::agent(&name);
    command::Body::FinishAttempt(FinishAttempt {
        actor: Some(testing::actor(KeyKind::Agent, &name)),
        intent_id: testing::intent_id(&to, n).to_bytes(),
        cursor,
        fence: Some(AttemptFence {
            term: 1,
            counter: n + 1,
        }),
        status: Status::Completed.into(),
        body: Some(testing::json(RESULT)),
        ..FinishAttempt::default()
    })
}

/// The `n`th log entry of commands that one node numbers from `first` on; all before them are settled.
#[must_use]
pub fn numbered(n: u64, first: u64, bodies: impl IntoIterator<Item = command::Body>) -> Batch {
    let mut batch = entry(bodies);
    batch.log_time_ms += n;
    for (command, sequence) in batch.commands.iter_mut().zip(first + 1..) {
        command.origin = 0x0123_4567_89ab_cdef;
        command.sequence = sequence;
        command.settled_below = first + 1;
        command.expires_at_ms = batch.log_time_ms + 10_000;
    }
    batch
}
