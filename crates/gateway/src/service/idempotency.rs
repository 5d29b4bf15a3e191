//! One effect per client key, although the record and the intent may live in different groups.
//!
//! Same group, or a key per recipient: one command carries the claim. Otherwise reserve (key → request, intent id to be), act with that id,
//! then store the reply. Only the group's log decides; a gateway that dies in between is finished by the next call.

use std::time::Duration;

use baton_protocol::proto::internal::{
    AgentRef, FinishIdempotency, GetIdempotency, IdempotencyClaim, Reply, ReserveIdempotency, command, query,
    query_reply, reply,
};
use baton_protocol::{IntentId, Route, ServiceError, Slot};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::{Caller, IdempotencyRequest, Service, unexpected};

const DUPLICATE_POLL: Duration = Duration::from_millis(20);

/// What a body builder needs to know about the claim.
#[derive(Debug, Clone)]
pub(super) struct Claimed {
    pub(super) intent_id: IntentId,
    /// Present when the record lives beside the intent.
    pub(super) claim: Option<IdempotencyClaim>,
    /// Log time of a reservation in another group.
    pub(super) reserved_at_ms: u64,
}

/// The claim of one client call.
pub(super) fn claim(caller: &Caller, request: &IdempotencyRequest) -> IdempotencyClaim {
    let parts = [
        &caller.account.service_account_id,
        &request.endpoint,
        &request.key,
    ];
    IdempotencyClaim {
        key_hash: hash_of(&parts),
        request_hash: request.request_hash.to_vec().into(),
        in_intent_slot: false,
    }
}

/// The claim of a create whose key is one per recipient: its record lives beside the intent.
pub(super) fn recipient_claim(
    caller: &Caller,
    request: &IdempotencyRequest,
    to_agent: &AgentRef,
) -> IdempotencyClaim {
    // One part more than the claim of a caller, so that the two never meet.
    let parts = [
        &caller.account.service_account_id,
        &request.endpoint,
        &to_agent.key,
        &request.key,
    ];
    IdempotencyClaim {
        key_hash: hash_of(&parts),
        request_hash: request.request_hash.to_vec().into(),
        in_intent_slot: true,
    }
}

fn hash_of(parts: &[&String]) -> bytes::Bytes {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().to_vec().into()
}

/// Where the record of a claim lives.
pub(super) fn record_slot(claim: &IdempotencyClaim) -> Slot {
    Slot::of_hash(&claim.key_hash)
}

impl Service {
    /// Creates an intent with `body`, at most once per claim.
    pub(super) async fn create_once(
        &self,
        intent_id: IntentId,
        claim: Option<IdempotencyClaim>,
        body: impl Fn(Claimed) -> command::Body + Send,
    ) -> Result<Reply, ServiceError> {
        let map = self.ports.group_map;
        let beside = claim.as_ref().is_none_or(|c| {
            c.in_intent_slot || map.group_of(record_slot(c)) == map.group_of(intent_id.slot())
        });
        match claim {
            Some(claim) if !beside => self.create_reserved(intent_id, claim, body).await,
            claim => {
                let body = body(Claimed {
                    intent_id,
                    claim,
                    reserved_at_ms: 0,
                });
                let route = Route::Slot(intent_id.slot());
                self.ports.proposer.propose(route, body).await
            }
        }
    }

    async fn create_reserved(
        &self,
        intent_id: IntentId,
        claim: IdempotencyClaim,
        body: impl Fn(Claimed) -> command::Body + Send,
    ) -> Result<Reply, ServiceError> {
        let record = Route::Slot(record_slot(&claim));
        let key_hash = claim.key_hash.clone();
        let reserve = command::Body::Reserve(ReserveIdempotency {
            claim: Some(claim),
            intent_id: intent_id.to_bytes(),
        });
        let reply = self.ports.proposer.propose(record, reserve).await?;
        let reserved = match reply.outcome {
            Some(reply::Outcome::Reserved(reserved)) => reserved,
            // Finished earlier, or refused: the answer of this call.
            _ => return Ok(reply),
        };
        let reserved_id = IntentId::from_slice(&reserved.intent_id)
            .ok_or_else(|| unexpected("a reservation without an intent id"))?;
        if reserved_id != intent_id
            && let Some(reply) = self
                .await_duplicate(record, &key_hash, reserved.reserved_at_ms)
                .await?
        {
            return Ok(reply);
        }
        let create = body(Claimed {
            intent_id: reserved_id,
            claim: None,
            reserved_at_ms: reserved.reserved_at_ms,
        });
        let reply = self
            .ports
            .proposer
            .propose(Route::Slot(reserved_id.slot()), create)
            .await?;
        if !matches!(reply.outcome, Some(reply::Outcome::Rejected(_)) | None) {
            let finish = command::Body::Finish(FinishIdempotency {
                key_hash,
                reply: Some(reply.clone()),
            });
            // The intent exists; a lost record is finished by the next call with this key.
            if let Err(error) = self.ports.proposer.propose(record, finish).await {
                tracing::debug!(%error, "idempotency record not finished");
            }
        }
        Ok(reply)
    }

    /// Waits for the reply of an earlier call with the same key; `None` when it seems to have died.
    async fn await_duplicate(
        &self,
        record: Route,
        key_hash: &bytes::Bytes,
        reserved_at_ms: u64,
    ) -> Result<Option<Reply>, ServiceError> {
        let wait_ms = self.config.duplicate_wait_ms;
        let age_ms = self.ports.environment.now_ms().saturating_sub(reserved_at_ms);
        let until = Instant::now() + Duration::from_millis(wait_ms.saturating_sub(age_ms));
        loop {
            let query = query::Body::GetIdempotency(GetIdempotency {
                key_hash: key_hash.clone(),
            });
            if let query_reply::Outcome::Idempotency(found) = self.read(record, None, query).await?
                && let Some(mut reply) = found.reply
            {
                reply.replayed = true;
                return Ok(Some(reply));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            sleep(DUPLICATE_POLL).await;
        }
    }
}
