//! Encoding of the frames between a listening node and a leader.

use baton_protocol::proto::internal::{FeedDown, FeedHeader, FeedKind, FeedUp, feed_down, feed_up};
use baton_protocol::{ErrorCode, ServiceError};
use bytes::Bytes;
use prost::Message;

/// Version of the frames that this build speaks.
pub(crate) const VERSION: u32 = 1;

/// The header that opens a stream.
pub(crate) fn header(kind: FeedKind) -> Bytes {
    let header = FeedHeader {
        version: VERSION,
        kind: kind.into(),
    };
    header.encode_to_vec().into()
}

/// What a stream is for; refuses one of another version.
pub(crate) fn check_header(header: Bytes) -> Result<FeedKind, ServiceError> {
    match FeedHeader::decode(header) {
        Ok(header) if header.version == VERSION => FeedKind::try_from(header.kind).map_err(|_| {
            ServiceError::new(
                ErrorCode::BadRequest,
                "feed kind is not known, upgrade every node first",
            )
        }),
        Ok(FeedHeader { version, .. }) => Err(ServiceError::new(
            ErrorCode::BadRequest,
            format!("feed version {version} is not supported, this node speaks {VERSION}"),
        )),
        Err(_) => Err(ServiceError::new(
            ErrorCode::BadRequest,
            "feed header cannot be decoded",
        )),
    }
}

pub(crate) fn encode_up(frame: feed_up::Frame) -> Bytes {
    FeedUp { frame: Some(frame) }.encode_to_vec().into()
}

pub(crate) fn encode_down(frame: feed_down::Frame) -> Bytes {
    FeedDown { frame: Some(frame) }.encode_to_vec().into()
}

/// `Ok(None)` is a frame that only a newer node knows: skipped.
pub(crate) fn decode_up(bytes: Bytes) -> Result<Option<feed_up::Frame>, prost::DecodeError> {
    FeedUp::decode(bytes).map(|f| f.frame)
}

/// See [`decode_up`].
pub(crate) fn decode_down(bytes: Bytes) -> Result<Option<feed_down::Frame>, prost::DecodeError> {
    FeedDown::decode(bytes).map(|f| f.frame)
}
