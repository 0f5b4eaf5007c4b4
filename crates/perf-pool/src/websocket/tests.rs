use super::delivery::{Delivery, Inbox, Key, Offered, Policy};
use super::heartbeat::{Beat, Heartbeat};
use super::hub::{Command, Hub, Phase};
use super::intake::{Intake, Stream};
use super::overlap::Overlap;
use super::place::{Resize, Size, wanted};
use super::protocol::Position;
use super::reconnect::{End, Next, Reconnect, hint_in};
use super::sequence::{Seen, Sequencer};
use super::topic::Topic;
use super::{Ended, Message, WebSocketConfig};
use perf_core::time::{self, Duration};
use perf_core::{Backoff, Rng};
use proptest::prelude::*;
use std::sync::Arc;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn s4_1_any_frame_proves_life_silence_is_pinged_and_a_ping_without_answer_is_death() {
    let (now, mut rng) = (time::now(), Rng::seeded(1));
    let mut heart = Heartbeat::new(SECOND * 30, SECOND * 10, now, &mut rng);
    let Beat::Wait(until) = heart.next(now, &mut rng) else { panic!("it has just begun") };
    assert!((SECOND * 24..=SECOND * 30).contains(&(until - now)), "jitter shortens by a fifth at most");
    let waits = (0..20).map(|seed| {
        let mut rng = Rng::seeded(seed);
        Heartbeat::new(SECOND * 30, SECOND * 10, now, &mut rng).next(now, &mut rng)
    });
    let waits: std::collections::HashSet<_> = waits.map(|beat| format!("{beat:?}")).collect();
    assert_eq!(waits.len(), 20, "connections do not ping in step");
    heart.heard(now + SECOND * 20);
    assert!(matches!(heart.next(now + SECOND * 30, &mut rng), Beat::Wait(_)), "a frame puts it off");
    let silent = now + SECOND * 50;
    assert_eq!(heart.next(silent, &mut rng), Beat::Ping);
    assert_eq!(heart.next(silent, &mut rng), Beat::Wait(silent + SECOND * 10), "one ping");
    heart.heard(silent + SECOND * 9);
    assert!(matches!(heart.next(silent + SECOND * 11, &mut rng), Beat::Wait(_)), "answered in time");
    let again = silent + SECOND * 60;
    assert_eq!(heart.next(again, &mut rng), Beat::Ping);
    assert_eq!(heart.next(again + SECOND * 10, &mut rng), Beat::Dead);
}

fn reconnect() -> (Reconnect, Rng) {
    (Reconnect::new(Backoff::exponential(SECOND).cap(SECOND * 60), SECOND * 10), Rng::seeded(3))
}

#[test]
fn s4_2_backoff_grows_with_full_jitter_and_is_forgiven_only_after_a_stable_time() {
    let (mut machine, mut rng) = reconnect();
    let mut now = time::now();
    for attempt in 1..=5_u32 {
        let Next::After(wait) = machine.ended(&End::Cut, None, now, &mut rng) else { panic!() };
        assert!(wait <= SECOND * 2_u32.pow(attempt - 1), "{attempt}: {wait:?}");
        now += SECOND;
    }
    // It opened and broke at once: nothing is forgiven.
    machine.opened(now);
    let waits: Vec<_> = (0..20)
        .map(|_| machine.clone().ended(&End::Cut, None, now + SECOND, &mut rng))
        .map(|next| if let Next::After(wait) = next { wait } else { panic!() })
        .collect();
    assert!(waits.iter().max().unwrap() > &(SECOND * 4), "the sixth end in a row: {waits:?}");
    machine.opened(now);
    let Next::After(wait) = machine.ended(&End::Cut, None, now + SECOND * 10, &mut rng) else { panic!() };
    assert!(wait <= SECOND, "the first end after a stable time: {wait:?}");
}

