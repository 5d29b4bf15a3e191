//! Threads of an owner.

use crate::client::{Safety, unary};
use crate::types::Thread;
use crate::{Client, Error};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::inbox_service_client::InboxServiceClient;

impl Client {
    /// Threads of an owner, newest first; of the key's own address when `owner` is absent. `limit` 0 = the server's
    /// default.
    ///
    /// # Errors
    /// What any call gives.
    pub async fn inbox(&self, owner: Option<&str>, limit: u32) -> Result<Vec<Thread>, Error> {
        let request = v1::ListThreadsRequest {
            owner: owner.unwrap_or_default().to_owned(),
            page_size: limit,
        };
        let answer = unary!(self, Safety::Repeatable, InboxServiceClient.list_threads(request))?;
        Ok(answer.threads.into_iter().map(Thread::from_wire).collect())
    }

    /// One thread with its entries.
    ///
    /// # Errors
    /// `not_found`, and what any call gives.
    pub async fn thread(&self, thread_id: &str, owner: Option<&str>) -> Result<Thread, Error> {
        let request = v1::GetThreadRequest {
            thread_id: thread_id.to_owned(),
            owner: owner.unwrap_or_default().to_owned(),
        };
        let answer = unary!(self, Safety::Repeatable, InboxServiceClient.get_thread(request))?;
        answer
            .thread
            .map(Thread::from_wire)
            .ok_or_else(|| Error::Unexpected("the thread is missing".into()))
    }
}
