//! `AgentService`.

use std::sync::Arc;
use std::time::Duration;

use baton_protocol::address::slot_of;
use baton_protocol::limits::{LIST_PAGE_DEFAULT, LIST_PAGE_MAX};
use baton_protocol::proto::internal::AgentRef;
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::agent_service_server::AgentService;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::auth::Admitted;
use super::outbound::{Messages, Outbound, Wake};
use super::status::status;
use super::{callbacks, convert, decode, leader, work};
use crate::app::App;
use crate::service::accounts::{NewAccount, NewKey};
use crate::service::{IdempotencyRequest, SecretChange};
use baton_protocol::{FeedItem, META_GROUP, ServiceError};

const NAME_CHARS_MAX: usize = 120;
const TEXT_CHARS_MAX: usize = 255;
/// Between two attempts to subscribe while the agent's group has no leader.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Agents(pub(super) Arc<App>);

#[tonic::async_trait]
impl AgentService for Agents {
    type WorkStream = Messages<v1::WorkResponse>;

    async fn work(
        &self,
        request: Request<Streaming<v1::WorkRequest>>,
    ) -> Result<Response<Self::WorkStream>, Status> {
        let (call, requests) = Admitted::split(request)?;
        work::serve(&self.0, call, requests).await
    }

    type SubscribeStream = Messages<v1::SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (call, request) = Admitted::split(request)?;
        let app = &self.0;
        let named = decode::address(request.agent, "agent").map_err(status)?;
        let agent = app
            .patiently(|| app.service.owner(&call.caller, named.as_deref()))
            .await
            .map_err(status)?;
        let (out, mut response) = Outbound::open(Arc::clone(app), &call, "agent")?;
        leader::tell_stream(app, leader::group_of(app, slot_of(&agent)), &mut response);
        let cursor = request.since_cursor;
        tokio::spawn(Subscription { out, agent, cursor }.run());
        Ok(response)
    }

    async fn register_agent(
        &self,
        request: Request<v1::RegisterAgentRequest>,
    ) -> Result<Response<v1::RegisterAgentResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let create_key = request.create_key;
        let (new, idempotency) = new_account(request).map_err(status)?;
        let service = &self.0.service;
        let put = service
            .put_account(&call.caller, new, true)
            .await
            .map_err(status)?;
        let (account, created) = (put.account, put.created);
        let callback_secret = put.callback_secret.unwrap_or_default();
        let api_key = if create_key {
            let id = &account.service_account_id;
            let new = NewKey {
                idempotency,
                ..NewKey::default()
            };
            let key = service.create_key(&call.caller, id, new).await;
            key.map_err(status)?.token
        } else {
            String::new()
        };
        let answer = v1::RegisterAgentResponse {
            agent: Some(convert::agent(account)),
            created,
            api_key,
            callback_secret,
        };
        leader::tell(&self.0, META_GROUP, Ok(answer))
    }

    async fn get_agent(
        &self,
        request: Request<v1::GetAgentRequest>,
    ) -> Result<Response<v1::GetAgentResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let address = decode::address(request.address, "address").map_err(status)?;
        let address = address.ok_or_else(|| status(decode::missing("address")))?;
        let account = self.0.service.get_agent(&call.caller, &address).await;
        Ok(Response::new(v1::GetAgentResponse {
            agent: Some(convert::agent(account.map_err(status)?)),
        }))
    }

    async fn list_agents(
        &self,
        request: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let size = match request.page_size {
            0 => LIST_PAGE_DEFAULT,
            size => size.min(LIST_PAGE_MAX),
        };
        let after = decode::text(request.page_token, "page_token", TEXT_CHARS_MAX).map_err(status)?;
        let accounts = self
            .0
            .service
            .list_accounts(&call.caller, None, None, Some(size), after)
            .await
            .map_err(status)?;
        let full = accounts.len() >= size as usize;
        let last = accounts.last().filter(|_| full);
        Ok(Response::new(v1::ListAgentsResponse {
            next_page_token: last.map(|a| a.service_account_id.clone()).unwrap_or_default(),
            agents: accounts.into_iter().map(convert::agent).collect(),
        }))
    }

    async fn get_backlog(
        &self,
        request: Request<v1::GetBacklogRequest>,
    ) -> Result<Response<v1::GetBacklogResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let service = &self.0.service;
        let named = decode::address(request.agent, "agent").map_err(status)?;
        let agent = service
            .owner(&call.caller, named.as_deref())
            .await
            .map_err(status)?;
        let backlog = service.backlog(&call.caller, agent).await.map_err(status)?;
        Ok(Response::new(v1::GetBacklogResponse {
            open_deliveries: backlog.open_deliveries,
            oldest_at_ms: backlog.oldest_at_ms,
        }))
    }

    async fn set_callback(
        &self,
        request: Request<v1::SetCallbackRequest>,
    ) -> Result<Response<v1::SetCallbackResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        callbacks::set(&self.0, &call, request).await
    }

    async fn rotate_callback_secret(
        &self,
        request: Request<v1::RotateCallbackSecretRequest>,
    ) -> Result<Response<v1::RotateCallbackSecretResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        callbacks::rotate(&self.0, &call, request).await
    }
}

