//! Many intents in as few calls as fit.

use super::{Submit, safety};
use crate::client::{Safety, unary};
use crate::types::Receipt;
use crate::{Client, Error};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::intent_service_client::IntentServiceClient;
use baton_protocol::proto::v1::submit_result::Result as Outcome;
use std::time::Duration;
use tokio::time::Instant;

/// Intents of one message; a longer batch becomes several calls.
pub(crate) const MESSAGE_ITEMS_MAX: usize = 256;
/// Payload bytes of one message.
pub(crate) const MESSAGE_PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

impl Client {
    /// Submits many. Each gets its own answer, in the order of the input; what failed for the moment is repeated
    /// within the client's timeout, counted per call.
    pub async fn submit_batch(
        &self,
        submits: impl IntoIterator<Item = Submit>,
    ) -> Vec<Result<Receipt, Error>> {
        let specs: Vec<_> = submits.into_iter().map(|s| s.into_spec(self)).collect();
        let mut results = Vec::with_capacity(specs.len());
        let mut rest = specs.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(message_len(rest));
            results.extend(self.patient_batch(now).await);
            rest = later;
        }
        results
    }

    /// One message's worth, repeated for the items that may still succeed.
    async fn patient_batch(&self, specs: &[v1::IntentSpec]) -> Vec<Result<Receipt, Error>> {
        let until = Instant::now() + self.timeout();
        let mut results: Vec<Option<Result<Receipt, Error>>> = vec![None; specs.len()];
        let mut open: Vec<usize> = (0..specs.len()).collect();
        let mut rounds = 0;
        loop {
            let items: Vec<_> = open.iter().map(|&n| specs[n].clone()).collect();
            let answers = self.one_batch(items).await;
            let mut advice = Duration::ZERO;
            let mut again = Vec::new();
            for (n, answer) in open.into_iter().zip(answers) {
                if let Err(error) = &answer {
                    let safe = safety(&specs[n]) == Safety::Repeatable || error.proves_no_effect();
                    if error.retryable() && safe {
                        advice = advice.max(error.retry_after().unwrap_or_default());
                        again.push(n);
                    }
                }
                results[n] = Some(answer);
            }
            rounds += 1;
            let pause = self.retry().pause(rounds, (!advice.is_zero()).then_some(advice));
            let over = rounds >= self.retry().attempts_max || Instant::now() + pause >= until;
            if again.is_empty() || over {
                return results.into_iter().flatten().collect();
            }
            open = again;
            tokio::time::sleep(pause).await;
        }
    }

    async fn one_batch(&self, intents: Vec<v1::IntentSpec>) -> Vec<Result<Receipt, Error>> {
        let count = intents.len();
        let all_keyed = intents.iter().all(|spec| safety(spec) == Safety::Repeatable);
        let safety = if all_keyed {
            Safety::Repeatable
        } else {
            Safety::Once
        };
        let request = v1::SubmitBatchRequest { intents };
        match unary!(self, safety, IntentServiceClient.submit_batch(request)) {
            Ok(answer) if answer.results.len() == count => {
                answer.results.into_iter().map(|r| outcome(r.result)).collect()
            }
            Ok(answer) => {
                let text = format!("{} answers to {count} intents", answer.results.len());
                vec![Err(Error::Unexpected(text)); count]
            }
            Err(error) => vec![Err(error); count],
        }
    }
}

fn outcome(result: Option<Outcome>) -> Result<Receipt, Error> {
    match result {
        Some(Outcome::Receipt(receipt)) => Ok(Receipt::from_wire(receipt)),
        Some(Outcome::Failure(failure)) => Err(Error::from_failure(failure)),
        None => Err(Error::Unexpected("an answer is empty".into())),
    }
}

/// How many of these fit into one message; at least one.
fn message_len(specs: &[v1::IntentSpec]) -> usize {
    let mut bytes = 0;
    let fitting = specs.iter().take(MESSAGE_ITEMS_MAX).take_while(|spec| {
        bytes += payload_bytes(spec);
        bytes <= MESSAGE_PAYLOAD_BYTES_MAX
    });
    fitting.count().max(1).min(specs.len())
}

pub(crate) fn payload_bytes(spec: &v1::IntentSpec) -> usize {
    spec.payload.as_ref().map_or(0, |payload| payload.data.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(bytes: usize) -> v1::IntentSpec {
        v1::IntentSpec {
            payload: Some(v1::Payload {
                data: vec![b'x'; bytes].into(),
                content_type: String::new(),
            }),
            ..v1::IntentSpec::default()
        }
    }

    #[test]
    fn messages_are_bounded_in_items_and_bytes() {
        assert_eq!(message_len(&vec![spec(1); 1_000]), MESSAGE_ITEMS_MAX);
        assert_eq!(message_len(&vec![spec(400 * 1024); 5]), 2);
        assert_eq!(message_len(&[spec(3 * 1024 * 1024)]), 1);
    }
}
