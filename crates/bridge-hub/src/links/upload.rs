//! The body of a request that says something on a link: read to its end, but no further than to
//! where it is clear that it is not taken.

use axum::{
    Error,
    body::{Body, HttpBody as _},
};
use bridge_transport::carrier::line::{BadLine, Batch, Head, Most};
use futures_util::StreamExt as _;

/// Why a body is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    /// It is no batch, or one with too much in it.
    #[error(transparent)]
    Bad(#[from] BadLine),
    /// It did not come to its end.
    #[error("the body is not whole")]
    CutOff(#[source] Error),
}

/// Reads a batch that has at most so many bytes, whatever is in it.
pub(crate) async fn read(body: Body, most: Most, longest: usize) -> Result<Batch, NotTaken> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > longest {
        return Err(BadLine::TooMuch.into());
    }
    let mut parts = body.into_data_stream();
    let mut batch = Vec::new();
    let mut head = None;
    while let Some(part) = parts.next().await {
        batch.extend_from_slice(&part.map_err(NotTaken::CutOff)?);
        if head.is_none() {
            head = Head::decode(&batch, most)?;
        }
        let limit = head.as_ref().and_then(|head| head.longest(most));
        if batch.len().max(announced) > limit.unwrap_or(longest) {
            return Err(BadLine::TooMuch.into());
        }
    }
    Ok(Batch::decode(&batch, most)?)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Bytes;
    use futures_util::{FutureExt as _, stream};

    use super::*;

    const MOST: Most = Most {
        lines: 3,
        bytes: 10,
    };
    const LONGEST: usize = 200;

    fn batch(lines: &[&str]) -> String {
        Batch::encode(1, 0, lines.iter().copied())
    }

    /// How many bytes have to be there until it is refused, though more are to come, and why.
    fn refused(body: &str) -> Option<(usize, BadLine)> {
        (0..=body.len()).find_map(|count| {
            let bytes = body.as_bytes().get(..count).unwrap().to_vec();
            let parts = bytes
                .into_iter()
                .map(|byte| Ok::<_, Infallible>(Bytes::from(vec![byte])));
            let body = Body::from_stream(stream::iter(parts).chain(stream::pending()));
            match read(body, MOST, LONGEST).now_or_never()? {
                Err(NotTaken::Bad(bad)) => Some((count, bad)),
                other => panic!("{other:?}"),
            }
        })
    }

    #[tokio::test]
    async fn what_is_not_taken_is_read_no_further_than_to_where_that_is_clear() {
        let head = batch(&[]).len();
        assert_eq!(refused(&batch(&["12345", "67890"])), None);
        assert_eq!(refused(&batch(&["a line that is long and alone"])), None);
        let too_many = batch(&["a"; 4]);
        assert_eq!(refused(&too_many), Some((head, BadLine::TooMuch)));
        let too_long = batch(&["12345", "678901"]);
        assert_eq!(refused(&too_long), Some((head + 13, BadLine::TooMuch)));
        let alone = batch(&["x".repeat(LONGEST).as_str()]);
        assert_eq!(refused(&alone), Some((LONGEST + 1, BadLine::TooMuch)));
        let none = format!("{}x", batch(&[]));
        assert_eq!(refused(&none), Some((head + 1, BadLine::TooMuch)));
        assert_eq!(refused("{}\n"), Some((3, BadLine::Batch)));
    }

    #[tokio::test]
    async fn a_batch_that_is_whole_is_taken_and_one_that_is_cut_off_is_none() {
        let whole = batch(&["12345", "67890"]);
        let taken = read(Body::from(whole.clone()), MOST, LONGEST).await;
        assert_eq!(taken.unwrap().lines.len(), 2);
        let broken = Err(std::io::Error::other("gone"));
        let parts = stream::iter([Ok(Bytes::from(whole)), broken]);
        let cut_off = read(Body::from_stream(parts), MOST, LONGEST).await;
        assert!(matches!(cut_off, Err(NotTaken::CutOff(_))));
    }
}
