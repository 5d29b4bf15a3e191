//! `InboxService`.

use std::sync::Arc;

use baton_protocol::limits::{LIST_PAGE_DEFAULT, LIST_PAGE_MAX};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::inbox_service_server::InboxService;
use tonic::{Request, Response, Status};

use super::auth::Admitted;
use super::status::status;
use super::{convert, decode};
use crate::app::App;

pub(super) struct Inbox(pub(super) Arc<App>);

#[tonic::async_trait]
impl InboxService for Inbox {
    async fn list_threads(
        &self,
        request: Request<v1::ListThreadsRequest>,
    ) -> Result<Response<v1::ListThreadsResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let service = &self.0.service;
        let named = decode::address(request.owner, "owner").map_err(status)?;
        let owner = service
            .owner(&call.caller, named.as_deref())
            .await
            .map_err(status)?;
        let size = match request.page_size {
            0 => LIST_PAGE_DEFAULT,
            size => size.min(LIST_PAGE_MAX),
        };
        let threads = service
            .list_threads(&call.caller, owner, String::new(), Some(size))
            .await;
        Ok(Response::new(v1::ListThreadsResponse {
            threads: threads
                .map_err(status)?
                .into_iter()
                .map(convert::thread)
                .collect(),
        }))
    }

    async fn get_thread(
        &self,
        request: Request<v1::GetThreadRequest>,
    ) -> Result<Response<v1::GetThreadResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let service = &self.0.service;
        let id = decode::intent_id(&request.thread_id).map_err(status)?;
        let named = decode::address(request.owner, "owner").map_err(status)?;
        let owner = service
            .owner(&call.caller, named.as_deref())
            .await
            .map_err(status)?;
        let thread = service
            .get_thread(&call.caller, owner, id)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::GetThreadResponse {
            thread: Some(convert::thread(thread)),
        }))
    }
}