#[test]
fn s4_2_the_close_code_decides() {
    let after = |code, hint| {
        let (mut machine, mut rng) = reconnect();
        machine.ended(&End::Closed(code, String::new()), hint, time::now(), &mut rng)
    };
    assert_eq!(after(1000, None), Next::After(Duration::ZERO), "planned");
    assert_eq!(after(1001, None), Next::After(Duration::ZERO), "planned");
    assert_eq!(after(1008, None), Next::Stop);
    assert_eq!(after(4401, None), Next::Stop);
    assert_eq!(after(4499, None), Next::Stop);
    for code in [1006, 1011, 4500] {
        assert!(matches!(after(code, None), Next::After(wait) if wait <= SECOND), "{code}");
    }
    let Next::After(wait) = after(1013, Some(SECOND * 7)) else { panic!() };
    assert!((SECOND * 7..=SECOND * 8).contains(&wait), "the hint, and jitter above it: {wait:?}");
    let (mut machine, mut rng) = reconnect();
    let closed = End::Closed(1001, String::new());
    let now = time::now();
    machine.ended(&closed, None, now, &mut rng);
    let waits = (0..10).map(|_| machine.ended(&closed, None, now, &mut rng));
    assert!(
        waits.filter(|next| *next == Next::After(Duration::ZERO)).count() < 2,
        "only the first is prompt"
    );
    assert_eq!(hint_in("please retry after 3s"), Some(SECOND * 3));
    assert_eq!(hint_in("no idea"), None);
}

proptest! {
    /// Every number from the first on comes out exactly once, as an item or inside a gap, in order, whatever the order and
    /// however often it came in.
    #[test]
    fn s4_4_gaps_are_exactly_what_never_came_out(
        sent in proptest::collection::vec((0_u64..60, 0_u8..4), 1..120),
        window in 0_usize..8,
    ) {
        let mut sequencer = Sequencer::new(Some(0));
        let mut next = 1;
        let mut fine = true;
        let mut check = |seen: Seen<u64>| match seen {
            Seen::Item(number) => { fine &= number == next; next = number + 1; }
            Seen::Gap { last_seen, next: after } => { fine &= last_seen + 1 == next && after > next; next = after; }
        };
        let mut highest = 0;
        for (number, kind) in sent {
            match kind {
                0 => sequencer.flush(&mut check),
                1 if number > 0 => { sequencer.goes_on_with(number, &mut check); highest = highest.max(number - 1); }
                _ => { sequencer.see(number, number, window, &mut check); highest = highest.max(number); }
            }
        }
        sequencer.flush(&mut check);
        prop_assert!(fine);
        prop_assert_eq!(next, highest + 1, "nothing is left over");
    }
}

#[test]
fn s4_4_what_came_too_early_waits_for_its_turn_up_to_the_window() {
    let mut sequencer = Sequencer::new(None);
    let mut out = Vec::new();
    for number in [7, 9, 8, 12, 11, 8] {
        sequencer.see(number, number, 2, &mut |seen| out.push(seen));
    }
    assert_eq!(out, [Seen::Item(7), Seen::Item(8), Seen::Item(9)], "and the second 8 is dropped");
    sequencer.see(14, 14, 2, &mut |seen| out.push(seen));
    assert_eq!(out[3..], [Seen::Gap { last_seen: 9, next: 11 }, Seen::Item(11), Seen::Item(12)]);
    sequencer.restart(1);
    sequencer.see(1, 1, 2, &mut |seen| out.push(seen));
    assert_eq!(out.last(), Some(&Seen::Item(1)));
}

#[test]
fn s4_5_what_both_connections_send_arrives_once_and_what_was_sent_twice_arrives_twice() {
    let mut overlap = Overlap::default();
    let taken: Vec<_> =
        [("a", false), ("a", true), ("b", true), ("b", true), ("b", false), ("b", false), ("b", false)]
            .iter()
            .filter(|(message, second)| overlap.is_new(message.as_bytes(), *second))
            .map(|(message, _)| *message)
            .collect();
    assert_eq!(taken, ["a", "b", "b", "b"]);
}

fn drain(inbox: &mut Inbox) -> Vec<String> {
    std::iter::from_fn(|| inbox.pop())
        .map(|delivery| match delivery {
            Delivery::Message(message) => message.to_string(),
            Delivery::Lagged(count) => format!("lagged {count}"),
            Delivery::Gap { last_seen, next } => format!("gap {last_seen} {next}"),
            other => format!("{other:?}"),
        })
        .collect()
}