/// The account, and what makes its key the same one in a repeated call.
fn new_account(
    request: v1::RegisterAgentRequest,
) -> Result<(NewAccount, Option<IdempotencyRequest>), ServiceError> {
    let (idempotency, key_idempotency) = decode::registration_keys(&request)?.unzip();
    let name = decode::text(request.name, "name", NAME_CHARS_MAX)?;
    let name = name.ok_or_else(|| decode::missing("name"))?;
    let display_name = decode::text(request.display_name, "display_name", TEXT_CHARS_MAX)?;
    let account = NewAccount {
        name,
        display_name: display_name.unwrap_or_default(),
        delivery_mode: decode::delivery_mode(request.delivery_mode)?,
        callback_url: callbacks::checked_url(request.callback_url, "callback_url")?,
        callback_secret: match decode::text(request.callback_secret, "callback_secret", TEXT_CHARS_MAX)? {
            Some(secret) => SecretChange::Set(secret),
            None => SecretChange::Keep,
        },
        idempotency,
        ..NewAccount::default()
    };
    Ok((account, key_idempotency))
}

/// Every open delivery of an agent, then new ones as they commit.
struct Subscription {
    out: Outbound<v1::SubscribeResponse>,
    agent: AgentRef,
    /// Last delivery cursor sent, or where the client began.
    cursor: u64,
}

impl Subscription {
    async fn run(mut self) {
        let mut feed: Option<mpsc::Receiver<FeedItem>> = None;
        loop {
            let app = Arc::clone(&self.out.app);
            let caller = Arc::clone(&self.out.caller);
            let Some(open) = &mut feed else {
                let listen = app.service.listen(&caller, &self.agent, self.cursor);
                match self.out.next(listen).await {
                    Wake::Source(Ok(opened)) => feed = Some(opened),
                    // The leader changed; the next subscription starts after what was sent.
                    Wake::Source(Err(error)) if error.code.retryable() => {
                        tokio::time::sleep(RESUBSCRIBE_PAUSE).await;
                    }
                    Wake::Source(Err(error)) => return self.out.end(error).await,
                    Wake::Tick => {}
                    Wake::Over | Wake::Stop => return,
                }
                continue;
            };
            match self.out.next(open.recv()).await {
                Wake::Source(Some(item)) => {
                    if item.cursor > self.cursor {
                        self.cursor = item.cursor;
                        if !self.out.send(convert::delivery(item)).await {
                            return;
                        }
                    }
                }
                Wake::Source(None) => {
                    feed = None;
                    tokio::time::sleep(RESUBSCRIBE_PAUSE).await;
                }
                Wake::Tick => {}
                Wake::Over | Wake::Stop => return,
            }
        }
    }
}
