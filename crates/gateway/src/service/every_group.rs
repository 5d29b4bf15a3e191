//! Reads that concern a whole workspace: bounded scatter and gather over the shard groups.

use baton_protocol::{GroupId, Route, ServiceError};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

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
