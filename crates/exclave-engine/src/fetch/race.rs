//! Asks one site after another until one answer is good.

use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};

/// Asks the first of `order`; a further one whenever one fails, or after each `hedge` without an answer. The first good
/// answer wins and the other requests are dropped. With it comes what the sites before it said.
pub(crate) async fn first_good<T, E, Answer>(
    order: Vec<usize>,
    hedge: Duration,
    mut ask: impl FnMut(usize) -> Answer,
) -> (Option<(usize, T)>, Vec<(usize, E)>)
where
    Answer: Future<Output = Result<T, E>>,
{
    let mut waiting = order.into_iter();
    let mut asked = FuturesUnordered::new();
    let mut refusals = Vec::new();
    let mut start = |site: usize| {
        let answer = ask(site);
        async move { (site, answer.await) }
    };
    loop {
        if asked.is_empty() {
            match waiting.next() {
                Some(site) => asked.push(start(site)),
                None => return (None, refusals),
            }
        }
        tokio::select! {
            Some((site, answer)) = asked.next() => match answer {
                Ok(value) => return (Some((site, value)), refusals),
                Err(refusal) => {
                    refusals.push((site, refusal));
                    if let Some(next) = waiting.next() {
                        asked.push(start(next));
                    }
                }
            },
            () = tokio::time::sleep(hedge), if waiting.len() > 0 => {
                if let Some(next) = waiting.next() {
                    asked.push(start(next));
                }
            }
        }
    }
}
