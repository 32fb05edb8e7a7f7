//! What the enforcement points' logs say of what is in force.

use vedette_event::{BatchBuilder, Cell, EventBatch, Kind, Partition, Projection, SourceIx, TopicIx};
use vedette_store::model::{ActionState, Effectiveness};

use super::*;
use crate::{WITNESSED, Witness};

/// An event: its time, and the fields that it has.
type Event<'a> = (Micros, &'a [(&'a str, &'a str)]);

fn batch(events: &[Event<'_>]) -> EventBatch {
    let mut batch = BatchBuilder::new(Projection::new(WITNESSED.map(Arc::from)));
    for (n, (at, fields)) in events.iter().enumerate() {
        for (field, text) in *fields {
            let column = WITNESSED.iter().position(|own| own == field).unwrap();
            batch.put(column, Cell { kind: Kind::Text, text });
        }
        batch.end_row(n as i64, 0, n as u32, Some(*at));
    }
    batch.finish(SourceIx(0), Partition { topic: TopicIx(0), number: 0 })
}

/// A world in which 203.0.113.9 is blocked since the given time, and who looks at its events.
async fn blocked() -> (World, Witness, i64, Micros) {
    let steps = vec![block(&["crowdsec"])];
    let mut world =
        World::new(vec![playbook("contain", Mode::Automatic, steps)], vec![fetched("crowdsec")]).await;
    let witness = Witness::new(world.response.clone(), world.responder.wanted());
    world.alert("a", 1, "203.0.113.9").await;
    world.turns().await;
    let id = world.actions().await[0].id;
    world.response.approve(id, ("ann", now())).await.unwrap();
    world.turns().await;
    let acted_at = world.actions().await[0].acted_at.unwrap();
    (world, witness, id, acted_at)
}

const FROM: (&str, &str) = ("client.ip", "203.0.113.9");

#[tokio::test]
async fn a_deny_that_comes_after_the_order_makes_it_effective_and_one_before_does_not() {
    let (mut world, mut witness, id, acted_at) = blocked().await;
    witness.note(now()).await.unwrap();
    let denied = &[("source.ip", "203.0.113.9"), ("event.action", "drop")][..];
    let other = &[("source.ip", "203.0.113.10"), ("event.action", "drop")][..];
    let let_in = &[FROM, ("http.response.status_code", "200")][..];
    let after = acted_at.plus(Span(4 * SECOND));
    witness.look(&batch(&[(acted_at.minus(Span(SECOND)), denied), (after, other), (after, let_in)]));
    witness.note(now()).await.unwrap();
    assert_eq!(world.actions().await[0].effect, None);
    witness.look(&batch(&[(after, denied), (after.plus(Span(SECOND)), denied)]));
    witness.note(now()).await.unwrap();
    let row = world.actions().await.remove(0);
    assert_eq!((row.effect, row.effect_at), (Some(Effectiveness::Effective), Some(after)));
    assert_eq!(row.state, ActionState::Live);
    world.turns_at(acted_at.plus(Span(HOUR / 2))).await;
    assert_eq!(world.actions().await[0].effect, Some(Effectiveness::Effective), "it stays so");
    let steps = world.store.action_steps(id).await.unwrap();
    assert_eq!(steps.last().unwrap().action, "action_effective");
}

#[tokio::test]
async fn what_hits_somebody_who_had_come_in_before_is_wrong_and_taken_back() {
    let (mut world, mut witness, _, acted_at) = blocked().await;
    let alice = ("user.id", "alice");
    let came_in = &[FROM, alice, ("event.outcome", "success")][..];
    let refused = &[FROM, alice, ("http.response.status_code", "403")][..];
    witness.note(now()).await.unwrap();
    witness.look(&batch(&[(acted_at.minus(Span(HOUR)), came_in), (acted_at.plus(Span(SECOND)), refused)]));
    witness.note(now()).await.unwrap();
    let row = world.actions().await.remove(0);
    assert_eq!((row.effect, row.state), (Some(Effectiveness::Wrong), ActionState::Reverted));
    world.turns().await;
    assert!(world.in_force("crowdsec", now()).is_empty());
}

#[tokio::test]
async fn a_name_in_a_request_lifts_nothing() {
    let (world, mut witness, _, acted_at) = blocked().await;
    witness.note(now()).await.unwrap();
    let alice = ("user.id", "alice");
    let failed = &[FROM, alice, ("event.outcome", "failure")][..];
    let late = &[FROM, alice, ("event.outcome", "success")][..];
    let elsewhere = &[("client.ip", "198.51.100.7"), alice, ("event.outcome", "success")][..];
    let old = acted_at.minus(Span(25 * HOUR));
    let refused = &[FROM, alice, ("http.response.status_code", "403")][..];
    let hour_ago = acted_at.minus(Span(HOUR));
    let after = acted_at.plus(Span(SECOND));
    witness.look(&batch(&[
        (old, late),
        (hour_ago, failed),
        (hour_ago, elsewhere),
        (after, late),
        (after, refused),
    ]));
    witness.note(now()).await.unwrap();
    let row = world.actions().await.remove(0);
    assert_eq!((row.effect, row.state), (Some(Effectiveness::Effective), ActionState::Live));
}

#[tokio::test]
async fn of_what_nothing_is_seen_that_is_said_and_what_is_seen_later_too() {
    let (mut world, mut witness, _, acted_at) = blocked().await;
    let late = acted_at.plus(Span(600 * SECOND));
    world.turns_at(Micros(late.0 - 1)).await;
    assert_eq!(world.actions().await[0].effect, None);
    world.turns_at(late).await;
    assert_eq!(world.actions().await[0].effect, Some(Effectiveness::Unconfirmed));
    witness.note(now()).await.unwrap();
    witness.look(&batch(&[(late, &[FROM, ("event.action", "BLOCK")])]));
    witness.note(now()).await.unwrap();
    assert_eq!(world.actions().await[0].effect, Some(Effectiveness::Effective));
}

#[tokio::test]
async fn who_is_behind_an_address_is_known_after_a_whole_day_and_not_if_something_was_missed() {
    let (mut world, mut witness, ..) = blocked().await;
    let came_in =
        |user: &'static str| [("client.ip", "203.0.113.20"), ("user.id", user), ("event.outcome", "success")];
    let (ann, bob, cyd) = (came_in("ann"), came_in("bob"), came_in("cyd"));
    let judged = async |world: &mut World, n: u8, at: Micros| {
        world.alert(&format!("b{n}"), 1, "203.0.113.20").await;
        world.turns_at(at).await;
        world.actions().await.pop().unwrap()
    };
    let unknown = |row: ActionRow| row.reasons.iter().any(|why| why == "how many users it hits is not known");
    let first = now();
    witness.note(first).await.unwrap();
    // What events claim of the time makes no day of it.
    let ahead = first.plus(Span(48 * HOUR));
    witness.look(&batch(&[(first.minus(Span(25 * HOUR)), &ann), (first, &bob), (ahead, &cyd)]));
    witness.note(first.plus(Span(61 * SECOND))).await.unwrap();
    assert!(unknown(judged(&mut world, 1, first.plus(Span(62 * SECOND))).await));
    let next = first.plus(Span(24 * HOUR));
    witness.note(next.minus(Span(120 * SECOND))).await.unwrap();
    witness.look(&batch(&[(next.minus(Span(HOUR)), &ann), (next, &bob), (next, &cyd)]));
    witness.note(next).await.unwrap();
    let row = judged(&mut world, 2, next).await;
    assert_eq!(row.deed, "throttle", "a block is more than a shared address may get");
    assert!(row.reasons.join("; ").contains("3 users are behind the address"), "{:?}", row.reasons);
    witness.missed();
    let later = next.plus(Span(61 * SECOND));
    witness.note(later).await.unwrap();
    assert!(unknown(judged(&mut world, 3, later).await));
}
