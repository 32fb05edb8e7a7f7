//! What was shown before the process went down.

use std::net::{IpAddr, Ipv4Addr};

use vedette_store::model::ActionState;

use super::*;
use crate::board::{Asker, Filter};

/// What a bouncer that was there before is told: the targets of what is new and of what is deleted.
fn told(board: &Board, now: Micros) -> [Vec<String>; 2] {
    let asker = Asker {
        key: [1; 32],
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        name: "edge".into(),
        agent: "test/1".into(),
    };
    let part = board.stream(&asker, false, &Filter::default(), now).unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&part.body).unwrap();
    ["new", "deleted"].map(|list| {
        let all = answer[list].as_array().unwrap().iter();
        all.map(|one| one["value"].as_str().unwrap().to_owned()).collect()
    })
}

#[tokio::test]
async fn what_was_taken_back_while_the_process_was_down_is_told_as_deleted() {
    let steps = vec![block(&["crowdsec"])];
    let contain = playbook("contain", Mode::Automatic, steps);
    let mut world = World::new(vec![contain], vec![fetched("crowdsec")]).await;
    world.alert("a", 1, "203.0.113.9").await;
    world.alert("b", 1, "203.0.113.10").await;
    world.turns().await;
    for row in world.actions().await {
        world.response.approve(row.id, ("ann", now())).await.unwrap();
    }
    world.turns().await;
    let actions = world.actions().await;
    assert!(actions.iter().all(|row| row.state == ActionState::Live));
    // Taken back, and no turn is taken any more.
    world.response.revert(actions[0].id, None, "ann").await.unwrap();

    let again = async |at: Micros| {
        let board = Board::new(world.settings.outlets());
        let response =
            Response::new(world.store.clone(), world.settings.clone(), world.playbooks.subscribe());
        let mut responder = Responder::new(response, board.clone());
        while responder.turn(at).await.unwrap().more {}
        told(&board, at)
    };
    let (gone, stays) = (vec!["203.0.113.9".to_owned()], vec!["203.0.113.10".to_owned()]);
    // After a second restart as well: nobody says that they let go.
    for _ in 0..2 {
        assert_eq!(again(now()).await, [stays.clone(), gone.clone()]);
    }
    // Beyond its end nobody holds it, and the record of it goes with the next that is written.
    let end = actions.iter().filter_map(|row| row.until).max().unwrap();
    assert_eq!(again(end).await, [vec![], vec![]] as [Vec<String>; 2]);
    world.store.note_shown("crowdsec", &[], end).await.unwrap();
    assert!(world.store.held("crowdsec").await.unwrap().is_empty());
}
