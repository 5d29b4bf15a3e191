//! Reads that concern a whole workspace: bounded scatter and gather over the shard groups.

use baton_protocol::{GroupId, Route, ServiceError};
use futures::stream::{self, Stream, StreamExt as _, TryStreamExt as _};

use super::Service;

/// Groups that are asked at one time.
const GROUPS_AT_ONCE: usize = 16;

impl Service {
    /// What each shard group answers, in no order; the first refusal ends it. Groups are not read at one moment.
    pub(super) async fn ask_every_group<T, F>(&self, ask: impl Fn(Route) -> F) -> Result<Vec<T>, ServiceError>
    where
        F: Future<Output = Result<T, ServiceError>>,
    {
        let shards = 1..=self.ports.group_map.shard_groups();
        let routes = shards.map(|n| Route::Group(GroupId(n)));
        gather(routes, ask).await
    }

    /// [`Self::ask_every_group`], the meta group included.
    pub(super) async fn ask_every_group_and_meta<T, F>(
        &self,
        ask: impl Fn(Route) -> F,
    ) -> Result<Vec<T>, ServiceError>
    where
        F: Future<Output = Result<T, ServiceError>>,
    {
        let shards = 1..=self.ports.group_map.shard_groups();
        let routes = shards.map(|n| Route::Group(GroupId(n)));
        gather(std::iter::once(Route::Meta).chain(routes), ask).await
    }

    /// What the first shard group answers that knows it. A group that cannot answer matters only when no other one does.
    pub(super) async fn find_in_groups<T, F>(
        &self,
        ask: impl Fn(Route) -> F,
    ) -> Result<Option<T>, ServiceError>
    where
        F: Future<Output = Result<Option<T>, ServiceError>>,
    {
        let shards = 1..=self.ports.group_map.shard_groups();
        let answers = stream::iter(shards.map(|n| Route::Group(GroupId(n))))
            .map(ask)
            .buffer_unordered(GROUPS_AT_ONCE);
        first_found(answers).await
    }
}

async fn first_found<T>(
    answers: impl Stream<Item = Result<Option<T>, ServiceError>>,
) -> Result<Option<T>, ServiceError> {
    let mut answers = std::pin::pin!(answers);
    let mut failed = None;
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => {}
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(None), Err)
}

async fn gather<T, F>(
    routes: impl Iterator<Item = Route>,
    ask: impl Fn(Route) -> F,
) -> Result<Vec<T>, ServiceError>
where
    F: Future<Output = Result<T, ServiceError>>,
{
    stream::iter(routes)
        .map(ask)
        .buffer_unordered(GROUPS_AT_ONCE)
        .try_collect()
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_protocol::ErrorCode;

    #[tokio::test]
    async fn a_group_without_a_leader_matters_only_when_nobody_knows() {
        let dead = || Err(ServiceError::new(ErrorCode::Unavailable, "no leader"));
        let found = first_found(stream::iter([dead(), Ok(None), Ok(Some(7))])).await;
        assert_eq!(found.unwrap(), Some(7));
        let unknown = first_found::<u32>(stream::iter([Ok(None), dead(), Ok(None)])).await;
        assert_eq!(unknown.unwrap_err().code, ErrorCode::Unavailable);
        let nobody = first_found::<u32>(stream::iter([Ok(None), Ok(None)])).await;
        assert_eq!(nobody.unwrap(), None);
    }
}
