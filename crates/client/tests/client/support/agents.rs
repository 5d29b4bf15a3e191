//! `AgentService` over a world: work with fences and receipts.

use super::world::{Given, State, World, refusal};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::agent_service_server::AgentService;
use baton_protocol::proto::v1::work_report::Report;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

pub(super) struct Agents {
    pub(super) world: Arc<World>,
    /// Of the node.
    pub(super) address: String,
}

#[tonic::async_trait]
impl AgentService for Agents {
    type WorkStream = ReceiverStream<Result<v1::WorkResponse, Status>>;

    async fn work(
        &self,
        request: Request<Streaming<v1::WorkRequest>>,
    ) -> Result<Response<Self::WorkStream>, Status> {
        self.world.admit(request.metadata()).await?;
        let (sender, receiver) = mpsc::channel(16);
        let world = Arc::clone(&self.world);
        tokio::spawn(serve(world, self.address.clone(), request.into_inner(), sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type SubscribeStream = ReceiverStream<Result<v1::SubscribeResponse, Status>>;

    async fn subscribe(
        &self,
        _: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        Err(refusal(Code::Unimplemented, "not_implemented"))
    }

    async fn register_agent(
        &self,
        request: Request<v1::RegisterAgentRequest>,
    ) -> Result<Response<v1::RegisterAgentResponse>, Status> {
        let key = request.get_ref().idempotency_key.clone();
        self.world.with(|s| s.registered.push(key));
        self.world.admit(request.metadata()).await?;
        let request = request.into_inner();
        Ok(Response::new(v1::RegisterAgentResponse {
            agent: Some(v1::Agent {
                address: format!("agent://o/w/{}", request.name),
                name: request.name,
                ..v1::Agent::default()
            }),
            created: true,
            api_key: if request.create_key {
                "axme_new".into()
            } else {
                String::new()
            },
            callback_secret: String::new(),
        }))
    }

    async fn get_agent(
        &self,
        _: Request<v1::GetAgentRequest>,
    ) -> Result<Response<v1::GetAgentResponse>, Status> {
        Err(refusal(Code::NotFound, "agent_not_found"))
    }

    async fn set_callback(
        &self,
        request: Request<v1::SetCallbackRequest>,
    ) -> Result<Response<v1::SetCallbackResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(v1::SetCallbackResponse {
            agent: Some(v1::Agent {
                name: request.agent,
                callback_url: request.callback_url.unwrap_or_default(),
                ..v1::Agent::default()
            }),
            callback_secret: String::new(),
        }))
    }

    async fn rotate_callback_secret(
        &self,
        request: Request<v1::RotateCallbackSecretRequest>,
    ) -> Result<Response<v1::RotateCallbackSecretResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(v1::RotateCallbackSecretResponse {
            callback_secret: format!("after {:?}", request.overlap_seconds),
            agent: Some(v1::Agent {
                name: request.agent,
                ..v1::Agent::default()
            }),
        }))
    }

    async fn list_agents(
        &self,
        request: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        let (name, next) = match request.into_inner().page_token.as_str() {
            "" => ("first", "2"),
            _ => ("second", ""),
        };
        Ok(Response::new(v1::ListAgentsResponse {
            agents: vec![v1::Agent {
                name: name.into(),
                ..v1::Agent::default()
            }],
            next_page_token: next.into(),
        }))
    }

    async fn get_backlog(
        &self,
        _: Request<v1::GetBacklogRequest>,
    ) -> Result<Response<v1::GetBacklogResponse>, Status> {
        Ok(Response::new(v1::GetBacklogResponse {
            open_deliveries: 7,
            oldest_at_ms: 0,
        }))
    }
}

async fn serve(
    world: Arc<World>,
    here: String,
    mut requests: Streaming<v1::WorkRequest>,
    responses: mpsc::Sender<Result<v1::WorkResponse, Status>>,
) {
    let mut changes = world.changes();
    let mut credits = 0;
    let Ok(Some(first)) = requests.message().await else {
        return;
    };
    let agent = first.open.unwrap_or_default().agent;
    world.with(|state| state.asked.push(here.clone()));
    let opened = v1::WorkOpened {
        credits_max: 100,
        lease_ms: world.with(|state| {
            state.work_streams += 1;
            state.lease_ms
        }),
        leader: world
            .look(|state| state.leader(&agent, &here))
            .unwrap_or_default(),
    };
    let mut response = v1::WorkResponse {
        opened: Some(opened),
        ..v1::WorkResponse::default()
    };
    let mut draining = false;
    loop {
        let something =
            response.opened.is_some() || !response.items.is_empty() || !response.receipts.is_empty();
        if something && responses.send(Ok(std::mem::take(&mut response))).await.is_err() {
            return;
        }
        if draining && world.look(|state| state.given.values().all(|given| given.over)) {
            return;
        }
        tokio::select! {
            request = requests.message() => match request {
                Ok(Some(request)) => {
                    credits += request.credits;
                    draining |= request.drain;
                    world.with(|state| {
                        state.drains += u32::from(request.drain);
                        let receipts = request.reports.into_iter().map(|report| judge(state, report));
                        response.receipts = receipts.collect();
                    });
                }
                Ok(None) | Err(_) => return,
            },
            changed = changes.changed() => if changed.is_err() { return },
        }
        if draining || world.look(|state| state.work.is_empty() || credits == 0) {
            continue;
        }
        response.items = world.with(|state| {
            let count = (credits as usize).min(state.work.len());
            let intents: Vec<_> = state.work.drain(..count).collect();
            intents.into_iter().map(|intent| give(state, intent)).collect()
        });
        credits -= u32::try_from(response.items.len()).unwrap();
    }
}

fn give(state: &mut State, intent: v1::Intent) -> v1::WorkItem {
    let before = state
        .given
        .get(&intent.intent_id)
        .map_or(0, |given| given.fence.counter);
    let fence = v1::Fence {
        term: 1,
        counter: before + 1,
    };
    let given = Given {
        fence,
        reports: Vec::new(),
        over: false,
    };
    state.given.insert(intent.intent_id.clone(), given);
    v1::WorkItem {
        fence: Some(fence),
        intent: Some(intent),
        payload: Some(v1::Payload {
            data: "{\"n\":1}".into(),
            content_type: String::new(),
        }),
        attempt: u32::try_from(fence.counter).unwrap(),
    }
}

fn judge(state: &mut State, report: v1::WorkReport) -> v1::WorkReceipt {
    let (name, over) = match report.report {
        Some(Report::Complete(_)) => ("complete", true),
        Some(Report::Fail(_)) => ("fail", true),
        Some(Report::Terminate(_)) => ("terminate", true),
        Some(Report::Nak(_)) => ("nak", true),
        Some(Report::Progress(_)) => ("progress", false),
        Some(Report::Ack(_)) => ("ack", false),
        None => ("none", false),
    };
    let known = state.given.get_mut(&report.intent_id);
    let fresh = known.filter(|given| Some(given.fence) == report.fence && !given.over);
    let failure = match fresh {
        Some(given) => {
            given.reports.push(name);
            given.over = over;
            None
        }
        None => Some(v1::Failure {
            code: "stale_attempt".into(),
            ..v1::Failure::default()
        }),
    };
    v1::WorkReceipt {
        intent_id: report.intent_id,
        fence: report.fence,
        failure,
    }
}
