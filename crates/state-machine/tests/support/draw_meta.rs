//! Commands of the meta group, drawn from numbers.

use super::draw::Draw;
use super::draw_pushes::secret;
use super::{AGENTS, World, account, bootstrap};
use baton_protocol::proto::internal::command::Body;
use baton_protocol::proto::internal::{
    ApiKey, CreateApiKey, CreateServiceAccount, DisableCallback, PutSchema, RevokeApiKey, SemanticSchema,
    SetFeatureLevel, SetRetention, UpdateServiceAccount,
};
use bytes::Bytes;

impl World {
    pub(super) fn meta(&self, draw: &mut Draw) -> (usize, Body) {
        let account_id = format!("sa{}", draw.below(3));
        let body = match draw.below(11) {
            0 => Body::Bootstrap(bootstrap()),
            1 | 2 => Body::CreateServiceAccount(CreateServiceAccount {
                actor: Self::any_actor(draw),
                service_account: Some(account(&account_id, draw.pick(&AGENTS).unwrap())),
                get_or_create: draw.one_in(2),
                idempotency: Self::any_claim(draw),
                callback_secret: draw.one_in(4).then(|| secret("given")),
                fallback_secret: None,
            }),
            3 => Body::UpdateServiceAccount(UpdateServiceAccount {
                actor: Self::any_actor(draw),
                service_account_id: account_id,
                display_name: Some("name".into()),
                delivery_mode: draw
                    .pick(&[None, Some("http".into()), Some("stream".into())])
                    .flatten(),
                callback_url: draw.one_in(2).then(|| "https://hook.example.com/".into()),
                callback_secret: draw.one_in(3).then(|| secret("given")),
                fallback_secret: draw.one_in(2).then(|| secret("fallback")),
                secret_overlap_ms: draw.below(2) * 1_000,
                status: draw.below(5) as i32,
                idempotency: Self::any_claim(draw),
                ..UpdateServiceAccount::default()
            }),
            4 | 5 => Body::CreateApiKey(CreateApiKey {
                actor: Self::any_actor(draw),
                key: Some(ApiKey {
                    key_id: format!("k{}", draw.below(3)),
                    token_sha256: Bytes::copy_from_slice(&[draw.below(5) as u8; 32]),
                    kind: draw.below(5) as i32,
                    service_account_id: account_id,
                    ..ApiKey::default()
                }),
                idempotency: Self::any_claim(draw),
            }),
            6 => Body::RevokeApiKey(RevokeApiKey {
                actor: Self::any_actor(draw),
                service_account_id: account_id,
                key_id: format!("k{}", draw.below(3)),
                idempotency: Self::any_claim(draw),
            }),
            7 if draw.one_in(2) => Body::DisableCallback(DisableCallback {
                service_account_id: account_id,
                callback_url: "https://hook.example.com/".into(),
                reason: "410".into(),
            }),
            8 => Body::PutSchema(PutSchema {
                actor: Self::any_actor(draw),
                schema: draw.one_in(5).then(SemanticSchema::default).or_else(|| {
                    let document = Bytes::copy_from_slice(&[draw.below(3) as u8]);
                    Some(SemanticSchema {
                        semantic_type: format!("a.b.v{}", draw.below(2)),
                        workspace_id: draw.pick(&["", "w1", "w2"]).unwrap().to_owned(),
                        document_sha256: document.clone(),
                        document,
                        ..SemanticSchema::default()
                    })
                }),
                judged_against_sha256: Bytes::copy_from_slice(&[draw.below(3) as u8]),
            }),
            9 | 10 => Body::SetRetention(SetRetention {
                actor: Self::any_actor(draw),
                workspace_id: draw.pick(&["w1", "w1", "w2"]).unwrap().to_owned(),
                terminal_retention_ms: draw.pick(&[0, 1, 25, 26, 100, 800]).unwrap() * 3_600_000,
            }),
            _ => Body::SetFeatureLevel(SetFeatureLevel {
                level: draw.below(4) as u32,
            }),
        };
        (if draw.one_in(10) { 1 } else { 0 }, body)
    }
}