fn offer(inbox: &mut Inbox, texts: &[&str]) -> Vec<Offered> {
    texts.iter().map(|text| inbox.offer(Message::text(*text))).collect()
}

#[test]
fn s4_4_each_policy_does_what_it_says_and_counts_what_it_drops() {
    let mut inbox = Inbox::new(Policy::DropOldest, 2);
    offer(&mut inbox, &["1", "2", "3", "4"]);
    assert_eq!(drain(&mut inbox), ["lagged 2", "3", "4"]);

    let mut inbox = Inbox::new(Policy::DropNewest, 2);
    offer(&mut inbox, &["1", "2", "3", "4"]);
    assert_eq!(drain(&mut inbox), ["1", "2", "lagged 2"]);

    let mut inbox = Inbox::new(Policy::Disconnect, 2);
    assert_eq!(offer(&mut inbox, &["1", "2", "3"])[2], Offered::Overrun);

    let by_first = Key::new(|message| u64::from(message.to_string().as_bytes()[0]));
    let mut inbox = Inbox::new(Policy::Conflate(by_first), 2);
    offer(&mut inbox, &["a1", "b1", "a2", "b2", "a3"]);
    assert_eq!(drain(&mut inbox), ["a3", "b2"], "each key once, in the place it had");
    offer(&mut inbox, &["a1", "b1", "c1", "b2"]);
    assert_eq!(drain(&mut inbox), ["lagged 1", "b2", "c1"], "a third key needs room");
    let mut inbox = Inbox::new(Policy::Conflate(Key::latest()), 4);
    offer(&mut inbox, &["1", "2", "3"]);
    assert_eq!(drain(&mut inbox), ["3"]);
}

#[test]
fn s4_4_notices_are_bounded_when_nobody_reads() {
    let mut inbox = Inbox::new(Policy::DropOldest, 4);
    for number in 0..1000_u64 {
        inbox.notice(Delivery::Gap { last_seen: number * 10, next: number * 10 + 5 });
        offer(&mut inbox, &["x"]);
    }
    let left = drain(&mut inbox);
    assert!(left.len() <= 9, "{left:?}");
    let told: u64 = left
        .iter()
        .map(|text| match text.split(' ').collect::<Vec<_>>()[..] {
            ["lagged", count] => count.parse().unwrap(),
            ["gap", ..] => 4,
            _ => 1,
        })
        .sum();
    assert_eq!(told, 5000, "four missing and one sent each time: all are told or handed out");
}

#[test]
fn s4_7_size_follows_the_load_at_once_up_and_slowly_down() {
    let config = WebSocketConfig {
        max: 8,
        streams_per_connection: 100,
        max_streams: 200,
        messages_per_connection: Some(1000),
        shrink_after: SECOND * 60,
        ..WebSocketConfig::default()
    };
    assert_eq!(wanted(&config, 0, 0.0), 1);
    assert_eq!(wanted(&config, 301, 0.0), 4);
    assert_eq!(wanted(&config, 301, 5500.0), 6, "messages count too");
    assert_eq!(wanted(&config, 5000, 0.0), 8);
    let (mut size, now) = (Size::default(), time::now());
    assert_eq!(size.decide(2, 4, &config, now), Resize::Grow(2));
    assert_eq!(size.decide(4, 2, &config, now), Resize::Stay);
    assert_eq!(
        size.decide(4, 4, &config, now + SECOND * 50),
        Resize::Stay,
        "needed again: the minute starts anew"
    );
    assert_eq!(size.decide(4, 2, &config, now + SECOND * 60), Resize::Stay);
    assert_eq!(size.decide(4, 2, &config, now + SECOND * 120), Resize::ShrinkByOne);
    assert_eq!(size.decide(3, 2, &config, now + SECOND * 121), Resize::Stay, "one a minute");
}

fn event(number: u64) -> Message {
    Message::text(format!("message {number}"))
}

