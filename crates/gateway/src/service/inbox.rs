//! Inbox threads of one owner.

use baton_protocol::address::slot_of;
use baton_protocol::limits::LIST_PAGE_MAX;
use baton_protocol::proto::internal::{AgentRef, GetThread, ListThreads, Thread, query, query_reply};
use baton_protocol::{ErrorCode, IntentId, Route, ServiceError};

use super::{Caller, Service, unexpected};

impl Service {
    /// Threads of `owner`, most recently updated first; `status` empty = all.
    pub(crate) async fn list_threads(
        &self,
        caller: &Caller,
        owner: AgentRef,
        status: String,
        limit: Option<u32>,
    ) -> Result<Vec<Thread>, ServiceError> {
        let route = Route::Slot(slot_of(&owner));
        let query = query::Body::ListThreads(ListThreads {
            owner: Some(owner.clone()),
            status,
            limit: limit.unwrap_or(LIST_PAGE_MAX).min(LIST_PAGE_MAX),
        });
        let actor = Some(caller.actor(Some(owner), None));
        let query_reply::Outcome::Threads(page) = self.read(route, actor, query).await? else {
            return Err(unexpected("something else than threads"));
        };
        Ok(page.threads)
    }

    /// One thread of `owner`.
    pub(crate) async fn get_thread(
        &self,
        caller: &Caller,
        owner: AgentRef,
        id: IntentId,
    ) -> Result<Thread, ServiceError> {
        let route = Route::Slot(slot_of(&owner));
        let address = owner.address.clone();
        let query = query::Body::GetThread(GetThread {
            owner: Some(owner.clone()),
            thread_id: id.to_bytes(),
        });
        let actor = Some(caller.actor(Some(owner), None));
        match self.read(route, actor, query).await {
            Ok(query_reply::Outcome::Thread(thread)) => Ok(thread),
            Ok(_) => Err(unexpected("something else than a thread")),
            Err(error) if error.code == ErrorCode::NotFound => Err(ServiceError::new(
                ErrorCode::NotFound,
                format!("thread {id} is not in the inbox of {address}"),
            )),
            Err(error) => Err(error),
        }
    }
}
