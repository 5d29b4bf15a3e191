//! `IntentService` over a world: what the tests need of it.

use super::world::{State, World, refusal, terminal};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::intent_service_server::IntentService;
use baton_protocol::proto::v1::{submit_result, submit_stream_result};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::StatusExt as _;

pub(super) struct Intents {
    pub(super) world: Arc<World>,
    /// Of the node.
    pub(super) address: String,
}

type Sent<T> = ReceiverStream<Result<T, Status>>;

fn failure(status: &Status) -> v1::Failure {
    let details = status.get_error_details();
    v1::Failure {
        code: details
            .error_info()
            .map(|info| info.reason.clone())
            .unwrap_or_default(),
        message: status.message().to_owned(),
        retryable: details.retry_info().is_some(),
        retry_after_ms: 10,
        grpc_code: status.code() as i32,
    }
}

#[tonic::async_trait]
impl IntentService for Intents {
    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let spec = request.get_ref().intent.clone().unwrap_or_default();
        let leader = self.world.with(|state| {
            state.submitted.push(spec.clone());
            state.asked.push(self.address.clone());
            state.leader(&spec.to_agent, &self.address)
        });
        let name = |metadata: &mut MetadataMap| {
            if let Some(leader) = &leader {
                metadata.insert("baton-leader", leader.parse().unwrap());
            }
        };
        let admitted = self.world.admit(request.metadata()).await;
        admitted.map_err(|mut status| {
            name(status.metadata_mut());
            status
        })?;
        let receipt = self.world.with(|state| {
            state.submitted.pop();
            state.submit(spec)
        })?;
        let mut response = Response::new(v1::SubmitResponse {
            receipt: Some(receipt),
        });
        name(response.metadata_mut());
        Ok(response)
    }

    async fn submit_batch(
        &self,
        request: Request<v1::SubmitBatchRequest>,
    ) -> Result<Response<v1::SubmitBatchResponse>, Status> {
        let intents = request.into_inner().intents;
        let results = self.world.with(|state| {
            let each = intents.into_iter().map(|spec| match state.submit(spec) {
                Ok(receipt) => submit_result::Result::Receipt(receipt),
                Err(status) => submit_result::Result::Failure(failure(&status)),
            });
            each.map(|result| v1::SubmitResult { result: Some(result) })
                .collect()
        });
        Ok(Response::new(v1::SubmitBatchResponse { results }))
    }

    type SubmitStreamStream = Sent<v1::SubmitStreamResponse>;

    async fn submit_stream(
        &self,
        request: Request<Streaming<v1::SubmitStreamRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        self.world.admit(request.metadata()).await?;
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(serve_submits(
            Arc::clone(&self.world),
            self.address.clone(),
            request.into_inner(),
            sender,
        ));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get_intent(
        &self,
        request: Request<v1::GetIntentRequest>,
    ) -> Result<Response<v1::GetIntentResponse>, Status> {
        self.world.admit(request.metadata()).await?;
        let intent = self.world.look(|state| state.get(&request.get_ref().intent_id))?;
        Ok(Response::new(v1::GetIntentResponse { intent: Some(intent) }))
    }

    async fn list_intents(
        &self,
        request: Request<v1::ListIntentsRequest>,
    ) -> Result<Response<v1::ListIntentsResponse>, Status> {
        let request = request.into_inner();
        let start: usize = request.page_token.parse().unwrap_or(0);
        let size = request.page_size.max(1) as usize;
        let all: Vec<_> = self.world.look(|state| state.intents.values().cloned().collect());
        let more = start + size < all.len();
        Ok(Response::new(v1::ListIntentsResponse {
            intents: all.into_iter().skip(start).take(size).collect(),
            next_page_token: if more {
                (start + size).to_string()
            } else {
                String::new()
            },
        }))
    }

    type WatchStream = Sent<v1::WatchResponse>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.world.admit(request.metadata()).await?;
        let request = request.into_inner();
        self.world.look(|state| state.get(&request.intent_id))?;
        self.world.with(|state| state.watches.push(request.since_seq));
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(serve_watch(Arc::clone(&self.world), request, sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn wait_for(
        &self,
        request: Request<v1::WaitForRequest>,
    ) -> Result<Response<v1::WaitForResponse>, Status> {
        let request = request.into_inner();
        let mut changes = self.world.changes();
        let wait = std::time::Duration::from_millis(request.wait_ms.into());
        let until = tokio::time::Instant::now() + wait;
        loop {
            let intent = self.world.look(|state| state.get(&request.intent_id))?;
            let over = tokio::time::timeout_at(until, changes.changed());
            let terminal = terminal(intent.status);
            if terminal || over.await.is_err() {
                return Ok(Response::new(v1::WaitForResponse {
                    intent: Some(intent),
                    terminal,
                }));
            }
        }
    }

    async fn resolve(&self, _: Request<v1::ResolveRequest>) -> Result<Response<v1::ResolveResponse>, Status> {
        Err(refusal(Code::FailedPrecondition, "intent_terminal"))
    }

    async fn resume(&self, _: Request<v1::ResumeRequest>) -> Result<Response<v1::ResumeResponse>, Status> {
        Err(refusal(Code::FailedPrecondition, "intent_terminal"))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::CancelResponse>, Status> {
        self.world.admit(request.metadata()).await?;
        let request = request.into_inner();
        let intent = self.world.with(|state| {
            state.append(&request.intent_id, v1::Status::Canceled);
            state.get(&request.intent_id)
        })?;
        Ok(Response::new(v1::CancelResponse {
            intent: Some(intent),
            event: None,
            replayed: false,
        }))
    }

    async fn bulk_cancel(
        &self,
        _: Request<v1::BulkCancelRequest>,
    ) -> Result<Response<v1::BulkCancelResponse>, Status> {
        let failure = failure(&refusal(Code::FailedPrecondition, "intent_terminal"));
        let result = |id: &str, failure| v1::BulkCancelResult {
            intent_id: id.to_owned(),
            failure,
        };
        Ok(Response::new(v1::BulkCancelResponse {
            results: vec![result("a", None), result("b", Some(failure))],
            more: true,
        }))
    }
}

async fn serve_submits(
    world: Arc<World>,
    here: String,
    mut requests: Streaming<v1::SubmitStreamRequest>,
    answers: mpsc::Sender<Result<v1::SubmitStreamResponse, Status>>,
) {
    let mut changes = world.changes();
    let mut unanswered = Vec::new();
    let mut followed: HashMap<u64, String> = HashMap::new();
    loop {
        tokio::select! {
            request = requests.message() => match request {
                Ok(Some(request)) => {
                    if world.look(|state| state.hold) {
                        let specs: Vec<_> = request.items.iter().filter_map(|i| i.intent.clone()).collect();
                        world.with(|state| state.submitted.extend(specs));
                    }
                    unanswered.extend(request.items);
                }
                Ok(None) | Err(_) => return,
            },
            changed = changes.changed() => if changed.is_err() { return },
        }
        if world.look(|state| state.hold) {
            continue;
        }
        let mut response = v1::SubmitStreamResponse::default();
        for item in std::mem::take(&mut unanswered) {
            let spec = item.intent.unwrap_or_default();
            let agent = spec.to_agent.clone();
            let submitted = world.with(|state| {
                state.asked.push(here.clone());
                if let Some((_, status)) = state.cut_off.as_ref().filter(|(node, _)| *node == here) {
                    return Err(status.clone());
                }
                let mut receipt = state.submit(spec)?;
                receipt.leader = state.leader(&agent, &here).unwrap_or_default();
                Ok::<_, Status>(receipt)
            });
            let result = match submitted {
                Ok(receipt) => {
                    if item.notify_end {
                        followed.insert(item.request_id, receipt.intent_id.clone());
                    }
                    submit_stream_result::Result::Receipt(receipt)
                }
                Err(status) => submit_stream_result::Result::Failure(failure(&status)),
            };
            response.results.push(v1::SubmitStreamResult {
                request_id: item.request_id,
                result: Some(result),
            });
        }
        response.ended = world.look(|state| ended(state, &mut followed));
        let something = !response.results.is_empty() || !response.ended.is_empty();
        if something && answers.send(Ok(response)).await.is_err() {
            return;
        }
    }
}

fn ended(state: &State, followed: &mut HashMap<u64, String>) -> Vec<v1::IntentEnded> {
    let over = |id: &String| {
        state
            .intents
            .get(id)
            .is_some_and(|intent| terminal(intent.status))
    };
    followed
        .extract_if(|_, id| over(id))
        .map(|(request_id, intent_id)| v1::IntentEnded {
            request_id,
            status: state.intents[&intent_id].status,
            intent_id,
            outcome: None,
        })
        .collect()
}

async fn serve_watch(
    world: Arc<World>,
    request: v1::WatchRequest,
    events: mpsc::Sender<Result<v1::WatchResponse, Status>>,
) {
    let mut changes = world.changes();
    let mut seen = request.since_seq as usize;
    let mut sent = 0;
    loop {
        let (new, most) = world.look(|state| {
            let all = &state.events[&request.intent_id];
            (all[seen.min(all.len())..].to_vec(), state.watch_events_max)
        });
        for event in new {
            seen += 1;
            sent += 1;
            let over = terminal(event.status) || most > 0 && sent > most;
            if most > 0 && sent > most {
                return;
            }
            let message = v1::WatchResponse { event: Some(event) };
            if events.send(Ok(message)).await.is_err() || over {
                return;
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}
