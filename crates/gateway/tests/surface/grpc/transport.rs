//! One port: HTTP/1.1, HTTP/2, gRPC and gRPC-Web side by side, compressed where asked for.

use baton_protocol::proto::v1;
use baton_protocol::proto::v1::intent_service_client::IntentServiceClient;
use prost::Message as _;
use tonic::codec::CompressionEncoding;

use super::{Client, json, spec};
use crate::support::{OPERATOR_TOKEN, Server};

#[tokio::test]
async fn answers_are_compressed_as_requests_are() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let text = format!("{{\"x\":\"{}\"}}", "y".repeat(50_000));
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut intents: IntentServiceClient<_> = client
            .intents()
            .send_compressed(encoding)
            .accept_compressed(encoding);
        let intent = v1::IntentSpec {
            payload: Some(json(&text)),
            ..spec("agent://w")
        };
        let receipt = intents
            .submit(v1::SubmitRequest { intent: Some(intent) })
            .await
            .unwrap();
        let intent_id = receipt.into_inner().receipt.unwrap().intent_id;
        let get = || v1::GetIntentRequest {
            intent_id: intent_id.clone(),
            without_payload: false,
        };
        let got = intents.get_intent(get()).await.unwrap();
        let used = got
            .metadata()
            .get("grpc-encoding")
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        assert_eq!(
            used,
            if encoding == CompressionEncoding::Gzip {
                "gzip"
            } else {
                "zstd"
            }
        );
        assert_eq!(
            got.into_inner().intent.unwrap().payload.unwrap().data,
            text.as_bytes()
        );
        let plain = client
            .intents()
            .accept_compressed(encoding)
            .get_intent(get())
            .await
            .unwrap();
        assert!(plain.metadata().get("grpc-encoding").is_none());
    }
}

/// One message in the framing of gRPC.
fn framed(message: &impl prost::Message) -> Vec<u8> {
    let mut out = vec![0];
    out.extend((message.encoded_len() as u32).to_be_bytes());
    out.extend(message.encode_to_vec());
    out
}

#[tokio::test]
async fn browsers_reach_it_over_http_1() {
    let server = Server::start().await;
    let submit = v1::SubmitRequest {
        intent: Some(spec("agent://w")),
    };
    let path = "/baton.v1.IntentService/Submit";
    let request = server
        .request(reqwest::Method::POST, path, OPERATOR_TOKEN)
        .header("content-type", "application/grpc-web+proto")
        .body(framed(&submit));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.version(), reqwest::Version::HTTP_11);
    let body = answer.bytes().await.unwrap();
    let length = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
    let answer = v1::SubmitResponse::decode(&body[5..5 + length]).unwrap();
    assert!(!answer.receipt.unwrap().intent_id.is_empty());
    let trailers = std::str::from_utf8(&body[5 + length + 5..]).unwrap();
    assert!(trailers.contains("grpc-status:0"), "{trailers:?}");
    // The same path without the content type belongs to the HTTP surface.
    let stray = server.post(path, serde_json::json!({})).await;
    assert_eq!(stray.refused(404), "not_found");
}

const PAGE: &str = "https://console.example.com";

async fn preflight(server: &Server, origin: &str, path: &str) -> reqwest::Response {
    let ask = server
        .http
        .request(reqwest::Method::OPTIONS, format!("{}{path}", server.base))
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "content-type,x-api-key,x-grpc-web",
        );
    ask.send().await.unwrap()
}

async fn submit_from(server: &Server, origin: &str) -> reqwest::Response {
    let submit = v1::SubmitRequest {
        intent: Some(spec("agent://w")),
    };
    let request = server
        .request(
            reqwest::Method::POST,
            "/baton.v1.IntentService/Submit",
            OPERATOR_TOKEN,
        )
        .header("content-type", "application/grpc-web+proto")
        .header("origin", origin)
        .body(framed(&submit));
    request.send().await.unwrap()
}

fn list<'a>(answer: &'a reqwest::Response, name: &str) -> Vec<&'a str> {
    let value = answer
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap());
    value.split(',').collect()
}

#[tokio::test]
async fn pages_of_configured_origins_may_call() {
    let server =
        Server::with(|config| config.cors_origins = vec!["https://other.example".into(), PAGE.into()]).await;
    for path in ["/baton.v1.IntentService/Submit", "/v1/intents"] {
        let allowed = preflight(&server, PAGE, path).await;
        assert_eq!(allowed.status(), 200, "{path}");
        assert_eq!(list(&allowed, "access-control-allow-origin"), [PAGE]);
        assert!(list(&allowed, "access-control-allow-methods").contains(&"POST"));
        for name in ["x-api-key", "x-grpc-web", "grpc-timeout", "content-type"] {
            assert!(
                list(&allowed, "access-control-allow-headers").contains(&name),
                "{name}"
            );
        }
        assert!(
            allowed
                .headers()
                .get("access-control-allow-credentials")
                .is_none()
        );
        let stranger = preflight(&server, "https://evil.example", path).await;
        assert!(stranger.headers().get("access-control-allow-origin").is_none());
    }
    let answer = submit_from(&server, PAGE).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(list(&answer, "access-control-allow-origin"), [PAGE]);
    for name in [
        "grpc-status",
        "grpc-message",
        "grpc-status-details-bin",
        "baton-leader",
    ] {
        assert!(
            list(&answer, "access-control-expose-headers").contains(&name),
            "{name}"
        );
    }
    let foreign = submit_from(&server, "https://evil.example").await;
    assert!(foreign.headers().get("access-control-allow-origin").is_none());

    let open = Server::with(|config| config.cors_origins = vec!["*".into()]).await;
    assert_eq!(
        list(&submit_from(&open, PAGE).await, "access-control-allow-origin"),
        ["*"]
    );
}

#[tokio::test]
async fn without_configured_origins_no_page_may_call() {
    let server = Server::start().await;
    let refused = preflight(&server, PAGE, "/v1/intents").await;
    assert_eq!(refused.status(), 405);
    for answer in [refused, submit_from(&server, PAGE).await] {
        let told = answer
            .headers()
            .keys()
            .any(|name| name.as_str().starts_with("access-control"));
        assert!(!told, "{:?}", answer.headers());
    }
}

#[tokio::test]
async fn http_2_serves_the_http_surface_too() {
    let server = Server::start().await;
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let answer = client
        .get(format!("{}/health", server.base))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.version()),
        (200, reqwest::Version::HTTP_2)
    );
}

#[tokio::test]
async fn unknown_methods_are_refused_in_words_of_the_catalogue() {
    let server = Server::start().await;
    let answer = server
        .request(
            reqwest::Method::POST,
            "/baton.v1.IntentService/Nonsense",
            OPERATOR_TOKEN,
        )
        .header("content-type", "application/grpc-web+proto")
        .body(Vec::new())
        .send()
        .await
        .unwrap();
    let text = format!("{:?}", answer.headers());
    assert!(text.contains("grpc-status"), "{text}");
    assert!(text.contains("12"), "{text}");
}