fn read(intake: &mut Intake) -> Vec<Delivery> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::iter::from_fn(|| match intake.poll(&mut context) {
        std::task::Poll::Ready((Ok(delivery), _)) => Some(delivery),
        _ => None,
    })
    .collect()
}

#[test]
fn s4_5_what_is_held_back_during_a_move_comes_out_after_it() {
    let config = WebSocketConfig { reorder: 16, ..WebSocketConfig::default() };
    let mut intake = Intake::new(&Topic::new("t"), &config, None);
    let now = time::now();
    intake.set_home(1);
    intake.receive(1, Some(1), event(1), now);
    intake.set_heir(2);
    let effect = intake.receive(1, Some(5), event(5), now);
    let until = effect.look_again.expect("the new connection may have what is missing");
    intake.acknowledge(2, Position::Unknown, now);
    intake.promote();
    intake.detach(1);
    assert_eq!(read(&mut intake), [Delivery::Message(event(1))]);
    intake.look_again(until);
    let gap = Delivery::Gap { last_seen: 1, next: 5 };
    assert_eq!(read(&mut intake), [gap, Delivery::Message(event(5))]);
}

#[test]
fn s4_5_a_move_to_a_server_that_counts_anew_leaves_the_old_count_behind() {
    let mut intake = Intake::new(&Topic::new("t"), &WebSocketConfig::default(), None);
    let now = time::now();
    intake.set_home(1);
    intake.acknowledge(1, Position::Next(7), now);
    intake.receive(1, Some(7), event(7), now);
    intake.set_heir(2);
    intake.acknowledge(2, Position::Restarted(1), now);
    intake.receive(1, Some(8), event(8), now);
    intake.promote();
    intake.receive(2, Some(1), event(1), now);
    let restarted = Delivery::Restarted { last_seen: Some(7), next: 1 };
    assert_eq!(read(&mut intake), [Delivery::Message(event(7)), restarted, Delivery::Message(event(1))]);
}

fn hub(max: usize, max_streams: usize) -> Hub {
    let config = WebSocketConfig {
        min: max,
        max,
        max_streams,
        streams_per_connection: max_streams,
        max_age: Some(SECOND * 60),
        ..WebSocketConfig::default()
    };
    Hub::new(config, Rng::seeded(1))
}

fn subscribe(hub: &mut Hub) -> Arc<Stream> {
    let intake = Intake::new(&Topic::new("t"), &WebSocketConfig::default(), None);
    let stream = Stream::new(hub.number(), "t".into(), intake);
    hub.subscribe(Arc::clone(&stream));
    stream
}

/// What a link is told, as ids of subscriptions to be made.
fn told(hub: &mut Hub, link: u64) -> Vec<u64> {
    std::iter::from_fn(|| hub.next_command(link, true))
        .filter_map(|command| if let Command::Subscribe(stream) = command { Some(stream.id) } else { None })
        .collect()
}

#[test]
fn s4_3_replays_come_in_order_and_before_new_commands() {
    let (mut hub, now) = (hub(1, 100), time::now());
    hub.grow();
    let link = hub.to_start[0];
    hub.opened(link, now);
    let ids: Vec<_> = (0..10).map(|_| subscribe(&mut hub).id).collect();
    assert_eq!(told(&mut hub, link), ids);
    assert!(hub.lost(link));
    let late = subscribe(&mut hub).id;
    hub.opened(link, now);
    let newest = subscribe(&mut hub).id;
    let order = told(&mut hub, link);
    assert_eq!(order[..10], ids[..], "in the order they were made");
    assert_eq!(order[10..], [late, newest]);
}

#[test]
fn s4_3_on_the_death_of_one_they_move_to_the_least_loaded_of_the_others() {
    let (mut hub, now) = (hub(3, 40), time::now());
    hub.grow();
    let links = hub.to_start.clone();
    links.iter().for_each(|link| hub.opened(*link, now));
    (0..60).for_each(|_| drop(subscribe(&mut hub)));
    let loads = |hub: &Hub| hub.links().values().map(|link| link.streams.len()).collect::<Vec<_>>();
    assert_eq!(loads(&hub), [20, 20, 20]);
    hub.lost(links[0]);
    assert_eq!(loads(&hub), [0, 30, 30]);
    hub.lost(links[1]);
    assert_eq!((loads(&hub), hub.waiting()), (vec![0, 0, 40], 20), "no more than a link may carry");
    hub.opened(links[0], now);
    assert_eq!(hub.waiting(), 0);
}

