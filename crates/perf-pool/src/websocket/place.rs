use super::WebSocketConfig;
use perf_core::time::Instant;

/// How many connections the load asks for, between `min` and `max`.
pub(super) fn wanted(config: &WebSocketConfig, streams: usize, messages_per_second: f64) -> usize {
    let for_streams = streams.div_ceil(config.streams_per_connection);
    let for_messages = config
        .messages_per_connection
        .map_or(0, |each| (messages_per_second / f64::from(each)).ceil() as usize);
    for_streams.max(for_messages).clamp(config.min, config.max)
}

/// Grows at once and shrinks by one when fewer have been wanted for `shrink_after`. Pure: it takes `now`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    fewer_since: Option<Instant>,
}

/// What to do about the number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resize {
    Stay,
    Grow(usize),
    ShrinkByOne,
}

impl Size {
    pub(super) fn decide(
        &mut self,
        have: usize,
        wanted: usize,
        config: &WebSocketConfig,
        now: Instant,
    ) -> Resize {
        if wanted >= have {
            self.fewer_since = None;
            return if wanted > have { Resize::Grow(wanted - have) } else { Resize::Stay };
        }
        let since = *self.fewer_since.get_or_insert(now);
        if now.saturating_duration_since(since) < config.shrink_after {
            return Resize::Stay;
        }
        self.fewer_since = Some(now);
        Resize::ShrinkByOne
    }
}
