//! Agents: the directory, and what waits for one of them.

use std::time::Duration;

use baton_protocol::limits::MAILBOX_PAGE_MAX;
use baton_protocol::proto::internal::{AgentRef, FindAgent, ListMailbox, ServiceAccount, query, query_reply};
use baton_protocol::{ErrorCode, FeedItem, Listen, Route, ServiceError};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::{Caller, Service, unexpected};

/// Longest wait for deliveries that are known to exist.
const BACKLOG_WAIT: Duration = Duration::from_secs(2);
/// After the first delivery of a waiting poll, this long for more.
const BATCH_LINGER: Duration = Duration::from_millis(25);

impl Service {
    /// The registered agent with this address.
    pub(crate) async fn get_agent(
        &self,
        caller: &Caller,
        text: &str,
    ) -> Result<ServiceAccount, ServiceError> {
        let agent = self.resolve_address(caller, text).await?;
        let missing = || {
            ServiceError::new(
                ErrorCode::AgentNotFound,
                format!("agent {} is not registered", agent.address),
            )
        };
        let query = query::Body::FindAgent(FindAgent {
            address: agent.address.clone(),
        });
        let actor = Some(caller.actor(None, None));
        match self.read(Route::Meta, actor, query).await {
            Ok(query_reply::Outcome::ServiceAccount(account)) => Ok(account),
            Ok(_) => Err(unexpected("something else than an agent")),
            Err(error) if error.code.http() == 404 => Err(missing()),
            Err(error) => Err(error),
        }
    }

    /// Deliveries for `agent` above `since`, as they commit.
    pub(crate) async fn listen(
        &self,
        caller: &Caller,
        agent: &AgentRef,
        since: u64,
    ) -> Result<mpsc::Receiver<FeedItem>, ServiceError> {
        let listen = Listen {
            agent: agent.clone(),
            since,
            credential: caller.key.key_id.clone(),
        };
        self.ports.agents.subscribe(listen).await
    }

    /// One page of deliveries; waits up to `wait` for the first. Being returned counts as written to a listener.
    pub(crate) async fn poll_agent(
        &self,
        caller: &Caller,
        agent: &AgentRef,
        since: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<FeedItem>, ServiceError> {
        let last_open = self.last_open_cursor(caller, agent, since).await?;
        if last_open.is_none() && wait.is_zero() {
            return Ok(Vec::new());
        }
        let mut feed = self.listen(caller, agent, since).await?;
        let mut items: Vec<FeedItem> = Vec::new();
        let mut until = Instant::now() + if last_open.is_some() { BACKLOG_WAIT } else { wait };
        while items.len() < limit {
            let Ok(Some(item)) = timeout_at(until, feed.recv()).await else {
                break;
            };
            let complete = last_open.is_none_or(|last| item.cursor >= last);
            items.push(item);
            if complete {
                until = until.min(Instant::now() + BATCH_LINGER);
            }
        }
        Ok(items)
    }

    async fn last_open_cursor(
        &self,
        caller: &Caller,
        agent: &AgentRef,
        since: u64,
    ) -> Result<Option<u64>, ServiceError> {
        let query = query::Body::ListMailbox(ListMailbox {
            agent: Some(agent.clone()),
            since,
            limit: MAILBOX_PAGE_MAX,
            payload_bytes_max: 0,
        });
        let route = Route::Slot(baton_protocol::address::slot_of(agent));
        let actor = Some(caller.actor(None, None));
        let query_reply::Outcome::Mailbox(page) = self.read(route, actor, query).await? else {
            return Err(unexpected("something else than a mailbox"));
        };
        Ok(page.items.last().map(|item| item.cursor))
    }
}