#[test]
fn s4_5_a_rotated_link_is_closed_only_when_everything_is_acknowledged_elsewhere() {
    let (mut hub, now) = (hub(1, 100), time::now());
    hub.grow();
    let old = hub.to_start[0];
    hub.opened(old, now);
    let streams: Vec<_> = (0..3).map(|_| subscribe(&mut hub)).collect();
    told(&mut hub, old);
    hub.tick(now + SECOND * 61);
    let new = *hub.to_start.last().unwrap();
    assert_ne!(new, old);
    assert_eq!(hub.links()[&old].phase, Phase::Open, "nothing changes before the new one is there");
    hub.opened(new, now);
    assert_eq!(hub.links()[&old].phase, Phase::Leaving);
    for stream in &streams {
        assert!(hub.next_command(old, true).is_none(), "not closed before the last is acknowledged");
        hub.acknowledged(stream.id, new);
    }
    assert!(matches!(hub.next_command(old, true), Some(Command::Close)));
    assert!(!hub.lost(old), "and not made again");
    assert_eq!((hub.links().len(), hub.links()[&new].streams.len()), (1, 3));
}

#[test]
fn s4_2_a_pool_that_is_refused_everywhere_ends_its_subscriptions() {
    let (mut hub, now) = (hub(2, 100), time::now());
    hub.grow();
    let links = hub.to_start.clone();
    links.iter().for_each(|link| hub.opened(*link, now));
    (0..4).for_each(|_| drop(subscribe(&mut hub)));
    let fatal = Ended::Fatal { code: 1008, reason: "no".to_owned() };
    hub.refused(links[0], &fatal);
    assert_eq!(hub.links()[&links[1]].streams.len(), 4, "one refusal moves them");
    hub.refused(links[1], &fatal);
    assert_eq!((hub.streams(), hub.fatal.clone()), (0, Some(fatal)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever happens to links, every subscription is in exactly one place, no link carries more than it may, and once
    /// all are open everything is carried.
    #[test]
    fn s4_3_no_history_loses_a_subscription(steps in proptest::collection::vec((0_u8..8, 0_usize..64), 1..150)) {
        let (mut hub, mut now) = (hub(3, 12), time::now());
        hub.grow();
        let mut streams: Vec<Arc<Stream>> = Vec::new();
        for (step, which) in steps {
            now += SECOND * 7;
            let links: Vec<u64> = hub.links().keys().copied().collect();
            let link = links[which % links.len()];
            let phase = hub.links()[&link].phase;
            match step {
                0 | 1 if !hub.is_full() => streams.push(subscribe(&mut hub)),
                2 if !streams.is_empty() => hub.unsubscribe(streams.swap_remove(which % streams.len()).id),
                3 | 4 if phase == Phase::Connecting => hub.opened(link, now),
                5 => {
                    let ids = told(&mut hub, link);
                    ids.into_iter().for_each(|id| hub.acknowledged(id, link));
                }
                6 if phase != Phase::Connecting => {
                    hub.lost(link);
                }
                7 => hub.tick(now),
                _ => {}
            }
            let carried: usize = hub.links().values().map(|link| link.streams.len()).sum();
            prop_assert_eq!(carried + hub.waiting(), streams.len());
            prop_assert_eq!(hub.streams(), streams.len());
            for link in hub.links().values() {
                prop_assert!(link.streams.len() + link.coming.len() <= 12);
                prop_assert!(link.phase != Phase::Connecting || link.streams.is_empty());
            }
        }
        for _ in 0..4 {
            let links: Vec<u64> = hub.links().keys().copied().collect();
            for link in links {
                if hub.links()[&link].phase == Phase::Connecting {
                    hub.opened(link, now);
                }
            }
            hub.tick(now);
        }
        prop_assert_eq!(hub.waiting(), 0);
    }
}
