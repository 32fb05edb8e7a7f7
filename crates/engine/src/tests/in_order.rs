//! Whatever comes back first, items leave in the order of their places, and no more than is allowed are in flight.

use super::*;

const LIMIT: InFlight = InFlight { items: 6, batches: 3, bytes: 1_000 };

#[test]
fn items_leave_in_the_order_of_their_places_whatever_comes_back_first() {
    // All orders in which three batches can come back.
    for back in [[0, 2, 3], [0, 3, 2], [2, 0, 3], [2, 3, 0], [3, 0, 2], [3, 2, 0]] {
        let mut order = InOrder::new(LIMIT);
        assert_eq!(order.keep(10), 0);
        order.push(1);
        assert_eq!((order.keep(10), order.keep(10)), (2, 3));
        order.push(4);
        let mut left = Vec::new();
        for number in back {
            order.fill(number, number);
            left.extend(std::iter::from_fn(|| order.pop()));
            // What stands behind one that is away waits.
            let away = back.iter().filter(|n| !left.contains(n)).min();
            assert!(away.is_none_or(|away| left.iter().all(|n| n < away)), "{back:?}: {left:?}");
        }
        assert_eq!(left, [0, 1, 2, 3, 4], "{back:?}");
        assert!(order.is_empty());
        assert_eq!(order.in_flight(), InFlight { items: 0, batches: 0, bytes: 0 });
    }
}

#[test]
fn what_came_back_counts_until_it_is_handed_on() {
    let mut order = InOrder::new(LIMIT);
    let places: Vec<u64> = (0..3).map(|_| order.keep(10)).collect();
    assert!(!order.has_room(), "three batches");
    // The later ones come back, and still are held.
    order.fill(places[2], "c");
    order.fill(places[1], "b");
    assert!(!order.has_room());
    assert_eq!((order.pop(), order.in_flight()), (None, InFlight { items: 3, batches: 3, bytes: 30 }));
    order.fill(places[0], "a");
    assert_eq!(order.pop(), Some("a"));
    assert!(order.has_room());
    assert_eq!(order.in_flight(), InFlight { items: 2, batches: 2, bytes: 20 });
}

#[test]
fn room_ends_with_bytes_and_with_what_waits_behind_a_batch() {
    let mut order = InOrder::new(LIMIT);
    // One that is larger than all that is allowed goes alone, or nothing would go on.
    let large = order.keep(5_000);
    assert!(!order.has_room());
    order.fill(large, 0);
    assert_eq!(order.pop(), Some(0));
    let _ = order.keep(1);
    for n in 1..6 {
        assert!(order.has_room());
        order.push(n);
    }
    assert!(!order.has_room(), "six items");
    assert_eq!(order.pop(), None);
}
